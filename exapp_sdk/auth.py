"""Who may ask an ExApp for what: the check of the AppAPI headers, and access levels.

Source: AppAPI documentation, Authentication; behaviour of AppAPI 32.0.0 and its proxies.
"""

import json
import logging
import os
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from starlette.authentication import AuthCredentials, BaseUser
from starlette.types import ASGIApp, Receive, Scope, Send

from exapp_sdk.errors import AuthError, ConfigError
from exapp_sdk.protocol.auth import ORIGIN_IP, Credentials
from exapp_sdk.protocol.environ import Settings
from exapp_sdk.protocol.lifecycle import HEARTBEAT_PATH

__all__ = [
    "Access",
    "AppAPIAuthMiddleware",
    "User",
    "authenticate",
    "is_from_host",
    "is_heartbeat",
    "refuse",
    "route_path",
]

logger = logging.getLogger("exapp_sdk")

_ORIGIN_IP: Final = ORIGIN_IP.encode()
_POLICY_VIOLATION: Final = 1008  # close code for servers that cannot send an HTTP answer
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
_WITHOUT_BODY: Final = frozenset({204, 304})


class Access(StrEnum):
    """Who may use a route. Every level needs the AppAPI headers; none is open to the network."""

    PUBLIC = "public"
    """Whoever the host lets through, anonymous visitors too."""

    USER = "user"
    """A user of the host, whose id is `request.user.identity`."""

    ADMIN = "admin"
    """An administrator of the host.

    The headers name a user but not the groups, so the app can only insist on a user; that it is an
    administrator is ensured by the host, by `<access_level>ADMIN</access_level>` of the route in
    `appinfo/info.xml`. Declare it there as well.
    """

    HOST = "host"
    """The host itself: occ commands, triggers, webhooks without a user.

    Refuses requests in a user's name and those that AppAPI's PHP proxy forwarded (`x-origin-ip`).
    An anonymous visitor who comes through HaRP cannot be told from the host: leave such paths out
    of the routes in `appinfo/info.xml`.
    """

    def refusal(self, scope: Scope) -> str:
        """Why an authenticated request is refused; empty when it is allowed.

        Args:
            scope: ASGI scope with `user` in it.
        """
        if self is Access.PUBLIC:
            return ""
        user: BaseUser = scope["user"]
        if self is Access.HOST:
            if is_from_host(user.identity, scope["headers"]):
                return ""
            return "Only the host itself may use this."
        return "" if user.identity else "Only users who have logged in may use this."


class User(BaseUser):
    """In whose name an authenticated request is made; `request.user`.

    Args:
        user_id: empty when there is no acting user.
    """

    __slots__ = ("_user_id",)

    def __init__(self, user_id: str) -> None:
        self._user_id = user_id

    @property
    def is_authenticated(self) -> bool:
        """Whether there is an acting user."""
        return bool(self._user_id)

    @property
    def display_name(self) -> str:
        """The user id: the headers carry no other name."""
        return self._user_id

    @property
    def identity(self) -> str:
        """The user id, empty when there is no acting user."""
        return self._user_id

    def __repr__(self) -> str:
        return f"User({self._user_id!r})"


def authenticate(scope: Scope, expected: Credentials) -> None:
    """Check the headers of a request, and put `user` and `auth` into its scope.

    `auth` holds the scope `app`, and `user` as well when there is an acting user.

    Args:
        scope: ASGI scope, http or websocket.
        expected: what the app calls itself, and its secret.

    Raises:
        AuthError: the headers are missing, malformed or wrong. The scope is unchanged.
    """
    received = Credentials.parse(scope["headers"])
    if not received.matches(expected):
        raise AuthError
    scope["user"] = User(received.user_id)
    scope["auth"] = AuthCredentials(("app", "user") if received.user_id else ("app",))


def is_from_host(user_id: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether an authenticated request may come from the host itself.

    AppAPI's proxy signs whatever a browser sends; it gives itself away by the user or the header.
    """
    return not user_id and not any(name == _ORIGIN_IP for name, _ in headers)


def route_path(scope: Scope) -> str:
    """The path within this application.

    Taken from the scope and never from a URL object: some of those are put together with the
    `Host` header, which the sender chooses.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :]
    return path


def is_heartbeat(scope: Scope) -> bool:
    """Whether this is the one request that needs no authentication."""
    return (
        scope["type"] == "http"
        and scope["method"] in ("GET", "HEAD")
        and route_path(scope) == HEARTBEAT_PATH
    )


async def refuse(
    scope: Scope, send: Send, status: int, error: str, *, headers: Iterable[tuple[str, str]] = ()
) -> None:
    """Answer with `{"error": ...}`; a websocket is refused before it is accepted.

    Args:
        scope: of the request.
        send: its channel.
        status: HTTP status.
        error: what is wrong.
        headers: more headers.
    """
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or ()):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        kind = "websocket.http.response"
    body = b"" if status in _WITHOUT_BODY else _encode({"error": error}).encode()
    await send(
        {
            "type": f"{kind}.start",
            "status": status,
            "headers": [
                (b"content-length", str(len(body)).encode()),
                (b"content-type", b"application/json"),
                *((name.lower().encode(), value.encode()) for name, value in headers),
            ],
        }
    )
    await send({"type": f"{kind}.body", "body": body})


class AppAPIAuthMiddleware:
    """Wraps any ASGI application, so that only the host reaches it.

    `GET /heartbeat` passes, everything else needs the AppAPI headers: 401 with a JSON body
    otherwise, websockets before they are accepted. The wrapped application finds the acting user in
    `request.user` (`identity`, `is_authenticated`) and `request.auth` (`app`, `user`).

    An `ExApp` does this by itself; wrap what runs without one:

    ```python
    app = AppAPIAuthMiddleware(FastAPI())
    api.add_middleware(AppAPIAuthMiddleware)  # or this way
    ```

    Args:
        app: what to protect.
        settings: the app's id and secret; by default read from the environment, once, when the
            application starts.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings | None = None) -> None:
        self.app = app
        self._expected = None if settings is None else settings.credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] not in ("http", "websocket") or is_heartbeat(scope):
            await self.app(scope, receive, send)
            return
        try:
            authenticate(scope, self._expected or self._read_environment())
        except AuthError as error:
            logger.debug("refused %r: %s", scope["path"], error)
            await refuse(scope, send, 401, str(error))
        except ConfigError as error:
            logger.error("every request is refused: %s", error)
            await refuse(scope, send, 503, "The app is not configured.")
        else:
            await self.app(scope, receive, send)

    def _read_environment(self) -> Credentials:
        self._expected = Settings.from_environ(os.environ).credentials
        return self._expected
