"""The decorators, and what each makes of the function below it.

A decorator only records: it runs nothing, and returns the function unchanged, its type included.
What is wrong with the function is said here, in the line where it is written.
"""

import inspect
import json
import logging
from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

import anyio.to_thread
from starlette.exceptions import WebSocketException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from exapp_sdk.auth import Access, refuse
from exapp_sdk.errors import HandlerError
from exapp_sdk.jobs import Handler, is_async
from exapp_sdk.protocol.lifecycle import ENABLED_PATH, HEARTBEAT_PATH, INIT_PATH

__all__ = ["RESPONSE_STARTED", "Hooks", "send_json"]

logger = logging.getLogger("exapp_sdk")

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

_NOTHING: Final[Any] = None

RESPONSE_STARTED: Final = "exapp_sdk.response_started"
"""Key in the scope of a request whose answer can no longer be replaced by an error."""

_RESERVED: Final = {
    HEARTBEAT_PATH: "@app.heartbeat",
    INIT_PATH: "@app.init",
    ENABLED_PATH: "@app.enabled",
}


class Hooks:
    """The decorators of an ExApp: lifecycle (`init`, `enabled`, `heartbeat`) and routes."""

    def __init__(self) -> None:
        self._init: Handler | None = None
        self._enabled: Handler | None = None
        self._heartbeat: Handler | None = None
        self._taken: set[tuple[str, str]] = set()
        self._mounts: list[_Mounted] = []
        # A redirect of Starlette's goes to the `Host` that was asked, which behind a proxy is not
        # where the path is; see mount() for the one that is worth having.
        self._router = Router(redirect_slashes=False)

    # No parentheses: the parameter has a default only so that `@app.init()` can be answered with
    # words instead of Python's "missing 1 required positional argument".
    def init(self, handler: HandlerT = _NOTHING, /) -> HandlerT:
        """Prepare the app, once after installation and once after each update.

        ```python
        @app.init
        async def prepare(progress: Progress) -> None:
            await progress.set(50)
        ```

        Runs in the background; returning means done, an exception is reported to the host. Without
        this handler there is nothing to prepare, and `POST /init` answers 404, which says so.

        Raises:
            HandlerError: not a function of one parameter, or the second handler for this.

        Source: AppAPI documentation, App Installation Flow, Init.
        """
        self._init = _lifecycle_handler("init", self._init, handler, "progress: Progress")
        return handler

    def enabled(self, handler: HandlerT = _NOTHING, /) -> HandlerT:
        """Be told when the app is switched on or off.

        ```python
        @app.enabled
        async def switched(enabled: bool) -> None: ...
        ```

        A non-empty text that it returns, or an exception, refuses: the host shows the text and
        keeps an app that should be switched on disabled.

        Raises:
            HandlerError: not a function of one parameter, or the second handler for this.

        Source: AppAPI documentation, App Installation Flow, Enabled.
        """
        self._enabled = _lifecycle_handler("enabled", self._enabled, handler, "enabled: bool")
        return handler

    def heartbeat(self, handler: HandlerT = _NOTHING, /) -> HandlerT:
        """Say whether the app is ready; without this handler it is as soon as it answers.

        ```python
        @app.heartbeat
        async def ready() -> bool: ...
        ```

        Raises:
            HandlerError: not a function without parameters, or the second handler for this.

        Source: AppAPI documentation, App Installation Flow, Heartbeat.
        """
        self._heartbeat = _lifecycle_handler("heartbeat", self._heartbeat, handler, "")
        return handler

    def get(self, path: str, *, access: Access = Access.USER) -> Callable[[HandlerT], HandlerT]:
        """Answer `GET` and `HEAD`; see `route()`."""
        return self.route(path, methods=("GET",), access=access)

    def post(self, path: str, *, access: Access = Access.USER) -> Callable[[HandlerT], HandlerT]:
        """Answer `POST`; see `route()`."""
        return self.route(path, methods=("POST",), access=access)

    def put(self, path: str, *, access: Access = Access.USER) -> Callable[[HandlerT], HandlerT]:
        """Answer `PUT`; see `route()`."""
        return self.route(path, methods=("PUT",), access=access)

    def delete(self, path: str, *, access: Access = Access.USER) -> Callable[[HandlerT], HandlerT]:
        """Answer `DELETE`; see `route()`."""
        return self.route(path, methods=("DELETE",), access=access)

    def patch(self, path: str, *, access: Access = Access.USER) -> Callable[[HandlerT], HandlerT]:
        """Answer `PATCH`; see `route()`."""
        return self.route(path, methods=("PATCH",), access=access)

    def route(
        self, path: str, *, methods: Collection[str] = ("GET",), access: Access = Access.USER
    ) -> Callable[[HandlerT], HandlerT]:
        """Answer requests to a path.

        The function takes the Starlette request. It may be async, or sync, then it runs in a worker
        thread. What it returns is sent: a Starlette response as it is, `str` as text, `bytes` as
        they are, None as 204 without a body, a pydantic model and everything else as JSON.

        Args:
            path: begins with `/`; `{name}`, `{name:int}`, `{name:path}` as in Starlette, found in
                `request.path_params`.
            methods: HTTP verbs; `GET` includes `HEAD`.
            access: who may use it.

        Raises:
            HandlerError: the path, a method or the function is of the wrong shape, or taken.
        """
        verbs = () if isinstance(methods, str) else tuple(str(verb).upper() for verb in methods)
        if not verbs:
            raise HandlerError(f"methods is {methods!r}", remedy='methods=["GET", "POST"]')
        access = _checked_access(access)
        _check_path(path, '@app.get("/path")')

        def record(handler: HandlerT) -> HandlerT:
            _check_shape(handler, f'@app.route("{path}")', "request: Request")
            for verb in verbs:
                self._take(verb, path)
            endpoint = _Endpoint(handler, access)
            self._add(path, lambda: Route(path, endpoint, methods=list(verbs), name=_name(handler)))
            return handler

        return record

    def websocket(
        self, path: str, *, access: Access = Access.USER
    ) -> Callable[[HandlerT], HandlerT]:
        """Serve websockets at a path.

        The function takes the Starlette websocket, which it accepts itself; it must be async.
        Whoever may not use it is refused before that.

        Args:
            path: as for `route()`.
            access: who may use it.

        Raises:
            HandlerError: the path or the function is of the wrong shape, or taken.
        """
        access = _checked_access(access)
        _check_path(path, '@app.websocket("/path")')

        def record(handler: HandlerT) -> HandlerT:
            _check_shape(handler, f'@app.websocket("{path}")', "websocket: WebSocket")
            if not is_async(handler):
                raise HandlerError(
                    f"{_name(handler)}() is not async, and a websocket would block everything",
                    remedy=f"async def {_name(handler)}(websocket: WebSocket)",
                )
            self._take("WEBSOCKET", path)
            endpoint = _SocketEndpoint(handler, access)
            self._add(path, lambda: WebSocketRoute(path, endpoint, name=_name(handler)))
            return handler

        return record

    def mount(self, path: str, asgi_app: ASGIApp, *, access: Access = Access.USER) -> None:
        """Put any ASGI application (FastAPI, Starlette, an MCP server) below a path.

        Its lifespan, if it has one, runs within that of the app. The lifecycle paths cannot be
        shadowed, not even by an application mounted at `/`.

        Args:
            path: begins with `/`; `/` is everything that no route before it answers.
            asgi_app: the application.
            access: who may use it.

        Raises:
            HandlerError: the path is of the wrong shape or taken, or this is no application.
        """
        access = _checked_access(access)
        if path not in ("", "/"):
            _check_path(path, 'app.mount("/path", api)')
        path = path.rstrip("/")
        if not callable(asgi_app):
            raise HandlerError(
                f"{asgi_app!r} is no ASGI application", remedy=f'app.mount("{path}", api)'
            )
        self._take("MOUNT", path)
        mounted = _Mounted(asgi_app, access)
        self._mounts.append(mounted)
        if path:
            self._add(path, lambda: Route(path, _ToSlash(access), name=""))
        self._add(path, lambda: Mount(path, mounted))

    def _take(self, kind: str, path: str) -> None:
        if (kind, path) in self._taken:
            raise HandlerError(f"there are two handlers for {kind} {path}", remedy="only one")
        self._taken.add((kind, path))

    def _add(self, path: str, make: Callable[[], BaseRoute]) -> None:
        try:
            self._router.routes.append(make())
        except (AssertionError, ValueError) as error:  # how Starlette says it
            raise HandlerError(
                f"the path {path!r} does not work: {error}", remedy='"/path/{name}/{number:int}"'
            ) from error


def _check_path(path: object, right: str) -> None:
    if callable(path):
        raise HandlerError(f"the decorator above {_name(path)}() lacks its path", remedy=right)
    if not isinstance(path, str) or not path.startswith("/"):
        raise HandlerError(f"the path {path!r} does not begin with a slash", remedy=right)
    if path in _RESERVED:
        raise HandlerError(
            f"{path} belongs to the host", remedy=f"{_RESERVED[path]} to have a say in it"
        )


def _lifecycle_handler(
    name: str, present: Handler | None, handler: Handler | None, parameter: str
) -> Handler:
    """Check what stands below `@app.<name>`."""
    if handler is None:
        raise HandlerError(
            f"@app.{name}() has parentheses", remedy=f"@app.{name}, without parentheses"
        )
    _check_shape(handler, f"@app.{name}", parameter)
    if present is not None:
        raise HandlerError(
            f"{_name(handler)}() is the second @app.{name}, after {_name(present)}()",
            remedy="one function that does both",
        )
    return handler


def _check_shape(handler: Any, decorator: str, parameter: str) -> None:
    """Refuse what cannot be called with exactly the arguments that it will be called with."""
    if not callable(handler) or inspect.isclass(handler):
        raise HandlerError(
            f"{decorator} stands above {handler!r}, which is no function",
            remedy=f"{decorator} above `async def name({parameter})`",
        )
    right = f"`async def {_name(handler)}({parameter})` below {decorator}"
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise HandlerError(
            f"{_name(handler)}() yields", remedy=f"{right}, and return a StreamingResponse"
        )
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # functions written in C do not tell
        return
    try:
        signature.bind(*([None] if parameter else []))
    except TypeError:
        shown = ", ".join(str(wanted) for wanted in signature.parameters.values())
        raise HandlerError(
            f"{_name(handler)}({shown}) does not fit {decorator}", remedy=right
        ) from None


def _checked_access(access: Access) -> Access:
    try:
        return Access(access)
    except ValueError:
        raise HandlerError(
            f"access is {access!r}",
            remedy="access=Access.PUBLIC, Access.USER, Access.ADMIN or Access.HOST",
        ) from None


def _name(handler: object) -> str:
    return getattr(handler, "__name__", type(handler).__name__)


def _to_jsonable(value: object) -> object:
    """Pydantic models within other data; this library is never imported for it."""
    if dump := getattr(value, "model_dump", None):
        return dump(mode="json")
    raise TypeError(f"a {type(value).__name__} cannot be sent as JSON")


_encode: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_to_jsonable
).encode

_TEXT: Final = b"text/plain; charset=utf-8"
_JSON: Final = b"application/json"


async def _send_bytes(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    # What a Response object would send, without making one: this is most of what apps answer.
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", content_type)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, value: object) -> None:
    """Answer with a JSON body."""
    await _send_bytes(send, status, _JSON, _encode(value).encode())


async def _send_result(result: object, scope: Scope, receive: Receive, send: Send) -> None:
    if isinstance(result, Response):
        await _call_tracked(result, scope, receive, send)
    elif result is None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    elif isinstance(result, str):
        await _send_bytes(send, 200, _TEXT, result.encode())
    elif isinstance(result, (bytes, bytearray, memoryview)):
        await _send_bytes(send, 200, b"application/octet-stream", bytes(result))
    elif dump := getattr(result, "model_dump_json", None):
        await _send_bytes(send, 200, _JSON, dump().encode())
    else:
        await send_json(send, 200, result)


async def _call_tracked(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call an application, and note in the scope when its answer has begun."""
    # Not the scope itself: the application may work on a copy or replace members.
    noted = scope

    async def tracked(message: Message) -> None:
        noted[RESPONSE_STARTED] = True
        await send(message)

    await app(scope, receive, tracked)


class _Endpoint:
    """A function of the author as an ASGI application."""

    __slots__ = ("_access", "_handler", "_is_async")

    def __init__(self, handler: Handler, access: Access) -> None:
        self._handler = handler
        self._access = access
        self._is_async = is_async(handler)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if refusal := self._access.refusal(scope):
            await refuse(scope, send, 403, refusal)
            return
        request = Request(scope, receive, send)
        if self._is_async:
            result = await self._handler(request)
        else:
            result = await anyio.to_thread.run_sync(self._handler, request)
        await _send_result(result, scope, receive, send)


class _SocketEndpoint:
    """A websocket function of the author as an ASGI application."""

    __slots__ = ("_access", "_handler")

    def __init__(self, handler: Handler, access: Access) -> None:
        self._handler = handler
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if refusal := self._access.refusal(scope):
            await refuse(scope, send, 403, refusal)
            return
        websocket = WebSocket(scope, receive, send)
        try:
            await self._handler(websocket)
        except WebSocketDisconnect:
            return
        except WebSocketException as error:
            await _close(websocket, error.code, error.reason)
        except Exception:  # before accept() it becomes an answer, see ExApp
            if websocket.application_state is not WebSocketState.CONNECTING:
                scope[RESPONSE_STARTED] = True
                await _close(websocket, 1011, "")
            raise
        else:
            await _close(websocket, 1000, "")


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    """Close what the handler left open; one that was never accepted is thereby refused."""
    if (
        websocket.application_state is not WebSocketState.DISCONNECTED
        and websocket.client_state is not WebSocketState.DISCONNECTED
    ):
        try:
            await websocket.close(code, reason)
        except (WebSocketDisconnect, ClientDisconnect, OSError):
            logger.debug("the websocket was gone before it could be closed")


class _Mounted:
    """Somebody's ASGI application behind an access level.

    Attributes:
        app: the application.
        state: what its lifespan has left for its requests.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.state: dict[str, Any] = {}
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if refusal := self._access.refusal(scope):
            await refuse(scope, send, 403, refusal)
            return
        if self.state:
            scope["state"] = {**scope.get("state", {}), **self.state}
        await _call_tracked(self.app, scope, receive, send)


class _ToSlash:
    """Redirects from a mount's bare path to the one with a slash.

    Relative, so that it leads to the right place behind every proxy.
    """

    __slots__ = ("_access",)

    def __init__(self, access: Access) -> None:
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if refusal := self._access.refusal(scope):
            await refuse(scope, send, 403, refusal)
            return
        target = (scope.get("raw_path") or scope["path"].encode()).rpartition(b"/")[2] + b"/"
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        headers = [(b"content-length", b"0"), (b"location", b"./" + target)]
        await send({"type": "http.response.start", "status": 307, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
