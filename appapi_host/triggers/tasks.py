"""A task for an app that does tasks.

Source: AppAPI documentation, Task processing; Nextcloud OCS API, Task processing.
"""

import io
import json
import struct
import wave
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio

from appapi_host.errands import TRIGGER_SINCE
from appapi_host.errors import HostError
from appapi_host.events import Direction
from appapi_host.host import Host
from appapi_host.task_providers import PROVIDER, Provider, task_type_of
from appapi_host.task_types import FILE_TYPES, Shape, shapes_from_wire
from appapi_host.tasks import Task, TaskStatus
from appapi_host.triggers.outcome import Outcome, Told, exchanges_with
from appapi_host.triggers.targets import acting_user, enabled_app, registration

__all__ = ["TaskOutcome", "trigger_task"]

SCHEDULER: Final = "appapi_host"
"""The app that wants the task done, which is none."""

SAMPLE_TEXT: Final = (
    "The fox saw grapes that hung too high. After three jumps it said: they are sour anyway."
)


@dataclass(frozen=True, slots=True)
class TaskOutcome(Outcome):
    """The same, and the task.

    Args:
        task: as it was when the waiting ended; None only as a default.
    """

    task: Task | None = None


async def trigger_task(
    host: Host,
    app_id: str,
    *,
    provider: str | None = None,
    values: Mapping[str, Any] | None = None,
    user_id: str | None = None,
    seconds: float = 0.0,
) -> TaskOutcome:
    """Schedule a task, and tell the app if this Nextcloud does.

    Args:
        host: where the app is installed.
        app_id: the app.
        provider: its id; not needed if the app has only one.
        values: input by key, bytes for files; what is missing is filled with samples.
        user_id: who wants it done; the first user who is no administrator if not given.
        seconds: how long to wait for the end of the task.

    Raises:
        NotFoundError: there is no such app, provider or user.
        HostError: the app or the user is disabled, it is not clear which provider is meant, or the
            input does not fit.
    """
    await enabled_app(host, app_id)
    chosen = await registration(host, app_id, PROVIDER, provider, what="task provider")
    found = {each.name: each for each in await host.tasks.providers(app_id)}[chosen.name]
    user = await acting_user(host, user_id)
    complete = await _complete(host, found, dict(values or {}))
    task, is_trigger_due = await host.errands.queue_task(
        found, complete, app_id=SCHEDULER, user_id=user.user_id
    )
    note = ""
    with exchanges_with(host.bus, app_id, Direction.HOST_TO_APP) as seen:
        if is_trigger_due:
            await host.errands.trigger(found)
        elif host.errands.triggers_workers:
            note = "/trigger is not called: a task of this kind is running already"
        else:
            note = (
                f"/trigger is not called: Nextcloud does so since version {TRIGGER_SINCE}, "
                "before that the app has to look for tasks"
            )
    told = tuple(Told.of(exchange) for exchange in seen)
    task = await _ended(host, task, seconds)
    is_success = all(one.is_success for one in told) and task.status is not TaskStatus.FAILED
    if seconds and task.status is not TaskStatus.SUCCESSFUL:
        is_success = False
    return TaskOutcome(told, (note,) if note else (), is_success, task)


async def _ended(host: Host, task: Task, seconds: float) -> Task:
    """The task, as soon as it has ended or the time is over."""
    with anyio.move_on_after(seconds):
        revision = None
        while task.times["ended"] is None:
            revision = await host.registry.next_change(revision)
            task = await host.tasks.task(task.id)
    return task


async def _complete(host: Host, provider: Provider, values: dict[str, Any]) -> dict[str, Any]:
    """The input, with samples where nothing is given; bytes as files."""
    task_type = task_type_of(provider)
    needed = task_type.inputs if task_type else {}
    defaults = provider.registered["input_shape_defaults"] or {}
    for key, shape in needed.items():
        if key not in values and key not in defaults:
            values[key] = _sample(key, shape, provider)
    shapes = {**needed, **shapes_from_wire(provider.registered["optional_input_shape"])}
    for key, value in values.items():
        if key not in shapes:
            raise HostError(f"the task has no input {key}", remedy=f"it has {', '.join(shapes)}")
        if isinstance(value, str):
            values[key] = _read(key, value, shapes[key])
        elif isinstance(value, bytes):
            values[key] = await host.tasks.store_file(value)
        elif isinstance(value, list):
            values[key] = [
                await host.tasks.store_file(each) if isinstance(each, bytes) else each
                for each in value
            ]
    return values


def _read(key: str, text: str, shape: Shape) -> Any:
    """A text in the type of the input.

    Raises:
        HostError: it is none of that type.
    """
    if shape.type in ("Text", "Enum"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise HostError(
            f"{text!r} is no {shape.type} for {key}",
            remedy="numbers as they are, lists as JSON, files as files",
        ) from None


def _sample(key: str, shape: Shape, provider: Provider) -> Any:
    """A value of a type.

    Raises:
        HostError: there is no sample for it.
    """
    kind = shape.type
    if kind.startswith("ListOf"):
        single = kind.removeprefix("ListOf").removesuffix("s")
        return [_sample(key, Shape(shape.name, shape.description, single), provider)]
    if kind == "Enum":
        listed = (provider.registered["input_shape_enum_values"] or {}).get(key) or []
        values = [each.get("value") for each in listed if isinstance(each, dict)]
        return values[0] if values else ""
    samples: dict[str, Any] = {"Number": 1, "Text": SAMPLE_TEXT, "File": SAMPLE_TEXT.encode()}
    if kind == "Image":
        return _picture()
    if kind == "Audio":
        return _sound()
    if kind in FILE_TYPES and kind not in samples:
        raise HostError(f"there is no sample of a {kind} for {key}", remedy="give a file for it")
    return samples[kind]


def _picture() -> bytes:
    """A PNG of 8 by 8 red pixels. Source: PNG specification."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    rows = (b"\x00" + b"\xff\x00\x00" * 8) * 8
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def _sound() -> bytes:
    """A WAV of half a second of silence."""
    target = io.BytesIO()
    with wave.open(target, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\x00\x00" * 4000)
    return target.getvalue()
