"""What passes through the proxy byte by byte: requests and answers that no library would write."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from appapi_host.asgi import MAX_HEAD_BYTES
from tests.live.proxy_stage import HARP, PHP, LiveStage, live_stage

pytestmark = pytest.mark.live

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def wire_stage(answer: bytes = OK) -> AsyncIterator[tuple[LiveStage, list[bytes]]]:
    """The host before an app that sends these bytes, and what the app has received."""
    received: list[bytes] = []

    async def handle(stream: SocketStream) -> None:
        async with stream:
            request = b""
            while b"\r\n\r\n" not in request:
                request += await stream.receive()
            received.append(request)
            await stream.send(answer)

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    async with live_stage(app) as s, await anyio.create_tcp_listener(local_host="127.0.0.1") as own:
        await s.move_app(own.extra(SocketAttribute.local_port))
        async with anyio.create_task_group() as group:
            group.start_soon(own.serve, handle)
            yield s, received
            group.cancel_scope.cancel()


async def raw_exchange(port: int, request: bytes) -> bytes:
    """Send bytes, and read until the server hangs up, which a good request has to ask for."""
    answer = b""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        try:
            await stream.send(request)
            async for part in stream:
                answer += part
        except anyio.BrokenResourceError:
            pass  # hung up while something was on its way
    return answer


@pytest.mark.parametrize(
    ("request_line", "rest", "status", "seen"),
    [
        ("GET {}/x HTTP/1.0", b"\r\n", 200, b"GET /x HTTP/1.1\r\nHost: localhost:"),
        ("GET http://h{}/x HTTP/1.1", b"Host: h\r\n\r\n", 200, b"GET /x HTTP/1.1\r\nhost: h\r\n"),
        ("OPTIONS {}/x HTTP/1.1", b"Host: h\r\n\r\n", 200, b"OPTIONS /x HTTP/1.1\r\n"),
        ("TRACE {}/x HTTP/1.1", b"Host: h\r\n\r\n", 200, b"TRACE /x HTTP/1.1\r\n"),
        ("GET {}/x HTTP/1.1", b"Host: a\r\nHost: b\r\n\r\n", 400, b""),
        ("CONNECT h:1 HTTP/1.1", b"Host: h\r\n\r\n", 400, b""),
        ("PRI * HTTP/2.0", b"\r\nSM\r\n\r\n", 400, b""),
        ("GET {}/x y HTTP/1.1", b"Host: h\r\n\r\n", 400, b""),
        ("GET {}/init;a=b HTTP/1.1", b"Host: h\r\n\r\n", 403, b""),
        ("GET {}/x HTTP/1.1", b"X: a\r\n AUTHORIZATION-APP-API: x\r\n\r\n", 400, b""),
        ("GET {}/x HTTP/1.1", b"X: a\rAUTHORIZATION-APP-API: x\r\n\r\n", 400, b""),
        ("GET {}/x HTTP/1.1", b"AUTHORIZATION-APP-API : x\r\n\r\n", 400, b""),
        ("GET {}/x HTTP/1.1", b"X: a\0b\r\n\r\n", 400, b""),
        (
            "POST {}/x HTTP/1.1",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
            400,
            b"",
        ),
        (
            "POST {}/x HTTP/1.1",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            400,
            b"",
        ),
        (
            "POST {}/x HTTP/1.1",
            b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            400,
            b"",
        ),
        ("POST {}/x HTTP/1.1", b"Content-Length: +5\r\n\r\nhello", 400, b""),
        ("POST {}/x HTTP/1.1", b"Content-Length: 5, 5\r\n\r\nhello", 400, b""),
        (
            "GET {}/x HTTP/1.1",
            b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            0,
            b"GET /x HTTP/1.1",
        ),
    ],
)
async def test_each_request_is_passed_on_whole_or_not_at_all(
    request_line: str, rest: bytes, status: int, seen: bytes
) -> None:
    async with wire_stage() as (s, received):
        line = request_line.format(HARP).encode() + b"\r\n"
        head = b"" if line.startswith(b"PRI") else b"Connection: close\r\n"
        if status:
            answer = await raw_exchange(s.port, line + head + rest)
            assert answer.startswith(b"HTTP/1.1 %d " % status)
        else:  # what asks for another protocol cannot ask for the end
            async with await anyio.connect_tcp("127.0.0.1", s.port) as stream:
                await stream.send(line + rest)
                assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")
        assert len(received) == bool(seen)
        for request in received:
            assert request.startswith(seen)
            assert request.count(b"AUTHORIZATION-APP-API: OjEyMzQ1\r\n") == 1
            assert b"upgrade" not in request.lower()


async def test_body_in_an_unknown_coding_brings_no_second_request() -> None:
    paths: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])

    async with live_stage(app) as s:
        head = f"POST {PHP}/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n".encode()
        smuggled = f"0\r\n\r\nGET {PHP}/y HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        assert (await raw_exchange(s.port, head + smuggled)).startswith(b"HTTP/1.1 400 ")
        assert (await s.client.get("/status.php")).status_code == 200
        assert "/y" not in paths


async def test_body_is_asked_for_when_the_app_is_to_get_it() -> None:
    head = b"Host: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    async with wire_stage() as (s, received):
        async with await anyio.connect_tcp("127.0.0.1", s.port) as stream:
            await stream.send(f"POST {HARP}/x HTTP/1.1\r\n".encode() + head)
            assert (await stream.receive()).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
            await stream.send(b"abc")
        assert b"expect" not in received[0].lower()
        refused = await raw_exchange(s.port, f"POST {HARP}/init HTTP/1.1\r\n".encode() + head)
        assert refused.startswith(b"HTTP/1.1 403 ")


async def test_head_without_end_is_refused() -> None:
    async with wire_stage() as (s, received):
        line = f"GET {HARP}/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n".encode()
        long = b"X: " + b"a" * (MAX_HEAD_BYTES // 2) + b"\r\n\r\n"
        assert (await raw_exchange(s.port, line + long)).startswith(b"HTTP/1.1 200 ")
        async with await anyio.connect_tcp("127.0.0.1", s.port) as stream:
            with pytest.raises(anyio.BrokenResourceError):
                await stream.send(line + b"X: " + b"a" * (64 * MAX_HEAD_BYTES))
        assert len(received) == 1
        assert (await s.client.get("/status.php")).status_code == 200


async def test_signature_is_ours_alone_however_it_is_spelled() -> None:
    smuggled = (
        b"AuThOrIzAtIoN-ApP-aPi: eA==\r\nauthorization_app_api: eA==\r\n"
        b"Authorization-App_Api: eA==\r\nAUTHORIZATION-APP-API: eA==\r\nEX_APP-ID: x\r\n"
        b"Trailer: AUTHORIZATION-APP-API\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"3\r\nabc\r\n0\r\nAUTHORIZATION-APP-API: eA==\r\n\r\n"
    )
    async with wire_stage() as (s, received):
        for base in (HARP, PHP):
            line = f"POST {base}/x HTTP/1.1\r\nHost: h\r\n".encode()
            assert b"200 OK" in await raw_exchange(s.port, line + smuggled)
        for request in received:
            assert request.lower().count(b"authorization") == 1
            assert b"eA==" not in request
            assert b"trailer" not in request.lower()


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"content-length: 2"),
        (b"HTTP/1.1 204 No\r\nContent-Length: 4\r\n\r\nnull", b"HTTP/1.1 204 No Content\r\n"),
        (b"HTTP/1.1 304 No\r\nContent-Length: 200\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\n"),
        (b"HTTP/1.1 599 ?\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 599 \r\n"),
        (OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"\r\n\r\nhi"),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", b"\r\na\r\nto the end\r\n0\r\n\r\n"),
        (
            CHUNKED + b"2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n",
            b"2\r\nhi\r\n0\r\n\r\n",
        ),
        (b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
        (b"HTTP/1.1 101 ?\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b"it answered 101"),
        (b"HTTP/1.1 700 ?\r\nContent-Length: 0\r\n\r\n", b"700, which is no status"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\nhello",
            b"its answer is no proper HTTP: Duplicate Content-Length",
        ),
    ],
)
async def test_each_answer_arrives_as_one_or_as_an_error(answer: bytes, seen: bytes) -> None:
    async with wire_stage(answer) as (s, _):
        request = f"GET {HARP}/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
        got = await raw_exchange(s.port, request)
        assert seen in got
        assert got.count(b"HTTP/1.1 ") == 1
        assert b"evil" not in got
        assert b"x-hop" not in got
        assert b"X-Sum" not in got
        head, _, body = got.partition(b"\r\n\r\n")
        if b" 204 " in head or b" 304 " in head:
            assert (body, b"content-length" in head) == (b"", False)


async def test_recorded_order_of_headers_holds_on_the_wire() -> None:
    async with wire_stage() as (s, received):
        head = "Host: 127.0.0.1:8080\r\nUser-Agent: curl\r\nAccept: */*\r\nConnection: close"
        request = f"GET {PHP}/public HTTP/1.1\r\n{head}\r\n\r\n"
        assert b"hi" in await raw_exchange(s.port, request.encode())
    lines = received[0].decode().split("\r\n")
    assert lines[0] == "GET /public HTTP/1.1"
    assert [line.partition(":")[0].lower() for line in lines[1:] if line] == [
        "host",
        "user-agent",
        "accept",
        "x-origin-ip",
        "aa-version",
        "ex-app-id",
        "ex-app-version",
        "authorization-app-api",
        "aa-request-id",
        "accept-language",
    ]
