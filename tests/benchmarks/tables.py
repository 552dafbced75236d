"""A table of limits: what was measured, what it must be, and whether it is."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Limit:
    """One line of a table.

    Args:
        what: what was measured.
        must: the limit in words.
        ours: what was seen.
        is_met: whether the limit is kept.
        peer: what another one takes, where that is known.
    """

    what: str
    must: str
    ours: str
    is_met: bool
    peer: str = ""


def show(title: str, limits: Sequence[Limit], *, peer: str = "") -> int:
    """Print a table; returns the exit code.

    Args:
        title: above it.
        limits: its lines.
        peer: heading of the column for another one; no such column without.
    """
    table = Table("what", "must", "ours", *([peer] if peer else []), "", title=title)
    for limit in limits:
        verdict = "ok" if limit.is_met else "[bold red]missed[/]"
        others = [limit.peer] if peer else []
        table.add_row(limit.what, limit.must, limit.ours, *others, verdict)
    console = Console()
    # The width is set: a table that is cut off is of no use in a log.
    Console(width=max(console.width, 150) if not console.is_terminal else None).print(table)
    return 0 if all(limit.is_met for limit in limits) else 1
