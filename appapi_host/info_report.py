"""What is wrong with the description of an app, and where: values that know their line."""

import json
from typing import Any, Final

from appapi_host.errors import InfoError

__all__ = ["MISTAKE", "Line", "Mistake", "Report", "XMLEntry", "XMLText"]

MAX_PROBLEMS: Final = 50
"""More than that nobody reads; a hostile file could have a hundred thousand."""


class XMLText(str):
    """A text of an XML file that knows its line."""

    __slots__ = ("line",)
    line: int

    @classmethod
    def at(cls, line: int, text: str) -> "XMLText":
        """A text of that line."""
        made = cls(text)
        made.line = line
        return made


class Line(int):
    """A place without a value, for instance that of an empty element."""

    __slots__ = ()

    @property
    def line(self) -> int:
        """The number itself, so that a place can be asked like a value."""
        return int(self)


class XMLEntry(dict[str, Any]):
    """The children of an XML element, with its line."""

    __slots__ = ("line",)
    line: int


class Mistake:
    """Stands for a value that was reported already."""


MISTAKE: Final = Mistake()


class Report:
    """Gathers what is wrong, so that one run shows everything."""

    def __init__(self, source: str, *, is_xml: bool) -> None:
        self.source = source
        self.is_xml = is_xml
        self.app_id = ""
        self.warnings: list[str] = []
        self._problems: list[tuple[str, str, int]] = []
        self._more = 0

    def problem(self, at: object, text: str, *, kind: str = "content", example: str = "") -> None:
        """Something that cannot be used.

        Args:
            at: the value; if it came from XML, it knows its line.
            text: what is wrong.
            kind: see `InfoError`.
            example: what is right.
        """
        if len(self._problems) == MAX_PROBLEMS:
            self._more += 1
            return
        hint = f"; right is for example {example}" if example else ""
        line: int = getattr(at, "line", 0)
        self._problems.append((kind, f"{_place(at)}{text}{hint}", line))

    def warning(self, at: object, text: str) -> None:
        """Something that is harmless here."""
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(f"{_place(at)}{text}")

    def example(self, key: str, value: str | int | list[Any]) -> str:
        """How a value is written in this kind of source."""
        if self.is_xml:
            text = value if isinstance(value, str) else json.dumps(value)
            return f"<{key}>{text}</{key}>"
        return f"{json.dumps(key)}: {json.dumps(value)}"

    def shown(self, key: str) -> str:
        """How a key is called in this kind of source."""
        return f"<{key}>" if self.is_xml else f'"{key}"'

    def raise_problems(self) -> None:
        """Raise them all, if there are any."""
        if not self._problems:
            return
        # By line; what is missing has none and comes first.
        self._problems.sort(key=lambda problem: problem[2])
        texts = [text for _, text, _ in self._problems]
        if self._more:
            texts.append(f"and {self._more} more")
        headline, kind = "", "content"
        for section, noun in (("routes", "route"), ("environment", "environment variable")):
            first = next((text for of, text, _ in self._problems if of == section), None)
            if first:
                kind = section
                headline = f"ExApp '{self.app_id}' has invalid {noun} definition. {first}"
                break
        raise InfoError(self.source, texts, kind=kind, headline=headline)


def _place(at: object) -> str:
    line = getattr(at, "line", None)
    return "" if line is None else f"line {line}: "
