"""Connections to apps: the one place that opens sockets to them for the traffic of users."""

import os
import socket
import ssl
from contextlib import suppress
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream

from exapp_sdk.errors import TransportError

__all__ = ["BROKEN", "connect", "netloc", "os_reason", "tls_context", "without_userinfo"]

BROKEN: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
"""What using a connection raises when the other side is gone."""

_PORTS: Final = {"http": 80, "https": 443}


async def connect(url: str, what: str, *, ca: str = "") -> ByteStream:
    """Open a connection.

    Args:
        url: where the app is; http or https.
        what: method and URL of the request, for the error.
        ca: path of the CAs that are trusted; those of this machine if empty.

    Raises:
        TransportError: it cannot be had.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        raise TransportError(what, "the address is malformed") from None
    if port is None:
        raise TransportError(what, "the address is neither http nor https")
    try:
        if parts.scheme == "https":
            return await anyio.connect_tcp(
                host, port, ssl_context=tls_context(ca), tls_standard_compatible=False
            )
        stream = await anyio.connect_tcp(host, port)
    except (OSError, UnicodeError) as error:
        detail = os_reason(error)
        raise TransportError(
            what, f"no connection: {detail}" if detail else "no connection"
        ) from error
    raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def netloc(url: str) -> str:
    """Host and port of a URL as they stand in `Host`."""
    return urlsplit(url).netloc.rpartition("@")[2]


def os_reason(error: BaseException) -> str:
    """The operating system's words, from wherever in the chain they are."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, socket.gaierror):
            return (seen.strerror or "").lower()
        if isinstance(seen, OSError) and seen.errno:
            # Not the error's own text: event loops put addresses into it.
            return os.strerror(seen.errno).lower()
        if isinstance(seen, BaseExceptionGroup) and seen.exceptions:
            seen = seen.exceptions[0]
            continue
        seen = seen.__cause__ or seen.__context__
    return ""


def without_userinfo(url: str) -> str:
    """The URL without user and password, which are in no message."""
    with suppress(ValueError):
        parts = urlsplit(url)
        if "@" in parts.netloc:
            return parts._replace(netloc=netloc(url)).geturl()
    return url


@lru_cache(maxsize=16)
def tls_context(ca: str = "") -> ssl.SSLContext:
    """What is trusted: the CAs in a file, or those of this machine.

    Raises:
        OSError: there is no such file, or nothing of use in it.
    """
    return ssl.create_default_context(cafile=ca or None)
