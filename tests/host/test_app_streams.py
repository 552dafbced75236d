"""The client of the proxy, against servers that say exactly what a test wants."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from appapi_host import app_streams
from appapi_host.app_client import AppClient
from appapi_host.app_streams import AppStreams
from appapi_host.events import EventBus
from appapi_host.settings import HostSettings
from exapp_sdk.errors import TransportError
from tests.host.web_stage import APP

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Server:
    """Answers each request of a connection with the next of its answers, then hangs up.

    An answer of None hangs up without a word, an empty one keeps the client waiting.
    """

    answers: list[list[bytes | None]]
    url: str = ""
    received: list[list[bytes]] = field(default_factory=list)
    hung_up: anyio.Event = field(default_factory=anyio.Event)
    lets_wait: anyio.Event = field(default_factory=anyio.Event)

    async def handle(self, stream: SocketStream) -> None:
        mine: list[bytes] = []
        self.received.append(mine)
        answers = self.answers.pop(0) if self.answers else []
        async with stream:
            for answer in answers:
                try:
                    mine.append(await stream.receive())
                    if answer is None:
                        break
                    if not answer:
                        self.lets_wait.set()
                        continue
                    await stream.send(answer)
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    break
        self.hung_up.set()


@asynccontextmanager
async def served(*answers: list[bytes | None]) -> AsyncIterator[tuple[Server, AppStreams]]:
    server = Server(list(answers))
    streams = AppStreams()
    with anyio.fail_after(10):
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            server.url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, server.handle)
                yield server, streams
                await streams.aclose()
                group.cancel_scope.cancel()


async def ask(
    server: Server,
    streams: AppStreams,
    method: str = "GET",
    *headers: tuple[bytes, bytes],
    content: AsyncGenerator[bytes, None] | None = None,
) -> tuple[int, bytes]:
    async with streams.stream(
        server.url, method=method, target="/x", headers=headers, content=content
    ) as answer:
        return answer.status, b"".join([piece async for piece in answer.body])


async def pieces(*parts: bytes) -> AsyncGenerator[bytes, None]:
    for part in parts:
        yield part


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
            b"ok",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nnull", b""),
        (OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"ok"),
        (OK + b"\0 no HTTP", b"ok"),
    ],
)
async def test_body_ends_where_its_head_says(answer: bytes, body: bytes) -> None:
    async with served([answer]) as (server, streams):
        assert (await ask(server, streams))[1] == body


async def test_interim_answers_leave_no_headers_and_trailers_none_either() -> None:
    early = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n0\r\nX: y\r\n\r\n"
    async with (
        served([early + chunked]) as (server, streams),
        streams.stream(server.url, method="GET", target="/", headers=[], content=None) as answer,
    ):
        assert [piece async for piece in answer.body] == []
        assert answer.headers == [(b"Transfer-Encoding", b"chunked"), (b"A", b"b")]


async def test_head_has_no_body_whatever_it_says() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    async with served([head, OK]) as (server, streams):
        assert await ask(server, streams, "HEAD") == (200, b"")
        assert await ask(server, streams) == (200, b"ok")
        assert len(server.received) == 1


async def test_connection_is_kept_for_the_next_request() -> None:
    async with served([OK, OK, OK]) as (server, streams):
        for method in ("GET", "POST", "GET"):
            assert await ask(server, streams, method) == (200, b"ok")
        assert [len(mine) for mine in server.received] == [3]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 ",
    ],
)
async def test_connection_that_is_not_clean_is_not_kept(answer: bytes) -> None:
    async with served([answer, OK], [OK]) as (server, streams):
        assert await ask(server, streams) == (200, b"ok")
        assert await ask(server, streams) == (200, b"ok")
        assert len(server.received) == 2


async def test_answer_that_is_left_ends_its_connection() -> None:
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin"
    async with served([long], [OK]) as (server, streams):
        async with streams.stream(
            server.url, method="GET", target="/", headers=[], content=None
        ) as answer:
            assert await anext(answer.body) == b"begin"
            await answer.body.aclose()
        assert await ask(server, streams) == (200, b"ok")
        assert len(server.received) == 2


async def test_request_that_is_given_up_ends_its_connection() -> None:
    async with served([OK, b"", b""]) as (server, streams):
        assert await ask(server, streams) == (200, b"ok")
        async with anyio.create_task_group() as group:
            group.start_soon(ask, server, streams)
            await server.lets_wait.wait()
            group.cancel_scope.cancel()
        await server.hung_up.wait()


async def test_connection_that_the_app_has_closed_is_noticed() -> None:
    async with served([OK], [OK]) as (server, streams):
        await ask(server, streams)
        await server.hung_up.wait()
        assert await ask(server, streams, "POST") == (200, b"ok")
        assert len(server.received) == 2


async def test_connection_that_is_closed_just_now_repeats_only_what_changes_nothing() -> None:
    async with served([OK, None], [OK, None], [OK]) as (server, streams):
        await ask(server, streams)
        assert await ask(server, streams) == (200, b"ok")
        with pytest.raises(TransportError, match="without a proper answer") as caught:
            await ask(server, streams, "POST")
        assert caught.value.outcome_unknown
        assert len(server.received) == 2


async def test_connections_do_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_streams, "IDLE_SECONDS", -1.0)
    async with served([OK, OK], [OK, OK]) as (server, streams):
        await ask(server, streams)
        await ask(server, streams)
        assert len(server.received) == 2
        assert streams._idle == {}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "closed the connection without a proper answer"),
        (b"HTTP/1.1 200", "closed the connection without a proper answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is no proper HTTP: Expected HTTP/"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nother",
            "it answered 101, although nobody asked for another protocol",
        ),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "it answered 101"),
        (b"HTTP/1.1 700 ?\r\nContent-Length: 0\r\n\r\n", "it answered 700, which is no status"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            "is no proper HTTP: Transfer-Encoding can't be present with Content-Length",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: x\r\n\r\n",
            "is no proper HTTP: Missing expected LF",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok", "no proper HTTP: Invalid character in"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", "closed the connection"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n",
            "is no proper HTTP: Invalid",
        ),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 300_000, "has more than 262144 bytes"),
    ],
)
async def test_what_is_no_answer_is_an_error(answer: bytes | None, reason: str) -> None:
    async with served([answer]) as (server, streams):
        with pytest.raises(TransportError, match=reason):
            await ask(server, streams)


async def test_request_is_written_as_it_is() -> None:
    async with served([OK], [OK]) as (server, streams):
        await ask(server, streams, "GET", (b"Host", b"cloud.test"), (b"X-Latin", b"\xe9"))
        await server.hung_up.wait()
        await ask(server, streams)
        port = server.url.rpartition(":")[2].encode()
    assert server.received == [
        [b"GET /x HTTP/1.1\r\nHost: cloud.test\r\nX-Latin: \xe9\r\n\r\n"],
        [b"GET /x HTTP/1.1\r\nHost: 127.0.0.1:" + port + b"\r\n\r\n"],
    ]


@pytest.mark.parametrize("value", [b"a\r\nEX-APP-ID: x", b"a\nb", b"a\rb", b"\0"])
async def test_value_that_would_be_more_than_one_header_is_not_sent(value: bytes) -> None:
    async with served([OK]) as (server, streams):
        with pytest.raises(TransportError, match="cannot be written as HTTP"):
            await ask(server, streams, "GET", (b"X", value))
        assert server.received == []


async def test_body_of_unknown_length_is_chunked() -> None:
    done = anyio.Event()
    received = b""

    async def handle(stream: SocketStream) -> None:
        nonlocal received
        async with stream:
            while not received.endswith(b"0\r\n\r\n"):
                received += await stream.receive()
            await stream.send(OK)
            done.set()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        server = Server([], f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}")
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, handle)
            content = pieces(b"one", b"seventeen letters")
            streams = AppStreams()
            assert await ask(server, streams, "PUT", content=content) == (200, b"ok")
            await done.wait()
            await streams.aclose()
            group.cancel_scope.cancel()
    assert received.endswith(
        b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n11\r\nseventeen letters\r\n0\r\n\r\n"
    )


async def test_answer_before_the_end_of_the_upload_ends_it() -> None:
    stopped = anyio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            yield b"begin"
            await anyio.sleep_forever()
        finally:
            stopped.set()

    async with served([OK], [OK]) as (server, streams):
        length = (b"Content-Length", b"1000")
        assert await ask(server, streams, "PUT", length, content=endless()) == (200, b"ok")
        await stopped.wait()
        assert await ask(server, streams) == (200, b"ok")
        assert len(server.received) == 2


async def test_error_while_the_body_is_sent_is_raised_as_it_is() -> None:
    async with served([None]) as (server, streams):
        with pytest.raises(TransportError):
            await ask(server, streams, "PUT", (b"Content-Length", b"3"), content=pieces(b"abc"))


async def test_address_that_is_none_is_an_error() -> None:
    streams = AppStreams()
    for url, reason in (
        ("ftp://127.0.0.1", "neither http nor https"),
        ("http://127.0.0.1:99999", "malformed"),
        ("http://127.0.0.1:1", "no connection: connection refused"),
        ("https://127.0.0.1:1", "no connection: connection refused"),
        ("http://nowhere.invalid", "no connection: "),
    ):
        with pytest.raises(TransportError, match=reason):
            await ask(Server([], url), streams)


async def test_client_that_is_cancelled_closes_every_connection() -> None:
    async with (
        served([OK, OK], [OK, OK], [OK, OK]) as (server, _),
        AppClient(HostSettings(), EventBus()) as client,
    ):
        async with AsyncExitStack() as stack:
            for _ in range(3):
                request = client.stream(APP, server.url, method="GET", target="/", headers=[])
                answer = await stack.enter_async_context(request)
                assert b"".join([piece async for piece in answer.body]) == b"ok"
        sockets = [
            connection.stream.extra(SocketAttribute.raw_socket)
            for connection in client._streams._idle[server.url]
        ]
        assert len(sockets) == 3
        with anyio.CancelScope() as scope:
            scope.cancel()
            await client.__aexit__(None, None, None)
        assert [found.fileno() for found in sockets] == [-1, -1, -1]
