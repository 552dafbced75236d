"""Comparing version texts as the real AppAPI does, which leaves it to PHP."""

import re
from typing import Final

__all__ = ["is_newer"]

# What a part that is no number is worth; a number stands between "rc" and "pl". Source: PHP manual,
# version_compare: any other text < dev < alpha < beta < RC < number < pl.
_UNKNOWN: Final = -1
_NUMBER: Final = 4
_WORDS: Final = {"dev": 0, "alpha": 1, "a": 1, "beta": 2, "b": 2, "rc": 3, "pl": 5, "p": 5}


def is_newer(candidate: str, than: str) -> bool:
    """Whether a version is greater than another.

    Numbers compare as numbers and pre-release suffixes sort lower: `1.0.0-rc1` < `1.0.0` < `1.0.1`.
    A text that is no version, such as `zzz`, is lower than every version.
    """
    left, right = _parts(candidate), _parts(than)
    for one, other in zip(left, right, strict=False):
        if one != other:
            return one > other
    if len(left) > len(right):
        # 1.0.1 > 1.0, but 1.0rc1 < 1.0.
        return left[len(right)] >= (_NUMBER, 0)
    if len(left) < len(right):
        return right[len(left)] < (_NUMBER, 0)
    return False


def _parts(version: str) -> list[tuple[int, int]]:
    return [
        # Nobody has versions of 18 digits; longer ones would only cost time.
        (_NUMBER, int(part[:18])) if part.isdigit() else (_WORDS.get(part.lower(), _UNKNOWN), 0)
        for part in re.findall(r"[0-9]+|[A-Za-z]+", version[:256])
    ]
