"""The tables of the registry, and what leads from each version of them to the next."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appapi_host.documents import SCHEMA
from appapi_host.errors import HostError

__all__ = ["APPLICATION_ID", "MIGRATIONS", "check_ownership", "migrate", "transaction"]

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
    (
        # Numbers that grow with each change of apps (or their daemons) and of users, whoever makes
        # it: who has read all of them need not read them again while it is the same.
        "CREATE TABLE revisions (name TEXT PRIMARY KEY, number INTEGER NOT NULL)",
        "INSERT INTO revisions VALUES ('apps', 1), ('users', 1)",
        *(
            f"""
            CREATE TRIGGER {table}_{verb} AFTER {verb} ON {table}
            BEGIN
                UPDATE revisions SET number = number + 1 WHERE name = '{name}';
            END
            """
            for table, name in (("apps", "apps"), ("daemons", "apps"), ("users", "users"))
            for verb in ("INSERT", "UPDATE", "DELETE")
        ),
    ),
)
"""What leads from each version of the schema (`PRAGMA user_version`) to the next one. A row that
was released is never edited: add one."""


def check_ownership(connection: sqlite3.Connection, path: Path) -> None:
    """See that a database is one of ours, before anything is written to it.

    Raises:
        HostError: it is not.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    has_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 0
    if has_tables and application != APPLICATION_ID:
        raise HostError(
            f"{path} is a database of another program", remedy="choose another data directory"
        )


def migrate(connection: sqlite3.Connection, path: Path | None) -> None:
    """Bring a database to the present schema.

    Raises:
        HostError: it was written by a newer version.
    """

    def version() -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    if version() == len(MIGRATIONS):
        return
    with transaction(connection):
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
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Have what is done in the block done as a whole, or not at all."""
    # IMMEDIATE: the lock is taken before the first read, so what was read is still true at the end.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
