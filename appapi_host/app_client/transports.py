"""Ways to apps and hosts other than plain connections of our own."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from appapi_host.app_client.library import httpx
from appapi_host.records import AppRecord

__all__ = [
    "TransportFactory",
    "UserAnswer",
    "UserClient",
    "memory_transport",
    "single_transport",
    "user_client",
]

if TYPE_CHECKING:
    UserClient = httpx.AsyncClient
    UserAnswer = httpx.Response
    """What `user_client()` makes and what it answers with: others say it without naming the
    library."""
else:
    UserClient = UserAnswer = object

TransportFactory = Callable[[AppRecord], "httpx.AsyncBaseTransport | None"]
"""Gives the transport to one app, None for the network."""


def single_transport(context: ssl.SSLContext | None = None) -> httpx.AsyncHTTPTransport:
    """A transport that uses each connection once."""
    # Requests of our own get a connection each, as AppAPI's do: one that an app has just closed
    # cannot be told from one that is idle, and a POST must not be sent twice.
    return httpx.AsyncHTTPTransport(
        verify=context or True, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
    )


def memory_transport(app: Callable[..., Any]) -> httpx.AsyncBaseTransport:
    """A transport that calls an ASGI app directly: no sockets, whole answers only."""
    return httpx.ASGITransport(app, raise_app_exceptions=False)


def user_client(
    base_url: str,
    *,
    auth: tuple[str, str] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """A client for a person at the host, as tests use it."""
    return httpx.AsyncClient(base_url=base_url, auth=auth, transport=transport, trust_env=False)
