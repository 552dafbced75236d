"""What apps answer, and how it is read."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from appapi_host.app_client.failures import translated
from appapi_host.app_client.library import httpx
from appapi_host.app_streams import StreamedAnswer

__all__ = ["MAX_ANSWER_BYTES", "Answer", "decoded_pieces", "header_list", "read", "streamed"]

MAX_ANSWER_BYTES: Final = 1024 * 1024
"""Longest lifecycle answer that is read; the contract's own are below 100 bytes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an app answered.

    Args:
        url: the URL that was asked for, for messages.
        status: HTTP status.
        reason: reason phrase of that status.
        body: up to `MAX_ANSWER_BYTES` of the body.
        headers: names and values as sent.
    """

    url: str
    status: int
    reason: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    def json(self) -> Any:
        """The decoded JSON body, None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def beginning(self) -> str:
        """How the body begins, for a message."""
        text = " ".join(self.body[:200].decode("utf-8", "replace").split())
        if not text:
            return "an empty body"
        return repr(text[:60] + ("…" if len(text) > 60 else ""))


async def read(response: httpx.Response) -> bytes:
    """The decoded body, cut at `MAX_ANSWER_BYTES`."""
    body = bytearray()
    # Not aread(): an app that never stops sending would fill the memory.
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            break
    return bytes(body[:MAX_ANSWER_BYTES])


async def decoded_pieces(
    response: httpx.Response, method: str, url: str
) -> AsyncGenerator[bytes, None]:
    """The decompressed body as it comes."""
    with translated(method, url):
        async for piece in response.aiter_bytes():
            yield piece


def header_list(response: httpx.Response) -> list[tuple[str, str]]:
    """Names and values as sent."""
    return [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw
    ]


@asynccontextmanager
async def streamed(
    transport: httpx.AsyncBaseTransport,
    method: str,
    url: str,
    headers: Sequence[tuple[bytes, bytes]],
    content: AsyncGenerator[bytes, None] | None,
) -> AsyncIterator[StreamedAnswer]:
    """Send a request by a transport of this library, and hand out the answer as it is."""
    with translated(method, url):
        request = httpx.Request(method, url, headers=headers, content=content)
        response = await transport.handle_async_request(request)
    try:
        body = _pieces(response, method, url)
        yield StreamedAnswer(response.status_code, list(response.headers.raw), body)
    finally:
        await response.aclose()


async def _pieces(response: httpx.Response, method: str, url: str) -> AsyncGenerator[bytes, None]:
    with translated(method, url):
        async for piece in response.stream:  # type: ignore[union-attr]  # async transport: async stream
            yield piece
