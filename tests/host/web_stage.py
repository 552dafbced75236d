"""The real host in memory with one app that is there already, and a client for its web side."""

import base64
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import httpx

from appapi_host.app_client import memory_transport
from appapi_host.asgi import create_app
from appapi_host.events import Event, Exchange, Notice
from appapi_host.host import Host
from appapi_host.records import AppRecord, Daemon, User
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State
from exapp_sdk.protocol.status import Status

WIRE = Path(__file__).parents[1] / "wire"
DAEMON = Daemon("manual", "Manual", "manual-install", "http", "localhost", {})
APP = AppRecord(
    "nc_py_api",
    "1.0.0",
    "App under test",
    DAEMON,
    9009,
    Secret("12345"),
    state=State.ENABLED,
    enabled=True,
    status=Status(deploy=100, init=100, type=""),
)


def wire_rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (WIRE / name).read_text(encoding="utf-8").splitlines()]


def signed(user_id: str = "", **changed: str | None) -> dict[str, str]:
    """The headers of the app; `ex_app_id="x"` changes one, `None` leaves it out."""
    pair = base64.b64encode(f"{user_id}:12345".encode()).decode()
    headers: dict[str, str | None] = {
        "ex-app-id": "nc_py_api",
        "ex-app-version": "1.0.0",
        "authorization-app-api": pair,
    }
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    return {name: value for name, value in headers.items() if value is not None}


@dataclass
class WebStage:
    host: Host
    client: httpx.AsyncClient
    events: list[Event]

    async def ocs(
        self, method: str, path: str, *, version: int = 1, user_id: str = "", **options: Any
    ) -> httpx.Response:
        """A signed call that wants JSON, unless `headers` says otherwise."""
        options.setdefault("headers", signed(user_id))
        params = {"format": "json"} | options.pop("params", {})
        url = f"/ocs/v{version}.php{path}"
        return await self.client.request(method, url, params=params, **options)

    async def data(self, method: str, path: str, **options: Any) -> Any:
        """The data of a call that succeeds."""
        response = await self.ocs(method, path, **options)
        assert response.json()["ocs"]["meta"]["status"] == "ok", response.text
        return response.json()["ocs"]["data"]

    async def refusal(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        """Code and message of a call that does not."""
        response = await self.ocs(method, path, **options)
        assert response.json()["ocs"]["meta"]["status"] == "failure", response.text
        return meta(response)

    def exchanges(self) -> list[Exchange]:
        return [event for event in self.events if isinstance(event, Exchange)]

    def notices(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice)]

    async def change_app(self, **changes: Any) -> None:
        await self.host.registry.apply("nc_py_api", lambda app: replace(app, **changes))


@asynccontextmanager
async def web_stage(
    app: Any = None, *, record: AppRecord = APP, settings: HostSettings | None = None
) -> AsyncIterator[WebStage]:
    """A host with the users `admin` (`admin`), `user` (`user`) and `gone`, who is disabled.

    Args:
        app: ASGI application behind the record.
        record: the app that is registered.
        settings: of the host.
    """
    events: list[Event] = []
    with anyio.fail_after(20):
        async with Host.open(
            settings or HostSettings(),
            transport_for=lambda _: memory_transport(app) if app else None,
        ) as host:
            await host.users.create_defaults(loopback=True)
            await host.registry.add_user(User("gone", is_enabled=False))
            await host.register_daemon(DAEMON)
            await host.registry.add_app(record)
            transport = httpx.ASGITransport(create_app(host))
            async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
                with host.bus.subscribed(events.append):
                    yield WebStage(host, client, events)


def meta(response: httpx.Response) -> tuple[int, str]:
    """OCS status code and message."""
    found = response.json()["ocs"]["meta"]
    return found["statuscode"], found["message"]


@dataclass
class RawAnswer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found.lower() == name]


async def raw_request(
    host: Host,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    *,
    application: Any = None,
    **scope: Any,
) -> RawAnswer:
    """A request exactly as written: no client of any library adds, escapes or resolves anything.

    What the host's application remembers between requests needs the same `application` for each.
    """
    path, _, query = target.partition("?")
    is_over = anyio.Event()
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await is_over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            is_over.set()

    await (application or create_app(host))(
        {
            "type": "http",
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers],
            "client": ("127.0.0.1", 50000),
        }
        | scope,
        receive,
        send,
    )
    return RawAnswer(
        sent[0]["status"],
        [(k.decode(), v.decode("latin-1")) for k, v in sent[0]["headers"]],
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


@dataclass
class EchoApp:
    """An ExApp that answers what a test wants, and remembers what it got."""

    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b"hello"
    received: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.received.append(
            {
                "method": scope["method"],
                "path": scope["raw_path"].decode(),
                "query": scope["query_string"].decode(),
                "headers": [(k.decode(), v.decode("latin-1")) for k, v in scope["headers"]],
                "body": body,
            }
        )
        head = {"type": "http.response.start", "status": self.status, "headers": self.headers}
        await send(head)
        await send({"type": "http.response.body", "body": self.body})

    def header(self, name: str) -> list[str]:
        """The values of a header in the last request."""
        return [value for found, value in self.received[-1]["headers"] if found == name]
