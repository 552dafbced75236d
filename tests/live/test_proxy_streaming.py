"""Streams through the proxy, over real sockets: the in-memory transport would buffer them."""

import gc
import gzip
import socket
import struct
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from appapi_host.asgi import bind, serve
from appapi_host.events import Exchange, Notice
from tests.live.proxy_stage import HARP, PHP, live_stage

pytestmark = pytest.mark.live


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=[PHP, HARP], ids=["php", "harp"])
def base(request: pytest.FixtureRequest) -> str:
    """The path of the app, by each way."""
    return str(request.param)


async def start(send: Any, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def piece(send: Any, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def test_server_sent_events_arrive_as_they_are_sent(base: str) -> None:
    seen = [anyio.Event() for _ in range(3)]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, (b"content-type", b"text/event-stream"))
        for number, event in enumerate(seen):
            await piece(send, b"data: %d\n\n" % number)
            await event.wait()
        await piece(send, b"", more=False)

    async with live_stage(app) as s, s.client.stream("GET", f"{base}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        pieces = response.aiter_raw()
        for number, event in enumerate(seen):
            assert await anext(pieces) == b"data: %d\n\n" % number
            event.set()
        assert [rest async for rest in pieces] == []
        assert s.events[-1].status == 200  # type: ignore[union-attr]  # told with the head


async def test_upload_arrives_as_it_is_sent(base: str) -> None:
    received: list[bytes] = []
    arrived = [anyio.Event() for _ in range(3)]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            if message["body"]:
                received.append(message["body"])
                arrived[len(received) - 1].set()
        await start(send)
        await piece(send, b"thanks", more=False)

    async def upload() -> AsyncIterator[bytes]:
        for number, event in enumerate(arrived):
            yield b"piece %d" % number
            await event.wait()

    async with live_stage(app) as s:
        response = await s.client.put(f"{base}/file", content=upload())
    assert (response.status_code, response.content) == (200, b"thanks")
    assert received == [b"piece 0", b"piece 1", b"piece 2"]


async def test_client_that_leaves_a_stream_is_noticed_by_the_app(base: str) -> None:
    gone = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await piece(send, b"first")
        await disconnected(receive)
        gone.set()

    async with live_stage(app) as s:
        async with s.client.stream("GET", f"{base}/events") as response:
            assert await anext(response.aiter_raw()) == b"first"
        await gone.wait()
        assert not any(isinstance(event, Notice) for event in s.events)


async def test_client_that_leaves_before_the_answer_is_noticed_by_the_app(base: str) -> None:
    asked, gone = anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.set()
        await disconnected(receive)
        gone.set()

    async with live_stage(app) as s:
        async with anyio.create_task_group() as group:
            group.start_soon(s.client.get, f"{base}/slow")
            await asked.wait()
            group.cancel_scope.cancel()
        await gone.wait()
        while not s.events:
            await anyio.lowlevel.checkpoint()
        [exchange] = s.events
        assert isinstance(exchange, Exchange)
        assert exchange.status == 0
        assert exchange.note.endswith("the client went away before the answer")


async def test_client_that_leaves_its_upload_is_noticed_by_the_app(base: str) -> None:
    asked, gone = anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        asked.set()
        await disconnected(receive)
        gone.set()

    async def upload() -> AsyncIterator[bytes]:
        yield b"first"
        await anyio.sleep_forever()

    async with live_stage(app) as s:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(s.client.post, f"{base}/file", content=upload()))
            await asked.wait()
            group.cancel_scope.cancel()
        await gone.wait()


async def test_app_that_refuses_an_upload_unread_is_heard() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, (b"connection", b"close"), status=413)
        await piece(send, b"too much", more=False)

    async with live_stage(app) as s:
        response = await s.client.post(f"{PHP}/file", content=b"x" * 100_000)
        assert (response.status_code, response.content) == (413, b"too much")


@pytest.mark.parametrize("length", [b"100", b""])
async def test_app_that_dies_in_its_answer_gives_the_client_an_error(length: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, *([(b"content-length", length)] if length else []))
        await piece(send, b"first")
        # Returning without an end makes the server close the connection.

    async with live_stage(app) as s:
        with pytest.raises(httpx.RemoteProtocolError):
            await s.client.get(f"{PHP}/dies")
        [notice] = [event for event in s.events if isinstance(event, Notice)]
        assert notice.text.startswith("broke off in the middle of its answer: GET http://")
        # The host goes on.
        assert (await s.client.get("/status.php")).status_code == 200


async def test_app_that_dies_before_its_answer_is_500() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        pass

    async with live_stage(app) as s:
        response = await s.client.get(f"{PHP}/dies", headers={"x": "1"})
        # Our stand-in server answers for an app that says nothing; a dead one is the next line.
        assert response.status_code == 500
        await s.host.registry.apply("nc_py_api", lambda app: replace(app, port=1))
        response = await s.client.get(f"{PHP}/dies")
        assert response.status_code == 500
        assert "no connection" in response.text


async def test_slow_reader_slows_the_app_down_instead_of_filling_the_host(base: str) -> None:
    block = b"x" * 65536
    sent = 0
    stalled = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await start(send)
        while not stalled.is_set():
            # A send that waits half a second waits for the reader: on loopback all else is quick.
            with anyio.move_on_after(0.5) as patience:
                await piece(send, block)
                sent += len(block)
            if patience.cancelled_caught:
                stalled.set()

    async def either(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/huge":
            await app(scope, receive, send)
        else:
            await start(send)
            await piece(send, b"small", more=False)

    async with live_stage(either) as s, s.client.stream("GET", f"{base}/huge"):
        await stalled.wait()
        assert sent < 32 * 1024 * 1024
        # Others are served meanwhile, by the same app.
        assert (await s.client.get(f"{base}/small")).text == "small"


def peak_bytes() -> int:
    """The most memory that this process has held since `forget_peak()`."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak() -> int:
    """Begin anew, with what is held now."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_bytes()


LARGE = 96 * 1024 * 1024
"""Bytes of a stream; three times what it may cost, and client, host and app share a process."""

MORE_BYTES = 30 * 1024 * 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
async def test_long_download_takes_no_memory(base: str) -> None:
    block = bytes(256 * 1024)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, (b"content-length", b"%d" % LARGE))
        for _ in range(LARGE // len(block)):
            await piece(send, block)
        await piece(send, b"", more=False)

    async with live_stage(app) as s:
        before = forget_peak()
        async with s.client.stream("GET", f"{base}/large") as response:
            received = 0
            async for part in response.aiter_raw():
                received += len(part)
        assert received == LARGE
        assert peak_bytes() - before < MORE_BYTES


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_long_upload_takes_no_memory(base: str, is_chunked: bool) -> None:
    block = bytes(256 * 1024)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
        await start(send)
        await piece(send, b"%d" % size, more=False)

    async def upload() -> AsyncIterator[bytes]:
        for _ in range(LARGE // len(block)):
            yield block

    headers = {} if is_chunked else {"Content-Length": str(LARGE)}
    async with live_stage(app) as s:
        before = forget_peak()
        response = await s.client.put(f"{base}/large", content=upload(), headers=headers)
        assert response.text == str(LARGE)
        assert peak_bytes() - before < MORE_BYTES


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"", 503),
        (b"HTTP/1.1 200 OK\r\nConte", 503),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", 0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", 0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12", 0),
    ],
)
async def test_app_that_is_killed_gives_the_client_a_clean_error(
    answer: bytes, status: int
) -> None:
    """With a reset, as from a process that is killed while bytes are on their way."""

    async def handle(stream: anyio.abc.SocketStream) -> None:
        await stream.receive()
        if answer:
            await stream.send(answer)
        raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await anyio.aclose_forcefully(stream)

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    async with live_stage(app) as s, await anyio.create_tcp_listener(local_host="127.0.0.1") as own:
        await s.move_app(own.extra(anyio.abc.SocketAttribute.local_port))
        async with anyio.create_task_group() as group:
            group.start_soon(own.serve, handle)
            if status:
                response = await s.client.get(f"{HARP}/x")
                assert response.status_code == status
                assert "GET http://localhost:" in response.text
            else:
                with pytest.raises(httpx.RemoteProtocolError):
                    await s.client.get(f"{HARP}/x")
                [notice] = [event for event in s.events if isinstance(event, Notice)]
                assert notice.text.startswith("broke off in the middle of its answer: GET http://")
            assert (await s.client.get("/status.php")).status_code == 200
            group.cancel_scope.cancel()


async def test_answers_without_a_body_and_compressed_ones_pass() -> None:
    packed = gzip.compress(b"hello" * 1000)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/gzip":
            await start(
                send,
                (b"content-encoding", b"gzip"),
                (b"set-cookie", b"a=1"),
                (b"set-cookie", b"b=2"),
            )
            await piece(send, packed, more=False)
        else:
            await start(send, (b"etag", b'"x"'), status=int(scope["path"][1:]))
            await piece(send, b"", more=False)

    async with live_stage(app) as s:
        for status in (204, 304):
            response = await s.client.get(f"{PHP}/{status}")
            assert (response.status_code, response.content) == (status, b"")
            assert response.headers["etag"] == '"x"'
        async with s.client.stream("GET", f"{PHP}/gzip") as response:
            raw = b"".join([part async for part in response.aiter_raw()])
        assert raw == packed
        assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert len(response.headers.get_list("date")) == 1
        assert "server" not in response.headers
        response = await s.client.head(f"{PHP}/200")
        assert (response.status_code, response.content) == (200, b"")
        assert (await s.client.get("/status.php")).status_code == 200


async def test_error_of_who_holds_the_host_is_not_lost_behind_its_connections() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, (b"content-length", b"0"))
        await piece(send, b"", more=False)

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with live_stage(app) as s:
            await s.client.get(f"{PHP}/x")  # leaves a connection that waits
            raise ZeroDivisionError


async def test_stopping_ends_streams_and_frees_the_port() -> None:
    began = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await piece(send, b"first")
        began.set()
        await anyio.sleep_forever()

    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            server = anyio.CancelScope()

            async def run(*, task_status: Any) -> None:
                with server:
                    await serve(app, sockets=[listener], task_status=task_status)

            assert await group.start(run) == port
            async with (
                httpx.AsyncClient(trust_env=False) as client,
                client.stream("GET", f"http://127.0.0.1:{port}/") as response,
            ):
                await began.wait()
                server.cancel()
                with pytest.raises(httpx.RemoteProtocolError):
                    await response.aread()
    bind("127.0.0.1", port).close()


async def test_stopping_lets_a_short_request_end() -> None:
    asked, may_answer = anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.set()
        await may_answer.wait()
        await start(send)
        await piece(send, b"done", more=False)

    answers: list[bytes] = []

    async def ask(port: int) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            answers.append((await client.get(f"http://127.0.0.1:{port}/")).content)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as asking, anyio.create_task_group() as serving:
            port = await serving.start(partial(serve, app))
            asking.start_soon(ask, port)
            await asked.wait()
            serving.cancel_scope.cancel()
            may_answer.set()
    assert answers == [b"done"]
