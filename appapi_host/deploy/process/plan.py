"""How an app is started, and which process that was: what the next host process must know."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import psutil

__all__ = ["KEPT", "Identity", "Plan", "keep_plan", "restore_plan"]

_CLOCK_TOLERANCE: Final = 1.0
"""Seconds by which the creation time of the same process may seem to differ after the clock was
set; a process id is not used again that soon."""

KEPT: Final = "process.old.json"
"""The plan of the version that an update has set aside."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One process: ids are used again, so the id alone may name another one."""

    pid: int
    created: float

    @classmethod
    def of(cls, notes: Mapping[str, Any]) -> Self | None:
        """The process that notes name, if they name one."""
        pid, created = notes.get("pid"), notes.get("created")
        if isinstance(pid, int) and isinstance(created, int | float):
            return cls(pid, float(created))
        return None

    def is_(self, process: psutil.Process) -> bool:
        """Whether a process is that one."""
        return abs(process.create_time() - self.created) < _CLOCK_TOLERANCE


@dataclass(frozen=True, slots=True)
class Plan:
    """How an app is started, and the process that was: the content of `process.json`.

    It is written before the process is started, then again with its id. So a host that dies in
    between leaves a plan without an id, and `unrecorded()` finds the process.
    """

    FILE: ClassVar[str] = "process.json"

    command: tuple[str, ...]
    source: str
    environment: dict[str, str] = field(repr=False)
    pid: int | None = None
    created: float | None = None
    log_start: int = 0

    @property
    def identity(self) -> Identity | None:
        """The process that was started as planned, if that is recorded."""
        if self.pid is None or self.created is None:
            return None
        return Identity(self.pid, self.created)

    def notes(self) -> dict[str, Any]:
        """What may be shown of the plan."""
        notes = asdict(self)
        del notes["environment"]  # the secret is in there, and notes are shown
        return {**notes, "command": list(self.command)}

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The plan in a folder; None if there is none that can be read."""
        try:
            stored = json.loads((folder / cls.FILE).read_text(encoding="utf-8"))
            return cls(**{**stored, "command": tuple(stored["command"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, folder: Path, name: str = FILE) -> None:
        """Store the plan as a whole, readable by nobody else."""
        fresh = folder / f"{name}.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        fresh.replace(folder / name)


def keep_plan(folder: Path) -> None:
    """Keep the plan of a folder for `restore_plan()`."""
    plan = Plan.read(folder)
    if plan is not None:
        plan.write(folder, KEPT)


def restore_plan(folder: Path) -> None:
    """Put the kept plan back."""
    with suppress(FileNotFoundError):  # the update ended before it was set aside
        (folder / KEPT).replace(folder / Plan.FILE)
