"""What is installed, and in which state: one SQLite file that several processes share.

The file is in write-ahead mode: any number of readers, and writers that queue for each other. Each
change is one short transaction that reads, decides and writes, so nobody's change gets lost.
"""

import json
import os
import socket
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import anyio.to_thread

from appapi_host.documents import SCHEMA, Documents
from appapi_host.errors import AlreadyExistsError, HostError, NotFoundError
from appapi_host.records import AccessLevel, AppRecord, Daemon, Route, User
from exapp_sdk.errors import LocalProtocolError
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State
from exapp_sdk.protocol.status import Status

__all__ = ["MIGRATIONS", "PORTS", "Registry"]

PORTS: Final = range(23000, 24000)
"""Ports that the host gives to apps that ask for none; the same as AppAPI's."""

LOCK_TIMEOUT: Final = 10.0
"""Seconds to wait for another process to end its transaction; ours take about a millisecond."""

POLL_INTERVAL: Final = 0.02
"""Seconds between two looks for changes made by other processes, which cannot call us."""

APPLICATION_ID: Final = 0x45784170
"""`ExAp`, in the header of the file: tells our databases from those of other programs."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE daemons (
            name TEXT PRIMARY KEY,
            display_name TEXT NOT NULL,
            accepts_deploy_id TEXT NOT NULL,
            protocol TEXT NOT NULL,
            host TEXT NOT NULL,
            deploy_config TEXT NOT NULL
        )
        """,
        """
        CREATE TABLE apps (
            app_id TEXT PRIMARY KEY,
            version TEXT NOT NULL,
            name TEXT NOT NULL,
            daemon TEXT NOT NULL,
            port INTEGER NOT NULL,
            secret TEXT NOT NULL,
            state TEXT NOT NULL,
            enabled INTEGER NOT NULL,
            status TEXT NOT NULL,
            routes TEXT NOT NULL,
            created_time INTEGER NOT NULL,
            failure TEXT NOT NULL,
            deployment TEXT NOT NULL,
            options TEXT NOT NULL
        )
        """,
        "CREATE UNIQUE INDEX apps_daemon_port ON apps (daemon, port)",
        """
        CREATE TABLE users (
            user_id TEXT PRIMARY KEY,
            display_name TEXT NOT NULL,
            password_hash TEXT NOT NULL,
            is_admin INTEGER NOT NULL,
            is_enabled INTEGER NOT NULL
        )
        """,
        "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    ),
    (
        # What is being done to an app, and by whom: written before it is done. The primary key
        # keeps two processes from doing something to one app at once.
        """
        CREATE TABLE operations (
            app_id TEXT PRIMARY KEY,
            verb TEXT NOT NULL,
            step TEXT NOT NULL,
            owner TEXT NOT NULL,
            pid INTEGER NOT NULL,
            created REAL NOT NULL,
            started REAL NOT NULL,
            moved REAL NOT NULL,
            details TEXT NOT NULL
        )
        """,
        "CREATE TABLE groups (group_id TEXT PRIMARY KEY, display_name TEXT NOT NULL)",
        """
        CREATE TABLE memberships (
            group_id TEXT NOT NULL,
            user_id TEXT NOT NULL,
            PRIMARY KEY (group_id, user_id)
        )
        """,
    ),
    SCHEMA,
    (
        # Who signed in on the login page. Token and password only as hashes: the former lets
        # somebody in, the latter shows that the password has changed since.
        """
        CREATE TABLE sessions (
            token TEXT PRIMARY KEY,
            user_id TEXT NOT NULL,
            password TEXT NOT NULL,
            expires REAL NOT NULL
        )
        """,
    ),
)
"""What leads from each version of the schema (`PRAGMA user_version`) to the next one. A row that
was released is never edited: add one."""

T = TypeVar("T")

_SELECT_APPS: Final = """
    SELECT a.*, d.display_name, d.accepts_deploy_id, d.protocol, d.host, d.deploy_config
    FROM apps AS a LEFT JOIN daemons AS d ON d.name = a.daemon
"""


class Registry:
    """Daemons, apps, users and settings of one host.

    Every method may be called from several tasks at once. SQLite is used in a worker thread, by one
    at a time. All methods raise `HostError`, with a remedy, when the file cannot be used.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self._connection: sqlite3.Connection | None = connection
        self._path = path
        self._one_at_a_time = anyio.CapacityLimiter(1)
        self._changed = anyio.Event()
        self._own_changes = 0

    @classmethod
    async def open(cls, path: Path | None, *, lock_timeout: float = LOCK_TIMEOUT) -> Self:
        """Open the registry, create it or bring it to the present schema.

        Args:
            path: the database file, created with its folder so that only the present user can read
                them; None keeps everything in memory.
            lock_timeout: seconds to wait for other processes, here and in every transaction.

        Raises:
            HostError: it cannot be created, is no database of ours, is damaged, or was written by a
                newer version.
        """
        connection = await anyio.to_thread.run_sync(_connect, path, lock_timeout)
        return cls(connection, path)

    async def close(self) -> None:
        """Close the file; a second call does nothing."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close, limiter=self._one_at_a_time)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def add_daemon(self, daemon: Daemon) -> None:
        """Store a new daemon.

        Raises:
            AlreadyExistsError: the name is taken.
        """

        def add(connection: sqlite3.Connection) -> None:
            try:
                connection.execute(
                    "INSERT INTO daemons VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        daemon.name,
                        daemon.display_name,
                        daemon.accepts_deploy_id,
                        daemon.protocol,
                        daemon.host,
                        _dumps(daemon.deploy_config),
                    ),
                )
            except sqlite3.IntegrityError:
                raise AlreadyExistsError(
                    f"a daemon {daemon.name!r} is registered already"
                ) from None

        await self._write(add)

    async def daemons(self) -> list[Daemon]:
        """All daemons in the order of their creation."""

        def read(connection: sqlite3.Connection) -> list[Daemon]:
            return [
                _daemon(row) for row in connection.execute("SELECT * FROM daemons ORDER BY rowid")
            ]

        return await self._read(read)

    async def daemon(self, name: str) -> Daemon | None:
        """The daemon of that name."""

        def read(connection: sqlite3.Connection) -> Daemon | None:
            row = connection.execute("SELECT * FROM daemons WHERE name = ?", (name,)).fetchone()
            return None if row is None else _daemon(row)

        return await self._read(read)

    async def apply_daemon(self, name: str, change: Callable[[Daemon], Daemon]) -> Daemon:
        """Change a daemon in one transaction, see `apply()`; its name and place stay.

        Raises:
            NotFoundError: there is none of that name.
        """

        def write(connection: sqlite3.Connection) -> Daemon:
            row = connection.execute("SELECT * FROM daemons WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise NotFoundError(f"there is no daemon {name!r}")
            after = change(_daemon(row))
            connection.execute(
                """
                UPDATE daemons SET display_name = ?, accepts_deploy_id = ?, protocol = ?, host = ?,
                    deploy_config = ? WHERE name = ?
                """,
                (
                    after.display_name,
                    after.accepts_deploy_id,
                    after.protocol,
                    after.host,
                    _dumps(after.deploy_config),
                    name,
                ),
            )
            return after

        return await self._write(write)

    async def remove_daemon(self, name: str) -> None:
        """Forget a daemon.

        Raises:
            NotFoundError: there is none of that name.
            HostError: apps are registered on it.
        """

        def remove(connection: sqlite3.Connection) -> None:
            rows = connection.execute(
                "SELECT app_id FROM apps WHERE daemon = ? ORDER BY app_id", (name,)
            )
            if app_ids := [row["app_id"] for row in rows]:
                raise HostError(
                    f"apps are registered on daemon {name!r}: {', '.join(app_ids)}",
                    remedy="unregister them first",
                )
            if not connection.execute("DELETE FROM daemons WHERE name = ?", (name,)).rowcount:
                raise NotFoundError(f"there is no daemon {name!r}")

        await self._write(remove)

    async def add_app(self, app: AppRecord) -> AppRecord:
        """Store a new app.

        Args:
            app: with port 0, the lowest free one of `PORTS` is chosen in the same transaction, so
                that two processes never choose the same.

        Returns:
            The record as it was stored.

        Raises:
            AlreadyExistsError: the id is taken, or the port is on that daemon.
            HostError: no port is free.
        """

        def add(connection: sqlite3.Connection) -> AppRecord:
            row = connection.execute(
                "SELECT 1 FROM apps WHERE app_id = ?", (app.app_id,)
            ).fetchone()
            if row is not None:
                raise AlreadyExistsError(
                    f"an app {app.app_id!r} is registered already",
                    remedy="update it, or unregister it first",
                )
            values = _app_values(app)
            values["port"] = app.port or _free_port(connection)
            columns, slots = ", ".join(values), ", ".join(f":{name}" for name in values)
            with _port_conflict(app):
                connection.execute(f"INSERT INTO apps ({columns}) VALUES ({slots})", values)
            return _existing_app(connection, app.app_id)

        return await self._write(add)

    async def app(self, app_id: str) -> AppRecord | None:
        """The app of that id."""
        return await self._read(lambda connection: _find_app(connection, app_id))

    async def apps(self) -> list[AppRecord]:
        """All apps, sorted by id."""

        def read(connection: sqlite3.Connection) -> list[AppRecord]:
            rows = connection.execute(f"{_SELECT_APPS} ORDER BY a.app_id")
            return [_app(row) for row in rows]

        return await self._read(read)

    async def apply(self, app_id: str, change: Callable[[AppRecord], AppRecord]) -> AppRecord:
        """Change an app in one transaction.

        Args:
            app_id: which app.
            change: gets the present record and returns the new one. Pure and quick: all writers of
                all processes wait for it. It runs in a worker thread. What it raises is raised
                here, and then nothing is written.

        Returns:
            The record as it was stored.

        Raises:
            NotFoundError: no such app.
            AlreadyExistsError: the new port is taken on that daemon.
            LocalProtocolError: the id was changed.
        """

        def write(connection: sqlite3.Connection) -> AppRecord:
            before = _existing_app(connection, app_id)
            after = change(before)
            if after.app_id != app_id:
                raise LocalProtocolError("the id of a registered app must not change")
            if after != before:
                values = _app_values(after)
                assignments = ", ".join(f"{name} = :{name}" for name in values)
                with _port_conflict(after):
                    connection.execute(
                        f"UPDATE apps SET {assignments} WHERE app_id = :app_id", values
                    )
            return after

        return await self._write(write)

    async def remove_app(self, app_id: str) -> None:
        """Forget an app and what it registered; see `appapi_host.documents.OUTLIVING`.

        Raises:
            NotFoundError: no such app.
        """

        def remove(connection: sqlite3.Connection) -> None:
            if not connection.execute("DELETE FROM apps WHERE app_id = ?", (app_id,)).rowcount:
                raise NotFoundError(f"there is no app {app_id!r}")
            Documents(connection).forget_app(app_id)

        await self._write(remove)

    async def free_port(self) -> int:
        """The lowest port that no app of any daemon has and that can be bound on 127.0.0.1 now.

        Raises:
            HostError: none is free.
        """
        return await self._read(_free_port)

    async def wait(
        self, app_id: str, until: Callable[[AppRecord | None], bool]
    ) -> AppRecord | None:
        """Wait until `until(record)` is true, and return that record.

        Changes made through this object wake it at once, those of other processes within
        `POLL_INTERVAL`. States that last for less are not all seen. The caller owns the deadline.
        """

        def read(connection: sqlite3.Connection) -> tuple[int, AppRecord | None]:
            # The version first: a change between the two reads is then seen again, not missed.
            return _data_version(connection), _find_app(connection, app_id)

        while True:
            changed = self._changed
            seen, record = await self._read(read)
            if until(record):
                return record
            if self._path is None:
                await changed.wait()
                continue
            while not changed.is_set():
                with anyio.move_on_after(POLL_INTERVAL):
                    await changed.wait()
                if await self._read(_data_version) != seen:
                    break

    async def next_change(
        self, seen: tuple[int, int] | None = None, *, interval: float = POLL_INTERVAL
    ) -> tuple[int, int]:
        """Wait until anything here is not as it was when `seen` was returned.

        Args:
            seen: what the last call returned; None returns at once.
            interval: seconds after which a change made by another process may be noticed.

        Returns:
            What to give next time. Read after this call: what changes in between is seen then.
        """
        while True:
            changed = self._changed
            own = self._own_changes
            revision = own, await self._read(_data_version)
            if revision != seen:
                return revision
            with anyio.move_on_after(interval if self._path else None):
                await changed.wait()

    async def add_user(self, user: User) -> None:
        """Store a new user.

        Raises:
            AlreadyExistsError: the id is taken.
        """

        def add(connection: sqlite3.Connection) -> None:
            try:
                connection.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?)", _user_values(user))
            except sqlite3.IntegrityError:
                raise AlreadyExistsError(f"a user {user.user_id!r} exists already") from None

        await self._write(add)

    async def replace_user(self, user: User) -> None:
        """Store a user, instead of the one of that id if there is one."""

        def replace(connection: sqlite3.Connection) -> None:
            connection.execute("REPLACE INTO users VALUES (?, ?, ?, ?, ?)", _user_values(user))

        await self._write(replace)

    async def users(self) -> list[User]:
        """All users, sorted by id."""

        def read(connection: sqlite3.Connection) -> list[User]:
            return [
                _user(row) for row in connection.execute("SELECT * FROM users ORDER BY user_id")
            ]

        return await self._read(read)

    async def user(self, user_id: str) -> User | None:
        """The user of that id."""

        def read(connection: sqlite3.Connection) -> User | None:
            row = connection.execute("SELECT * FROM users WHERE user_id = ?", (user_id,)).fetchone()
            return None if row is None else _user(row)

        return await self._read(read)

    async def setting(self, name: str) -> str | None:
        """A value that the host keeps about itself, for instance `default_daemon_config`."""

        def read(connection: sqlite3.Connection) -> str | None:
            row = connection.execute(
                "SELECT value FROM settings WHERE name = ?", (name,)
            ).fetchone()
            return None if row is None else str(row["value"])

        return await self._read(read)

    async def set_setting(self, name: str, value: str) -> None:
        """Store such a value."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("REPLACE INTO settings VALUES (?, ?)", (name, value))

        await self._write(write)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run queries of a module that has tables of its own.

        Args:
            work: gets the connection; runs in a worker thread, and must only read.
        """
        return await self._read(work)

    async def write(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> T:
        """Run changes of a module that has tables of its own, in one transaction.

        Args:
            work: gets the connection; runs in a worker thread, pure and quick as in `apply()`.
            durable: it must be on the disk before this returns, so that not even a power failure
                undoes it. Costs some milliseconds.
        """
        return await self._write(work, durable=durable)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await anyio.to_thread.run_sync(self._work, work, limiter=self._one_at_a_time)

    async def _write(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> T:
        def transaction(connection: sqlite3.Connection) -> T:
            if durable:
                connection.execute("PRAGMA synchronous = FULL")
            try:
                with _transaction(connection):
                    return work(connection)
            finally:
                if durable:
                    connection.execute("PRAGMA synchronous = NORMAL")

        result = await self._read(transaction)
        changed, self._changed = self._changed, anyio.Event()
        self._own_changes += 1
        changed.set()
        return result

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            raise LocalProtocolError("the registry is closed")
        with _translated(self._path):
            return work(self._connection)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _connect(path: Path | None, lock_timeout: float) -> sqlite3.Connection:
    if path is None:
        connection = _connected(":memory:", lock_timeout)
        _migrate(connection, path)
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
            with _translated(path):
                # Checked before anything is written: it might be somebody else's database.
                _check_ownership(connection, path)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                _migrate(connection, path)
        except BaseException as error:
            connection.close()
            # Switching to write-ahead mode does not wait for other processes that open the file.
            busy = _primary_code(error.__cause__) == sqlite3.SQLITE_BUSY
            if busy and time.monotonic() < deadline:
                time.sleep(POLL_INTERVAL)
                continue
            raise
        return connection


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


def _check_ownership(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    has_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 0
    if has_tables and application != APPLICATION_ID:
        raise HostError(
            f"{path} is a database of another program", remedy="choose another data directory"
        )


def _migrate(connection: sqlite3.Connection, path: Path | None) -> None:
    def version() -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    if version() == len(MIGRATIONS):
        return
    with _transaction(connection):
        present = version()  # again: another process may have been faster
        if present > len(MIGRATIONS):
            raise HostError(
                f"{path} was written by a newer version of this program (schema {present}, known"
                f" are up to {len(MIGRATIONS)})",
                remedy="update this program, or choose another data directory",
            )
        for statements in MIGRATIONS[present:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE: the lock is taken before the first read, so what was read is still true at the end.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _translated(path: Path | None) -> Iterator[None]:
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


def _data_version(connection: sqlite3.Connection) -> int:
    """Changes whenever another connection has committed."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def _find_app(connection: sqlite3.Connection, app_id: str) -> AppRecord | None:
    row = connection.execute(f"{_SELECT_APPS} WHERE a.app_id = ?", (app_id,)).fetchone()
    return None if row is None else _app(row)


def _existing_app(connection: sqlite3.Connection, app_id: str) -> AppRecord:
    app = _find_app(connection, app_id)
    if app is None:
        raise NotFoundError(f"there is no app {app_id!r}", remedy="list the registered apps")
    return app


def _free_port(connection: sqlite3.Connection) -> int:
    used = {row["port"] for row in connection.execute("SELECT port FROM apps")}
    for port in PORTS:
        if port not in used and _can_bind(port):
            return port
    raise HostError(
        f"no port from {PORTS.start} to {PORTS.stop - 1} is free",
        remedy="unregister apps, or give the port in the app's info",
    )


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


@contextmanager
def _port_conflict(app: AppRecord) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise AlreadyExistsError(
            f"port {app.port} is taken by another app on daemon {app.daemon.name!r}",
            remedy="give another port, or none",
        ) from None


def _dumps(value: object) -> str:
    # The mappings of records may be read-only views, which json does not know.
    return json.dumps(value, default=dict)


def _mapping(text: str) -> Mapping[str, Any]:
    return MappingProxyType(dict(json.loads(text)))


def _app_values(app: AppRecord) -> dict[str, Any]:
    return {
        "app_id": app.app_id,
        "version": app.version,
        "name": app.name,
        "daemon": app.daemon.name,
        "port": app.port,
        "secret": app.secret.reveal(),
        "state": app.state.value,
        "enabled": int(app.enabled),
        "status": _dumps(app.status.to_wire()),
        "routes": _dumps([asdict(route) for route in app.routes]),
        "created_time": app.created_time,
        "failure": app.failure,
        "deployment": _dumps(app.deployment),
        "options": _dumps(app.options),
    }


def _app(row: sqlite3.Row) -> AppRecord:
    try:
        return AppRecord(
            app_id=row["app_id"],
            version=row["version"],
            name=row["name"],
            daemon=_joined_daemon(row),
            port=row["port"],
            secret=Secret(row["secret"]),
            state=State(row["state"]),
            enabled=bool(row["enabled"]),
            status=Status.from_wire(json.loads(row["status"])),
            routes=tuple(_route(route) for route in json.loads(row["routes"])),
            created_time=row["created_time"],
            failure=row["failure"],
            deployment=_mapping(row["deployment"]),
            options=_mapping(row["options"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise HostError(
            f"the row of app {row['app_id']!r} in the registry cannot be read",
            remedy="unregister the app and register it again",
        ) from error


def _joined_daemon(row: sqlite3.Row) -> Daemon:
    if row["host"] is None:
        return Daemon(row["daemon"], "", "", "", "")
    return Daemon(
        row["daemon"],
        row["display_name"],
        row["accepts_deploy_id"],
        row["protocol"],
        row["host"],
        _mapping(row["deploy_config"]),
    )


def _route(stored: dict[str, Any]) -> Route:
    return Route(
        url=stored["url"],
        verb=stored["verb"],
        access_level=AccessLevel(stored["access_level"]),
        headers_to_exclude=tuple(stored["headers_to_exclude"]),
        bruteforce_protection=tuple(stored["bruteforce_protection"]),
    )


def _daemon(row: sqlite3.Row) -> Daemon:
    try:
        return Daemon(**{**dict(row), "deploy_config": _mapping(row["deploy_config"])})
    except (TypeError, ValueError) as error:
        raise HostError(
            f"the row of daemon {row['name']!r} in the registry cannot be read",
            remedy="unregister the daemon and register it again",
        ) from error


def _user_values(user: User) -> tuple[str, str, str, int, int]:
    return (
        user.user_id,
        user.display_name,
        user.password_hash,
        int(user.is_admin),
        int(user.is_enabled),
    )


def _user(row: sqlite3.Row) -> User:
    return User(
        user_id=row["user_id"],
        display_name=row["display_name"],
        password_hash=row["password_hash"],
        is_admin=bool(row["is_admin"]),
        is_enabled=bool(row["is_enabled"]),
    )
