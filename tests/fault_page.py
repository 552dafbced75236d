"""The tables of docs/reference/faults.md: each is what one file of tests sees, or writes anew."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "faults.md"

WRITE = "EXAPP_WRITE_FAULTS"
"""Set in the environment to write the tables instead of comparing them."""


class FaultTable:
    """One of the tables, between two comments of the page.

    Args:
        file: whose tests see it, as the page names it.
        head: names of its columns.
    """

    def __init__(self, file: str, *head: str) -> None:
        self._head = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        self._place = re.compile(
            rf"(?<=<!-- seen by {re.escape(file)} -->\n).*?(?=<!-- end -->)", re.DOTALL
        )

    def rows(self) -> list[str]:
        """As the page has them."""
        found = self._place.search(PAGE.read_text(encoding="utf-8"))
        assert found
        lines = found.group().strip().splitlines()
        assert lines[:2] == self._head
        return lines[2:]

    def write(self, rows: list[str]) -> None:
        """Have others."""
        drawn = "\n".join([*self._head, *rows, ""])
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(self._place.sub(lambda _: drawn, text), encoding="utf-8")

    @contextmanager
    def seen(self) -> Iterator[list[str]]:
        """The rows; where they are to be written, those that are put there inside the block."""
        if WRITE not in os.environ:
            yield self.rows()
            return
        rows: list[str] = []
        yield rows
        self.write(rows)


def first_cells(rows: list[str]) -> list[tuple[str, str]]:
    """What the first two columns say."""
    return [(cells[1].strip(), cells[2].strip()) for cells in (row.split("|") for row in rows)]
