"""One connection to the file of the registry, whose errors say what to do."""

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appapi_host.errors import HostError
from appapi_host.registry.schema import check_ownership, migrate

__all__ = [
    "POLL_INTERVAL",
    "connect",
    "connect_reader",
    "data_version",
    "is_busy",
    "translated",
]

POLL_INTERVAL: Final = 0.02
"""Seconds between two looks for changes made by other processes, which cannot call us."""


def connect(path: Path | None, lock_timeout: float) -> sqlite3.Connection:
    """Open the file, create it or bring it to the present schema.

    Args:
        path: the file; None keeps everything in memory.
        lock_timeout: seconds to wait for other processes.

    Raises:
        HostError: as `Registry.open()` says.
    """
    if path is None:
        connection = _connected(":memory:", lock_timeout)
        migrate(connection, path)
        return connection
    try:
        _create_private(path)
    except OSError as error:
        raise HostError(
            f"the registry {path} cannot be used: {error.strerror or error}",
            remedy="choose another data directory, or make this one yours",
        ) from error
    deadline = time.monotonic() + lock_timeout
    while True:
        connection = _connected(str(path), lock_timeout)
        try:
            with translated(path):
                # Checked before anything is written: it might be somebody else's database.
                check_ownership(connection, path)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                migrate(connection, path)
        except BaseException as error:
            connection.close()
            # Switching to write-ahead mode does not wait for other processes that open the file.
            busy = _primary_code(error.__cause__) == sqlite3.SQLITE_BUSY
            if busy and time.monotonic() < deadline:
                time.sleep(POLL_INTERVAL)
                continue
            raise
        return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A second connection to a file that is open already, for short queries in the event loop.

    In write-ahead mode readers wait for nobody. In the rare moments when they would have to, for
    instance after a crash, this one fails with `SQLITE_BUSY` at once.
    """
    connection = _connected(str(path), 0)
    connection.execute("PRAGMA query_only = TRUE")
    return connection


def is_busy(error: BaseException) -> bool:
    """Whether SQLite would have had to wait."""
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _connected(target: str, lock_timeout: float) -> sqlite3.Connection:
    # One connection moves between worker threads; `_one_at_a_time` keeps them apart.
    connection = sqlite3.connect(
        target, timeout=lock_timeout, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    return connection


def _create_private(path: Path) -> None:
    """Create folder and file readable by nobody else; SQLite gives its side files the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # No link is followed: in a shared folder somebody could point it at another file of ours.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        if hasattr(os, "fchmod") and stat.S_IMODE(os.fstat(descriptor).st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


@contextmanager
def translated(path: Path | None) -> Iterator[None]:
    """Say what is wrong with the file, and what to do, instead of what SQLite says.

    Raises:
        HostError: the file cannot be used.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise HostError(
            f"the registry {path or 'in memory'} cannot be used: {error}",
            remedy=_REMEDIES.get(_primary_code(error), "see whether disk and folder are in order"),
        ) from error


_REMEDIES: Final = {
    sqlite3.SQLITE_BUSY: "another process holds it for very long; end it and try again",
    sqlite3.SQLITE_LOCKED: "another process holds it for very long; end it and try again",
    sqlite3.SQLITE_CORRUPT: "move the file away; a new one is made, apps must be registered again",
    sqlite3.SQLITE_NOTADB: "move the file away; a new one is made, apps must be registered again",
    sqlite3.SQLITE_FULL: "free some space on the disk",
    sqlite3.SQLITE_READONLY: "make file and folder writable for you",
    sqlite3.SQLITE_PERM: "make file and folder writable for you",
    sqlite3.SQLITE_CANTOPEN: "make file and folder writable for you",
}


def _primary_code(error: BaseException | None) -> int:
    # The higher bits of a code say more than a person needs.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def data_version(connection: sqlite3.Connection) -> int:
    """Changes whenever another connection has committed."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])
