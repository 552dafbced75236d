"""What stands before an app: a Docker socket proxy with TLS guards the ports of apps too.

It wants its own password with each request, in the header in which an app may want another. That
travels under another name, and the proxy puts it back.

Source: AppAPI 32.0.0, requests to apps of https daemons; nextcloud/docker-socket-proxy.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from appapi_host.records import AppRecord

__all__ = ["PROXY_USER", "Front", "front_of"]

PROXY_USER: Final = "app_api_haproxy_user"
"""The name that AppAPI's socket proxy knows; only its password can be chosen."""


@dataclass(frozen=True, slots=True)
class Front:
    """What the proxy before an app wants.

    Args:
        authorization: value of its header.
        ca: path of the CAs that its certificate may be signed by; empty for those of this machine.
    """

    authorization: str = field(repr=False)
    ca: str = ""

    def headers(self, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """The headers for the proxy; what they say to the app comes out behind it."""
        moved = [
            ("X-Original-Authorization" if name.lower() == "authorization" else name, value)
            for name, value in headers
        ]
        return [*moved, ("Authorization", self.authorization)]

    def raw_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The same for names and values as bytes."""
        moved = [
            (b"x-original-authorization" if name.lower() == b"authorization" else name, value)
            for name, value in headers
        ]
        return [*moved, (b"authorization", self.authorization.encode())]


def front_of(app: AppRecord, url: str) -> Front | None:
    """The proxy before an app; None if there is none that wants a password.

    Args:
        app: with its daemon.
        url: where the app is.
    """
    daemon = app.daemon
    password = str(daemon.deploy_config.get("haproxy_password") or "")
    if not password or daemon.accepts_deploy_id != "docker-install":
        return None
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.hostname != urlsplit(f"//{daemon.host}").hostname:
        return None  # not asked through the proxy, for instance at an overridden host
    pair = base64.b64encode(f"{PROXY_USER}:{password}".encode()).decode()
    tls = daemon.deploy_config.get("tls") or {}
    return Front(f"Basic {pair}", str(tls.get("ca") or ""))
