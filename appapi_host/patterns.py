"""Regular expressions from outside, evaluated within limits.

Apps declare them for their routes and in the filters of their webhooks, and strangers choose the
text. Python's own engine needs years for `(a+)+$` and 40 letters, and cannot be interrupted. That
of PHP, which these patterns are made for, gives up after so many steps; this one does after a time.

Source: PHP manual, PCRE, `pcre.backtrack_limit`; PCRE2 manual, `pcre2limits`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import regex

__all__ = [
    "MATCH_SECONDS",
    "MAX_SIZE",
    "PatternExhausted",
    "is_found",
    "is_valid",
    "starts_with",
]

MATCH_SECONDS: Final = 0.05
"""Of processor time, for one comparison: a thousand times what honest patterns take, and no more
than a moment for everybody else."""

MAX_SIZE: Final = 20_000
"""How long a pattern may be with its repeats written out, which is what the engine does with them.
PCRE has such a limit too."""

_REMEMBERED_LENGTH: Final = 512
"""Length of a text of which the outcome is kept: front ends ask for the same paths all the time."""

_TOKEN: Final = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?P<least>\d*),?(?P<most>\d*)\}|.", re.DOTALL
)


class PatternExhausted(ValueError):  # noqa: N818  # the text is at fault as much as the pattern
    """A pattern needs too long for a text: nobody knows whether it matches.

    Args:
        pattern: the regular expression.
    """

    def __init__(self, pattern: str) -> None:
        super().__init__(
            f"the regular expression {pattern} took more than {MATCH_SECONDS:g} s; "
            "a repeat of something that is itself repeated may take for ever"
        )


def is_valid(pattern: str, *, ignores_case: bool = False) -> bool:
    """Whether this is a regular expression, of a size that can be had."""
    return _compiled(pattern, re.IGNORECASE if ignores_case else re.NOFLAG) is not None


def starts_with(text: str, pattern: str, *, ignores_case: bool) -> bool:
    """Whether a text begins with what a pattern describes; nothing does if that is invalid.

    Raises:
        PatternExhausted: that cannot be told.
    """
    compare = _starts_with if len(text) <= _REMEMBERED_LENGTH else _starts_with.__wrapped__
    return compare(text, pattern, re.IGNORECASE if ignores_case else re.NOFLAG)


@lru_cache(maxsize=4096)
def _starts_with(text: str, pattern: str, flags: re.RegexFlag) -> bool:
    compiled = _compiled(pattern, flags)
    if compiled is None:
        return False
    try:
        return compiled.match(text, timeout=MATCH_SECONDS) is not None
    except TimeoutError:
        raise PatternExhausted(pattern) from None


def is_found(text: str, pattern: str, flags: re.RegexFlag = re.NOFLAG) -> bool:
    """Whether what a pattern describes is anywhere in a text.

    Raises:
        PatternExhausted: that cannot be told.
        ValueError: it is no regular expression, or too large.
    """
    compiled = _compiled(pattern, flags)
    if compiled is None:
        raise ValueError(f"{pattern} is no regular expression, or too large a one")
    try:
        return compiled.search(text, timeout=MATCH_SECONDS) is not None
    except TimeoutError:
        raise PatternExhausted(pattern) from None


@lru_cache(maxsize=2048)
def _compiled(pattern: str, flags: re.RegexFlag) -> regex.Pattern[str] | None:
    import regex  # a tenth of a second, which most commands need not spend

    if _size(pattern) > MAX_SIZE:
        return None
    try:
        # In the manner of Python's own, which is what HaRP uses; PCRE's additions are there too.
        return regex.compile(pattern, int(flags) | regex.VERSION0)
    except (regex.error, RecursionError, OverflowError, ValueError):
        return None


def _size(pattern: str) -> int:
    """How many characters a pattern has with its counted repeats written out, about."""
    sizes = [0]  # of what stands in each open group so far
    last = 0  # of what a repeat would be for
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if text == "(":
            sizes.append(1)
            last = 0
        elif text == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif counts := [int(count[:9]) for count in token.group("least", "most") if count]:
            times = max(*counts, 1)
            sizes[-1] += last * (times - 1)
            last *= times
        elif text not in ("*", "+", "?"):
            last = 1
            sizes[-1] += 1
        if sizes[-1] > MAX_SIZE:
            break
    return sum(sizes)
