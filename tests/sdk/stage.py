"""What the tests of this folder share: a host that records, and peers without sockets."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import anyio
import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exapp_sdk import Settings
from exapp_sdk.testing import running, signed_headers

SECRET = "s3cr3t:with-colon"
ENVIRON = {
    "APP_ID": "notes_ai",
    "APP_SECRET": SECRET,
    "APP_VERSION": "1.4.0",
    "NEXTCLOUD_URL": "http://cloud.test",
}
SETTINGS = Settings.from_environ(ENVIRON)
SIGNED = signed_headers(SETTINGS)
AS_ALICE = signed_headers(SETTINGS, "alice")


@dataclass
class Call:
    """One request that the app made to the host."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """What the host answers; `data` in an envelope unless there is a body."""

    data: Any = field(default_factory=list)
    statuscode: int = 100
    message: str = "OK"
    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class RecordingHost:
    """The other side, stubbed: keeps every call and answers what it is told to."""

    def __init__(self, answer: Callable[[Call], Awaitable[Answer]] | None = None) -> None:
        self.calls: list[Call] = []
        self.answer = answer
        self._called = anyio.Event()

    @property
    def reports(self) -> list[dict[str, Any]]:
        return [call.json for call in self.calls if call.path.endswith("/ex-app/status")]

    @property
    def transport(self) -> httpx.ASGITransport:
        return httpx.ASGITransport(self)

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for a call after which `done` is true."""
        with anyio.fail_after(20):
            while not done():
                await self._called.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = parse_qsl(scope["query_string"].decode())
        call = Call(scope["method"], scope["path"], query, headers, body)
        self.calls.append(call)
        self._called.set()
        self._called = anyio.Event()
        answer = await self.answer(call) if self.answer else Answer()
        meta = {"status": "ok", "statuscode": answer.statuscode, "message": answer.message}
        content = json.dumps({"ocs": {"meta": meta, "data": answer.data}}).encode()
        raw = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        if answer.body is not None:
            content = answer.body
        await send({"type": "http.response.body", "body": content})


def asking(app: ASGIApp) -> httpx.AsyncClient:
    """A client that reaches an application without a socket."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://exapp.test")


@asynccontextmanager
async def started(
    app: Any, *, host: RecordingHost | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """The app with its lifespan, and a client that reaches it."""
    transport = (host or RecordingHost()).transport
    async with running(app, settings=SETTINGS, transport=transport), asking(app) as client:
        yield client


async def websocket(
    app: ASGIApp,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    texts: tuple[str, ...] = (),
    denial: bool = True,
) -> list[Message]:
    """Open a websocket, send texts, hang up; returns everything the app sent."""
    sent: list[Message] = []
    received: list[Message] = [
        {"type": "websocket.connect"},
        *({"type": "websocket.receive", "text": text} for text in texts),
    ]

    async def receive() -> Message:
        return received.pop(0) if received else {"type": "websocket.disconnect", "code": 1001}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "scheme": "ws",
        "subprotocols": [],
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
        "extensions": {"websocket.http.response": {}} if denial else {},
    }
    await app(scope, receive, send)
    return sent
