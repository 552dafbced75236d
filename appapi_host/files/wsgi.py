"""A synchronous application of the WSGI kind behind an asynchronous server.

It runs in a worker thread from the first to the last byte, and both directions go through the event
loop one piece at a time: a slow client slows down its own thread, and nothing piles up in memory.

Ready-made adapters know asyncio only, or take in the whole body first.
"""

from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio import CapacityLimiter
from starlette.types import Message, Receive, Send

__all__ = ["Body", "Gone", "in_thread", "send_answer"]

T = TypeVar("T")


class Gone(Exception):  # noqa: N818  # nobody is left to be told of an error
    """The client went away in the middle of its request."""


async def in_thread(work: Callable[[], object], limiter: CapacityLimiter) -> None:
    """Answer a request in a worker thread, and never leave that behind.

    A server that ends cancels the task of a request, once and not by a scope. Then the thread would
    wait for a client for ever. In a group, what it waits for is cancelled and its end is awaited.

    Raises:
        Exception: what the work raises.
    """
    failure: Exception | None = None

    async def run() -> None:
        nonlocal failure
        try:
            await anyio.to_thread.run_sync(work, limiter=limiter)
        except Exception as error:  # noqa: BLE001  # raised again, outside of the group
            failure = error

    async with anyio.create_task_group() as group:
        group.start_soon(run)
    if failure is not None:
        raise failure


def _in_loop(ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Have the event loop do something, from a worker thread.

    Raises:
        Gone: the request is cancelled.
    """
    try:
        return anyio.from_thread.run(ask)
    except CancelledError:
        raise Gone from None


class Body:
    """The body of a request, as a file to read once, from a worker thread.

    Args:
        receive: of the ASGI server.
        start: what was read already.
        is_complete: whether that is all.
    """

    def __init__(self, receive: Receive, start: bytes = b"", *, is_complete: bool = False) -> None:
        self._receive = receive
        self._buffer = start
        self._is_complete = is_complete

    async def _received(self) -> Message:
        return await self._receive()

    def read(self, size: int = -1) -> bytes:
        """Some bytes, at most `size`; none at the end.

        Raises:
            Gone: the client went away.
        """
        while not self._buffer and not self._is_complete:
            message = _in_loop(self._received)
            if message["type"] == "http.disconnect":
                raise Gone
            self._buffer = message.get("body", b"")
            self._is_complete = not message.get("more_body", False)
        if size < 0 or size >= len(self._buffer):
            data, self._buffer = self._buffer, b""
        else:
            data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data


def send_answer(
    send: Send,
    status: int,
    headers: Iterable[tuple[str, str]],
    pieces: Iterable[bytes],
    *,
    has_begun: Callable[[], object] = lambda: None,
) -> None:
    """Send an answer from a worker thread.

    Args:
        send: of the ASGI server.
        status: HTTP status.
        headers: names and values.
        pieces: of the body; closed in any case, so that files do not stay open.
        has_begun: called when the head is on its way.
    """

    async def sent(message: Message) -> None:
        await send(message)

    def send_now(message: Message) -> None:
        _in_loop(partial(sent, message))

    iterator = iter(pieces)
    try:
        encoded = [(k.lower().encode("ascii"), v.encode("latin-1")) for k, v in headers]
        send_now({"type": "http.response.start", "status": status, "headers": encoded})
        has_begun()
        for piece in iterator:
            if piece:
                send_now({"type": "http.response.body", "body": piece, "more_body": True})
        send_now({"type": "http.response.body", "body": b""})
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
