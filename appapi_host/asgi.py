"""The host's whole HTTP side as one ASGI application, and its server.

The only module that knows which ASGI server is used.
"""

import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appapi_host.app_sockets import MAX_MESSAGE_BYTES
from appapi_host.errors import HostError
from appapi_host.files.entrance import PREFIX as FILES_PREFIX
from appapi_host.files.entrance import FilesEntrance
from appapi_host.host import Host
from appapi_host.ocs import create_ocs_app
from appapi_host.proxy import PROXY_PREFIXES, Proxy
from exapp_sdk.errors import TransportError

__all__ = ["LOOP", "MAX_HEAD_BYTES", "bind", "create_app", "serve"]

logger = logging.getLogger(__name__)

LOOP: Final[Mapping[str, bool]] = MappingProxyType({"use_uvloop": sys.platform != "win32"})
"""Options of `anyio.run()` for who serves: the loop that the `server` extra brings, as uvicorn
itself would take it."""

_IP_FREEBIND: Final = 15
"""From Linux's `in.h`; Python names it from 3.14 on."""

MAX_HEAD_BYTES: Final = 256 * 1024
"""How long the head of a request may be; more than that only somebody sends who wants our memory.
What arrives together with its first bytes is not counted."""

GRACE_SECONDS: Final = 1
"""How long requests under way may go on when the server stops; whole seconds, as uvicorn has it."""


def create_app(host: Host) -> ASGIApp:
    """The ASGI application of a host: OCS API, files, proxy, and pages for people.

    Args:
        host: a host that is open.
    """
    return _Application(host)


class _Application:
    def __init__(self, host: Host) -> None:
        self._host = host
        self._ocs = create_ocs_app(host)
        self._files = FilesEntrance(host)
        self._proxy = Proxy(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        try:
            await self._dispatch(scope, receive, send)
        except TransportError:
            raise  # an app that broke off in mid-answer: told on the bus, the server hangs up
        except Exception:
            logger.exception("%s %s failed", scope.get("method", "websocket"), scope["path"])
            raise

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        raw_path = (scope.get("raw_path") or path.encode()).decode("latin-1")
        if raw_path.startswith(PROXY_PREFIXES):
            await self._proxy(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # before accepting: answered with 403
        elif path.startswith("/ocs/"):
            await self._ocs(scope, receive, send)
        elif path.startswith(FILES_PREFIX):
            await self._files(scope, receive, send)
        else:
            # Loaded when somebody looks at a page, which tests of apps never do.
            from appapi_host.pages.site import Site

            await Site(self._host)(scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    """Nothing to do: who opened the host closes it."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def bind(host: str, port: int, *, is_future: bool = False) -> socket.socket:
    """A socket to listen on, before anything is started that needs its port.

    Args:
        host: address or name.
        port: 0 takes a free one; `getsockname()[1]` says which.
        is_future: the address may become one of this machine later; Linux only.

    Raises:
        HostError: the port is in use, or the address is none of this machine.
    """
    if not 0 <= port <= 65535:
        # Checked here because the resolver takes such a number modulo 65536.
        raise HostError(f"{port} is no port", remedy="ports are 1 to 65535, 0 takes a free one")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise HostError(
            f"cannot listen on {host!r}, port {port}: {error}",
            remedy="use --bind 127.0.0.1, or an address of this machine",
        ) from error
    listener = socket.socket(family, kind, proto)
    try:
        if os.name == "posix":
            # Elsewhere this option would let two hosts share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_future:
            listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind(address)
        # Listening at once: two hosts may both bind a port, but only one may listen on it, and
        # whoever connects from now on waits instead of being refused.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise HostError(
            f"cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}",
            remedy="stop what uses it, or choose another port; 0 takes a free one",
        ) from error
    listener.setblocking(False)  # noqa: FBT003  # the library has no other form
    return listener


class _Protocol(HttpToolsProtocol):
    """Uvicorn's, and stricter about the head of a request."""

    _is_in_head = False
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Refuse heads without end, which uvicorn would collect."""
        was_in_head = self._is_in_head
        super().data_received(data)
        if was_in_head and self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is there.

        Raises:
            ValueError: it names two hosts; answered with 400. Source: RFC 9112, 3.2.
        """
        self._is_in_head = False
        if sum(name == b"host" for name, _ in self.headers) > 1:
            raise ValueError("two hosts")
        super().on_headers_complete()


_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"connection: close\r\ncontent-length: 0\r\n\r\n"
)


class _Server(uvicorn.Server):
    """Uvicorn as a task among others."""

    def __init__(self, config: uvicorn.Config, has_started: anyio.Event) -> None:
        super().__init__(config)
        self._has_started = has_started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs us: Ctrl-C has apps to stop first."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._has_started.set()


async def serve(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    sockets: Sequence[socket.socket] | None = None,
    task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; then requests under way get `GRACE_SECONDS` to end.

    Reports the port as started value. Runs on asyncio, because uvicorn does.

    Args:
        app: for instance of `create_app()`.
        host: address to listen on.
        port: port to listen on, 0 for a free one.
        sockets: what to listen on instead, bound already. They are closed in the end.
        task_status: told the port once connections are accepted.

    Raises:
        HostError: the port cannot be had.
    """
    listeners = list(sockets or [bind(host, port)])
    for listener in listeners:
        # Inherited by what it accepts. asyncio does it only for sockets that name their protocol,
        # and Python's own create_server() does not: then the body of an answer waits for the
        # acknowledgement of its head, 40 ms on a connection that is kept alive.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bound_port: int = listeners[0].getsockname()[1]
    config = uvicorn.Config(
        app,
        access_log=False,
        date_header=True,
        http=_Protocol,
        lifespan="off",
        # Its messages are about connections, and a broken one is nothing to report; what goes wrong
        # in the application is on the bus or in our own log.
        log_config=None,
        log_level="critical",
        proxy_headers=False,  # nobody stands in front of a host for development
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        # The one of its implementations that rests on nothing deprecated, and that stops reading
        # while a message is under way.
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
    )
    has_started = anyio.Event()
    server = _Server(config, has_started)

    async def run() -> None:
        # Shielded, so that it ends by itself after it was told to.
        with anyio.CancelScope(shield=True):
            await server.serve(sockets=listeners)

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            try:
                await has_started.wait()
                task_status.started(bound_port)
                await anyio.sleep_forever()
            finally:
                server.should_exit = True
    finally:
        for listener in listeners:
            listener.close()
