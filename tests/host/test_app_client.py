"""How the host speaks HTTP: real sockets where the fault is on the wire."""

import inspect
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
from anyio.abc import SocketStream

from appapi_host.app_client import AppClient, reasons
from appapi_host.app_client.answers import MAX_ANSWER_BYTES
from appapi_host.events import EventBus
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.errors import TransportError
from exapp_sdk.protocol.auth import Secret


def record(port: int) -> AppRecord:
    daemon = Daemon("d", "D", "manual-install", "http", "127.0.0.1")
    return AppRecord("app", "1.0.0", "App", daemon, port, Secret("s3cr3t"))


@asynccontextmanager
async def server(*answers: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A TCP server that reads a request and sends the next of these bytes, then hangs up."""
    received: list[bytes] = []
    left = list(answers)

    async def handle(stream: SocketStream) -> None:
        async with stream:
            received.append(await stream.receive())
            if left:
                await stream.send(left.pop(0))

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield port, received
        group.cancel_scope.cancel()


async def test_nothing_that_listens_is_named_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with AppClient(HostSettings(), EventBus()) as client:
        with pytest.raises(TransportError) as caught:
            await client.init(record(port), f"http://127.0.0.1:{port}")
    assert caught.value.reason.startswith("no connection")
    assert not caught.value.outcome_unknown
    assert str(port) in caught.value.target


@pytest.mark.parametrize("garbage", [b"", b"HTTP/1.1 abc\r\n\r\n", b"\x00\x01\x02\r\n\r\n"])
async def test_answer_that_is_no_http_is_named_as_such(garbage: bytes) -> None:
    async with (
        server(garbage) as (port, _),
        AppClient(HostSettings(), EventBus()) as client,
    ):
        with pytest.raises(TransportError, match="closed the connection") as caught:
            await client.init(record(port), f"http://127.0.0.1:{port}")
    assert caught.value.outcome_unknown


async def test_requests_of_the_handshake_carry_nothing_but_the_recorded_headers() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    async with (
        server(answer) as (port, received),
        AppClient(HostSettings(), EventBus()) as client,
    ):
        await client.enabled(record(port), f"http://localhost:{port}", enabled=True)
    assert received[0].decode() == (
        "PUT /enabled?enabled=1 HTTP/1.1\r\n"
        f"Host: localhost:{port}\r\n"
        "Content-Length: 0\r\n"
        "AA-VERSION: 32.0.0\r\n"
        "EX-APP-ID: app\r\n"
        "EX-APP-VERSION: 1.0.0\r\n"
        "AUTHORIZATION-APP-API: OnMzY3IzdA==\r\n"
        "AA-REQUEST-ID: CLI\r\n"
        "Accept-Language: en\r\n"
        "User-Agent: Nextcloud Server Crawler\r\n"
        "Accept-Encoding: gzip\r\n"
        "\r\n"
    )


# On trio, httpcore's own generators warn when a body is left before its end.
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_answer_without_end_is_cut(anyio_backend: str) -> None:
    body = b"x" * (MAX_ANSWER_BYTES + 1000)
    answer = b"HTTP/1.1 200 OK\r\n\r\n" + body
    async with (
        server(answer) as (port, _),
        AppClient(HostSettings(), EventBus()) as client,
    ):
        got = await client.heartbeat(record(port), f"http://127.0.0.1:{port}")
    assert len(got.body) == MAX_ANSWER_BYTES
    assert got.json() is None


async def test_stream_hands_out_the_answer_as_it_was_sent() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Content-Encoding: gzip\r\nContent-Length: 7\r\n\r\nnotgzip"
    )
    async with (
        server(answer) as (port, received),
        AppClient(HostSettings(), EventBus()) as client,
        client.stream(
            record(port),
            f"http://127.0.0.1:{port}",
            method="GET",
            target="/x?q=1",
            headers=[(b"Host", b"cloud.test")],
        ) as got,
    ):
        assert b"".join([piece async for piece in got.body]) == b"notgzip"
    assert got.status == 200
    assert got.headers[:2] == [(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2")]
    assert received == [b"GET /x?q=1 HTTP/1.1\r\nHost: cloud.test\r\n\r\n"]


async def test_stream_that_breaks_off_is_an_error_of_the_body() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin"
    async with (
        server(answer) as (port, _),
        AppClient(HostSettings(), EventBus()) as client,
        client.stream(
            record(port), f"http://127.0.0.1:{port}", method="GET", target="/", headers=[]
        ) as got,
    ):
        assert await anext(got.body) == b"begin"
        with pytest.raises(TransportError, match="closed the connection"):
            await anext(got.body)


async def test_credentials_in_an_address_are_in_no_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with AppClient(HostSettings(), EventBus()) as client:
        with pytest.raises(TransportError) as caught:
            await client.heartbeat(record(port), f"http://user:hidden@127.0.0.1:{port}")
    assert "hidden" not in str(caught.value)


def test_every_error_of_httpx_is_translated() -> None:
    errors = [
        member
        for _, member in inspect.getmembers(httpx)
        if inspect.isclass(member) and issubclass(member, httpx.HTTPError | httpx.InvalidURL)
    ]
    assert len(errors) > 10
    for error in errors:
        assert any(issubclass(error, kind) for kind, _ in reasons())
