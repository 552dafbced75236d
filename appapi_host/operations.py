"""What is being done to which app, and by whom: written down before it is done.

A host that is killed leaves its operation behind. Whoever comes next sees that its process is gone,
and finishes or undoes the operation; see `appapi_host.recovery`. Until an operation has ended,
nobody else begins one on the same app.
"""

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import anyio
import anyio.to_thread

from appapi_host.errors import BusyError
from appapi_host.registry import Registry

__all__ = ["STOP", "Operation", "Operations", "Verb"]

STOP: Final = "stop"
"""Step of an operation that has failed, of which only the end of the app is left to do."""

_CLOCK_TOLERANCE: Final = 1.0
"""Seconds by which the creation time of the same process may seem to differ after the clock was
set; a process id is not used again that soon."""

_LOOK_SECONDS: Final = 0.1
"""How soon the end of another process's operation is noticed; fifty may be waiting."""

_DEATH_SECONDS: Final = 1.0
"""How soon the death of its process is."""

_LIVING: Final[set[str]] = set()
"""Hosts of this process that have not been closed. A process may have several, one after another
or side by side, as tests do; so the process id alone does not say whether an owner lives."""


class Verb(StrEnum):
    """What can be done to an app."""

    REGISTER = "register"
    UPDATE = "update"
    ENABLE = "enable"
    DISABLE = "disable"
    UNREGISTER = "unregister"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Args:
        app_id: the app.
        verb: what is done to it.
        step: what was about to be done last.
        owner: the host object that does it; a random text.
        pid: its process.
        created: when that process began, unix seconds; ids are used again.
        started: when the operation began, unix seconds.
        moved: when its last step began.
        details: what whoever finishes it must know; JSON values.
    """

    app_id: str
    verb: Verb
    step: str
    owner: str
    pid: int
    created: float
    started: float
    moved: float
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def busy(self) -> BusyError:
        """What to tell somebody who wants to do something to the same app."""
        return BusyError(self.app_id, self.verb.value, self.step, self.pid)


class Operations:
    """The operations of one registry, as one host sees and makes them.

    Args:
        registry: where they are written down.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._owner = secrets.token_hex(8)
        _LIVING.add(self._owner)

    def close(self) -> None:
        """The host is gone: what it has not ended is for the next one to finish."""
        _LIVING.discard(self._owner)

    def owns(self, operation: Operation) -> bool:
        """Whether it is this host's."""
        return operation.owner == self._owner

    async def all(self) -> list[Operation]:
        """All that have not ended, the oldest first."""

        def read(connection: sqlite3.Connection) -> list[Operation]:
            rows = connection.execute("SELECT * FROM operations ORDER BY started, app_id")
            return [_operation(row) for row in rows]

        return await self._registry.read(read)

    async def of(self, app_id: str) -> Operation | None:
        """The one on an app."""
        return await self._registry.read(lambda connection: _find(connection, app_id))

    async def begin(
        self, app_id: str, verb: Verb, step: str, details: Mapping[str, Any]
    ) -> Operation | None:
        """Write down a new operation.

        Returns:
            None if it is ours now; else the one that is in the way, orphaned or not.
        """
        now = time.time()
        created = await anyio.to_thread.run_sync(_creation_time, os.getpid())

        def write(connection: sqlite3.Connection) -> Operation | None:
            present = _find(connection, app_id)
            if present is None:
                connection.execute(
                    "INSERT INTO operations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        app_id,
                        verb.value,
                        step,
                        self._owner,
                        os.getpid(),
                        created,
                        now,
                        now,
                        json.dumps(dict(details), default=dict),
                    ),
                )
            return present

        return await self._registry.write(write, durable=True)

    async def step(self, app_id: str, step: str, details: Mapping[str, Any] | None = None) -> None:
        """Write down what is done next. Nothing happens where the operation is not ours."""

        def write(connection: sqlite3.Connection) -> None:
            present = _find(connection, app_id)
            if present is None or present.owner != self._owner:
                return
            changed = {**present.details, **(details or {})}
            connection.execute(
                "UPDATE operations SET step = ?, moved = ?, details = ? WHERE app_id = ?",
                (step, time.time(), json.dumps(changed, default=dict), app_id),
            )

        await self._registry.write(write, durable=True)

    async def end(self, app_id: str) -> None:
        """The operation has ended. Nothing happens where it is not ours."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "DELETE FROM operations WHERE app_id = ? AND owner = ?", (app_id, self._owner)
            )

        with anyio.CancelScope(shield=True):
            await self._registry.write(write)

    async def claim(self, operation: Operation) -> Operation | None:
        """Take over an orphaned operation.

        Returns:
            It, now ours; None if somebody else was faster.
        """
        created = await anyio.to_thread.run_sync(_creation_time, os.getpid())

        def write(connection: sqlite3.Connection) -> bool:
            return bool(
                connection.execute(
                    """
                    UPDATE operations SET owner = ?, pid = ?, created = ?
                    WHERE app_id = ? AND owner = ? AND step = ?
                    """,
                    (
                        self._owner,
                        os.getpid(),
                        created,
                        operation.app_id,
                        operation.owner,
                        operation.step,
                    ),
                ).rowcount
            )

        if not await self._registry.write(write, durable=True):
            return None
        return replace(operation, owner=self._owner, pid=os.getpid(), created=created or 0.0)

    async def abandon(self, app_id: str) -> None:
        """Leave an operation of ours as it is, for anybody to finish."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE operations SET owner = '', pid = 0 WHERE app_id = ? AND owner = ?",
                (app_id, self._owner),
            )

        with anyio.CancelScope(shield=True):
            await self._registry.write(write)

    async def leave(self, app_id: str, verb: Verb, step: str) -> None:
        """Leave something to be done to whoever can; nothing happens if others are at the app."""
        await self.begin(app_id, verb, step, {})
        await self.step(app_id, step)
        await self.abandon(app_id)

    async def drop(self, operation: Operation) -> None:
        """Forget an orphaned operation; nothing happens if somebody else was faster."""
        if await self.claim(operation) is not None:
            await self.end(operation.app_id)

    async def is_orphaned(self, operation: Operation) -> bool:
        """Whether nobody is at work on an operation any more."""
        return await anyio.to_thread.run_sync(_is_orphaned, operation)

    async def wait_for_end(self, operation: Operation) -> None:
        """Return when an operation has ended, its owner has, or another has taken its place."""
        seen: tuple[int, int] | None = None
        looked = -_DEATH_SECONDS
        while True:
            present = await self.of(operation.app_id)
            if present is None:
                return
            if (present.owner, present.started) != (operation.owner, operation.started):
                return
            if anyio.current_time() - looked >= _DEATH_SECONDS:
                # The owner's death changes nothing in the registry.
                looked = anyio.current_time()
                if await self.is_orphaned(present):
                    return
            with anyio.move_on_after(_DEATH_SECONDS):
                seen = await self._registry.next_change(seen, interval=_LOOK_SECONDS)


def _is_orphaned(operation: Operation) -> bool:
    if not operation.owner:
        return True
    if operation.pid == os.getpid():
        return operation.owner not in _LIVING
    began = _creation_time(operation.pid)
    return began is None or abs(began - operation.created) > _CLOCK_TOLERANCE


def _find(connection: sqlite3.Connection, app_id: str) -> Operation | None:
    row = connection.execute("SELECT * FROM operations WHERE app_id = ?", (app_id,)).fetchone()
    return None if row is None else _operation(row)


def _operation(row: sqlite3.Row) -> Operation:
    return Operation(
        **{
            **dict(row),
            "verb": Verb(row["verb"]),
            "details": MappingProxyType(dict(json.loads(row["details"]))),
        }
    )


def _creation_time(pid: int) -> float | None:
    """When a process began; None if there is none of that id."""
    import psutil  # only where something is done: `app:list` does without

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.create_time()
    except psutil.Error:
        return None
