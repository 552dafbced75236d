"""Answers of an engine that go on for minutes or days: events, logs, pulls and builds.

They are read in a thread, which somebody else must be able to wake, and the HTTP library below the
engine's library does not let us (its public way does nothing in one of its two common forks). So
these few requests are made with a connection of our own, whose socket we know.
"""

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

__all__ = ["CONNECT_SECONDS", "Request", "Stream", "StreamRefused", "frames", "messages"]

CONNECT_SECONDS: Final = 5.0
"""How long an engine may take to accept a connection."""

_CHUNK: Final = 64 * 1024

T = TypeVar("T")


class StreamRefused(Exception):  # noqa: N818  # never leaves the package
    """An engine answered with an error status.

    Args:
        status: of the answer.
        body: of the answer.
    """

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body
        super().__init__(status)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Args:
        method: HTTP verb.
        path: with the version in front.
        params: of the query.
        headers: besides those of the connection.
        body: piece by piece; read in the thread that makes the request.
        silence: seconds without a word after which the connection counts as cut; None waits.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Iterable[bytes] | None = None
    silence: float | None = None


class Stream:
    """One such request; it has a connection of its own.

    Args:
        url: `unix:///path`, `http://host:port` or `https://host:port`.
        context: for https.
        headers: for instance the password of a proxy.
        request: what to ask for; called in the thread that opens the stream, so it may block.
    """

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext | None,
        headers: Mapping[str, str],
        request: Callable[[], Request],
    ) -> None:
        self._url = url
        self._context = context
        self._headers = headers
        self._request = request
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None
        self._is_closed = False

    def open(self) -> Iterator[bytes]:
        """Make the request; returns the pieces of the answer as they come.

        Raises:
            StreamRefused: the engine answered with an error status.
            OSError: there is no connection, or it was closed meanwhile.
        """
        request = self._request()
        query = f"?{urlencode(request.params, quote_via=quote)}" if request.params else ""
        with self._reading:
            connection = _connection(self._url, self._context)
            connection.connect()
            with self._lock:
                self._connection, self._socket = connection, connection.sock
                is_closed = self._is_closed
            if is_closed:  # whoever wanted it has gone meanwhile
                connection.close()
                raise ConnectionAbortedError("closed before it was open")
            connection.sock.settimeout(request.silence)
            connection.request(
                request.method,
                request.path + query,
                body=request.body,
                headers={**self._headers, **request.headers},
                encode_chunked=request.body is not None,
            )
            response = self._response = connection.getresponse()
            if response.status >= 400:
                raise StreamRefused(response.status, response.read())
        return _pieces(response)

    def next(self, items: Iterator[T]) -> T | None:
        """The next of what is read from the stream, None after the last."""
        with self._reading:
            return next(items, None)

    def close(self) -> None:
        """End it: a thread that reads is woken, and the engine told; nothing happens if it ended.

        Waits for that thread to come back, so this blocks for a moment.
        """
        with self._lock:
            self._is_closed = True
            connection, self._connection = self._connection, None
            open_socket, self._socket = self._socket, None
        if connection is None:
            return
        if open_socket is not None:
            with suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
        with self._reading:
            if self._response is not None:
                self._response.close()
            connection.close()


def frames(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Both outputs of a container in order, without the 8-byte heads of their frames.

    Source: Docker Engine API, ContainerAttach, stream format.
    """
    buffer = b""
    missing = 0
    for piece in pieces:
        buffer += piece
        while buffer:
            if not missing:
                if len(buffer) < 8:
                    break
                missing = int.from_bytes(buffer[4:8], "big")
                buffer = buffer[8:]
            part, buffer = buffer[:missing], buffer[missing:]
            missing -= len(part)
            if part:
                yield part


def messages(pieces: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON objects in an answer, one in each line."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)
    if rest.strip():
        yield json.loads(rest)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP through a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_SECONDS)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.close()
            raise


def _connection(url: str, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return _UnixConnection(parts.path)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.netloc, timeout=CONNECT_SECONDS, context=context)
    return http.client.HTTPConnection(parts.netloc, timeout=CONNECT_SECONDS)


def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := response.read1(_CHUNK):
        yield piece
