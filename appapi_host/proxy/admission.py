"""Whether a request may reach an app, in whose name, and by which route.

Nothing of an app is reachable unless it declares a route for it. Why a request was refused goes to
the bus, because that is what developers search longest for.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from starlette.types import Scope

from appapi_host.basic_auth import CHALLENGE
from appapi_host.host import Host
from appapi_host.identity import identify
from appapi_host.proxy.profiles import Matching, Profile, Reason, profile_of
from appapi_host.proxy.refusals import Refusal
from appapi_host.proxy.routes import (
    RouteExhausted,
    described,
    has_dot_segment,
    is_lifecycle_path,
    match_route,
)
from appapi_host.records import AccessLevel, AppRecord, Route, User
from appapi_host.throttling import Throttled, client_address
from exapp_sdk.errors import LocalProtocolError

__all__ = ["Address", "Passage", "admit", "raw_path"]

_SAFE_IN_PATH: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "#?")
_SAFE_IN_QUERY: Final = _SAFE_IN_PATH + "?"


@dataclass(frozen=True, slots=True)
class Address:
    """What the path of a request names.

    Args:
        profile: the rules that hold for it.
        prefix: everything before the app's own path, without a trailing slash.
        spelled_id: the app's id as it is written there.
        app_id: what it is looked up by.
        raw_path: the app's own path as sent, without its leading slash.
        has_slash: whether there is that slash.
    """

    profile: Profile
    prefix: str
    spelled_id: str
    app_id: str
    raw_path: str
    has_slash: bool

    @classmethod
    def parse(cls, raw: str) -> "Address":
        """Split a path that begins with the prefix of a profile.

        Raises:
            LocalProtocolError: it does not.
        """
        found = profile_of(raw)
        if found is None:
            raise LocalProtocolError(f"{raw} is no path of the proxy")
        start, profile = found
        spelled, slash, path = raw[len(start) :].partition("/")
        app_id = spelled.lower() if profile.ignores_case_of_id else unquote(spelled)
        return cls(profile, start + spelled, spelled, app_id, path, bool(slash))

    def target(self, query: bytes) -> str:
        """Path and query for the app, as they were sent.

        AppAPI decodes the path once and encodes it anew, so that `%2F` becomes a slash and `%3F`
        begins a query. Both are bugs that an app should not learn to rely on.
        """
        path = self.raw_path
        if not path.isascii() or not path.isprintable() or "#" in path or " " in path:
            path = quote(path.encode("latin-1"), safe=_SAFE_IN_PATH)
        return f"/{path}?{quote(query, safe=_SAFE_IN_QUERY)}" if query else f"/{path}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A request that was let through: everything that forwarding needs.

    Args:
        app: who is asked.
        user: in whose name; None for nobody.
        route: the one that decided.
        address: what was asked for.
        path: the app's own path, decoded, without its leading slash.
        note: which route decided, in words.
    """

    app: AppRecord
    user: User | None
    route: Route
    address: Address
    path: str
    note: str

    @property
    def user_id(self) -> str:
        """The acting user, empty for nobody."""
        return self.user.user_id if self.user else ""


async def admit(host: Host, scope: Scope, address: Address) -> Passage:
    """Let a request through.

    Args:
        host: knows apps and users.
        scope: of an HTTP request or a websocket.
        address: what is asked for.

    Raises:
        Refusal: it must not reach the app.
    """
    profile = address.profile
    method = scope.get("method", "GET")
    if scope["type"] == "websocket" and not profile.has_websockets:
        note = f"this way has no websockets; /exapps/{address.app_id}/{address.raw_path} has them"
        raise Refusal(Reason.WEBSOCKET, note)
    if profile.methods is not None and method not in profile.methods:
        raise Refusal(
            Reason.METHOD, f"the proxy does not forward {method}", headers=[_allow(profile)]
        )
    path = unquote(address.raw_path)
    is_root = address.has_slash and not path
    if is_root and profile.only_get_at_root and method not in ("GET", "HEAD"):
        note = f"{method} needs a path behind the app id"
        raise Refusal(Reason.METHOD, note, headers=[_allow(profile)])
    app = await host.registry.app(address.app_id)
    if app is None:
        raise Refusal(Reason.NO_APP, f"no app {address.app_id!r} is registered")
    user = None
    try:
        if not app.enabled:
            raise Refusal(Reason.DISABLED, f"the app is disabled (state: {app.state.value})")
        if has_dot_segment(path):
            note = "the path has a segment '.' or '..', plain or encoded"
            raise Refusal(Reason.DOT_SEGMENT, note)
        if is_lifecycle_path(path):
            # AppAPI signs these with the user's id if a route matches them; an app that does not
            # look at the user id would take a browser for the host.
            note = "lifecycle paths are for the host itself, no route opens them"
            raise Refusal(Reason.LIFECYCLE, note)
        user, doubt = await _identified(host, scope, profile)
        return _decided(app, user, method, address, path, doubt)
    except Refusal as refusal:
        refusal.app_id = app.app_id
        refusal.user_id = user.user_id if user else ""
        raise


def raw_path(scope: Scope) -> str:
    """The path of a request as it was sent."""
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    return str(raw.decode("latin-1"))


def _allow(profile: Profile) -> tuple[str, str]:
    return ("Allow", ", ".join(sorted(profile.methods or ())))


async def _identified(host: Host, scope: Scope, profile: Profile) -> tuple[User | None, str]:
    """The user who signed in, None for an anonymous caller; and what is wrong with the latter.

    Raises:
        Refusal: user or password is wrong, and the profile says so; or too often.
    """
    # No proof is asked for that a request by session was meant: AppAPI's proxy does not either.
    try:
        identity = await identify(host, scope["headers"], address=client_address(scope))
    except Throttled as error:
        raise Refusal(Reason.THROTTLED, str(error)) from error
    if identity.refusal and profile.verdicts[Reason.PASSWORD] is not None:
        raise Refusal(Reason.PASSWORD, identity.refusal, headers=[CHALLENGE])
    return identity.user, f", for {identity.refusal}" if identity.refusal else ""


def _matching(
    app: AppRecord, method: str, path: str, matching: Matching
) -> tuple[int, Route] | None:
    """The route that decides.

    Raises:
        Refusal: nobody knows which one does.
    """
    try:
        return match_route(app.routes, method, path, matching)
    except RouteExhausted as error:
        note = (
            f"route {error.index + 1} of {len(app.routes)}, {described(error.route)}, takes too "
            "long for this path: a repeat of something that is itself repeated may take for ever"
        )
        raise Refusal(Reason.NO_ROUTE, note) from error


def _decided(
    app: AppRecord, user: User | None, method: str, address: Address, path: str, doubt: str
) -> Passage:
    """Find the route, and compare levels.

    Raises:
        Refusal: there is none, or its level is too high for the caller.
    """
    matching = address.profile.matching
    spelled = path if matching.is_decoded else address.raw_path
    found = _matching(app, method, spelled, matching)
    if found is None:
        declared = "; ".join(described(route) for route in app.routes) or "none"
        note = f"no declared route matches {method} /{spelled} (declared routes: {declared})"
        raise Refusal(Reason.NO_ROUTE, note)
    index, route = found
    level = user.access_level if user else AccessLevel.PUBLIC
    who = f"the user {user.user_id!r}" if user else f"the caller is anonymous{doubt} and"
    decides = f"route {index + 1} of {len(app.routes)}, {described(route)}, decides"
    if level < route.access_level:
        raise Refusal(Reason.ACCESS, f"{decides}: {who} has only access level {level.name}")
    if spelled != path:
        # The app decodes what it gets, so an encoded spelling must not open what the plain one
        # does not. HaRP lets it through.
        plain = _matching(app, method, path, matching)
        if plain is not None and level < plain[1].access_level:
            described_plain = f"route {plain[0] + 1} of {len(app.routes)}, {described(plain[1])}"
            note = f"{described_plain}, decides about the decoded path: {who} has only access level"
            raise Refusal(Reason.ACCESS, f"{note} {level.name}")
    return Passage(app, user, route, address, path, f"{decides}: {level.name}{doubt} may")
