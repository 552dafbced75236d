"""The application: what a host, a server and the author's functions meet in."""

import logging
import os
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import anyio
import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from exapp_sdk.auth import authenticate, is_from_host, is_heartbeat, refuse, route_path
from exapp_sdk.errors import AuthError, ConfigError, LocalProtocolError
from exapp_sdk.hooks import RESPONSE_STARTED, Hooks, send_json
from exapp_sdk.jobs import InitJobs, Pace, call_handler, log_exception, sentence
from exapp_sdk.lifespan import lifespan_of
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.environ import Settings
from exapp_sdk.protocol.lifecycle import ENABLED_PATH, HEARTBEAT_PATH, INIT_PATH

if TYPE_CHECKING:
    from exapp_sdk.client import Nextcloud, Transport

__all__ = ["ExApp"]

logger = logging.getLogger("exapp_sdk")

_METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    HEARTBEAT_PATH: ("GET", "HEAD"),
    INIT_PATH: ("POST",),
    ENABLED_PATH: ("PUT",),
}


class _Session:
    """What exists from the start of the app to its end.

    Args:
        settings: read once.
        transport: how the client reaches the host; None for the network.
    """

    def __init__(self, settings: Settings, transport: "Transport | None") -> None:
        self.settings = settings
        self.expected = settings.credentials
        self.transport = transport
        self.nextcloud: Nextcloud | None = None
        self.jobs: InitJobs | None = None
        self.switching = anyio.Lock()
        self._connecting = threading.Lock()

    def connect(self) -> "Nextcloud":
        """The one client, made when it is first needed: it is what takes longest to import."""
        from exapp_sdk.client import Nextcloud

        with self._connecting:
            if self.nextcloud is None:
                self.nextcloud = Nextcloud(self.settings, transport=self.transport)
            return self.nextcloud

    async def connect_for_job(self) -> "Nextcloud":
        """The same without blocking the event loop."""
        return await anyio.to_thread.run_sync(self.connect)

    async def close(self) -> None:
        """Close the client if there is one."""
        if self.nextcloud is not None:
            await self.nextcloud.aclose()


class ExApp(Hooks):
    """A Nextcloud external app: an ASGI application that a host installs and drives.

    ```python
    app = ExApp()


    @app.get("/hello")
    async def hello(request: Request) -> dict[str, str]:
        return {"hello": request.user.identity}


    if __name__ == "__main__":
        app.run()
    ```

    `GET /heartbeat` is answered to everybody; everything else only to the host that knows the
    secret. The lifecycle paths cannot be shadowed by routes or mounts.

    Args:
        settings: by default read from the environment when the app starts.
        lifespan: called with the app; an async context manager around the app's life, for what the
            author wants to open and close.
        transport: an `httpx.AsyncBaseTransport` through which the client reaches the host, for
            tests.
        pace: how fast and how long init is reported.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        lifespan: "Callable[[ExApp], AbstractAsyncContextManager[object]] | None" = None,
        transport: "Transport | None" = None,
        pace: Pace | None = None,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._transport = transport
        self._lifespan = lifespan
        self._pace = pace or Pace()
        self._session: _Session | None = None
        self._is_enabled: bool | None = None

    @property
    def settings(self) -> Settings:
        """What the environment says about app and host.

        Raises:
            LocalProtocolError: nothing was passed in, and the app has not been started yet.
        """
        if self._session is not None:
            return self._session.settings
        if self._settings is None:
            raise LocalProtocolError("the settings are read when the app starts, use them later")
        return self._settings

    @property
    def nextcloud(self) -> "Nextcloud":
        """The host, asked in the name of the app; `.as_user(user_id)` in a user's.

        The first use imports the HTTP client, which takes about a tenth of a second.

        Raises:
            LocalProtocolError: the app does not run, so nothing would close the connections.
        """
        return self._running("the client").connect()

    @property
    def is_enabled(self) -> bool | None:
        """Whether the app is switched on, as the host has said; None while it has said nothing."""
        return self._is_enabled

    async def ask_enabled(self) -> bool:
        """Ask the host, for instance after a restart, which the host does not notice.

        The host says yes during init already; then the answer is returned but not kept.

        Raises:
            ExAppError: the host does not answer; `is_enabled` stays what it was.
        """
        session = self._running("the client")
        enabled = await (await session.connect_for_job()).state()
        if not enabled or session.jobs is None or not session.jobs.running:
            self._is_enabled = enabled
        return enabled

    def run(self, *, server: Callable[..., object] | None = None, **options: Any) -> None:
        """Serve the app until it is stopped.

        Listens on `APP_HOST:APP_PORT`, or on the unix socket when `HP_SHARED_KEY` is set.

        Args:
            server: called as `server(app, **options)` instead of `uvicorn.run`.
            options: for the server, for instance `log_level="debug"`, `access_log=True`,
                `workers=2`; they win over what is chosen here.
        """
        from exapp_sdk.server import run

        run(self, settings=self._settings, server=server, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._serve_lifespan(scope, receive, send)
            return
        if is_heartbeat(scope):
            await self._answer_heartbeat(send)
            return
        session = self._session
        if session is None:
            logger.error("a request came, but the server has not run the app's lifespan")
            await refuse(scope, send, 503, "The app has not been started.")
            return
        path = route_path(scope)
        try:
            authenticate(scope, session.expected)
            if path in _METHODS and not is_from_host(scope["user"].identity, scope["headers"]):
                raise AuthError
        except AuthError as error:
            # On a lifecycle path somebody is waiting for an installation that will not go on.
            level = logging.WARNING if path in _METHODS else logging.DEBUG
            logger.log(level, "refused %r: %s", path, error)
            await refuse(scope, send, 401, str(error))
            return
        if path in _METHODS:
            await self._serve_lifecycle(session, path, scope, send)
        else:
            await self._serve_route(scope, receive, send)

    async def _serve_route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the author's code, and answer for what it raises."""
        scope["app"] = self
        try:
            await self._router(scope, receive, send)
        except ClientDisconnect:
            logger.debug("the client of %r went away", scope["path"])
        except Exception as error:
            started = scope.get(RESPONSE_STARTED, False)
            if started and scope["type"] == "http":
                raise  # half an answer: the server breaks off, so that it is not taken for a whole
            if isinstance(error, HTTPException) and not started:
                headers = (error.headers or {}).items()
                await refuse(scope, send, error.status_code, error.detail, headers=headers)
                return
            what = f"{scope.get('method', 'websocket')} {scope['path']!r}"
            log_exception(f"{what} failed", error, self._secret)
            if not started:
                await refuse(scope, send, 500, "Internal Server Error")

    def _running(self, what: str) -> _Session:
        if self._session is None:
            raise LocalProtocolError(f"{what} can be used only while the app runs")
        return self._session

    @property
    def _secret(self) -> Secret:
        settings = self._session.settings if self._session else self._settings
        return settings.app_secret if settings else Secret("")

    async def _serve_lifecycle(
        self, session: _Session, path: str, scope: Scope, send: Send
    ) -> None:
        """Answer the host on one of its own paths; nothing of the author's is asked about it."""
        if scope["type"] == "websocket":
            await refuse(scope, send, 404, "There are no websockets here.")
        elif scope["method"] not in _METHODS[path]:
            allowed = ", ".join(_METHODS[path])
            await refuse(scope, send, 405, "Method Not Allowed", headers=[("allow", allowed)])
        elif path == INIT_PATH:
            await self._answer_init(session, scope, send)
        else:
            await self._answer_enabled(session, scope, send)

    async def _answer_heartbeat(self, send: Send) -> None:
        ready = True
        if self._heartbeat is not None:
            try:
                ready = await call_handler(self._heartbeat)
                if not isinstance(ready, bool):
                    logger.warning("the heartbeat handler returned %r, not True or False", ready)
            except Exception as error:  # noqa: BLE001  # it means "not ready"
                log_exception("the heartbeat handler failed", error, self._secret)
                ready = False
        if ready:
            await send_json(send, 200, {"status": "ok"})
        else:
            await send_json(send, 503, {"status": "not ready"})

    async def _answer_init(self, session: _Session, scope: Scope, send: Send) -> None:
        if session.jobs is None:
            # AppAPI takes 404 as "nothing to prepare".
            await refuse(scope, send, 404, "This app has nothing to prepare.")
            return
        await session.jobs.start()
        await send_json(send, 200, {})

    async def _answer_enabled(self, session: _Session, scope: Scope, send: Send) -> None:
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        values = [value for name, value in query if name == "enabled"]
        if values not in (["0"], ["1"]):
            await refuse(scope, send, 400, "The query must contain enabled=1 or enabled=0.")
            return
        enabled = values == ["1"]
        if session.jobs is not None:
            session.jobs.switched()
        error = ""
        async with session.switching:
            if self._enabled is not None:
                try:
                    result = await call_handler(self._enabled, enabled)
                    if result and isinstance(result, str):
                        error = self._secret.mask(result)
                except Exception as failure:  # noqa: BLE001  # the host shows it
                    log_exception(f"enabled={values[0]} failed", failure, self._secret)
                    error = sentence(failure, self._secret)
            # Not earlier: while the handler works, the app is not what it is being made. When it
            # refuses, the host keeps the app disabled.
            self._is_enabled = enabled and not error
        await send_json(send, 200, {"error": error})

    # Lifespan, seen from the server

    async def _serve_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        await receive()
        try:
            async with self._start(scope):
                await send({"type": "lifespan.startup.complete"})
                started = True
                await receive()
        except Exception as error:
            kind = "shutdown" if started else "startup"
            text = str(error) if isinstance(error, ConfigError) else _traceback_of(error)
            await send({"type": f"lifespan.{kind}.failed", "message": self._secret.mask(text)})
            raise
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def _start(self, scope: Scope) -> AsyncIterator[None]:
        """Everything that exists while the app runs, in the order in which it depends."""
        if self._session is not None:
            raise LocalProtocolError("the app runs already; one process, one lifespan")
        # Tests hand these in with the scope, which comes from the server and never from a client.
        given: Settings | None = scope.get("exapp_sdk.settings")
        settings = given or self._settings or Settings.from_environ(os.environ)
        transport = scope.get("exapp_sdk.transport") or self._transport
        session = _Session(settings, transport)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(session.close)
            stack.callback(self._end)
            self._session = session
            self._is_enabled = None
            if self._lifespan is not None:
                await stack.enter_async_context(self._lifespan(self))
            for mounted in self._mounts:
                mounted.state = await stack.enter_async_context(lifespan_of(mounted.app))
            group = await stack.enter_async_context(anyio.create_task_group())
            if self._init is not None:
                session.jobs = InitJobs(
                    self._init,
                    task_group=group,
                    connect=session.connect_for_job,
                    on_disabled=self._host_says_disabled,
                    secret=settings.app_secret,
                    pace=self._pace,
                )
            try:
                yield
            finally:
                group.cancel_scope.cancel()

    def _end(self) -> None:
        self._session = None

    def _host_says_disabled(self) -> None:
        self._is_enabled = False


def _traceback_of(error: Exception) -> str:
    return "".join(traceback.format_exception(error))
