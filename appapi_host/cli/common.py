"""What `run`, `serve` and `occ` share: where the state is, who holds it, which port."""

import errno
import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appapi_host.errors import HostError
from appapi_host.settings import Timeouts
from exapp_sdk.errors import ConfigError

__all__ = [
    "BUSY_VARIABLE",
    "DATA_DIR_VARIABLE",
    "DEFAULT_PORT",
    "ENGINE_VARIABLE",
    "HEARTBEAT_VARIABLE",
    "INIT_VARIABLE",
    "NEXTCLOUD_VARIABLE",
    "SERVE_LOCK",
    "base_url",
    "default_data_dir",
    "held",
    "holder",
    "listen",
    "parse_environment",
    "timeouts",
    "timeouts_from",
]

DATA_DIR_VARIABLE: Final = "APPAPI_HOST_DATA_DIR"
BUSY_VARIABLE: Final = "APPAPI_HOST_BUSY_TIMEOUT"
ENGINE_VARIABLE: Final = "APPAPI_HOST_ENGINE_TIMEOUT"
HEARTBEAT_VARIABLE: Final = "APPAPI_HOST_HEARTBEAT_TIMEOUT"
INIT_VARIABLE: Final = "APPAPI_HOST_INIT_TIMEOUT"
NEXTCLOUD_VARIABLE: Final = "APPAPI_HOST_NEXTCLOUD_VERSION"
DEFAULT_PORT: Final = 8080
SERVE_LOCK: Final = "serve.lock"
"""File in the data directory that a running `serve` holds."""

_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Where the state is when nobody says otherwise.

    Args:
        environ: `APPAPI_HOST_DATA_DIR` wins over the place that the platform prescribes.
    """
    named = environ.get(DATA_DIR_VARIABLE, "").strip()
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("appapi_host", appauthor=False))


def timeouts(
    *,
    heartbeat: float | None,
    init: float | None,
    busy: float | None = None,
    away: float | None = None,
) -> Timeouts:
    """The limits of the handshake; None keeps the default."""
    default = Timeouts()
    return Timeouts(
        heartbeat=default.heartbeat if heartbeat is None else heartbeat,
        init=default.init if init is None else init,
        busy=default.busy if busy is None else busy,
        away=default.away if away is None else away,
    )


def timeouts_from(environ: Mapping[str, str]) -> Timeouts:
    """The limits of the handshake for a command that has no options for them.

    Raises:
        ConfigError: one of the variables is no number of seconds.
    """
    seconds: dict[str, float | None] = {}
    problems = []
    for name in (HEARTBEAT_VARIABLE, INIT_VARIABLE, BUSY_VARIABLE, ENGINE_VARIABLE):
        text = environ.get(name, "").strip()
        seconds[name] = None
        if text:
            try:
                seconds[name] = float(text)
            except ValueError:
                problems.append(f"{name} is {text!r}: it must be a number of seconds")
    if problems:
        raise ConfigError(problems)
    return timeouts(
        heartbeat=seconds[HEARTBEAT_VARIABLE],
        init=seconds[INIT_VARIABLE],
        busy=seconds[BUSY_VARIABLE],
        away=seconds[ENGINE_VARIABLE],
    )


def base_url(bind: str, port: int) -> str:
    """The URL at which this machine reaches a host that listens there."""
    host = "127.0.0.1" if bind in ("", "0.0.0.0", "::", "localhost") else bind
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def holder(path: Path) -> int | None:
    """The process that holds a lock; None if nobody does, 0 if it has not said who it is."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        text = os.pread(descriptor, 20, 0).strip()
        return int(text) if text.isdigit() else 0
    else:
        return None
    finally:
        os.close(descriptor)


@contextmanager
def held(path: Path, *, what: str, remedy: str) -> Iterator[None]:
    """Hold a lock inside the block. The kernel takes it back whatever ends this process.

    Args:
        path: the lock file; it stays, because removing it would race with the next holder.
        what: what nobody else may do meanwhile, for instance `app notes is being run`.
        remedy: what somebody who is refused can do.

    Raises:
        HostError: another process holds it, or the folder cannot be used.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(
            f"the folder {path.parent} cannot be used: {error.strerror}",
            remedy="name another one with --data-dir, or make this one yours",
        ) from error
    try:
        if not _taken(descriptor):
            pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise HostError(f"{what} already, by process {pid or '?'}", remedy=remedy)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    """Take the lock; a second try, because `holder()` takes it for an instant to look."""
    for _ in range(3):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.01)
        else:
            return True
    return False


def listen(bind: str, port: int | None) -> tuple[socket.socket, bool]:
    """A listening socket, taken now so that nobody else gets the port in between.

    Args:
        bind: address.
        port: None takes `DEFAULT_PORT`, or a free one if that is in use.

    Returns:
        The socket, and whether another port than the wanted one was taken.

    Raises:
        HostError: the port is in use, must not be used by us, or the address is not ours.
    """
    from appapi_host.asgi import bind as bound

    wanted = DEFAULT_PORT if port is None else port
    try:
        return bound(bind, wanted), False
    except HostError as error:
        reason = error.__cause__
        if not isinstance(reason, OSError):
            raise
        if port is None and reason.errno == errno.EADDRINUSE:
            return bound(bind, 0), True
        raise _refused(bind, wanted, reason) from reason


def _refused(bind: str, port: int, error: OSError) -> HostError:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return HostError(
            f"cannot listen on {bind!r}: this is no address of this machine",
            remedy="--bind 127.0.0.1 listens for this machine only, --bind 0.0.0.0 for all",
        )
    if error.errno == errno.EADDRINUSE:
        return HostError(
            f"port {port} on {bind} is in use by another program",
            remedy="leave --port out to get a free one, or give another number",
        )
    if error.errno == errno.EACCES:
        return HostError(
            f"this user must not listen on port {port}",
            remedy="give a port of 1024 or more",
        )
    return HostError(f"cannot listen on {bind}, port {port}: {error.strerror}")


def parse_environment(pairs: tuple[str, ...]) -> dict[str, str]:
    """Read `NAME=VALUE` words.

    Raises:
        ValueError: one of them has no `=`, or its name cannot be one.
    """
    environment: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not _VARIABLE_NAME.fullmatch(name):
            raise ValueError(f"{pair!r} is not NAME=VALUE")
        environment[name] = value
    return environment
