"""How an engine is reached: the words of a daemon config, taken apart once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from appapi_host.records import Daemon
from appapi_host.settings import LOOPBACK_ADDRESSES

__all__ = ["Address"]


@dataclass(frozen=True, slots=True)
class Address:
    """How an engine is reached; equal addresses share a connection.

    Args:
        url: `unix:///…`, `http://…` or `https://…`.
        shown: the same for people.
        password: of a socket proxy, else empty.
        ca, cert, key: paths of PEM files, else empty.
    """

    url: str
    shown: str
    password: str = field(default="", repr=False)
    ca: str = ""
    cert: str = ""
    key: str = ""

    @classmethod
    def of(cls, daemon: Daemon, environ: Mapping[str, str]) -> "Address":
        """The address in a daemon config.

        Keys of `deploy_config`: `haproxy_password`, and of ours `tls`: `{ca, cert, key}`, or
        `{cert_path}` for a folder in the layout of `DOCKER_CERT_PATH`. That variable itself counts
        where an https daemon has neither.
        """
        if daemon.host.startswith("/"):
            return cls(f"unix://{daemon.host}", daemon.host)
        config = daemon.deploy_config
        password = str(config.get("haproxy_password") or "")
        url = f"{daemon.protocol}://{daemon.host}"
        tls = dict(config.get("tls") or {})
        if daemon.protocol != "https":
            return cls(url, url, password)
        folder = str(tls.get("cert_path") or "")
        if not tls and not password:
            folder = environ.get("DOCKER_CERT_PATH", "")
        if folder:
            layout = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
            tls = {name: str(Path(folder) / file) for name, file in layout.items()} | {
                name: path for name, path in tls.items() if path
            }
        return cls(
            url, url, password, *(str(tls.get(name) or "") for name in ("ca", "cert", "key"))
        )

    @property
    def is_local(self) -> bool:
        """Whether the engine runs on this machine."""
        name = urlsplit(self.url).hostname or ""
        return self.url.startswith("unix:") or name in LOOPBACK_ADDRESSES or name.startswith("127.")
