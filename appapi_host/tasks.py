"""Task processing: what people want done, and the queue between them and the apps that do it.

Source: Nextcloud developer manual, Task processing; AppAPI documentation, Task processing.
"""

import math
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final

from appapi_host.documents import Document, Documents, DocumentStore
from appapi_host.errors import HostError, NotFoundError
from appapi_host.task_providers import (
    PROVIDER,
    Provider,
    check_provider,
    custom_type_of,
    provider_of,
)
from appapi_host.task_types import TaskType, checked, shapes_from_wire

__all__ = [
    "TASK",
    "Task",
    "TaskStatus",
    "Tasks",
    "numbers_in",
]

TASK: Final = "task"


class TaskStatus(StrEnum):
    """Where a task stands; the values are those of the wire."""

    SCHEDULED = "STATUS_SCHEDULED"
    RUNNING = "STATUS_RUNNING"
    SUCCESSFUL = "STATUS_SUCCESSFUL"
    FAILED = "STATUS_FAILED"
    CANCELLED = "STATUS_CANCELLED"


_OVER: Final = frozenset({TaskStatus.SUCCESSFUL, TaskStatus.FAILED, TaskStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class Task:
    """Something that somebody wants done.

    Args:
        id: number.
        type: id of the kind of task.
        status: where it stands.
        user_id: who wants it, None for nobody.
        app_id: which app asked for it.
        input: by key; files as their numbers.
        output: the same, once it is there.
        custom_id: what that app calls it.
        progress: 0 to 1.
        error: why it failed, for administrators.
        user_error: the same for people.
        webhook_uri: whom to tell when it is over.
        webhook_method: how, for instance `AppAPI:app_id:POST`.
        times: unix seconds by name: `updated`, `scheduled`, `started`, `ended`, `expected`.
    """

    id: int
    type: str
    status: TaskStatus
    user_id: str | None
    app_id: str
    input: Mapping[str, Any]
    output: Mapping[str, Any] | None
    custom_id: str | None
    progress: float
    error: str | None
    user_error: str | None
    webhook_uri: str | None
    webhook_method: str | None
    times: Mapping[str, int | None]

    def to_wire(self) -> dict[str, Any]:
        """As it is sent."""
        return {
            "id": self.id,
            "type": self.type,
            "lastUpdated": self.times["updated"],
            "status": self.status.value,
            "userId": self.user_id,
            "appId": self.app_id,
            "input": self.input,
            "output": self.output,
            "customId": self.custom_id,
            "completionExpectedAt": self.times["expected"],
            "progress": self.progress,
            "scheduledAt": self.times["scheduled"],
            "startedAt": self.times["started"],
            "endedAt": self.times["ended"],
            "allowCleanup": True,
        }


class Tasks:
    """The queue.

    Args:
        documents: where it is kept.
    """

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    # Providers

    async def register(
        self, app_id: str, registered: Mapping[str, Any], custom_type: Mapping[str, Any] | None
    ) -> None:
        """Note what an app can do, in place of what it said under the same id.

        Raises:
            HostError: the registration is malformed.
        """
        try:
            check_provider(registered)
            if custom_type is not None:
                custom_type_of(custom_type)
                if custom_type["id"] != registered["task_type"]:
                    raise ValueError("the custom task type is not that of the provider")
        except ValueError as error:
            raise HostError(f"the provider is malformed: {error}") from error
        content = {"provider": dict(registered), "custom_type": custom_type}
        await self._documents.write(
            lambda documents: documents.put(PROVIDER, app_id, str(registered["id"]), content)
        )

    async def providers(self, app_id: str | None = None) -> list[Provider]:
        """What an app can do, or all that are enabled; in order of registration."""

        def find(documents: Documents) -> list[Document]:
            return documents.find(PROVIDER, app_id=app_id, of_enabled=app_id is None)

        # An app has a few, and its workers make us look each time.
        found = await (self._documents.read if app_id is None else self._documents.look)(find)
        return [provider_of(each) for each in found]

    # Consumers

    async def schedule(
        self,
        task_type: TaskType,
        provider: Provider,
        values: Mapping[str, Any],
        *,
        app_id: str,
        user_id: str | None,
        custom_id: str | None = None,
        webhook_uri: str | None = None,
        webhook_method: str | None = None,
    ) -> tuple[Task, bool]:
        """Put a task into the queue.

        Args:
            task_type: what is to be done.
            provider: who will probably do it; gives defaults and the expected time.
            values: the input.
            app_id: which app asks for it.
            user_id: who wants it.
            custom_id: what that app calls it.
            webhook_uri: whom to tell when it is over.
            webhook_method: how.

        Returns:
            The task, and whether it is the only one of its kind that has not ended: then nobody
            is at work who would see it.

        Raises:
            HostError: the input does not fit.
        """
        complete = {
            # PHP writes an empty object as an empty list.
            **(provider.registered["optional_input_shape_defaults"] or {}),
            **(provider.registered["input_shape_defaults"] or {}),
            **values,
        }
        optional = shapes_from_wire(provider.registered["optional_input_shape"])
        shown = checked(complete, task_type.inputs, optional)
        now = int(time.time())
        task = Task(
            id=0,
            type=task_type.id,
            status=TaskStatus.SCHEDULED,
            user_id=user_id,
            app_id=app_id,
            input=shown,
            output=None,
            custom_id=custom_id,
            progress=0.0,
            error=None,
            user_error=None,
            webhook_uri=webhook_uri,
            webhook_method=webhook_method,
            times={
                "updated": now,
                "scheduled": now,
                "started": None,
                "ended": None,
                "expected": now + provider.expected_runtime,
            },
        )

        def add(documents: Documents) -> tuple[Task, bool]:
            running = documents.find(TASK, label=TaskStatus.RUNNING.value)
            is_first = all(each.content["type"] != task.type for each in running)
            stored = documents.add(
                TASK, app_id, _content(task), user_id=user_id or "", label=task.status.value
            )
            return replace(task, id=stored.id), is_first

        return await self._documents.write(add)

    async def task(self, number: int) -> Task:
        """One task.

        Raises:
            NotFoundError: there is none of that number.
        """

        def read(documents: Documents) -> Task:
            return _task(_existing(documents, number))

        return await self._documents.look(read)

    async def tasks_of(self, user_id: str) -> list[Task]:
        """The tasks of a user, oldest first."""
        found = await self._documents.read(lambda documents: documents.find(TASK, user_id=user_id))
        return [_task(each) for each in found]

    async def counts(self, task_types: Collection[str] = ()) -> tuple[int, int]:
        """How many tasks of these kinds, or of all, are scheduled and how many are running."""

        def count(documents: Documents) -> tuple[int, int]:
            scheduled, running = (
                sum(
                    1
                    for each in documents.find(TASK, label=status.value)
                    if not task_types or each.content["type"] in task_types
                )
                for status in (TaskStatus.SCHEDULED, TaskStatus.RUNNING)
            )
            return scheduled, running

        return await self._documents.read(count)

    async def cancel(self, number: int) -> Task:
        """Give a task up, unless it is over.

        Raises:
            NotFoundError: there is none of that number.
        """
        return await self._change(number, TaskStatus.CANCELLED)

    async def delete(self, number: int) -> None:
        """Forget a task.

        Raises:
            NotFoundError: there is none of that number.
        """
        await self._documents.write(
            lambda documents: documents.remove(_existing(documents, number))
        )

    # Those who work

    async def take(self, task_types: Collection[str], *, limit: int = 1) -> tuple[list[Task], bool]:
        """Take the oldest scheduled tasks of these kinds, and set them to running.

        In one transaction, so that two workers never get the same.

        Returns:
            The tasks, and whether there are more.
        """

        def is_anything_there(documents: Documents) -> bool:
            return documents.has(TASK, label=TaskStatus.SCHEDULED.value)

        def work(documents: Documents) -> tuple[list[Task], bool]:
            waiting = [
                each
                for each in documents.find(TASK, label=TaskStatus.SCHEDULED.value)
                if each.content["type"] in task_types
            ]
            now = int(time.time())
            taken = []
            for each in waiting[:limit]:
                task = _task(each)
                task = replace(
                    task,
                    status=TaskStatus.RUNNING,
                    times={**task.times, "updated": now, "started": now},
                )
                documents.replace(each, _content(task), label=task.status.value)
                taken.append(task)
            return taken, len(waiting) > len(taken)

        # Workers ask again and again, mostly for nothing: then nothing is locked.
        if not await self._documents.look(is_anything_there):
            return [], False
        return await self._documents.write(work)

    async def report_progress(self, number: int, progress: float) -> Task:
        """Take the progress of a running task.

        Args:
            number: of the task.
            progress: 0 to 1.

        Raises:
            NotFoundError: there is none of that number.
            HostError: the progress is something else.
        """
        if not (math.isfinite(progress) and 0 <= progress <= 1):
            raise HostError("Progress must be between 0.0 and 1.0 inclusively")
        return await self._change(number, None, progress=progress)

    async def report_output(self, number: int, output: Mapping[str, Any]) -> Task:
        """Take what there is of the result of a running task so far.

        Raises:
            NotFoundError: there is none of that number.
        """
        return await self._change(number, None, output=dict(output))

    async def report_result(
        self,
        number: int,
        output: Mapping[str, Any] | None,
        *,
        error: str | None = None,
        user_error: str | None = None,
    ) -> Task:
        """Take the result of a task, or why there is none; nothing changes when it is over.

        Raises:
            NotFoundError: there is none of that number.
        """
        if error is None and output is not None:
            return await self._change(
                number, TaskStatus.SUCCESSFUL, output=dict(output), progress=1.0
            )
        return await self._change(
            number,
            TaskStatus.FAILED,
            error=error or "the app gave neither output nor error",
            user_error=user_error,
        )

    async def add_file(self, number: int, content: bytes) -> int:
        """Keep a file that is part of a result; returns its number.

        Raises:
            NotFoundError: there is no task of that number.
        """

        def add(documents: Documents) -> int:
            _existing(documents, number)
            return documents.add_file(content)

        return await self._documents.write(add)

    async def store_file(self, content: bytes) -> int:
        """Keep a file for the input of a task that is still to be scheduled."""
        return await self._documents.write(lambda documents: documents.add_file(content))

    async def check_file(self, file_id: int) -> None:
        """See that a file is there that only tasks have.

        Raises:
            NotFoundError: it is not.
        """
        if await self._documents.read(lambda documents: documents.file(file_id)) is None:
            raise NotFoundError(f"there is no file {file_id}")

    async def file(self, number: int, file_id: int) -> bytes:
        """A file that belongs to a task.

        Raises:
            NotFoundError: there is no such task, or no such file in it.
        """

        def read(documents: Documents) -> bytes:
            task = _task(_existing(documents, number))
            content = None
            if file_id in numbers_in(task):
                content = documents.file(file_id)
            if content is None:
                raise NotFoundError(f"task {number} has no file {file_id}")
            return content

        return await self._documents.read(read)

    async def _change(self, number: int, status: TaskStatus | None, **changes: Any) -> Task:
        def work(documents: Documents) -> Task:
            stored = _existing(documents, number)
            task = _task(stored)
            if task.status in _OVER:
                return task
            now = int(time.time())
            times = {**task.times, "updated": now}
            if status in _OVER:
                times["ended"] = now
            task = replace(task, status=status or task.status, times=times, **changes)
            documents.replace(stored, _content(task), label=task.status.value)
            return task

        return await self._documents.write(work)


def _existing(documents: Documents, number: int) -> Document:
    found = documents.numbered(TASK, number)
    if found is None:
        raise NotFoundError(f"there is no task {number}")
    return found


def _content(task: Task) -> dict[str, Any]:
    return {name: value for name, value in asdict(task).items() if name != "id"}


def _task(stored: Document) -> Task:
    values = dict(stored.content)
    return Task(id=stored.id, **{**values, "status": TaskStatus(values["status"])})


def numbers_in(task: Task) -> set[int]:
    """Every number in there; which of them are files says the type, which may be gone by now."""
    found: set[int] = set()
    for value in (*task.input.values(), *(task.output or {}).values()):
        items = value if isinstance(value, list) else [value]
        found |= {item for item in items if isinstance(item, int)}
    return found
