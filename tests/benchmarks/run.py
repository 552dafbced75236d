"""The table of speed: the SDK beside bare Starlette and nc_py_api, in one run on one machine.

Repetitions are interleaved, so that a slow minute hits everybody; shown are medians, and ratios are
medians of the ratios within each repetition. Exits with 1 when a limit is missed.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import hosted
import measure
from rich.console import Console
from rich.table import Table

Samples = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Args:
        what: what was measured.
        unit: of the values.
        must: the limit in words.
        ours: our median.
        bare: the median of bare Starlette and uvicorn, if it can be compared.
        nc_py_api: the median of nc_py_api.
        compared: what the limit is about, in words.
        is_met: whether the limit is kept.
    """

    what: str
    unit: str
    must: str
    ours: float
    bare: float | None
    nc_py_api: float | None
    compared: str
    is_met: bool


def ratio(samples: Samples, peer: str) -> float:
    """Ours to a peer's: the median over the repetitions."""
    pairs = zip(samples["ours"], samples[peer], strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


def servers(rounds: int, report: Callable[[str], None]) -> list[Row]:
    """Start, memory and answers per second of the three servers."""
    start: Samples = defaultdict(list)
    memory: Samples = defaultdict(list)
    answers: Samples = defaultdict(list)
    for subject in measure.COMPARED:  # the first start compiles bytecode and fills caches
        with measure.started(subject):
            report(f"{subject} starts")
    for number in range(1, rounds + 1):
        for subject in measure.COMPARED:
            report(f"round {number} of {rounds}: {subject}")
            with measure.started(subject) as running:
                start[subject].append(running.seconds_to_heartbeat)
                memory[subject].append(running.memory_mib)
                answers[subject].append(measure.answers_per_second(running))
    more = statistics.median(memory["ours"]) - statistics.median(memory["bare"])
    times = ratio(start, "bare")
    share, multiple = ratio(answers, "bare"), ratio(answers, "nc_py_api")

    def row(
        what: str, unit: str, must: str, samples: Samples, compared: str, *, is_met: bool
    ) -> Row:
        medians = {name: statistics.median(values) for name, values in samples.items()}
        return Row(what, unit, must, **medians, compared=compared, is_met=is_met)

    return [
        row(
            "process start to first heartbeat",
            "s",
            "≤ 1.4 x bare",
            start,
            f"{times:.2f} x bare",
            is_met=times <= 1.4,
        ),
        row(
            "memory at rest after it",
            "MiB",
            "≤ bare + 8",
            memory,
            f"bare {more:+.1f}",
            is_met=more <= 8,
        ),
        row(
            "authenticated GET per second",
            "1/s",
            "≥ 0.85 x bare, ≥ 6 x nc_py_api",
            answers,
            f"{share:.2f} x bare, {multiple:.1f} x nc_py_api",
            is_met=share >= 0.85 and multiple >= 6,
        ),
    ]


def host(rounds: int, report: Callable[[str], None]) -> list[Row]:
    """What the host and the fixture take, in milliseconds."""
    report("register to enabled")
    register = statistics.median(hosted.register_to_enabled(rounds))
    report("fixture")
    fixture = statistics.median(hosted.fixture(rounds))
    return [
        Row(what, "ms", "≤ 50", value * 1000, None, None, f"{value * 1000:.1f}", value <= 0.05)
        for what, value in (
            ("register to enabled, app already running", register),
            ("fixture: app and host in memory, up and down", fixture),
        )
    ]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="repetitions (default 7)")
    parser.add_argument("--json", type=Path, help="also write the table into this file")
    options = parser.parse_args()
    console = Console()
    with console.status("") as status:
        rows = servers(options.rounds, status.update) + host(options.rounds, status.update)
    table = Table("what", "must", "ours", "bare", "nc_py_api", "compared", "")
    for row in rows:
        values = [
            "" if value is None else f"{value:,.3f}" if row.unit == "s" else f"{value:,.1f}"
            for value in (row.ours, row.bare, row.nc_py_api)
        ]
        table.add_row(
            f"{row.what} ({row.unit})",
            row.must,
            *values,
            row.compared,
            "ok" if row.is_met else "[bold red]missed[/]",
        )
    # The width is set: a table that is cut off is of no use in a log.
    Console(width=max(console.width, 150) if not console.is_terminal else None).print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
