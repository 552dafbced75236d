"""User traffic to apps: `/index.php/apps/app_api/proxy/{appid}/{path}`.

Nothing of an app is reachable unless it declares a route for it. A refused request is answered with
a bare 404, as by the real one; why it was refused goes to the bus, because that is what developers
search longest for.

Known differences to AppAPI's own proxy, all of them so that development sees what the app does:
answers are streamed as they come, repeated headers all arrive, bodies stay compressed, redirects
reach the browser instead of being followed, an app that cannot be reached gives 502 and not an
empty 500, and lifecycle paths are never reachable.

Source: AppAPI documentation, Routes; behaviour of AppAPI 32.0.0 and its development branch.
"""

import html
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

import anyio
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from appapi_host.basic_auth import CHALLENGE
from appapi_host.errors import HostError
from appapi_host.events import Direction, Exchange, Notice, masked_headers
from appapi_host.host import Host
from appapi_host.identity import identify
from appapi_host.pages import html_page
from appapi_host.proxy.headers import answer_headers, request_headers
from appapi_host.proxy.routes import described, has_dot_segment, is_lifecycle_path, match_route
from appapi_host.records import AccessLevel, AppRecord, Route, User
from appapi_host.throttling import Throttled, client_address
from exapp_sdk.errors import TransportError

__all__ = ["PROXY_PREFIXES", "Proxy"]

PROXY_PREFIXES: Final = ("/index.php/apps/app_api/proxy/", "/apps/app_api/proxy/")

_FORWARDED: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
_ALLOW: Final = ("Allow", "DELETE, GET, HEAD, POST, PUT")

_SAFE_IN_PATH: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "#?")
_SAFE_IN_QUERY: Final = _SAFE_IN_PATH + "?"


class _Refusal(Exception):  # noqa: N818  # a decision, not something gone wrong
    """The request does not reach the app.

    Args:
        status: HTTP status.
        note: the reason, for the host's own output.
        text: what the client reads on the page, if it is more than the status.
        headers: additional headers.
        app_id: the app, if it is one.
        user_id: who asked.
    """

    def __init__(
        self,
        status: int,
        note: str,
        *,
        text: str = "",
        headers: Iterable[tuple[str, str]] = (),
        app_id: str = "",
        user_id: str = "",
    ) -> None:
        self.status = status
        self.note = note
        self.text = text
        self.headers = tuple(headers)
        self.app_id = app_id
        self.user_id = user_id
        super().__init__(note)


@dataclass(frozen=True, slots=True)
class _Address:
    """What the path of a request names.

    Args:
        prefix: everything before the app's own path, without a trailing slash.
        app_id: decoded.
        raw_path: the app's own path as sent, without its leading slash; None if there is not even
            that slash.
    """

    prefix: str
    app_id: str
    raw_path: str | None

    @classmethod
    def parse(cls, raw: str) -> "_Address":
        start = next(prefix for prefix in PROXY_PREFIXES if raw.startswith(prefix))
        app_id, slash, path = raw[len(start) :].partition("/")
        return cls(start + app_id, unquote(app_id), path if slash else None)


@dataclass(frozen=True, slots=True)
class _Passage:
    """A request that was let through: everything that forwarding needs."""

    app: AppRecord
    user_id: str
    route: Route
    address: _Address
    path: str
    note: str


class Proxy:
    """The ASGI application of the proxy paths.

    Args:
        host: whose apps are reached.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward one request or refuse it.

        Raises:
            TransportError: the app broke off in the middle of its answer. The server must close the
                connection then, so that the client does not take a part for the whole.
        """
        started = time.perf_counter()
        try:
            passage = await self._admit(scope)
        except _Refusal as refusal:
            await self._refuse(scope, send, refusal, started)
            return
        await self._forward(scope, receive, send, passage, started)

    # Whether

    async def _admit(self, scope: Scope) -> _Passage:
        """Let a request through.

        Raises:
            _Refusal: it must not reach the app.
        """
        method = scope["method"]
        if method not in _FORWARDED:
            raise _Refusal(405, f"the proxy does not forward {method}", headers=[_ALLOW])
        address = _Address.parse(_raw_path(scope))
        path = unquote(address.raw_path or "")
        if address.raw_path == "" and method not in ("GET", "HEAD"):
            # A quirk of AppAPI's own routes: only GET may have an empty path behind the slash.
            raise _Refusal(405, f"{method} needs a path behind the app id", headers=[_ALLOW])
        app = await self._host.registry.app(address.app_id)
        if app is None:
            raise _Refusal(404, f"no app {address.app_id!r} is registered")
        user = None
        try:
            if not app.enabled:
                raise _Refusal(404, f"the app is disabled (state: {app.state.value})")
            if has_dot_segment(path):
                raise _Refusal(404, "the path has a segment '.' or '..', plain or encoded")
            if is_lifecycle_path(path):
                # AppAPI signs these with the user's id if a route matches them; an app that does
                # not look at the user id would take a browser for the host.
                raise _Refusal(404, "lifecycle paths are for the host itself, no route opens them")
            user = await self._signed_in(scope)
            return self._decide(app, user, method, address, path)
        except _Refusal as refusal:
            refusal.app_id = app.app_id
            refusal.user_id = user.user_id if user else ""
            raise

    def _decide(
        self, app: AppRecord, user: User | None, method: str, address: _Address, path: str
    ) -> _Passage:
        found = match_route(app.routes, method, path)
        if found is None:
            declared = "; ".join(described(route) for route in app.routes) or "none"
            raise _Refusal(
                404, f"no declared route matches {method} /{path} (declared routes: {declared})"
            )
        index, route = found
        level = user.access_level if user else AccessLevel.PUBLIC
        decided = f"route {index + 1} of {len(app.routes)}, {described(route)}, decides"
        who = f"the user {user.user_id!r}" if user else "the caller is anonymous and"
        if level < route.access_level:
            raise _Refusal(404, f"{decided}: {who} has only access level {level.name}")
        return _Passage(
            app, user.user_id if user else "", route, address, path, f"{decided}: {level.name} may"
        )

    async def _signed_in(self, scope: Scope) -> User | None:
        """The user who signed in, None for an anonymous caller.

        Raises:
            _Refusal: user or password is wrong. Not the 404 of a missing right: here the client
                said who it wants to be, and gets the chance to say it again.
        """
        # No proof is asked for that a request by session was meant: AppAPI's proxy does not either.
        try:
            identity = await identify(self._host, scope["headers"], address=client_address(scope))
        except Throttled as error:
            raise _Refusal(429, str(error)) from error
        if identity.refusal:
            raise _Refusal(401, identity.refusal, headers=[CHALLENGE])
        return identity.user

    # How

    async def _forward(
        self, scope: Scope, receive: Receive, send: Send, passage: _Passage, started: float
    ) -> None:
        has_begun = False
        failure: TransportError | HostError | None = None

        async def watched_send(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        async with anyio.create_task_group() as group:
            upload = _Upload(scope, receive, group.cancel_scope)
            group.start_soon(upload.watch)
            try:
                await self._relay(scope, upload, watched_send, passage, started)
            except (TransportError, HostError) as error:
                failure = error
            # Only the watching ends: cancelling the whole group would cancel this task too, which
            # costs as much as the rest of a small request.
            upload.stop_watching()
        if failure is None:
            if not has_begun:
                left = f"{passage.note}; the client went away before the answer"
                self._emit(scope, passage.app.app_id, passage.user_id, 0, started, note=left)
            return
        app_id = passage.app.app_id
        if has_begun:
            self._host.bus.emit(Notice(app_id, f"broke off in the middle of its answer: {failure}"))
            raise failure
        refusal = _Refusal(
            502,
            f"{passage.note}; {failure}",
            text=str(failure),
            app_id=app_id,
            user_id=passage.user_id,
        )
        await self._refuse(scope, send, refusal, started)

    async def _relay(
        self, scope: Scope, upload: "_Upload", send: Send, passage: _Passage, started: float
    ) -> None:
        client = scope.get("client")
        headers = request_headers(
            _decoded(scope["headers"]),
            excluded=passage.route.headers_to_exclude,
            client_address=client[0] if client else "",
            credentials=passage.app.credentials(passage.user_id),
            aa_version=self._host.settings.aa_version,
            content_length=upload.length,
        )
        is_head = scope["method"] == "HEAD"
        async with (
            aclosing(upload.pieces()) as content,
            self._host.client.stream(
                passage.app,
                self._host.url_of(passage.app),
                # As AppAPI does: an app need not know HEAD, and GET has the same head.
                method="GET" if is_head else scope["method"],
                target=_target(scope, passage.address),
                headers=headers,
                content=content if upload.has_body else None,
            ) as answer,
        ):
            upload.finish()
            self._emit(
                scope,
                passage.app.app_id,
                passage.user_id,
                answer.status,
                started,
                note=passage.note,
                headers=headers,
            )
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status,
                    "headers": [
                        (name.encode("latin-1"), value.encode("latin-1"))
                        for name, value in answer_headers(
                            answer.headers,
                            path=passage.path,
                            prefix=passage.address.prefix,
                            own_host=Headers(scope=scope).get("host", ""),
                        )
                    ],
                }
            )
            if not is_head:
                async with aclosing(answer.body) as pieces:
                    async for piece in pieces:
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _refuse(self, scope: Scope, send: Send, refusal: _Refusal, started: float) -> None:
        self._emit(
            scope, refusal.app_id, refusal.user_id, refusal.status, started, note=refusal.note
        )
        await _send_refusal(scope, send, refusal)

    def _emit(
        self,
        scope: Scope,
        app_id: str,
        user_id: str,
        status: int,
        started: float,
        *,
        note: str,
        headers: Iterable[tuple[str, str]] | None = None,
    ) -> None:
        query = scope.get("query_string", b"").decode("latin-1")
        path = _raw_path(scope)
        self._host.bus.emit(
            Exchange(
                Direction.USER_TO_APP,
                app_id,
                scope["method"],
                f"{path}?{query}" if query else path,
                status,
                time.perf_counter() - started,
                user_id=user_id,
                request_headers=masked_headers(
                    _decoded(scope["headers"]) if headers is None else headers
                ),
                note=note,
            )
        )


class _Upload:
    """The body of a request on its way to the app, and the end of the client's connection.

    The two belong together, because both come through `receive()`, which has one reader.

    Args:
        scope: the request.
        receive: gives its body, and at last the disconnect.
        cancel_scope: cancelled when the client goes away, and with it the request to the app.
    """

    def __init__(self, scope: Scope, receive: Receive, cancel_scope: anyio.CancelScope) -> None:
        headers = Headers(scope=scope)
        is_chunked = "transfer-encoding" in headers
        # With both, the length is not to be believed. Source: RFC 9112, 6.3.
        self.length = "" if is_chunked else headers.get("content-length", "")
        self.has_body = is_chunked or self.length not in ("", "0")
        self._receive = receive
        self._cancel_scope = cancel_scope
        self._watching = anyio.CancelScope()
        self._is_over = anyio.Event()
        if not self.has_body:
            self._is_over.set()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._cancel_scope.cancel()
                await anyio.sleep_forever()
            more = message.get("more_body", False)
            if body := message.get("body", b""):
                yield body
        self._is_over.set()

    def finish(self) -> None:
        """The app has answered: nobody wants the rest, if there is one."""
        self._is_over.set()

    async def watch(self) -> None:
        """Cancel the request to the app when the client has gone."""
        with self._watching:
            await self._is_over.wait()
            while (await self._receive())["type"] != "http.disconnect":
                pass  # what is left of a body, or the empty one of a request without
            self._cancel_scope.cancel()

    def stop_watching(self) -> None:
        """The answer is complete, or there is none."""
        self._watching.cancel()


def _raw_path(scope: Scope) -> str:
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    return str(raw.decode("latin-1"))


def _target(scope: Scope, address: _Address) -> str:
    """Path and query for the app, as they were sent.

    AppAPI decodes the path once and encodes it anew, so that `%2F` becomes a slash and `%3F` begins
    a query. Both are bugs that an app should not learn to rely on.
    """
    path = quote((address.raw_path or "").encode("latin-1"), safe=_SAFE_IN_PATH)
    query = quote(scope.get("query_string", b""), safe=_SAFE_IN_QUERY)
    return f"/{path}?{query}" if query else f"/{path}"


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]


_TITLES: Final = {
    401: "401 Unauthorized",
    404: "404 Not Found",
    429: "429 Too Many Requests",
    502: "502 Bad Gateway",
}
_TEXTS: Final = {
    401: "Wrong user or password.",
    404: "The page could not be found. The output of the host says which rule decided so.",
    429: "Too many requests.",
}


async def _send_refusal(scope: Scope, send: Send, refusal: _Refusal) -> None:
    body = b""
    if refusal.status in _TITLES:
        text = refusal.text or _TEXTS[refusal.status]
        body = html_page(_TITLES[refusal.status], f"<p>{html.escape(text)}</p>\n")
    headers = [
        *refusal.headers,
        ("Cache-Control", "no-store"),
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(body))),
    ]
    await send(
        {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": [(name.encode(), value.encode()) for name, value in headers],
        }
    )
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
