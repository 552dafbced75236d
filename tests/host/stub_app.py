"""An ExApp in plain ASGI, nothing of ours in it, whose answers a test chooses."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import anyio

from appapi_host.app_client import memory_transport
from appapi_host.deploy.base import DeployBackend, Deployment, ReportProgress
from appapi_host.errors import DeployError
from appapi_host.events import Event, EventBus
from appapi_host.host import Host
from appapi_host.info_xml import AppInfo
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings, Timeouts
from exapp_sdk.protocol.auth import Secret

DAEMON = Daemon("stub", "Stub", "stub-install", "http", "exapp.test", {"nextcloud_url": "http://h"})
INFO = AppInfo(id="stub", name="Stub", version="1.0.0", port=9009, secret=Secret("12345"))

QUICK = Timeouts(
    heartbeat=0.3,
    heartbeat_request=0.1,
    heartbeat_wrong=0.05,
    init_request=0.2,
    init=0.3,
    enabled_request=0.2,
)
"""Limits for tests in which one of them is meant to be reached."""


@dataclass
class StubApp:
    """Answers by path, and remembers what it was asked."""

    answers: dict[str, tuple[int, bytes]] = field(
        default_factory=lambda: {
            "/heartbeat": (200, b'{"status":"ok"}'),
            "/init": (200, b"{}"),
            "/enabled": (200, b'{"error":""}'),
        }
    )
    headers: dict[str, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    before: dict[str, Callable[[], Awaitable[object]]] = field(default_factory=dict)
    received: list[str] = field(default_factory=list)
    received_headers: list[list[tuple[str, str]]] = field(default_factory=list)

    def answer(self, path: str, status: int, body: Any = b"") -> None:
        self.answers[path] = (
            status,
            body if isinstance(body, bytes) else json.dumps(body).encode(),
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path, query = scope["path"], scope["query_string"].decode()
        self.received.append(f"{scope['method']} {path}" + (f"?{query}" if query else ""))
        self.received_headers.append([(k.decode(), v.decode()) for k, v in scope["headers"]])
        if path in self.before:
            await self.before[path]()
        status, body = self.answers.get(path, (404, b""))
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", b"application/json"),
                    *self.headers.get(path, []),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})


class StubBackend(DeployBackend):
    """Deploys nothing; `end` makes the app end."""

    deploy_id: ClassVar[str] = "stub-install"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.end = anyio.Event()
        self.prepare_error = ""
        self.deploy_error = ""
        self.restore_error = ""
        self.start_error = ""
        self.is_away = False
        self.since: float | None = None
        self.notes: Mapping[str, Any] = {}
        self.stop_error = ""
        self.remove_error = ""
        self.strangers: list[str] = []
        self.environment: Mapping[str, str] = {}

    async def deploy(self, deployment: Deployment, report: ReportProgress) -> Mapping[str, Any]:
        self.calls.append("deploy")
        self.environment = deployment.environment
        await report(50)
        if self.deploy_error:
            raise DeployError(self.deploy_error, remedy="try again")
        return {"noted": True}

    async def start(self, app: AppRecord) -> Mapping[str, Any]:
        self.calls.append("start")
        self._unless_away()
        if self.start_error:
            raise DeployError(self.start_error)
        return self.notes or app.deployment

    def _unless_away(self) -> None:
        if self.is_away:
            error = DeployError("there is no socket", remedy="start the engine")
            error.is_unreachable = True
            raise error

    async def running_since(self, app: AppRecord) -> float | None:
        return self.since

    async def stop(self, app: AppRecord) -> None:
        self.calls.append("stop")
        self._unless_away()
        if self.stop_error:
            raise DeployError(self.stop_error)

    async def remove(self, app: AppRecord, *, data: bool) -> None:
        self.calls.append("remove with data" if data else "remove")
        if self.remove_error:
            raise DeployError(self.remove_error)

    async def prepare(self, deployment: Deployment, report: ReportProgress) -> None:
        self.calls.append("prepare")
        await report(10)
        if self.prepare_error:
            raise DeployError(self.prepare_error)

    async def ready(self, app: AppRecord) -> None:
        self.calls.append("ready")

    async def stranger(self, app: AppRecord) -> str:
        return self.strangers.pop(0) if self.strangers else ""

    async def set_aside(self, app: AppRecord) -> None:
        self.calls.append("set aside")

    async def restore(self, app: AppRecord) -> Mapping[str, Any]:
        self.calls.append("restore")
        if self.restore_error:
            raise DeployError(self.restore_error)
        return {"restored": True}

    async def is_gone(self, app: AppRecord) -> bool:
        self._unless_away()
        return False

    async def discard(self, app: AppRecord) -> None:
        self.calls.append("discard")

    async def exited(self, app: AppRecord) -> str:
        await self.end.wait()
        return "exit code 3"

    async def output(
        self, app: AppRecord, *, tail: int | None = None, follow: bool = True
    ) -> AsyncIterator[str]:
        for line in ("first line", "last line"):
            yield line

    async def last_output(self, app: AppRecord, *, lines: int) -> list[str]:
        return ["last line"]

    def url(self, app: AppRecord) -> str:
        return f"http://localhost:{app.port}"


@dataclass
class Stage:
    """A host in memory with one stub app that can be installed on it."""

    host: Host
    app: StubApp
    backend: StubBackend
    events: list[Event]

    async def register(self, **options: Any) -> AppRecord:
        return await self.host.register(INFO, daemon="stub", **options)

    async def record(self) -> AppRecord:
        return await self.host.app("stub")

    def kinds(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def stage(timeouts: Timeouts | None = None) -> AsyncIterator[Stage]:
    settings = replace(HostSettings(), timeouts=timeouts or Timeouts())
    app, backend, bus = StubApp(), StubBackend(), EventBus()
    events: list[Event] = []
    with anyio.fail_after(10):
        async with Host.open(
            settings,
            bus=bus,
            backends={"stub-install": backend},
            transport_for=lambda _: memory_transport(app),
        ) as host:
            await host.register_daemon(DAEMON, set_default=True)
            with bus.subscribed(events.append):
                yield Stage(host, app, backend, events)
