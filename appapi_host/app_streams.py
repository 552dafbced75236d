"""User traffic to apps over HTTP/1.1: what the proxy needs, with as few copies and steps as can be.

A parser in C reads heads and chunks; a body of known length is not even parsed. Nothing is added to
a request but its framing, no redirect is followed, nothing is decompressed. A general client costs
several times as much per request, which is felt where every request of a page goes through here.

Source: RFC 9112.
"""

import select
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio
import httptools
from anyio.abc import ByteStream, SocketAttribute

from appapi_host.app_connections import BROKEN, connect, netloc, os_reason, without_userinfo
from exapp_sdk.errors import TransportError

__all__ = ["AppStreams", "HeaderList", "StreamedAnswer"]

HeaderList = Sequence[tuple[bytes, bytes]]

MAX_HEAD_BYTES: Final = 256 * 1024
"""Longest head of an answer."""

READ_BYTES: Final = 1024 * 1024
"""More than any event loop reads at once, so that nothing is split and copied again."""

IDLE_SECONDS: Final = 3.0
"""How long a connection waits for its next request; servers usually close after 5 s (uvicorn)."""

MAX_IDLE: Final = 100
"""Connections to one app that wait."""

_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_BODILESS: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """An answer whose body is still to come.

    Args:
        status: HTTP status.
        headers: names and values as sent, repeated ones kept.
        body: the bytes as sent, not decompressed.
        whole: all of them, if they came together with the head.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: AsyncGenerator[bytes, None]
    whole: bytes | None = None


class AppStreams:
    """Connections to apps, kept for a while after each request."""

    def __init__(self) -> None:
        self._idle: dict[str, list[_Connection]] = {}
        self._pruned = 0.0

    async def aclose(self) -> None:
        """Close those that wait."""
        idle, self._idle = self._idle, {}
        # A cancellation in here would take the place of the error that ended the host.
        with anyio.CancelScope(shield=True):
            for waiting in idle.values():
                for connection in waiting:
                    await anyio.aclose_forcefully(connection.stream)

    def stream(
        self,
        url: str,
        *,
        method: str,
        target: str,
        headers: HeaderList,
        content: AsyncGenerator[bytes, None] | None,
        ca: str = "",
    ) -> AbstractAsyncContextManager[StreamedAnswer]:
        """Send a request and hand out the answer while it arrives.

        The body is sent while the answer is read, and no further once the answer is complete.

        Args:
            url: where the app is, without a trailing slash.
            method: HTTP verb.
            target: path and query.
            headers: names and values.
            content: the body, in pieces; chunked unless the headers tell its length.
            ca: path of the CAs that are trusted; those of this machine if empty.

        Raises:
            TransportError: the app cannot be reached, or breaks off; raised from the body too.
        """
        what = f"{method} {without_userinfo(url)}{target}"
        is_chunked = content is not None and not _has_length(headers)
        head = _head(method, target, headers, url, what, is_chunked=is_chunked)
        request = _Request(url, method, head, what, is_chunked=is_chunked, ca=ca)
        return _Bodiless(self, request) if content is None else self._uploading(request, content)

    @asynccontextmanager
    async def _uploading(
        self, request: "_Request", content: AsyncGenerator[bytes, None]
    ) -> AsyncIterator[StreamedAnswer]:
        exchange = await self.begun(request, is_repeatable=False)
        try:
            failure = None
            async with anyio.create_task_group() as group:
                uploading = anyio.CancelScope()
                group.start_soon(_upload, exchange, content, request.is_chunked, uploading)
                try:
                    yield await exchange.answer()
                except Exception as error:  # noqa: BLE001  # raised again, outside of the group
                    failure = error
                # Not the scope of the group, which would cancel this task too.
                uploading.cancel()
            if failure is not None:
                raise failure
        finally:
            await self.release(exchange)

    async def begun(self, request: "_Request", *, is_repeatable: bool) -> "_Exchange":
        """Send the head of a request, on a connection that waits or on a new one.

        Args:
            request: which one.
            is_repeatable: it changes nothing, so it may be sent again.

        Raises:
            TransportError: no connection can be had.
        """
        while (connection := await self._waiting(request.url)) is not None:
            exchange = _Exchange(connection, request)
            try:
                await connection.stream.send(request.head)
                if is_repeatable:
                    # The app may close just now what has waited: then nothing of an answer comes.
                    await exchange.begin()
            except BaseException as error:
                with anyio.CancelScope(shield=True):
                    await anyio.aclose_forcefully(connection.stream)
                if not isinstance(error, (*BROKEN, TransportError)):
                    raise
                if not is_repeatable or exchange.has_begun:
                    raise TransportError(request.what, _CLOSED, outcome_unknown=True) from None
                continue
            return exchange
        connection = _Connection(
            request.url, await connect(request.url, request.what, ca=request.ca)
        )
        try:
            await connection.stream.send(request.head)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(connection.stream)
            if isinstance(error, BROKEN):
                raise TransportError(request.what, _broken(error), outcome_unknown=True) from error
            raise
        return _Exchange(connection, request)

    async def release(self, exchange: "_Exchange") -> None:
        """Keep a connection for the next request, or close it."""
        connection = exchange.connection
        waiting = self._idle.setdefault(connection.url, [])
        now = time.monotonic()
        if exchange.is_reusable and len(waiting) < MAX_IDLE:
            connection.until = now + IDLE_SECONDS
            waiting.append(connection)
        else:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(connection.stream)
        if now > self._pruned + IDLE_SECONDS:
            self._pruned = now
            await self._prune(now)

    async def _waiting(self, url: str) -> "_Connection | None":
        """A connection of which nobody has heard since its last answer."""
        waiting = self._idle.get(url)
        while waiting:
            connection = waiting.pop()
            if connection.until > time.monotonic() and not connection.is_readable():
                return connection
            await anyio.aclose_forcefully(connection.stream)
        return None

    async def _prune(self, now: float) -> None:
        """Close what has waited for too long, of every app."""
        for url, waiting in list(self._idle.items()):
            expired = [connection for connection in waiting if connection.until <= now]
            waiting[:] = [connection for connection in waiting if connection.until > now]
            if not waiting:
                del self._idle[url]
            for connection in expired:
                await anyio.aclose_forcefully(connection.stream)


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked.

    Args:
        url: where the app is.
        method: HTTP verb.
        head: ready to be sent.
        what: method and URL, for errors.
        is_chunked: the body goes in chunks.
        ca: path of the CAs that are trusted; those of this machine if empty.
    """

    url: str
    method: str
    head: bytes
    what: str
    is_chunked: bool
    ca: str = ""


class _Bodiless:
    """A request without a body, inside an `async with`.

    A class rather than a generator, because most requests are of this kind.
    """

    __slots__ = ("_exchange", "_request", "_streams")

    def __init__(self, streams: AppStreams, request: _Request) -> None:
        self._streams = streams
        self._request = request
        self._exchange: _Exchange | None = None

    async def __aenter__(self) -> StreamedAnswer:
        exchange = await self._streams.begun(
            self._request, is_repeatable=self._request.method in _REPEATABLE
        )
        self._exchange = exchange
        try:
            return await exchange.answer()
        except BaseException:
            await self._streams.release(exchange)
            raise

    async def __aexit__(self, *_: object) -> None:
        if self._exchange is not None:
            await self._streams.release(self._exchange)


class _Connection:
    """One connection to an app.

    Args:
        url: where that is.
        stream: the connection.
    """

    __slots__ = ("_poll", "stream", "until", "url")

    def __init__(self, url: str, stream: ByteStream) -> None:
        self.url = url
        self.stream = stream
        self.until = 0.0
        self._poll = select.poll()
        self._poll.register(stream.extra(SocketAttribute.raw_socket).fileno(), select.POLLIN)

    def is_readable(self) -> bool:
        """Whether the app has sent or closed something while nobody listened."""
        return bool(self._poll.poll(0))


class _Exchange:
    """One request and its answer on a connection.

    Args:
        connection: where it happens.
        request: what is asked.
    """

    __slots__ = (
        "_extra",
        "_has_ended",
        "_has_head",
        "_headers",
        "_is_chunked",
        "_is_complete",
        "_keeps_alive",
        "_length",
        "_method",
        "_parser",
        "_pieces",
        "_read",
        "_status",
        "_what",
        "connection",
        "has_begun",
        "has_sent_all",
        "stream",
    )

    def __init__(self, connection: _Connection, request: _Request) -> None:
        self.connection = connection
        self.stream = connection.stream
        self.has_begun = False
        self.has_sent_all = True
        self._what = request.what
        self._method = request.method
        self._parser = httptools.HttpResponseParser(self)
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._read = 0
        self._length: int | None = None
        self._is_chunked = False
        self._has_head = False
        self._has_ended = False
        self._is_complete = False
        self._keeps_alive = False
        self._extra = False

    @property
    def is_reusable(self) -> bool:
        """Whether the connection is good for another request."""
        return self._is_complete and self._keeps_alive and self.has_sent_all and not self._extra

    async def begin(self) -> None:
        """Wait for the first bytes of the answer.

        Raises:
            TransportError: none come.
        """
        data = await self._receive()
        if data is None:
            raise TransportError(self._what, _CLOSED, outcome_unknown=True)
        self.has_begun = True
        self._feed(data)

    async def answer(self) -> StreamedAnswer:
        """Wait for the head of the answer.

        Raises:
            TransportError: it does not come, or is no HTTP.
        """
        while not self._has_head:
            if self._read > MAX_HEAD_BYTES:
                raise TransportError(
                    self._what, f"the head of its answer has more than {MAX_HEAD_BYTES} bytes"
                )
            await self.begin()
        if self._status == _SWITCHING:
            raise TransportError(
                self._what, "it answered 101, although nobody asked for another protocol"
            )
        if self._status > _HIGHEST_STATUS:
            raise TransportError(self._what, f"it answered {self._status}, which is no status")
        whole = self._whole()
        return StreamedAnswer(self._status, self._headers, self._body(), whole)

    def _whole(self) -> bytes | None:
        if self._length is not None:
            if sum(map(len, self._pieces)) < self._length:
                return None
            self._is_complete = True
        elif not self._is_complete:
            return None
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    async def _body(self) -> AsyncGenerator[bytes, None]:
        if self._length is not None:
            left = self._length
            for piece in self._pieces:
                left -= len(piece)
                yield piece
            while left > 0:
                data = await self._receive()
                if data is None:
                    raise TransportError(self._what, _CLOSED, outcome_unknown=True)
                if len(data) > left:
                    self._extra = True
                    data = data[:left]
                left -= len(data)
                yield data
            self._is_complete = True
            return
        while True:
            pieces, self._pieces = self._pieces, []
            for piece in pieces:
                yield piece
            if self._is_complete:
                return
            data = await self._receive()
            if data is None:
                if self._is_chunked:
                    raise TransportError(self._what, _CLOSED, outcome_unknown=True)
                return  # its end is the end of the connection
            self._feed(data)

    async def _receive(self) -> bytes | None:
        """What comes next, None at the end.

        Raises:
            TransportError: the connection broke.
        """
        try:
            return await self.stream.receive(READ_BYTES)
        except anyio.EndOfStream:
            return None
        except BROKEN as error:
            raise TransportError(self._what, _broken(error), outcome_unknown=True) from error

    def _feed(self, data: bytes) -> None:
        self._read += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # what follows is another protocol
        except httptools.HttpParserError as error:
            if self._has_ended:
                self._extra = True  # what follows is nobody's
                return
            reason = f"its answer is no proper HTTP: {error}"
            raise TransportError(self._what, reason, outcome_unknown=True) from error

    # What the parser calls. Its names are those of the library.

    def on_message_begin(self) -> None:
        if self._has_head:
            self._extra = True  # a second answer, which nobody asked for
        else:
            self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:  # what follows the last chunk is not passed on
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._has_head or (status < 200 and status != _SWITCHING):
            return  # 100 and 103 come before the answer
        self._has_head = True
        self._status = status
        self._keeps_alive = self._parser.should_keep_alive()
        given = {name.lower(): value for name, value in self._headers}
        self._is_chunked = b"transfer-encoding" in given
        if self._method == "HEAD" or status in _BODILESS:
            self._length = 0
        elif not self._is_chunked and b"content-length" in given:
            self._length = int(given[b"content-length"])
            self._is_complete = self._length == 0

    def on_body(self, body: bytes) -> None:
        if self._length != 0 and not self._has_ended:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._has_head:
            self._has_ended = True
            if self._length is None:
                self._is_complete = True


_SWITCHING: Final = 101
_HIGHEST_STATUS: Final = 599
_CLOSED: Final = "the app closed the connection without a proper answer"


async def _upload(
    exchange: _Exchange,
    content: AsyncGenerator[bytes, None],
    is_chunked: bool,  # noqa: FBT001  # handed over by the task group
    scope: anyio.CancelScope,
) -> None:
    exchange.has_sent_all = False
    with scope:
        try:
            async with aclosing(content):
                async for piece in content:
                    if is_chunked:
                        await exchange.stream.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                    else:
                        await exchange.stream.send(piece)
            if is_chunked:
                await exchange.stream.send(b"0\r\n\r\n")
        except BROKEN:
            return  # an app that wants no more may have answered; reading tells
        exchange.has_sent_all = True


def _has_length(headers: HeaderList) -> bool:
    return any(name.lower() == b"content-length" for name, _ in headers)


def _head(
    method: str, target: str, headers: HeaderList, url: str, what: str, *, is_chunked: bool
) -> bytes:
    """The head of a request.

    Raises:
        TransportError: it would not be one.
    """
    lines = [f"{method} {target} HTTP/1.1".encode("latin-1")]
    if not any(name.lower() == b"host" for name, _ in headers):
        lines.append(b"Host: " + netloc(url).encode("latin-1"))
    lines += [b"%b: %b" % pair for pair in headers]
    if is_chunked:
        lines.append(b"Transfer-Encoding: chunked")
    text = b"\r\n".join(lines)
    # One line each, whatever has found its way into a value.
    if text.count(b"\n") != len(lines) - 1 or text.count(b"\r") != len(lines) - 1 or b"\0" in text:
        raise TransportError(what, "the request cannot be written as HTTP")
    return text + b"\r\n\r\n"


def _broken(error: BaseException) -> str:
    detail = os_reason(error)
    return f"the connection broke: {detail}" if detail else "the connection broke"
