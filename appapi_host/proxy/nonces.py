"""Pages of apps whose scripts may run: those below a path that ends in `.html`.

Everything else that comes through AppAPI's own proxy is data, where browsers run no script. In such
a page each script gets the nonce that the policy of its answer names; so it is read as a whole.

Source: AppAPI's proxy, measured on 32.0.0, which leaves the length as the app said it, and so cuts
the page off; here it is corrected.
"""

import re
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from appapi_host.app_streams import StreamedAnswer

__all__ = ["MAX_PAGE_BYTES", "with_nonces"]

MAX_PAGE_BYTES: Final = 8 * 1024 * 1024
"""Longer ones pass as they are."""

_SCRIPT: Final = re.compile(rb"<script(?=[\s>/])", re.IGNORECASE)
_POLICY: Final = (
    "default-src 'none';base-uri 'none';manifest-src 'self';script-src 'nonce-{nonce}';"
    "style-src 'self' 'unsafe-inline';img-src 'self' data: blob:;font-src 'self' data:;"
    "connect-src 'self';media-src 'self';frame-src 'self';frame-ancestors 'self';"
    "form-action 'self'"
)


async def with_nonces(answer: StreamedAnswer) -> StreamedAnswer:
    """The answer with a nonce at each script, and a policy that lets them run.

    A policy of the app's own stays, and its scripts then get no nonce; what is compressed or longer
    than `MAX_PAGE_BYTES` passes as it is.

    Raises:
        TransportError: the app broke off.
    """
    names = {name.lower() for name, _ in answer.headers}
    if names & {b"content-security-policy", b"content-encoding"}:
        return answer
    page = bytearray()
    pieces = answer.body
    async for piece in pieces:
        page += piece
        if len(page) > MAX_PAGE_BYTES:
            return replace(answer, body=_resumed(bytes(page), pieces), whole=None)
    nonce = secrets.token_urlsafe(16)
    text = _SCRIPT.sub(b'<script nonce="' + nonce.encode() + b'"', bytes(page))
    headers = [
        *(pair for pair in answer.headers if pair[0].lower() != b"content-length"),
        (b"content-length", b"%d" % len(text)),
        (b"content-security-policy", _POLICY.format(nonce=nonce).encode()),
    ]
    return replace(answer, headers=headers, whole=text)


async def _resumed(
    begin: bytes, pieces: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    yield begin
    async with aclosing(pieces):
        async for piece in pieces:
            yield piece
