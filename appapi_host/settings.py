"""What a person can set about the host itself."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["LOOPBACK_ADDRESSES", "HostSettings", "Timeouts"]

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
    """

    heartbeat: float = 90.0
    heartbeat_request: float = 30.0
    heartbeat_wrong: float = 3.0
    init_request: float = 30.0
    init: float = 2400.0
    enabled_request: float = 60.0
    stop: float = 10.0


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How one host behaves.

    Args:
        data_dir: folder of the registry and of the apps' storage; None keeps everything in memory.
        bind: address to listen on.
        port: port to listen on; 0 takes a free one.
        aa_version: the AppAPI version that the host announces.
        timeouts: limits of the handshake.
    """

    data_dir: Path | None = None
    bind: str = "127.0.0.1"
    port: int = 8080
    aa_version: str = "32.0.0"
    timeouts: Timeouts = field(default_factory=Timeouts)

    @property
    def is_loopback_only(self) -> bool:
        """Whether nobody but this machine can reach the host."""
        return self.bind in LOOPBACK_ADDRESSES
