"""The two ways that lead users to apps, each with the rules of its original, as data.

`PHP` is AppAPI's own proxy, which built-in pages, icons and actions always use; `HARP` is the
reverse proxy that modern daemons bring along, for front ends that choose it. What they have in
common is code in the sibling modules; how they differ is here and nowhere else.

Source: AppAPI documentation, Routes, and HaRP's; both measured: AppAPI 32.0.0 with its development
branch where that is stricter, HaRP 0.4.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

__all__ = ["HARP", "PHP", "PROFILES", "Matching", "Profile", "Reason", "Verdict", "profile_of"]


class Reason(Enum):
    """Why a request does not reach the app."""

    METHOD = auto()
    """The verb is not forwarded."""
    NO_APP = auto()
    """No app of that id, or no id at all."""
    DISABLED = auto()
    """The app is not enabled."""
    DOT_SEGMENT = auto()
    """The path has a segment `.` or `..`, plain or encoded."""
    LIFECYCLE = auto()
    """The path is one of those that only the host itself asks for."""
    NO_ROUTE = auto()
    """No declared route matches."""
    ACCESS = auto()
    """A route decides, and the caller's level is too low for it."""
    PASSWORD = auto()
    """User or password is wrong."""
    THROTTLED = auto()
    """Too many failures from that address."""
    UNREACHABLE = auto()
    """The app cannot be reached, or breaks off before its answer."""
    WEBSOCKET = auto()
    """This way has no websockets."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a refused request is answered.

    Args:
        status: HTTP status.
        is_failure: it counts against the address that it came from.
        closes: the connection ends with the answer.
        has_body: the answer says something.
    """

    status: int
    is_failure: bool = False
    closes: bool = False
    has_body: bool = True


@dataclass(frozen=True, slots=True)
class Matching:
    """How the pattern of a route is compared with a path.

    Args:
        ignores_case: upper and lower case are the same.
        also_bare: a pattern that does not match `/path` may match `path`.
        heeds_verb: a route counts only for the verbs that it names.
        is_decoded: the path is decoded once before it is compared.
    """

    ignores_case: bool
    also_bare: bool
    heeds_verb: bool
    is_decoded: bool


@dataclass(frozen=True, slots=True)
class Profile:
    """The rules of one way.

    Args:
        name: `php` or `harp`.
        prefixes: what paths begin with; the app's id follows.
        methods: verbs that are forwarded; None for all.
        only_get_at_root: the path that is a slash and nothing else is open to GET and HEAD only.
        matching: how routes are found.
        ignores_case_of_id: the app is looked up by the id in lower case.
        verdicts: what happens for each reason; a reason that is missing does not occur, and one of
            None lets the request go on as if the matter had not come up.
        aa_version: the AppAPI version to announce; empty for the host's own.
        adds_origin: the app learns the client's address and the id of the request, and gets a
            language and an agent where the client names none.
        excludes_headers: `headers_to_exclude` of the route is obeyed.
        head_becomes_get: the app is asked with GET where the client said HEAD.
        follows_redirects: answers that redirect within the app are followed instead of passed on.
        adds_defaults: answers get what Nextcloud adds to its own: caching, security headers, type.
        always_throttles: every request of an address that failed too often is refused, whatever it
            asks for, and what is a failure says the verdict; otherwise only routes that name
            status codes are guarded, and only such answers are failures.
        has_websockets: an upgrade is passed on.
        is_html: refusals are pages; otherwise plain text.
    """

    name: str
    prefixes: tuple[str, ...]
    methods: frozenset[str] | None
    only_get_at_root: bool
    matching: Matching
    ignores_case_of_id: bool
    verdicts: Mapping[Reason, Verdict | None]
    aa_version: str
    adds_origin: bool
    excludes_headers: bool
    head_becomes_get: bool
    follows_redirects: bool
    adds_defaults: bool
    always_throttles: bool
    has_websockets: bool
    is_html: bool


PHP: Final = Profile(
    name="php",
    prefixes=("/index.php/apps/app_api/proxy/", "/apps/app_api/proxy/"),
    methods=frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"}),
    only_get_at_root=True,  # a quirk of AppAPI's own routes
    matching=Matching(ignores_case=True, also_bare=True, heeds_verb=True, is_decoded=True),
    ignores_case_of_id=False,
    verdicts=MappingProxyType(
        {
            Reason.METHOD: Verdict(405, has_body=False),
            Reason.NO_APP: Verdict(404),
            Reason.DISABLED: Verdict(404),
            Reason.DOT_SEGMENT: Verdict(404),
            Reason.LIFECYCLE: Verdict(404),
            Reason.NO_ROUTE: Verdict(404),
            Reason.ACCESS: Verdict(404),
            # Not the 404 of a missing right: here the client said who it wants to be, and gets the
            # chance to say it again.
            Reason.PASSWORD: Verdict(401),
            Reason.THROTTLED: Verdict(429),
            Reason.UNREACHABLE: Verdict(500),
            Reason.WEBSOCKET: Verdict(403),
        }
    ),
    aa_version="",
    adds_origin=True,
    excludes_headers=True,
    head_becomes_get=True,
    follows_redirects=True,
    adds_defaults=True,
    always_throttles=False,
    has_websockets=False,
    is_html=True,
)

HARP: Final = Profile(
    name="harp",
    prefixes=("/exapps/",),
    methods=None,
    only_get_at_root=False,
    matching=Matching(ignores_case=False, also_bare=False, heeds_verb=False, is_decoded=False),
    ignores_case_of_id=True,
    verdicts=MappingProxyType(
        {
            Reason.NO_APP: Verdict(404, is_failure=True),
            Reason.DISABLED: Verdict(404, is_failure=True),
            # HaRP hangs up without a word in these cases. An ASGI application cannot, and a word
            # is what a developer needs.
            Reason.DOT_SEGMENT: Verdict(403, is_failure=True, closes=True),
            Reason.LIFECYCLE: Verdict(403, is_failure=True, closes=True),
            Reason.NO_ROUTE: Verdict(404, is_failure=True),
            Reason.ACCESS: Verdict(403, is_failure=True),
            Reason.PASSWORD: None,
            Reason.THROTTLED: Verdict(429, closes=True),
            Reason.UNREACHABLE: Verdict(503),
        }
    ),
    aa_version="32",
    adds_origin=False,
    excludes_headers=False,
    head_becomes_get=False,
    follows_redirects=False,
    adds_defaults=False,
    always_throttles=True,
    has_websockets=True,
    is_html=False,
)

PROFILES: Final = (PHP, HARP)

_BY_PREFIX: Final = tuple((prefix, profile) for profile in PROFILES for prefix in profile.prefixes)


def profile_of(raw_path: str) -> tuple[str, Profile] | None:
    """The profile that a path belongs to, with the prefix by which; None if it is no proxy path.

    Args:
        raw_path: as sent.
    """
    for prefix, profile in _BY_PREFIX:
        if raw_path.startswith(prefix):
            return prefix, profile
    return None
