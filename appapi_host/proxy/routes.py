"""Which declared route decides about a path, and which paths no route can open.

Source: AppAPI documentation, Routes; matching as in AppAPI's development branch, and as in HaRP.
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from appapi_host.patterns import PatternExhausted, is_valid, starts_with
from appapi_host.proxy.profiles import Matching
from appapi_host.records import Route
from exapp_sdk.protocol.lifecycle import LIFECYCLE_PATHS

__all__ = ["RouteExhausted", "described", "has_dot_segment", "is_lifecycle_path", "match_route"]

_MAX_DECODINGS: Final = 5
"""How often a path is decoded in search of `..`; nobody encodes an honest path more often."""

_SEPARATORS: Final = re.compile(r"[/\\]")


class RouteExhausted(Exception):  # noqa: N818  # nobody knows whether it matches
    """The pattern of a route takes too long for a path.

    Args:
        index: of the route.
        route: which one.
    """

    def __init__(self, index: int, route: Route) -> None:
        self.index = index
        self.route = route
        super().__init__(f"route {index + 1}, {route.url}, takes too long")


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

    Raises:
        RouteExhausted: the pattern of a route that may decide takes too long. The next one must not
            decide in its place, which may be open to more.
    """
    texts = ("/" + path, path) if matching.also_bare else ("/" + path,)
    for index, route in enumerate(routes):
        if matching.heeds_verb and method not in route.verb.upper():
            continue
        for text in texts:
            try:
                if starts_with(text, route.url, ignores_case=matching.ignores_case):
                    return index, route
            except PatternExhausted:
                raise RouteExhausted(index, route) from None
    return None


def described(route: Route) -> str:
    """A route in one line, for messages."""
    validity = "" if is_valid(route.url) else ", not a valid regular expression"
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
        if any(segment in (".", "..") for segment in _segments(path)):
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
    return "/" + "/".join(filter(None, _segments(path))).lower() in LIFECYCLE_PATHS


def _segments(path: str) -> list[str]:
    """The parts of a path, without the parameters that some servers take off: `/init;a=b`."""
    parts = _SEPARATORS.split(path)
    return [part.partition(";")[0] for part in parts] if ";" in path else parts
