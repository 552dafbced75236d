"""The way back: how apps in networks of their own call a host that listens on loopback only.

A container on a bridge network finds this machine at the gateway of that network, and nothing of
ours listens there. So while apps of such a daemon are registered, the host listens there as well,
on the port that it has anyway. Others in that network may be anybody, and on some machines others
beyond it too: what does not carry the signature of a registered app is refused before anything
else is done with it, and only the OCS API and the files are there at all; no pages, no proxy, no
login.
"""

import errno
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import anyio
from anyio.abc import TaskGroup, TaskStatus
from starlette.types import ASGIApp, Receive, Scope, Send

from appapi_host.asgi import bind, create_app, serve
from appapi_host.callers import signer
from appapi_host.errors import HostError
from appapi_host.events import Direction, Exchange, Notice, masked_headers
from appapi_host.files.entrance import PREFIX as FILES_PREFIX
from appapi_host.files.entrance import FilesEntrance
from appapi_host.host import Host
from appapi_host.ocs import create_ocs_app
from appapi_host.records import AppRecord, Daemon
from appapi_host.throttling import client_address

__all__ = ["Gateways", "SignedOnly", "serve_host"]

_LOOK_SECONDS: Final = 0.1
"""How soon an app that another process registered is noticed; that process waits for us."""

_RETRY_SECONDS: Final = 5.0
"""How soon an engine that did not answer is asked again."""

_EVERY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})


async def serve_host(
    host: Host,
    *,
    sockets: Sequence[socket.socket],
    task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a host until cancelled: on its own sockets, and on gateways while apps need them.

    Args:
        host: a host that is open.
        sockets: what to listen on, bound already, all on one port. They are closed in the end.
        task_status: told the port once connections are accepted, on the gateways too.
    """
    async with anyio.create_task_group() as group:
        port = await group.start(partial(serve, create_app(host), sockets=sockets))
        gateways = Gateways(host, group, {socket.getsockname()[0] for socket in sockets}, port)
        host.way_back = gateways
        try:
            seen = await host.registry.next_change()
            await gateways.adjust(await host.registry.apps())
            task_status.started(port)
            await gateways.follow(seen)
        finally:
            host.way_back = None


class SignedOnly:
    """An ASGI application that lets nothing through but what a registered app signed.

    Args:
        host: knows the apps.
        app: gets the rest.
    """

    def __init__(self, host: Host, app: ASGIApp) -> None:
        self._host = host
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it with 403."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # before accepting: answered with 403
            return
        started = time.perf_counter()
        caller = await signer(self._host, scope["headers"], address=client_address(scope))
        if caller.app is not None:
            await self._app(scope, receive, send)
            return
        self._host.bus.emit(
            Exchange(
                Direction.APP_TO_HOST,
                "",
                scope["method"],
                _target(scope),
                403,
                time.perf_counter() - started,
                request_headers=masked_headers(_decoded(scope["headers"])),
                note=f"refused at the gateway: {caller.refusal}",
            )
        )
        await send(
            {
                "type": "http.response.start",
                "status": 403,
                # Nobody reads the body of such a request, so the connection ends with it.
                "headers": [(b"connection", b"close"), (b"content-length", b"0")],
            }
        )
        await send({"type": "http.response.body"})


class _ForApps:
    """What apps call."""

    def __init__(self, host: Host) -> None:
        self._ocs = create_ocs_app(host)
        self._files = FilesEntrance(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_file = scope["path"].startswith(FILES_PREFIX)
        await (self._files if is_file else self._ocs)(scope, receive, send)


class Gateways:
    """The listeners of one host besides its own.

    Args:
        host: whose apps are expected there.
        group: owner of the listeners.
        bound: addresses that the host listens on already.
        port: the port of the host.
    """

    def __init__(self, host: Host, group: TaskGroup, bound: Iterable[str], port: int) -> None:
        self._host = host
        self._group = group
        self._bound = frozenset(bound)
        self._port = port
        self._app = SignedOnly(host, _ForApps(host))
        self._found: dict[str, str] = {}
        self._listeners: dict[str, _Listener] = {}
        self._said: dict[str, str] = {}
        self._one_at_a_time = anyio.Lock()

    @property
    def addresses(self) -> list[str]:
        """Where the host listens for apps only, sorted."""
        return sorted(self._listeners)

    async def open(self, daemon: Daemon, gateway: str) -> None:
        """Listen on a gateway for the apps of a daemon, if that is not done yet.

        Raises:
            HostError: the address is none of this machine, or its port is in use.
        """
        async with self._one_at_a_time:
            await self._open(daemon, gateway)
            self._found[daemon.name] = gateway

    async def adjust(self, apps: Iterable[AppRecord]) -> bool:
        """Listen where these apps need it, and nowhere else.

        Returns:
            Whether all that is needed could be done; if not, why was said.
        """
        async with self._one_at_a_time:
            daemons = {app.daemon.name: app.daemon for app in apps}
            for name in self._found.keys() - daemons.keys():
                del self._found[name]
            for daemon in daemons.values():
                if daemon.name not in self._found:
                    await self._find(daemon)
            for gateway in self._listeners.keys() - set(self._found.values()):
                await self._close(gateway)
            return self._found.keys() == daemons.keys()

    async def follow(self, seen: tuple[int, int]) -> None:
        """Adjust after each change of the registry, whoever made it; never returns."""
        is_complete = True
        adjusted: list[AppRecord] | None = None
        while True:
            with anyio.move_on_after(None if is_complete else _RETRY_SECONDS):
                seen = await self._host.registry.next_change(seen, interval=_LOOK_SECONDS)
            apps = await self._host.registry.apps()
            # Most changes are others, for instance of values that apps keep.
            if apps != adjusted or not is_complete:
                is_complete = await self.adjust(apps)
                adjusted = apps

    async def _find(self, daemon: Daemon) -> None:
        try:
            gateway = await self._host.gateway(daemon)
            if gateway:
                await self._open(daemon, gateway)
        except HostError as error:
            # Said once, although it is tried again and again.
            if self._said.get(daemon.name) != error.cause:
                self._said[daemon.name] = error.cause
                self._tell(f"apps of the daemon {daemon.name} cannot call the host: {error.cause}")
            return
        self._said.pop(daemon.name, None)
        self._found[daemon.name] = gateway

    async def _open(self, daemon: Daemon, gateway: str) -> None:
        if gateway in self._listeners or self._bound & {gateway, *_EVERY_ADDRESS}:
            return
        listener = _Listener(_bound(gateway, self._port))
        await self._group.start(listener.serve, self._app)
        self._listeners[gateway] = listener
        self._tell(
            f"the host listens on {gateway} port {self._port} as well, for the apps of the daemon "
            f"{daemon.name}; only what an app has signed is accepted there",
            is_warning=False,
        )

    async def _close(self, gateway: str) -> None:
        listener = self._listeners.pop(gateway)
        await listener.close()
        self._tell(f"the host listens on {gateway} no longer", is_warning=False)

    def _tell(self, text: str, *, is_warning: bool = True) -> None:
        self._host.bus.emit(Notice("", text, is_warning=is_warning))


class _Listener:
    """One listening socket and its server."""

    def __init__(self, socket: socket.socket) -> None:
        self._socket = socket
        self._scope = anyio.CancelScope()
        self._closed = anyio.Event()

    async def serve(
        self, app: ASGIApp, *, task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            with self._scope:
                await serve(app, sockets=[self._socket], task_status=task_status)
        finally:
            self._closed.set()

    async def close(self) -> None:
        """Stop accepting, and return when the port is free again."""
        self._scope.cancel()
        await self._closed.wait()


def _bound(gateway: str, port: int) -> socket.socket:
    """A socket on a gateway.

    Raises:
        HostError: it cannot be had.
    """
    try:
        return bind(gateway, port)
    except HostError as error:
        reason = error.__cause__
        if not isinstance(reason, OSError) or reason.errno != errno.EADDRNOTAVAIL:
            raise HostError(
                f"the host must listen on {gateway} port {port} too, where the apps look for it, "
                f"and cannot: {error.cause}",
                remedy="start the host on another port with --port, or use --net host",
            ) from error
        if sys.platform != "linux":
            raise HostError(
                f"the gateway {gateway} is no address of this machine",
                remedy="give the daemon a URL of the host that is valid in its containers, such as "
                f"http://host.docker.internal:{port}",
            ) from error
    # Podman makes the bridge of a network only when the first container is started on it.
    return bind(gateway, port, is_future=True)


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _target(scope: Scope) -> str:
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    return (path + b"?" + query if query else path).decode("latin-1")
