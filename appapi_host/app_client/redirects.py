"""Redirects, followed as AppAPI's HTTP library does it."""

from __future__ import annotations

from typing import Final

from appapi_host.app_client.library import httpx

__all__ = ["MAX_REDIRECTS", "REDIRECTS", "redirected"]

MAX_REDIRECTS: Final = 5
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


def redirected(request: httpx.Request, status: int, location: str) -> httpx.Request:
    """The next request; its body goes along where the status says so."""
    target = request.url.join(location)
    headers = _redirected_headers(request, target)
    if status > 303:
        return httpx.Request(request.method, target, headers=headers, content=request.content)
    headers = [(name, value) for name, value in headers if name.lower() != "content-type"]
    return httpx.Request("GET", target, headers=headers)  # also for PUT


def _redirected_headers(request: httpx.Request, target: httpx.URL) -> list[tuple[str, str]]:
    """The headers to repeat; the secret only goes where it was meant to go."""
    same_origin = (target.scheme, target.host, target.port) == (
        request.url.scheme,
        request.url.host,
        request.url.port,
    )
    dropped = {"host", "content-length"}
    if not same_origin:
        dropped |= {
            "authorization-app-api",
            "authorization",
            "x-original-authorization",
            "cookie",
        }
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in request.headers.raw
        if name.decode("latin-1").lower() not in dropped
    ]
