"""One request of a user and its answer, on a connection to an app.

A parser in C reads heads and chunks; a body of known length is not even parsed.

Source: RFC 9112.
"""

import select
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

import anyio
import httptools
from anyio.abc import ByteStream, SocketAttribute

from appapi_host.app_connections import BROKEN, netloc, os_reason
from exapp_sdk.errors import TransportError

__all__ = [
    "CLOSED",
    "Connection",
    "Exchange",
    "HeaderList",
    "Request",
    "StreamedAnswer",
    "broken",
    "request_head",
]

HeaderList = Sequence[tuple[bytes, bytes]]

MAX_HEAD_BYTES: Final = 256 * 1024
"""Longest head of an answer."""

READ_BYTES: Final = 1024 * 1024
"""More than any event loop reads at once, so that nothing is split and copied again."""

_BODILESS: Final = frozenset({204, 304})
_SWITCHING: Final = 101
_HIGHEST_STATUS: Final = 599
CLOSED: Final = "the app closed the connection without a proper answer"


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


@dataclass(frozen=True, slots=True)
class Request:
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


class Connection:
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


class Exchange:
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

    def __init__(self, connection: Connection, request: Request) -> None:
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
            raise TransportError(self._what, CLOSED, outcome_unknown=True)
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
                    raise TransportError(self._what, CLOSED, outcome_unknown=True)
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
                    raise TransportError(self._what, CLOSED, outcome_unknown=True)
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
            raise TransportError(self._what, broken(error), outcome_unknown=True) from error

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
        """A head begins."""
        if self._has_head:
            self._extra = True  # a second answer, which nobody asked for
        else:
            self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header is there, or one of what follows the last chunk."""
        if not self._has_head:  # what follows the last chunk is not passed on
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """A head is there."""
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
        """A piece of the body is there."""
        if self._length != 0 and not self._has_ended:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """The answer is over."""
        if self._has_head:
            self._has_ended = True
            if self._length is None:
                self._is_complete = True


def request_head(
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


def broken(error: BaseException) -> str:
    """That a connection broke, in words."""
    detail = os_reason(error)
    return f"the connection broke: {detail}" if detail else "the connection broke"
