"""Records as rows of the registry, and rows as records."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from appapi_host.errors import AlreadyExistsError, HostError, NotFoundError
from appapi_host.records import AccessLevel, AppRecord, Daemon, Route, User
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State
from exapp_sdk.protocol.status import Status

__all__ = [
    "SELECT_APPS",
    "app_of",
    "app_values",
    "daemon_of",
    "dumps",
    "existing_app",
    "find_app",
    "find_user",
    "port_conflict",
    "revision",
    "user_of",
    "user_values",
]

_APP: Final = (
    "app_id",
    "version",
    "name",
    "daemon",
    "port",
    "secret",
    "state",
    "enabled",
    "status",
    "routes",
    "created_time",
    "failure",
    "deployment",
    "options",
)
_DAEMON: Final = ("display_name", "accepts_deploy_id", "protocol", "host", "deploy_config")
_COLUMNS: Final = _APP + _DAEMON

SELECT_APPS: Final = f"""
    SELECT {", ".join([f"a.{name}" for name in _APP] + [f"d.{name}" for name in _DAEMON])}
    FROM apps AS a LEFT JOIN daemons AS d ON d.name = a.daemon
"""

_MAX_PARSED: Final = 4096
"""Rows whose records are remembered."""


def find_app(connection: sqlite3.Connection, app_id: str) -> AppRecord | None:
    """The app of that id."""
    row = connection.execute(f"{SELECT_APPS} WHERE a.app_id = ?", (app_id,)).fetchone()
    return None if row is None else app_of(row)


def revision(connection: sqlite3.Connection, name: str) -> int:
    """A number that is another one after each change.

    Args:
        connection: committed rows are counted.
        name: `apps`, where daemons count too, or `users`.
    """
    row = connection.execute("SELECT number FROM revisions WHERE name = ?", (name,)).fetchone()
    return int(row[0])


def existing_app(connection: sqlite3.Connection, app_id: str) -> AppRecord:
    """The app of that id.

    Raises:
        NotFoundError: there is none.
    """
    app = find_app(connection, app_id)
    if app is None:
        raise NotFoundError(f"there is no app {app_id!r}", remedy="list the registered apps")
    return app


@contextmanager
def port_conflict(app: AppRecord) -> Iterator[None]:
    """Tell whose port it is that cannot be stored.

    Raises:
        AlreadyExistsError: another app of the daemon has it.
    """
    try:
        yield
    except sqlite3.IntegrityError:
        raise AlreadyExistsError(
            f"port {app.port} is taken by another app on daemon {app.daemon.name!r}",
            remedy="give another port, or none",
        ) from None


def dumps(value: object) -> str:
    """A value as JSON text."""
    # The mappings of records may be read-only views, which json does not know.
    return json.dumps(value, default=dict)


def _mapping(text: str) -> Mapping[str, Any]:
    return MappingProxyType(dict(json.loads(text)))


def app_values(app: AppRecord) -> dict[str, Any]:
    """Column → value of an app."""
    return {
        "app_id": app.app_id,
        "version": app.version,
        "name": app.name,
        "daemon": app.daemon.name,
        "port": app.port,
        "secret": app.secret.reveal(),
        "state": app.state.value,
        "enabled": int(app.enabled),
        "status": dumps(app.status.to_wire()),
        "routes": dumps([asdict(route) for route in app.routes]),
        "created_time": app.created_time,
        "failure": app.failure,
        "deployment": dumps(app.deployment),
        "options": dumps(app.options),
    }


def app_of(row: sqlite3.Row) -> AppRecord:
    """The app that a row holds.

    Raises:
        HostError: it cannot be read.
    """
    return _parsed_app(tuple(row))


# A row is read in each request, and what it holds changes seldom: only another row is parsed again.
@lru_cache(_MAX_PARSED)
def _parsed_app(values: tuple[Any, ...]) -> AppRecord:
    row = dict(zip(_COLUMNS, values, strict=True))
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


def _joined_daemon(row: Mapping[str, Any]) -> Daemon:
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


def daemon_of(row: sqlite3.Row) -> Daemon:
    """The daemon that a row holds.

    Raises:
        HostError: it cannot be read.
    """
    try:
        return Daemon(**{**dict(row), "deploy_config": _mapping(row["deploy_config"])})
    except (TypeError, ValueError) as error:
        raise HostError(
            f"the row of daemon {row['name']!r} in the registry cannot be read",
            remedy="unregister the daemon and register it again",
        ) from error


def user_values(user: User) -> tuple[str, str, str, int, int]:
    """The columns of a user, in their order."""
    return (
        user.user_id,
        user.display_name,
        user.password_hash,
        int(user.is_admin),
        int(user.is_enabled),
    )


def find_user(connection: sqlite3.Connection, user_id: str) -> User | None:
    """The user of that id."""
    row = connection.execute("SELECT * FROM users WHERE user_id = ?", (user_id,)).fetchone()
    return None if row is None else user_of(row)


def user_of(row: sqlite3.Row) -> User:
    """The user that a row holds."""
    return User(
        user_id=row["user_id"],
        display_name=row["display_name"],
        password_hash=row["password_hash"],
        is_admin=bool(row["is_admin"]),
        is_enabled=bool(row["is_enabled"]),
    )
