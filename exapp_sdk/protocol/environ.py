"""The environment variables through which a host tells an ExApp who it is.

Source: AppAPI documentation, Deployment, Deploy env variables.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from exapp_sdk.errors import ConfigError
from exapp_sdk.protocol.auth import Credentials, Secret

__all__ = ["DEFAULT_AA_VERSION", "EXAMPLE", "Settings"]

DEFAULT_AA_VERSION: Final = "32.0.0"
"""Announced when the environment names no AppAPI version; nobody refuses a request over it."""

EXAMPLE: Final = """\
APP_ID=my_app
APP_SECRET=a-long-random-text
APP_VERSION=1.0.0
APP_HOST=127.0.0.1
APP_PORT=9030
NEXTCLOUD_URL=http://127.0.0.1:8080"""

_COMPUTE_DEVICES: Final = ("cpu", "cuda", "rocm")


@dataclass(frozen=True, slots=True)
class Settings:
    """What one running ExApp knows about itself and its host.

    Args:
        app_id: `APP_ID`.
        app_secret: `APP_SECRET`, never shown.
        app_version: `APP_VERSION`.
        nextcloud_url: `NEXTCLOUD_URL` without a trailing slash or `/index.php`.
        app_host: `APP_HOST`, the address to listen on.
        app_port: `APP_PORT`, 0 when the app does not listen by itself.
        app_display_name: `APP_DISPLAY_NAME`, else the app id.
        aa_version: `AA_VERSION`, version of the host.
        persistent_storage: `APP_PERSISTENT_STORAGE`, a folder that survives updates, if there is
            one.
        compute_device: `COMPUTE_DEVICE`: `cpu`, `cuda` or `rocm`.
        harp_socket: unix socket to listen on instead, when `HP_SHARED_KEY` is set.
    """

    app_id: str
    app_secret: Secret = field(repr=False)
    app_version: str
    nextcloud_url: str
    app_host: str = "127.0.0.1"
    app_port: int = 0
    app_display_name: str = ""
    aa_version: str = DEFAULT_AA_VERSION
    persistent_storage: Path | None = None
    compute_device: str = "cpu"
    harp_socket: Path | None = None

    @property
    def credentials(self) -> Credentials:
        """How this app signs requests made in nobody's name."""
        return Credentials(self.app_id, self.app_version, self.app_secret)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read and check all variables.

        Args:
            environ: for instance `os.environ`.

        Raises:
            ConfigError: at least one is missing or malformed; all of them are named, with an
                example. The value of `APP_SECRET` is in no message.
        """
        problems: list[str] = []

        def required(name: str) -> str:
            value = environ.get(name, "").strip()
            if not value:
                problems.append(f"{name} is {'empty' if name in environ else 'not set'}")
            return value

        app_id = required("APP_ID")
        if app_id and not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", app_id):
            problems.append(f"APP_ID is {app_id!r}: use at most 32 letters, digits, '_' and '-'")
        secret = environ.get("APP_SECRET", "")
        if not secret:
            problems.append(
                "APP_SECRET is empty" if "APP_SECRET" in environ else "APP_SECRET is not set"
            )
        version = required("APP_VERSION")
        url = required("NEXTCLOUD_URL")
        if url and not _is_http_url(url):
            problems.append(
                f"NEXTCLOUD_URL is {url!r}: it must begin with http:// or https:// and name a host"
            )
        port_text = environ.get("APP_PORT", "").strip()
        port = int(port_text) if re.fullmatch(r"[0-9]{1,5}", port_text) else 0
        if port_text and not 0 < port < 65536:
            problems.append(f"APP_PORT is {port_text!r}: it must be a whole number, 1 to 65535")
        device = environ.get("COMPUTE_DEVICE", "").strip().lower() or "cpu"
        if device not in _COMPUTE_DEVICES:
            problems.append(f"COMPUTE_DEVICE is {device!r}: it must be cpu, cuda or rocm")
        if problems:
            raise ConfigError(problems, example=EXAMPLE)

        storage = environ.get("APP_PERSISTENT_STORAGE", "").strip()
        harp = bool(environ.get("HP_SHARED_KEY", "").strip())
        return cls(
            app_id=app_id,
            app_secret=Secret(secret),
            app_version=version,
            nextcloud_url=url.rstrip("/").removesuffix("/index.php"),
            app_host=environ.get("APP_HOST", "").strip() or "127.0.0.1",
            app_port=port,
            app_display_name=environ.get("APP_DISPLAY_NAME", "").strip() or app_id,
            aa_version=environ.get("AA_VERSION", "").strip() or DEFAULT_AA_VERSION,
            persistent_storage=Path(storage) if storage else None,
            compute_device=device,
            harp_socket=Path(environ.get("HP_EXAPP_SOCK") or "/tmp/exapp.sock") if harp else None,
        )

    def to_environ(self) -> dict[str, str]:
        """The variables that a host hands to the app, in the order of the documentation."""
        return {
            "AA_VERSION": self.aa_version,
            "APP_SECRET": self.app_secret.reveal(),
            "APP_ID": self.app_id,
            "APP_DISPLAY_NAME": self.app_display_name or self.app_id,
            "APP_VERSION": self.app_version,
            "APP_HOST": self.app_host,
            "APP_PORT": str(self.app_port),
            "APP_PERSISTENT_STORAGE": str(self.persistent_storage or ""),
            "NEXTCLOUD_URL": self.nextcloud_url,
            "COMPUTE_DEVICE": self.compute_device.upper(),
        }


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
