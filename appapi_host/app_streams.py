"""User traffic to apps over HTTP/1.1: what the proxy needs, with as few copies and steps as can be.

A parser in C reads heads and chunks; a body of known length is not even parsed. Nothing is added to
a request but its framing, no redirect is followed, nothing is decompressed. A general client costs
several times as much per request, which is felt where every request of a page goes through here.

Source: RFC 9112.
"""

import select
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
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
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: AsyncGenerator[bytes, None]


class AppStreams:
    """Connections to apps, kept for a while after each request."""

    def __init__(self) -> None:
        self._idle: dict[str, list[tuple[float, ByteStream]]] = {}
        self._pruned = 0.0

    async def aclose(self) -> None:
        """Close those that wait."""
        for waiting in self._idle.values():
            for _, stream in waiting:
                await anyio.aclose_forcefully(stream)
        self._idle.clear()

    @asynccontextmanager
    async def stream(
        self,
        url: str,
        *,
        method: str,
        target: str,
        headers: HeaderList,
        content: AsyncGenerator[bytes, None] | None,
    ) -> AsyncIterator[StreamedAnswer]:
        """Send a request and hand out the answer while it arrives.

        The body is sent while the answer is read, and no further once the answer is complete.

        Args:
            url: where the app is, without a trailing slash.
            method: HTTP verb.
            target: path and query.
            headers: names and values.
            content: the body, in pieces; chunked unless the headers tell its length.

        Raises:
            TransportError: the app cannot be reached, or breaks off; raised from the body too.
        """
        what = f"{method} {without_userinfo(url)}{target}"
        is_chunked = content is not None and not _has_length(headers)
        head = _head(method, target, headers, url, what, is_chunked=is_chunked)
        exchange = await self._sent(url, head, what, method=method, has_body=content is not None)
        try:
            if content is None:
                yield await exchange.answer()
                return
            failure = None
            async with anyio.create_task_group() as group:
                uploading = anyio.CancelScope()
                group.start_soon(_upload, exchange, content, is_chunked, uploading)
                try:
                    yield await exchange.answer()
                except Exception as error:  # noqa: BLE001  # raised again, outside of the group
                    failure = error
                # Not the scope of the group, which would cancel this task too.
                uploading.cancel()
            if failure is not None:
                raise failure
        finally:
            await self._release(url, exchange)

    async def _sent(
        self, url: str, head: bytes, what: str, *, method: str, has_body: bool
    ) -> "_Exchange":
        """Send the head of a request, on a connection that waits or on a new one.

        Raises:
            TransportError: no connection can be had.
        """
        is_repeatable = not has_body and method in _REPEATABLE
        while (stream := await self._waiting(url)) is not None:
            exchange = _Exchange(stream, what, method)
            try:
                await stream.send(head)
                if is_repeatable:
                    # The app may close just now what has waited: then nothing of an answer comes,
                    # and the request may be sent again, because it changes nothing.
                    await exchange.begin()
            except (*BROKEN, TransportError):
                await anyio.aclose_forcefully(stream)
                if not is_repeatable or exchange.has_begun:
                    raise TransportError(what, _CLOSED, outcome_unknown=True) from None
                continue
            return exchange
        stream = await connect(url, what)
        try:
            await stream.send(head)
        except BROKEN as error:
            await anyio.aclose_forcefully(stream)
            raise TransportError(what, _broken(error), outcome_unknown=True) from error
        return _Exchange(stream, what, method)

    async def _waiting(self, url: str) -> ByteStream | None:
        """A connection of which nobody has heard since its last answer."""
        waiting = self._idle.get(url)
        while waiting:
            until, stream = waiting.pop()
            if until > time.monotonic() and not _is_readable(stream):
                return stream
            await anyio.aclose_forcefully(stream)
        return None

    async def _release(self, url: str, exchange: "_Exchange") -> None:
        now = time.monotonic()
        waiting = self._idle.setdefault(url, [])
        if exchange.is_reusable and len(waiting) < MAX_IDLE:
            waiting.append((now + IDLE_SECONDS, exchange.stream))
        else:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(exchange.stream)
        if now > self._pruned + IDLE_SECONDS:
            self._pruned = now
            await self._prune(now)

    async def _prune(self, now: float) -> None:
        """Close what has waited for too long, of every app."""
        for url, waiting in list(self._idle.items()):
            expired = [stream for until, stream in waiting if until <= now]
            waiting[:] = [pair for pair in waiting if pair[0] > now]
            if not waiting:
                del self._idle[url]
            for stream in expired:
                await anyio.aclose_forcefully(stream)


class _Exchange:
    """One request and its answer on a connection.

    Args:
        stream: the connection.
        what: method and URL, for errors.
        method: of the request.
    """

    __slots__ = (
        "_extra",
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
        "has_begun",
        "has_sent_all",
        "stream",
    )

    def __init__(self, stream: ByteStream, what: str, method: str) -> None:
        self.stream = stream
        self.has_begun = False
        self.has_sent_all = True
        self._what = what
        self._method = method
        self._parser = httptools.HttpResponseParser(self)
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._read = 0
        self._length: int | None = None
        self._is_chunked = False
        self._has_head = False
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
        return StreamedAnswer(self._status, self._headers, self._body())

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
        except httptools.HttpParserError as error:
            raise TransportError(self._what, _CLOSED, outcome_unknown=True) from error

    # What the parser calls. Its names are those of the library.

    def on_message_begin(self) -> None:
        if self._has_head:
            self._extra = True  # a second answer, which nobody asked for
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
        if self._length != 0:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._has_head and self._length is None:
            self._is_complete = True


_SWITCHING: Final = 101
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


def _is_readable(stream: ByteStream) -> bool:
    """Whether the app has sent or closed something while nobody listened."""
    poll = select.poll()
    poll.register(stream.extra(SocketAttribute.raw_socket).fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _broken(error: BaseException) -> str:
    detail = os_reason(error)
    return f"the connection broke: {detail}" if detail else "the connection broke"
