"""What a person can set about the host itself."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from exapp_sdk.errors import ConfigError

__all__ = ["LOOPBACK_ADDRESSES", "NEXTCLOUD_VERSIONS", "HostSettings", "Timeouts"]

NEXTCLOUD_VERSIONS: Final = range(32, 36)
"""Major versions that the host can stand for."""

LOOPBACK_ADDRESSES: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of the handshake, in seconds.

    Args:
        heartbeat: until the first good answer to `GET /heartbeat`. 90 as the documentation says;
            AppAPI itself tries 600 times, one second apart.
        heartbeat_request: one such request.
        heartbeat_wrong: how long something else than an ExApp may answer it (a web page, 404)
            before that counts as a failure; AppAPI would go on to the end.
        init_request: the answer to `POST /init`; the work itself goes on in the background.
        init: from `POST /init` to the report of 100.
        enabled_request: the answer to `PUT /enabled`.
        stop: from asking a process to end until it is killed.
        busy: how long an operation waits for another process to end its own on the same app.
        stuck: an operation without any progress for so long is worth a warning.
        away: how long an engine may be away, for instance to be restarted, before an operation
            that it was in the middle of is given up.
        check: how long an engine may take to say that it is there, and how its networks are.
    """

    heartbeat: float = 90.0
    heartbeat_request: float = 30.0
    heartbeat_wrong: float = 3.0
    init_request: float = 30.0
    init: float = 2400.0
    enabled_request: float = 60.0
    stop: float = 10.0
    busy: float = 60.0
    stuck: float = 900.0
    away: float = 30.0
    check: float = 10.0


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How one host behaves.

    Args:
        data_dir: folder of the registry and of the apps' storage; None keeps everything in memory.
        bind: address to listen on.
        port: port to listen on; 0 takes a free one.
        public_url: where people reach the host; empty for its own address.
        nextcloud_version: the major version of Nextcloud that the host stands for: 32 to 35.
        aa_version: the AppAPI version that the host announces; empty for the one that came with
            that Nextcloud.
        throttling: refuse addresses that fail to sign in too often; None does so unless nobody but
            this machine can reach the host.
        timeouts: limits of the handshake.
    """

    data_dir: Path | None = None
    bind: str = "127.0.0.1"
    port: int = 8080
    public_url: str = ""
    nextcloud_version: int = 32
    aa_version: str = ""
    throttling: bool | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)

    def __post_init__(self) -> None:
        if self.nextcloud_version not in NEXTCLOUD_VERSIONS:
            known = f"{NEXTCLOUD_VERSIONS.start} to {NEXTCLOUD_VERSIONS.stop - 1}"
            raise ConfigError([f"nextcloud_version is {self.nextcloud_version}, not {known}"])
        if not self.aa_version:
            object.__setattr__(self, "aa_version", f"{self.nextcloud_version}.0.0")

    @property
    def url(self) -> str:
        """Where people reach the host, without a trailing slash."""
        return self.public_url.rstrip("/") or f"http://127.0.0.1:{self.port}"

    @property
    def is_loopback_only(self) -> bool:
        """Whether nobody but this machine can reach the host."""
        return self.bind in LOOPBACK_ADDRESSES

    @property
    def is_throttling(self) -> bool:
        """Whether addresses that fail to sign in too often are refused."""
        return not self.is_loopback_only if self.throttling is None else self.throttling
