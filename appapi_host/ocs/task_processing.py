"""The queue of tasks: people fill it, apps empty it.

Source: Nextcloud OCS API, Task processing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, Final

from appapi_host.documents import FIRST_FILE
from appapi_host.errors import HostError, NotFoundError
from appapi_host.ocs._endpoints import Answer, Auth, Call, Family, File, OCSRefusal
from appapi_host.ocs._parameters import ParameterError
from appapi_host.task_providers import Provider, files_in, task_type_of
from appapi_host.task_types import Shape, TaskType, shapes_from_wire
from appapi_host.tasks import Task, numbers_in
from exapp_sdk.protocol.ocs import NOT_FOUND

__all__ = ["family"]

WORK: Final = "/taskprocessing/tasks_provider"
CONSUME: Final = "/taskprocessing"
APP_CONSUME: Final = "/taskprocessing/tasks_consumer"

APPS_SINCE: Final = 33
"""The first Nextcloud where apps can want tasks done in nobody's name."""

MAX_FILE_BYTES: Final = 256 * 1024 * 1024
"""Longest file of a result: a short video. It is in memory while it is being taken."""

family = Family()


# For those who work


@family.get(f"{WORK}/next", auth=Auth.EX_APP)
async def take_task(call: Call, provider_ids: list[Any], task_type_ids: list[Any]) -> Answer:
    """The oldest task for one of these providers, which is running from now on."""
    found, _ = await _take(call, provider_ids, task_type_ids, 1)
    return Answer(found[0]) if found else Answer(None, 204)


@family.get(f"{WORK}/next_batch", auth=Auth.EX_APP, since=33)
async def take_tasks(
    call: Call, provider_ids: list[Any], task_type_ids: list[Any], number_of_tasks: int = 1
) -> dict[str, Any]:
    """Several of them."""
    found, has_more = await _take(call, provider_ids, task_type_ids, max(number_of_tasks, 0))
    return {"tasks": found, "has_more": has_more}


@family.post(f"{WORK}/{{taskId}}/progress", auth=Auth.EX_APP)
async def report_progress(call: Call, task_id: int, progress: float) -> dict[str, Any]:
    """Take how far a task is, 0 to 1."""
    with _refused():
        return {"task": (await call.host.tasks.report_progress(task_id, progress)).to_wire()}


@family.post(f"{WORK}/{{taskId}}/result", auth=Auth.EX_APP)
async def report_result(
    call: Call,
    task_id: int,
    output: dict[str, Any] | None = None,
    error_message: str | None = None,
    user_facing_error_message: str | None = None,
) -> dict[str, Any]:
    """Take what came out of a task, or why nothing did."""
    with _refused():
        task = await call.host.tasks.report_result(
            task_id, output, error=error_message, user_error=user_facing_error_message
        )
    call.host.errands.task_ended(task)
    return {"task": task.to_wire()}


@family.post(f"{WORK}/{{taskId}}/file", auth=Auth.EX_APP, max_body=MAX_FILE_BYTES)
async def upload_file(call: Call, task_id: int) -> Answer:
    """Take a file that is part of a result; its number then stands in the output."""
    with _refused():
        await call.host.tasks.task(task_id)
    content = _uploaded(call.request.headers.get("content-type", ""), call.body)
    with _refused():
        return Answer({"fileId": await call.host.tasks.add_file(task_id, content)}, 201)


@family.get(f"{WORK}/{{taskId}}/file/{{fileId}}", auth=Auth.EX_APP)
async def download_file(call: Call, task_id: int, file_id: int) -> File:
    """A file of the input of a task: one that its user has, or one that only the task has."""
    with _refused():
        task = await call.host.tasks.task(task_id)
        if file_id >= FIRST_FILE:
            return File(await call.host.tasks.file(task_id, file_id))
        if file_id not in numbers_in(task) or task.user_id is None:
            raise NotFoundError(f"task {task_id} has no file {file_id}")
        node = await call.host.files.by_id(task.user_id, file_id)
        content = await call.host.files.get(task.user_id, node.path)
    return File(content, node.mime)


@family.post(f"{WORK}/{{taskId}}/stream-result", auth=Auth.EX_APP, since=35)
async def stream_result(call: Call, task_id: int, output: dict[str, Any]) -> dict[str, Any]:
    """Take what there is of a result so far; the task runs on."""
    with _refused():
        return {"task": (await call.host.tasks.report_output(task_id, output)).to_wire()}


# For those who want something done: users, and from Nextcloud 33 on apps in nobody's name


@family.get(f"{CONSUME}/tasktypes", auth=Auth.USER)
@family.get(f"{APP_CONSUME}/tasktypes", auth=Auth.EX_APP, since=APPS_SINCE)
async def list_task_types(call: Call) -> dict[str, Any]:
    """What can be done at present: kinds of tasks that an enabled app provides."""
    types = {}
    for provider in await call.host.tasks.providers():
        task_type = task_type_of(provider)
        if task_type is not None and task_type.id not in types:
            types[task_type.id] = _described(task_type, provider)
    return {"types": types}


@family.post(f"{CONSUME}/schedule", auth=Auth.USER)
@family.post(f"{APP_CONSUME}/schedule", auth=Auth.EX_APP, since=APPS_SINCE)
async def schedule(
    call: Call,
    input: dict[str, Any],  # noqa: A002  # the name on the wire
    type: str,  # noqa: A002
    app_id: str,
    custom_id: str = "",
    webhook_uri: str | None = None,
    webhook_method: str | None = None,
) -> dict[str, Any]:
    """Put a task of the acting user, or of nobody, into the queue."""
    try:
        await _check_files(call, await call.host.errands.provider_of(type), input)
        task = await call.host.errands.schedule_task(
            type,
            input,
            app_id=app_id,
            user_id=call.user.user_id if call.user else None,
            custom_id=custom_id or None,
            webhook_uri=webhook_uri,
            webhook_method=webhook_method,
        )
    except NotFoundError as error:
        raise OCSRefusal(412, data={"message": error.cause}) from error
    except HostError as error:
        raise OCSRefusal(400, data={"message": error.cause}) from error
    return {"task": task.to_wire()}


@family.get(f"{CONSUME}/task/{{id}}", auth=Auth.USER)
@family.get(f"{APP_CONSUME}/task/{{id}}", auth=Auth.EX_APP, since=APPS_SINCE)
async def get_task(call: Call, id: int) -> dict[str, Any]:  # noqa: A002
    """One of the user's tasks."""
    return {"task": (await _own(call, id)).to_wire()}


@family.delete(f"{CONSUME}/task/{{id}}", auth=Auth.USER)
@family.delete(f"{APP_CONSUME}/task/{{id}}", auth=Auth.EX_APP, since=APPS_SINCE)
async def delete_task(call: Call, id: int) -> None:  # noqa: A002
    """Forget one of the user's tasks; nothing happens if there is none."""
    try:
        await _own(call, id)
    except OCSRefusal:
        return
    await call.host.tasks.delete(id)


@family.post(f"{CONSUME}/tasks/{{taskId}}/cancel", auth=Auth.USER)
@family.post(f"{APP_CONSUME}/tasks/{{taskId}}/cancel", auth=Auth.EX_APP, since=APPS_SINCE)
async def cancel_task(call: Call, task_id: int) -> dict[str, Any]:
    """Give one of the user's tasks up."""
    await _own(call, task_id)
    return {"task": (await call.host.tasks.cancel(task_id)).to_wire()}


@family.get(f"{CONSUME}/tasks", auth=Auth.USER)
@family.get(f"{CONSUME}/tasks/app/{{appId}}", auth=Auth.USER)
async def list_tasks(
    call: Call, task_type: str | None = None, custom_id: str | None = None
) -> dict[str, Any]:
    """The user's tasks, of one kind, of one app or under one name."""
    app_id = call.path.get("appId")
    found = await call.host.tasks.tasks_of(call.acting_user.user_id)
    return {
        "tasks": [
            task.to_wire()
            for task in found
            if task_type in (None, task.type)
            and custom_id in (None, task.custom_id)
            and app_id in (None, task.app_id)
        ]
    }


@family.get(f"{CONSUME}/queue_stats", auth=Auth.ADMIN, since=33)
async def count_tasks(call: Call, task_type_ids: list[Any] | None = None) -> dict[str, int]:
    """How much there is to do, for what starts and stops workers."""
    scheduled, running = await call.host.tasks.counts([str(each) for each in task_type_ids or ()])
    return {"scheduled": scheduled, "running": running}


@family.get(f"{CONSUME}/tasks/{{taskId}}/file/{{fileId}}", auth=Auth.USER)
async def download_own_file(call: Call, task_id: int, file_id: int) -> File:
    """A file of one of the user's tasks, for instance of its result."""
    await _own(call, task_id)
    return await download_file(call, task_id, file_id)


async def _own(call: Call, number: int) -> Task:
    """A task of who calls; those of nobody are for apps in nobody's name."""
    try:
        task = await call.host.tasks.task(number)
    except NotFoundError:
        task = None
    if task is None or task.user_id != (call.user.user_id if call.user else None):
        raise OCSRefusal(NOT_FOUND, data={"message": "Task not found"})
    return task


async def _check_files(call: Call, provider: Provider, values: dict[str, Any]) -> None:
    """See that the files of an input may be read by who wants the task done.

    Raises:
        OCSRefusal: they may not, or are not there.
    """
    for number in files_in(provider, values):
        if call.user is None:
            message = "Cannot schedule task with files referenced without user context"
            raise OCSRefusal(401, data={"message": message})
        try:
            if number >= FIRST_FILE:
                await call.host.tasks.check_file(number)
            else:
                await call.host.files.by_id(call.user.user_id, number)
        except NotFoundError as error:
            message = "User does not have access to the files mentioned in the task input"
            raise OCSRefusal(401, data={"message": message}) from error


@contextmanager
def _refused() -> Iterator[None]:
    """What the real one answers when the queue says no."""
    try:
        yield
    except NotFoundError as error:
        raise OCSRefusal(NOT_FOUND, data={"message": "Not found"}) from error
    except HostError as error:
        raise OCSRefusal(400, data={"message": error.cause}) from error


async def _take(
    call: Call, provider_ids: list[Any], task_types: list[Any], limit: int
) -> tuple[list[dict[str, Any]], bool]:
    """Tasks of those kinds that one of those providers does; the app's own are meant."""
    wanted = {
        provider.task_type: provider
        for provider in await call.host.tasks.providers(call.app.app_id)
        if provider.name in provider_ids and provider.task_type in task_types
    }
    taken, has_more = await call.host.tasks.take(wanted.keys(), limit=limit)
    found = [
        {"task": task.to_wire(), "provider": {"name": wanted[task.type].name}} for task in taken
    ]
    return found, has_more


def _described(task_type: TaskType, provider: Provider) -> dict[str, Any]:
    registered = provider.registered

    def shown(shapes: dict[str, Shape]) -> dict[str, Any]:
        return {key: shape.to_wire() for key, shape in shapes.items()}

    return {
        "name": task_type.name,
        "description": task_type.description,
        "inputShape": shown(dict(task_type.inputs)),
        "inputShapeEnumValues": registered["input_shape_enum_values"],
        "inputShapeDefaults": registered["input_shape_defaults"],
        "optionalInputShape": shown(shapes_from_wire(registered["optional_input_shape"])),
        "optionalInputShapeEnumValues": registered["optional_input_shape_enum_values"],
        "optionalInputShapeDefaults": registered["optional_input_shape_defaults"],
        "outputShape": shown(dict(task_type.outputs)),
        "outputShapeEnumValues": registered["output_shape_enum_values"],
        "optionalOutputShape": shown(shapes_from_wire(registered["optional_output_shape"])),
        "optionalOutputShapeEnumValues": registered["optional_output_shape_enum_values"],
    }


def _uploaded(content_type: str, body: bytes) -> bytes:
    """The part `file` of a form.

    Raises:
        ParameterError: there is none.
    """
    message = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n" + body
    )
    for part in message.iter_parts() if message.is_multipart() else ():
        if part.get_param("name", header="content-disposition") == "file":
            content = part.get_payload(decode=True)
            return content if isinstance(content, bytes) else b""
    raise ParameterError("the form needs the part 'file'")
