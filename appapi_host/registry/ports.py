"""Ports for apps that ask for none, such that the hosts of one machine do not give the same twice.

An app listens some time after its port was chosen, and not at all while it is disabled. So each
host writes down in a book what it has given, and others pass over that. The book is a courtesy: a
host that cannot use it goes by what can be bound, and a port that another process has by then is
noticed at the heartbeat.
"""

import os
import socket
import sqlite3
import stat
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Final

from appapi_host.errors import HostError

__all__ = ["PORTS", "PortBook"]

PORTS: Final = range(23000, 24000)
"""Ports that the host gives to apps that ask for none; the same as AppAPI's."""

_FRESH_SECONDS: Final = 60.0
"""A port is written down before the app is; the registry of another host says nothing until then.
That takes milliseconds."""

_LOCK_SECONDS: Final = 2.0
"""How long to wait for another host that is writing."""

_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS ports (
        port INTEGER PRIMARY KEY, registry TEXT NOT NULL, app_id TEXT NOT NULL, given REAL NOT NULL
    )
"""


class PortBook:
    """The ports that one host has given, beside those of the other hosts of this user.

    Args:
        registry: file of the host; None for one in memory, which neither reads nor writes the book.
        folder: where the book is; the folder for temporary files if not given.
    """

    def __init__(self, registry: Path | None, *, folder: Path | None = None) -> None:
        self._path = registry
        user = os.getuid() if hasattr(os, "getuid") else ""
        self._folder = folder or Path(tempfile.gettempdir(), f"appapi-host-{user}")

    def choose(self, app_id: str, *, used: Collection[int]) -> int:
        """The lowest port that can be bound now and that no host has given, and write it down.

        Where other hosts have given all of them, one of theirs that nobody listens on.

        Args:
            app_id: for which app.
            used: what the apps of this host have.

        Raises:
            HostError: none is free.
        """
        with self._opened() as book:
            others = _Others(book, self._registry)
            free = (port for port in PORTS if port not in used and _can_bind(port))
            passed_over: int | None = None
            for port in free:
                if not others.have(port):
                    break
                passed_over = passed_over or port
            else:
                if passed_over is None:
                    raise HostError(
                        f"no port from {PORTS.start} to {PORTS.stop - 1} is free",
                        remedy="unregister apps, or give the port in the app's info",
                    )
                port = passed_over
            self._write(book, app_id, port)
            return port

    def take(self, app_id: str, port: int) -> None:
        """Write down a port that somebody has chosen."""
        with self._opened() as book:
            if not _Others(book, self._registry).have(port):
                self._write(book, app_id, port)

    def give_back(self, app_id: str) -> None:
        """Strike out the port of an app that is gone."""
        with self._opened() as book, suppress(sqlite3.Error):
            if book is not None:
                book.execute(
                    "DELETE FROM ports WHERE registry = ? AND app_id = ?", (self._registry, app_id)
                )

    @cached_property
    def _registry(self) -> str:
        # Only when it is needed: whoever opens a registry must not wait for the disk.
        return str(self._path.resolve()) if self._path else ""

    def _write(self, book: sqlite3.Connection | None, app_id: str, port: int) -> None:
        if book is not None:
            with suppress(sqlite3.Error):
                book.execute(
                    "REPLACE INTO ports VALUES (?, ?, ?, ?)",
                    (port, self._registry, app_id, time.time()),
                )

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection | None]:
        """The book for ourselves; None where it cannot be used."""
        connection = self._connect() if self._registry else None
        if connection is None:
            yield None
            return
        with closing(connection):
            yield connection
            with suppress(sqlite3.Error):
                connection.execute("COMMIT")

    def _connect(self) -> sqlite3.Connection | None:
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if not _is_private(self._folder):
                return None  # made by somebody else, in a folder that everybody may write to
            connection = sqlite3.connect(
                self._folder / "ports.sqlite3", timeout=_LOCK_SECONDS, isolation_level=None
            )
        except (OSError, sqlite3.Error):
            return None
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_TABLE)
        except sqlite3.Error:
            connection.close()
            return None
        return connection


class _Others:
    """What other hosts have given, as far as their registries still say so."""

    def __init__(self, book: sqlite3.Connection | None, registry: str) -> None:
        self._book = book
        self._known: dict[str, set[tuple[str, int]] | None] = {}
        self._given: dict[int, tuple[str, str, float]] = {}
        if book is not None:
            with suppress(sqlite3.Error):
                self._given = {
                    port: (owner, app_id, given)
                    for port, owner, app_id, given in book.execute("SELECT * FROM ports")
                    if owner != registry
                }

    def have(self, port: int) -> bool:
        if port not in self._given:
            return False
        owner, app_id, given = self._given[port]
        if owner not in self._known:
            self._known[owner] = _apps_of(owner)
        apps = self._known[owner]
        # A clock that was set back must not make it fresh for ever.
        is_fresh = 0 <= time.time() - given < _FRESH_SECONDS
        return apps is None or (app_id, port) in apps or (is_fresh and Path(owner).exists())


def _apps_of(registry: str) -> set[tuple[str, int]] | None:
    """App ids and ports of another host; None if it does not let us look."""
    if not Path(registry).exists():
        return set()
    try:
        uri = f"{Path(registry).as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=_LOCK_SECONDS)) as other:
            return {(row[0], row[1]) for row in other.execute("SELECT app_id, port FROM apps")}
    except sqlite3.Error:
        return None


def _is_private(folder: Path) -> bool:
    about = folder.lstat()
    if not hasattr(os, "getuid"):
        return stat.S_ISDIR(about.st_mode)
    is_ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
    return is_ours and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if os.name == "posix":
            # As ASGI servers do: connections that linger do not count. Elsewhere the option means
            # that two may listen at once.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
