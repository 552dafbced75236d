"""What is installed, and in which state: one SQLite file that several processes share.

The file is in write-ahead mode: any number of readers, and writers that queue for each other. Each
change is one short transaction that reads, decides and writes, so nobody's change gets lost.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import anyio
import anyio.to_thread

from appapi_host.documents import Documents
from appapi_host.errors import AlreadyExistsError, HostError, NotFoundError
from appapi_host.records import AppRecord, Daemon, User
from appapi_host.registry.connection import (
    POLL_INTERVAL,
    connect,
    connect_reader,
    data_version,
    is_busy,
    translated,
)
from appapi_host.registry.ports import PORTS, PortBook
from appapi_host.registry.rows import (
    SELECT_APPS,
    app_of,
    app_values,
    daemon_of,
    dumps,
    existing_app,
    find_app,
    find_user,
    port_conflict,
    revision,
    user_of,
    user_values,
)
from appapi_host.registry.schema import APPLICATION_ID, MIGRATIONS, transaction
from exapp_sdk.errors import LocalProtocolError

__all__ = ["APPLICATION_ID", "MIGRATIONS", "PORTS", "Registry"]

LOCK_TIMEOUT: Final = 10.0
"""Seconds to wait for another process to end its transaction; ours take about a millisecond."""

T = TypeVar("T")


class Registry:
    """Daemons, apps, users and settings of one host.

    Every method may be called from several tasks at once. Changes, and reading that may take long,
    are done in a worker thread, by one at a time. A short query is done at once, because the way to
    a thread and back takes ten times longer than the query: on a connection of its own, which
    waits for nobody and must not write. All methods raise `HostError`, with a remedy, when the file
    cannot be used.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path | None,
        reader: sqlite3.Connection | None = None,
    ) -> None:
        self._connection: sqlite3.Connection | None = connection
        self._reader = reader
        self._path = path
        self._apps: tuple[int, list[AppRecord]] = (0, [])
        self._users: tuple[int, list[User]] = (0, [])
        self._one_at_a_time = anyio.CapacityLimiter(1)
        self._changed = anyio.Event()
        self._app_changed: dict[str, anyio.Event] = {}
        self._own_changes = 0
        self._ports = PortBook(path)

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

        def connected() -> tuple[sqlite3.Connection, sqlite3.Connection | None]:
            connection = connect(path, lock_timeout)
            try:
                return connection, connect_reader(path) if path else None
            except BaseException:
                connection.close()
                raise

        connection, reader = await anyio.to_thread.run_sync(connected)
        return cls(connection, path, reader)

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
                        dumps(daemon.deploy_config),
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
                daemon_of(row) for row in connection.execute("SELECT * FROM daemons ORDER BY rowid")
            ]

        return await self._read(read)

    async def daemon(self, name: str) -> Daemon | None:
        """The daemon of that name."""

        def read(connection: sqlite3.Connection) -> Daemon | None:
            row = connection.execute("SELECT * FROM daemons WHERE name = ?", (name,)).fetchone()
            return None if row is None else daemon_of(row)

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
            after = change(daemon_of(row))
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
                    dumps(after.deploy_config),
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
                that two processes never choose the same, and no other host of this machine does.

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
            values = app_values(app)
            values["port"] = app.port or self._ports.choose(
                app.app_id,
                used={row["port"] for row in connection.execute("SELECT port FROM apps")},
            )
            columns, slots = ", ".join(values), ", ".join(f":{name}" for name in values)
            with port_conflict(app):
                connection.execute(f"INSERT INTO apps ({columns}) VALUES ({slots})", values)
            if app.port:
                self._ports.take(app.app_id, app.port)
            return existing_app(connection, app.app_id)

        return await self._write(add, app_id=app.app_id)

    async def app(self, app_id: str) -> AppRecord | None:
        """The app of that id."""
        return await self.look(lambda connection: find_app(connection, app_id))

    async def apps(self) -> list[AppRecord]:
        """All apps, sorted by id."""

        def read(connection: sqlite3.Connection) -> list[AppRecord]:
            rows = connection.execute(f"{SELECT_APPS} ORDER BY a.app_id")
            return [app_of(row) for row in rows]

        # Before they are read: a change in between is seen by the next call.
        present = await self.look(lambda connection: revision(connection, "apps"))
        if present != self._apps[0]:
            self._apps = present, await self._read(read)
        return [*self._apps[1]]

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
            before = existing_app(connection, app_id)
            after = change(before)
            if after.app_id != app_id:
                raise LocalProtocolError("the id of a registered app must not change")
            if after != before:
                values = app_values(after)
                assignments = ", ".join(f"{name} = :{name}" for name in values)
                with port_conflict(after):
                    connection.execute(
                        f"UPDATE apps SET {assignments} WHERE app_id = :app_id", values
                    )
            return after

        return await self._write(write, app_id=app_id)

    async def remove_app(self, app_id: str) -> None:
        """Forget an app and what it registered; see `appapi_host.documents.OUTLIVING`.

        Raises:
            NotFoundError: no such app.
        """

        def remove(connection: sqlite3.Connection) -> None:
            if not connection.execute("DELETE FROM apps WHERE app_id = ?", (app_id,)).rowcount:
                raise NotFoundError(f"there is no app {app_id!r}")
            Documents(connection).forget_app(app_id)
            self._ports.give_back(app_id)

        await self._write(remove, app_id=app_id)

    async def wait(
        self, app_id: str, until: Callable[[AppRecord | None], bool]
    ) -> AppRecord | None:
        """Wait until `until(record)` is true, and return that record.

        Changes made through this object wake it at once, those of other processes within
        `POLL_INTERVAL`. States that last for less are not all seen. The caller owns the deadline.
        """

        def read(connection: sqlite3.Connection) -> tuple[int, AppRecord | None]:
            # The version first: a change between the two reads is then seen again, not missed.
            return data_version(connection), find_app(connection, app_id)

        while True:
            # Of this app alone: many that are installed at once would wake each other all the time.
            changed = self._app_changed.setdefault(app_id, anyio.Event())
            seen, record = await self.look(read)
            if until(record):
                return record
            if self._path is None:
                await changed.wait()
                continue
            while not changed.is_set():
                with anyio.move_on_after(POLL_INTERVAL):
                    await changed.wait()
                if await self.look(data_version) != seen:
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
            present = own, await self.look(data_version)
            if present != seen:
                return present
            with anyio.move_on_after(interval if self._path else None):
                await changed.wait()

    async def add_user(self, user: User) -> None:
        """Store a new user.

        Raises:
            AlreadyExistsError: the id is taken.
        """

        def add(connection: sqlite3.Connection) -> None:
            try:
                connection.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?)", user_values(user))
            except sqlite3.IntegrityError:
                raise AlreadyExistsError(f"a user {user.user_id!r} exists already") from None

        await self._write(add)

    async def replace_user(self, user: User) -> None:
        """Store a user, instead of the one of that id if there is one."""

        def replace(connection: sqlite3.Connection) -> None:
            connection.execute("REPLACE INTO users VALUES (?, ?, ?, ?, ?)", user_values(user))

        await self._write(replace)

    async def users(self) -> list[User]:
        """All users, sorted by id."""

        def read(connection: sqlite3.Connection) -> list[User]:
            return [
                user_of(row) for row in connection.execute("SELECT * FROM users ORDER BY user_id")
            ]

        present = await self.look(lambda connection: revision(connection, "users"))  # as in apps()
        if present != self._users[0]:
            self._users = present, await self._read(read)
        return [*self._users[1]]

    async def user(self, user_id: str) -> User | None:
        """The user of that id."""
        return await self.look(lambda connection: find_user(connection, user_id))

    async def setting(self, name: str) -> str | None:
        """A value that the host keeps about itself, for instance `default_daemon_config`."""

        def read(connection: sqlite3.Connection) -> str | None:
            row = connection.execute(
                "SELECT value FROM settings WHERE name = ?", (name,)
            ).fetchone()
            return None if row is None else str(row["value"])

        return await self.look(read)

    async def set_setting(self, name: str, value: str) -> None:
        """Store such a value."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("REPLACE INTO settings VALUES (?, ?)", (name, value))

        await self._write(write)

    async def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a short query at once, in the event loop.

        Args:
            work: gets a connection that cannot write. It must not take longer than finding a few
                rows by an index.
        """
        reader = self._reader
        if reader is None and not self._one_at_a_time.borrowed_tokens:
            reader = self._connection  # in memory, and no thread is using it
        if reader is not None:
            try:
                return work(reader)
            except sqlite3.Error as error:
                if not is_busy(error):
                    with translated(self._path):
                        raise
        return await self._read(work)

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

    async def _write(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        durable: bool = False,
        app_id: str = "",
    ) -> T:
        def whole(connection: sqlite3.Connection) -> T:
            if durable:
                connection.execute("PRAGMA synchronous = FULL")
            try:
                with transaction(connection):
                    return work(connection)
            finally:
                if durable:
                    connection.execute("PRAGMA synchronous = NORMAL")

        result = await self._read(whole)
        changed, self._changed = self._changed, anyio.Event()
        self._own_changes += 1
        changed.set()
        if app_changed := self._app_changed.pop(app_id, None):
            app_changed.set()
        return result

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            raise LocalProtocolError("the registry is closed")
        with translated(self._path):
            return work(self._connection)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None
