"""Websockets through the proxy: real client, host and app, each with its own connection."""

import base64
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol
from websockets.utils import accept_key

from appapi_host.app_sockets import MAX_MESSAGE_BYTES
from appapi_host.events import Exchange, Notice
from tests.live.proxy_stage import HARP, PHP, LiveStage, live_stage

pytestmark = pytest.mark.live


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class EchoApp:
    """Accepts, echoes, and remembers how it ended."""

    def __init__(self, *, subprotocol: str | None = None) -> None:
        self.subprotocol = subprotocol
        self.scope: dict[str, Any] = {}
        self.end: dict[str, Any] = {}
        self.accepted = anyio.Event()
        self.ended = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        assert (await receive())["type"] == "websocket.connect"
        headers = [(b"x-app", b"1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await send(
            {"type": "websocket.accept", "subprotocol": self.subprotocol, "headers": headers}
        )
        self.accepted.set()
        while (message := await receive())["type"] == "websocket.receive":
            kept = {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
            if kept == {"text": "close"}:
                await send({"type": "websocket.close", "code": 4321, "reason": "as you like"})
            else:
                await send({"type": "websocket.send", **kept})
        self.end = message
        self.ended.set()

    def header(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.scope["headers"] if found == name]


@asynccontextmanager
async def opened(
    s: LiveStage, path: str = f"{HARP}/ws", **options: Any
) -> AsyncIterator[ClientConnection]:
    options.setdefault("max_size", None)
    async with connect(f"ws://127.0.0.1:{s.port}{path}", proxy=None, **options) as client:
        yield client


async def test_text_and_bytes_pass_in_both_directions() -> None:
    app = EchoApp()
    async with live_stage(app) as s, opened(s) as client:
        for message in ("grüße", b"\x00\xff", "", b"", "x" * 200_000, b"y" * 200_000):
            await client.send(message)
            assert await client.recv() == message
        await client.send(["in ", "pieces"])
        assert await client.recv() == "in pieces"
        [exchange] = [event for event in s.events if isinstance(event, Exchange)]
        assert (exchange.status, exchange.method) == (101, "GET")
        assert exchange.note.startswith("route 1 of 1")


async def test_handshake_carries_signature_subprotocol_and_headers() -> None:
    app = EchoApp(subprotocol="chat.v2")
    password = base64.b64encode(b"user:user").decode()
    headers = {
        "Authorization": f"Basic {password}",
        "AUTHORIZATION-APP-API": "forged",
        "x-kept": "1",
        "Cookie": "a=1",
    }
    offered = [Subprotocol("chat.v1"), Subprotocol("chat.v2")]
    async with live_stage(app) as s:
        await s.host.users.create_defaults(loopback=True)
        async with opened(
            s, f"{HARP}/a%20b?x=%2F", additional_headers=headers, subprotocols=offered
        ) as client:
            assert client.subprotocol == "chat.v2"
            assert client.response is not None
            assert client.response.headers.get_all("set-cookie") == ["a=1", "b=2"]
            assert client.response.headers["x-app"] == "1"
            assert len(client.response.headers.get_all("date")) == 1
    assert (app.scope["raw_path"], app.scope["query_string"]) == (b"/a%20b", b"x=%2F")
    assert app.scope["subprotocols"] == ["chat.v1", "chat.v2"]
    assert app.header(b"authorization-app-api") == [base64.b64encode(b"user:12345")]
    assert app.header(b"aa-version") == [b"32"]
    assert app.header(b"x-kept") == [b"1"]
    assert app.header(b"cookie") == [b"a=1"]
    assert app.header(b"host") == [f"127.0.0.1:{s.port}".encode()]
    assert len(app.header(b"sec-websocket-key")) == 1
    assert app.header(b"x-origin-ip") == []


@pytest.mark.parametrize(
    ("code", "reason", "seen"),
    [(1000, "", (1000, "")), (4001, "bye", (4001, "bye")), (1001, "é" * 61, (1001, "é" * 61))],
)
async def test_close_of_the_client_reaches_the_app(
    code: int, reason: str, seen: tuple[int, str]
) -> None:
    app = EchoApp()
    async with live_stage(app) as s:
        async with opened(s) as client:
            await client.close(code, reason)
        await app.ended.wait()
    assert (app.end["code"], app.end["reason"]) == seen


async def test_close_of_the_app_reaches_the_client() -> None:
    async with live_stage(EchoApp()) as s, opened(s) as client:
        await client.send("close")
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (4321, "as you like")


async def test_message_that_is_too_long_closes_both_sides() -> None:
    app = EchoApp()
    async with live_stage(app) as s, opened(s) as client:
        await client.send(b"x" * MAX_MESSAGE_BYTES)
        assert len(await client.recv()) == MAX_MESSAGE_BYTES
        await client.send(b"x" * (MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1009
        await app.ended.wait()
        assert app.end["code"] == 1009


async def test_answer_that_is_too_long_closes_both_sides() -> None:
    ended = anyio.Event()
    end: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": b"x" * (MAX_MESSAGE_BYTES + 1)})
        end.update(await receive())
        ended.set()

    async with live_stage(app) as s, opened(s) as client:
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1009
        await ended.wait()
    assert end["code"] == 1009


async def test_refusal_of_the_app_is_passed_on() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/closes":
            await send({"type": "websocket.close"})
            return
        headers = [(b"x-why", b"secret"), (b"content-type", b"application/json")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b'{"error": "no"}'})

    async with live_stage(app) as s:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{s.port}{HARP}/ws", proxy=None)
        answer = caught.value.response
        assert (answer.status_code, answer.body) == (401, b'{"error": "no"}')
        assert answer.headers["x-why"] == "secret"
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{s.port}{HARP}/closes", proxy=None)
        assert caught.value.response.status_code == 403
        assert [e.status for e in s.events if isinstance(e, Exchange)] == [401, 403]


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        (f"{HARP}/init", 403, "lifecycle paths are for the host itself"),
        (f"{HARP}/a/..%2fb", 403, "the path has a segment"),
        ("/exapps/nobody/ws", 404, "no app 'nobody' is registered"),
        (f"{PHP}/ws", 403, "this way has no websockets; /exapps/nc_py_api/ws has them"),
        ("/elsewhere", 403, ""),
    ],
)
async def test_what_no_rule_opens_is_refused_before_the_handshake(
    path: str, status: int, reason: str
) -> None:
    app = EchoApp()
    async with live_stage(app) as s:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{s.port}{path}", proxy=None)
        assert caught.value.response.status_code == status
        if reason:
            assert s.note.startswith(reason)
    assert app.scope == {}


async def test_app_that_is_not_there_is_503() -> None:
    async with live_stage(EchoApp()) as s:
        await s.move_app(1)
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{s.port}{HARP}/ws", proxy=None)
        assert caught.value.response.status_code == 503
        assert b"no connection: connection refused" in caught.value.response.body
        assert "no connection" in s.note


@asynccontextmanager
async def raw_app(s: LiveStage, answer: bytes | None) -> AsyncIterator[None]:
    """An app that says something to whoever connects, and hangs up."""

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            if answer is not None:
                await stream.send(answer)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        await s.move_app(listener.extra(anyio.abc.SocketAttribute.local_port))
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, handle)
            yield
            group.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"garbage\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n",
    ],
)
async def test_app_that_answers_no_websocket_is_503(answer: bytes | None) -> None:
    async with live_stage(EchoApp()) as s, raw_app(s, answer):
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{s.port}{HARP}/ws", proxy=None)
        assert caught.value.response.status_code == 503
        assert b"did not open a websocket" in caught.value.response.body


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\x81\x02\xff\xff", 1007),  # text that is not UTF-8
        (b"\x01\x01\xc3\x80\x01\xa4", None),  # a letter in two fragments
        (b"\x83\x00", 1002),  # no such kind of frame
        (b"\x88\x02\x03\xe8", 1000),
        (b"\x88\x00", 1000),  # without a code
    ],
)
async def test_frames_of_an_app_are_checked(frames: bytes, code: int | None) -> None:
    may_end = anyio.Event()

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            request = (await stream.receive()).decode()
            key = re.search("Sec-WebSocket-Key: (.*)\r\n", request)
            assert key
            accepted = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            accepted += f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept_key(key[1])}\r\n\r\n"
            # With the handshake, so that nothing more needs to arrive.
            await stream.send(accepted.encode() + frames)
            await may_end.wait()

    async with (
        live_stage(EchoApp()) as s,
        await anyio.create_tcp_listener(local_host="127.0.0.1") as own,
        anyio.create_task_group() as group,
    ):
        await s.move_app(own.extra(anyio.abc.SocketAttribute.local_port))
        group.start_soon(own.serve, handle)
        async with opened(s) as client:
            if code is None:
                assert await client.recv() == "ä"
                may_end.set()
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == (code or 1014)
        may_end.set()
        group.cancel_scope.cancel()


async def test_app_that_dies_is_told_with_a_code_of_its_own() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "last words"})
        # Returning makes the server drop the connection, without a close.

    async with live_stage(app) as s, opened(s) as client:
        assert await client.recv() == "last words"
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (1014, "the app is gone")
        notices = [event.text for event in s.events if isinstance(event, Notice)]
        assert notices == ["broke off in the middle of a websocket"]
        assert (await s.client.get("/status.php")).status_code == 200


def handshake(path: str) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: h",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_client_that_vanishes_is_noticed_by_the_app() -> None:
    app = EchoApp()
    async with live_stage(app) as s:
        stream = await anyio.connect_tcp("127.0.0.1", s.port)
        await stream.send(handshake(f"{HARP}/ws"))
        await app.accepted.wait()
        # With a reset instead of a goodbye.
        raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()
        await app.ended.wait()
    assert app.end["type"] == "websocket.disconnect"


async def test_client_that_vanishes_before_it_is_accepted_is_noticed_by_the_app() -> None:
    asked, gone = anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        asked.set()
        assert (await receive())["type"] == "websocket.disconnect"
        gone.set()

    async with live_stage(app) as s:
        async with await anyio.connect_tcp("127.0.0.1", s.port) as stream:
            await stream.send(handshake(f"{HARP}/ws"))
            await asked.wait()
        await gone.wait()
        while not s.events:
            await anyio.lowlevel.checkpoint()
        assert s.note.endswith("the client went away before the app accepted")


async def test_slow_client_slows_the_app_down() -> None:
    block = b"x" * 65536
    sent = 0
    stalled = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        while not stalled.is_set():
            with anyio.move_on_after(0.5) as patience:
                await send({"type": "websocket.send", "bytes": block})
                sent += len(block)
            if patience.cancelled_caught:
                stalled.set()

    async with live_stage(app) as s, await anyio.connect_tcp("127.0.0.1", s.port) as stream:
        await stream.send(handshake(f"{HARP}/ws"))
        await stalled.wait()
        assert sent < 32 * 1024 * 1024
        # Others are served meanwhile.
        assert (await s.client.get("/status.php")).status_code == 200


async def test_slow_app_slows_the_client_down() -> None:
    accepted, may_end = anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        accepted.set()
        await may_end.wait()

    block = b"x" * 65536
    sent = 0
    async with live_stage(app) as s, opened(s, ping_interval=None, compression=None) as client:
        await accepted.wait()
        while True:
            with anyio.move_on_after(0.5) as patience:
                await client.send(block)
                sent += len(block)
            if patience.cancelled_caught:
                break
        assert sent < 32 * 1024 * 1024
        may_end.set()


async def test_pings_are_answered_and_not_passed_on() -> None:
    async with live_stage(EchoApp()) as s, opened(s) as client:
        assert await (await client.ping(b"1234")) >= 0
        await client.send("still here")
        assert await client.recv() == "still here"
