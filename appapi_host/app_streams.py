"""User traffic to apps over HTTP/1.1: what the proxy needs, with as few copies and steps as can be.

Nothing is added to a request but its framing, no redirect is followed, nothing is decompressed. A
general client costs several times as much per request, which is felt where every request of a page
goes through here.

Source: RFC 9112.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Final

import anyio

from appapi_host.app_connections import BROKEN, connect, without_userinfo
from appapi_host.app_exchange import (
    CLOSED,
    Connection,
    Exchange,
    HeaderList,
    Request,
    StreamedAnswer,
    broken,
    request_head,
)
from exapp_sdk.errors import TransportError

__all__ = ["AppStreams", "HeaderList", "StreamedAnswer"]

IDLE_SECONDS: Final = 3.0
"""How long a connection waits for its next request; servers usually close after 5 s (uvicorn)."""

MAX_IDLE: Final = 100
"""Connections to one app that wait."""

_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class AppStreams:
    """Connections to apps, kept for a while after each request."""

    def __init__(self) -> None:
        self._idle: dict[str, list[Connection]] = {}
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
        head = request_head(method, target, headers, url, what, is_chunked=is_chunked)
        request = Request(url, method, head, what, is_chunked=is_chunked, ca=ca)
        return _Bodiless(self, request) if content is None else self._uploading(request, content)

    @asynccontextmanager
    async def _uploading(
        self, request: "Request", content: AsyncGenerator[bytes, None]
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

    async def begun(self, request: "Request", *, is_repeatable: bool) -> "Exchange":
        """Send the head of a request, on a connection that waits or on a new one.

        Args:
            request: which one.
            is_repeatable: it changes nothing, so it may be sent again.

        Raises:
            TransportError: no connection can be had.
        """
        while (connection := await self._waiting(request.url)) is not None:
            exchange = Exchange(connection, request)
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
                    raise TransportError(request.what, CLOSED, outcome_unknown=True) from None
                continue
            return exchange
        connection = Connection(
            request.url, await connect(request.url, request.what, ca=request.ca)
        )
        try:
            await connection.stream.send(request.head)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(connection.stream)
            if isinstance(error, BROKEN):
                raise TransportError(request.what, broken(error), outcome_unknown=True) from error
            raise
        return Exchange(connection, request)

    async def release(self, exchange: "Exchange") -> None:
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

    async def _waiting(self, url: str) -> "Connection | None":
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


class _Bodiless:
    """A request without a body, inside an `async with`.

    A class rather than a generator, because most requests are of this kind.
    """

    __slots__ = ("_exchange", "_request", "_streams")

    def __init__(self, streams: AppStreams, request: Request) -> None:
        self._streams = streams
        self._request = request
        self._exchange: Exchange | None = None

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


async def _upload(
    exchange: Exchange,
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
