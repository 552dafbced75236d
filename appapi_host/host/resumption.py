"""What a host takes up when it starts: apps that should run, and what had begun with them."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from anyio.abc import TaskGroup

from appapi_host.errors import DeployError, NotFoundError, StepError
from appapi_host.events import Notice, StepFailed
from appapi_host.records import AppRecord
from exapp_sdk.protocol.lifecycle import TRANSITIONS, Event, State

if TYPE_CHECKING:
    from appapi_host.host import Host

__all__ = ["Resumption"]


class Resumption:
    """Takes up what an earlier host process left behind.

    Args:
        host: whose apps.
        group: owner of what goes on in the background.
    """

    def __init__(self, host: "Host", group: TaskGroup) -> None:
        self._host = host
        self._group = group

    async def begin(self) -> None:
        """Start what should run, and go on with what had begun; see `Host.resume()`."""
        for operation in await self._host.recovery.orphans():
            self._group.start_soon(partial(self._host.recovery.settle, operation, finish=True))
        at_work = {operation.app_id for operation in await self._host.operations.all()}
        for app in await self._host.registry.apps():
            if app.app_id in at_work:
                continue
            try:
                backend = self._host.backend(app)
            except NotFoundError as error:
                self._host.warn(app.app_id, error.cause)
                continue
            started = False
            if app.enabled:
                try:
                    notes = await backend.start(app)
                except DeployError as error:
                    self._host.bus.emit(StepFailed(app.app_id, "start", error.cause, error.remedy))
                    await self._host.registry.apply(
                        app.app_id, partial(_could_not_start, error.cause)
                    )
                    continue
                started = notes != app.deployment
                if started:
                    place = f" as process {notes['pid']}" if "pid" in notes else ""
                    self._host.bus.emit(
                        Notice(app.app_id, f"started again{place}", is_warning=False)
                    )
                app = await self._host.registry.apply(app.app_id, partial(_with_notes, notes))
            self._group.start_soon(self._resume, app, started)

    async def _resume(self, app: AppRecord, started: bool) -> None:  # noqa: FBT001  # a task
        handshake = self._host.handshake(app)
        try:
            if app.state is State.ENABLING:
                await handshake.enable()
            elif app.state is State.DISABLING:
                await handshake.disable()
            elif app.state is State.INITIALIZING and started:
                await handshake.resume_init()
        except StepError as error:
            await self._host.installer.record_failure(app.app_id, Event.INIT_FAILED, error)
        except NotFoundError:
            pass  # unregistered meanwhile


def _with_notes(notes: Mapping[str, Any], app: AppRecord) -> AppRecord:
    return replace(app, deployment=dict(notes))


def _could_not_start(cause: str, app: AppRecord) -> AppRecord:
    if Event.INTERRUPTED in TRANSITIONS[app.state]:
        return app.after(Event.INTERRUPTED, failure=f"start: {cause}")
    return replace(app, failure=f"start: {cause}")
