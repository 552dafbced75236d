"""Documents that are no app's."""

from __future__ import annotations

from typing import Final

from appapi_host.app_client.failures import translated
from appapi_host.app_client.library import httpx, ready
from appapi_host.app_client.redirects import MAX_REDIRECTS
from appapi_host.app_connections import without_userinfo
from exapp_sdk.errors import TransportError

__all__ = ["USER_AGENT", "fetch"]

USER_AGENT: Final = "Nextcloud Server Crawler"
"""What Nextcloud's HTTP client calls itself; apps may log it."""


async def fetch(url: str, *, limit: int) -> bytes:
    """Get a document that is no app's, for instance an info.xml from the web.

    Redirects are followed, but to nothing other than http and https. The caller owns the deadline.

    Args:
        url: http or https.
        limit: bytes after which reading ends.

    Raises:
        TransportError: it cannot be had, or the answer is not 200.
    """
    data = bytearray()
    await ready()
    with translated("GET", url):
        async with (
            httpx.AsyncClient(follow_redirects=True, max_redirects=MAX_REDIRECTS) as client,
            client.stream("GET", url, headers={"User-Agent": USER_AGENT}) as answer,
        ):
            if answer.status_code != 200:
                raise TransportError(
                    f"GET {without_userinfo(url)}",
                    f"the answer is {answer.status_code} {answer.reason_phrase}",
                )
            async for piece in answer.aiter_bytes():
                data += piece
                if len(data) >= limit:
                    break
    return bytes(data[:limit])
