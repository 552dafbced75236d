"""Which path a person can open, told from the regular expression of a route."""

import re
from typing import Final

__all__ = ["fixed_path"]

_ANY_END: Final = re.compile(r"(\.\*|\.\+|\(\.\*\)|\(\.\+\)|\$)+\Z")
_LEADING_SLASH: Final = re.compile(r"\A\^?(\\?/\??)?")
_ESCAPED: Final = re.compile(r"\\([^A-Za-z0-9])")
_META: Final = re.compile(r"(?<!\\)[.*+?()\[\]{}|^$]|\\[A-Za-z0-9]")


def fixed_path(pattern: str) -> tuple[str, bool]:
    """The path that an expression begins with, and whether it says all there is to say.

    Args:
        pattern: `url` of a route; whatever may follow at its end is left out.

    Returns:
        The path without its leading slash.
    """
    rest = _ANY_END.sub("", pattern[_LEADING_SLASH.match(pattern).end() :])  # type: ignore[union-attr]  # all its parts are optional
    meta = _META.search(rest)
    fixed = rest[: meta.start()] if meta else rest
    return _ESCAPED.sub(r"\1", fixed), meta is None
