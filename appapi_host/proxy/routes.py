"""Which declared route decides about a path, and which paths no route can open.

Source: AppAPI documentation, Routes; matching as in AppAPI's development branch, and as in HaRP.
"""

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from appapi_host.proxy.profiles import Matching
from appapi_host.records import Route
from exapp_sdk.protocol.lifecycle import LIFECYCLE_PATHS

__all__ = ["described", "has_dot_segment", "is_lifecycle_path", "match_route"]

_MAX_DECODINGS: Final = 5
"""How often a path is decoded in search of `..`; nobody encodes an honest path more often."""

_SEPARATORS: Final = re.compile(r"[/\\]")


@lru_cache(maxsize=2048)
def _compiled(pattern: str, flags: re.RegexFlag) -> re.Pattern[str] | None:
    with warnings.catch_warnings():
        # Dubious but valid patterns are the app's own affair.
        warnings.simplefilter("ignore")
        try:
            return re.compile(pattern, flags)
        except (re.error, RecursionError, OverflowError):
            return None


def match_route(
    routes: Sequence[Route], method: str, path: str, matching: Matching
) -> tuple[int, Route] | None:
    """The route that decides about a request, with its index; None if there is none.

    The first one that matches decides, whatever its access level. The pattern is tried at the start
    of `/path`; an invalid one matches nothing. Where verbs count, the text of the verbs must
    contain the verb.

    Args:
        routes: in the order of the declaration.
        method: HTTP verb.
        path: without its leading slash.
        matching: what else counts.
    """
    flags = re.IGNORECASE if matching.ignores_case else re.NOFLAG
    slashed = "/" + path
    for index, route in enumerate(routes):
        pattern = _compiled(route.url, flags)
        if (
            pattern is not None
            and (not matching.heeds_verb or method in route.verb.upper())
            and (pattern.match(slashed) or (matching.also_bare and pattern.match(path)))
        ):
            return index, route
    return None


def described(route: Route) -> str:
    """A route in one line, for messages."""
    validity = "" if _compiled(route.url, re.NOFLAG) else ", not a valid regular expression"
    return f"{route.url} ({route.verb}, {route.access_level.name}{validity})"


def has_dot_segment(path: str) -> bool:
    """Whether a path leads elsewhere than it says: `.` or `..`, plain or encoded ever so often.

    Real browsers resolve such segments themselves, so nothing honest is lost.

    Args:
        path: decoded once.
    """
    if "%" not in path and "\\" not in path and "/." not in path and not path.startswith("."):
        return False  # as most are
    for _ in range(_MAX_DECODINGS):
        if any(segment in (".", "..") for segment in _SEPARATORS.split(path)):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True


def is_lifecycle_path(path: str) -> bool:
    """Whether an app, even one that normalizes paths, may take this for `/init` and the like.

    Args:
        path: decoded once, without its leading slash.
    """
    if "%" in path:
        for _ in range(_MAX_DECODINGS):
            path = unquote(path)
    return "/" + "/".join(filter(None, _SEPARATORS.split(path))).lower() in LIFECYCLE_PATHS
