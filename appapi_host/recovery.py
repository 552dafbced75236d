"""What becomes of operations whose process is gone, of apps that die, of init that never ends.

An operation is finished where that needs nobody's patience, and undone or ended with an error that
names the step otherwise. A process that serves has the patience: it finishes what it can.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.abc import TaskGroup

from appapi_host.errors import (
    AppInterruptedError,
    DeployError,
    HostError,
    NotFoundError,
    StepError,
)
from appapi_host.events import AppEnded, Notice, StepFailed
from appapi_host.operations import STOP, Operation, Verb
from appapi_host.records import AccessLevel, AppRecord, Route
from exapp_sdk.protocol.lifecycle import TRANSITIONS, Event, State
from exapp_sdk.protocol.status import Status

if TYPE_CHECKING:
    from appapi_host.host import Host

__all__ = ["NOUNS", "Recovery", "snapshot", "was_never_deployed"]

NOUNS: Final[Mapping[Verb, str]] = {
    Verb.REGISTER: "the installation",
    Verb.UPDATE: "the update",
    Verb.ENABLE: "enabling",
    Verb.DISABLE: "disabling",
    Verb.UNREGISTER: "the removal",
}
"""Verb → what it is called in a sentence."""

_LOOK_SECONDS: Final = 1.0
"""How soon the death of another process, or a limit that is over, is noticed."""

_GRACE_SECONDS: Final = 1.0
"""How long an app may be gone before that counts: its engine may start it again, and whoever waits
for its init says it better."""

_AWAY_SECONDS: Final = 5.0
"""How soon a daemon that could not be reached is tried again."""

_LAST_LINES: Final = 10


class Recovery:
    """Brings a host to a state that its registry tells the truth about.

    Args:
        host: whose apps.
    """

    def __init__(self, host: "Host") -> None:
        self._host = host
        self._followed: dict[str, tuple[object, anyio.CancelScope]] = {}
        self._resumed: set[str] = set()
        self._warned: set[tuple[str, float]] = set()
        self._away: dict[str, float] = {}
        self._unknown: dict[str, str] = {}
        self.grace = _GRACE_SECONDS
        self.pause = _AWAY_SECONDS

    # Operations that nobody is at work on

    async def orphans(self) -> list[Operation]:
        """Operations whose process is gone."""
        operations = self._host.operations
        return [one for one in await operations.all() if await operations.is_orphaned(one)]

    async def settle(self, operation: Operation, *, finish: bool) -> HostError | None:
        """Finish or undo an operation that nobody is at work on.

        Args:
            operation: an orphaned one; nothing happens if somebody else is faster.
            finish: take the time that an app needs to come up; otherwise what would need it is
                ended with an error.

        Returns:
            None; or why it is left as it is, where the app's daemon cannot be reached.
        """
        if await self._host.operations.claim(operation) is None:
            return None
        app_id = operation.app_id
        what = f"{NOUNS[operation.verb]} was interrupted at the step {operation.step}"
        if operation.step == STOP:
            what = f"the app could not be stopped when {NOUNS[operation.verb]} had failed"
        async with self._host.turns.ending(app_id):
            app = await self._host.registry.app(app_id)
            try:
                if app is None:
                    done = "nothing of it is left"
                elif app.state is State.FAILED and operation.verb in (Verb.REGISTER, Verb.ENABLE):
                    # What failed while its engine was away is started again by that.
                    await self._host.backend(app).stop(app)
                    done = "it is stopped now; app:enable starts it"
                else:
                    settler = getattr(self, f"_settle_{operation.verb.value}")
                    done = await settler(app, operation, what, finish=finish)
            except HostError as error:
                if error.is_unreachable:
                    await self._leave(app_id, f"{what}; {error.cause}")
                    return error
                done = error.cause
                if await self._host.registry.app(app_id):
                    await self._fail(app_id, f"{what}; {done}")
        self._away.pop(app_id, None)
        self._host.bus.emit(Notice(app_id, f"{what}; {done}"))
        return None

    async def _leave(self, app_id: str, text: str) -> None:
        """Leave an operation to whoever finds the app's daemon again, and say so once."""
        await self._host.operations.abandon(app_id)
        with suppress(NotFoundError):
            await self._host.registry.apply(app_id, partial(_left, text))
        if app_id not in self._away:
            self._host.bus.emit(Notice(app_id, f"{text}; it goes on when that has changed"))
        self._away[app_id] = time.monotonic() + self.pause

    async def _settle_register(
        self, app: AppRecord, operation: Operation, what: str, *, finish: bool
    ) -> str:
        if app.state is State.DEPLOYING:
            text = "what there was of it was removed; register the app again"
            await self._host.backend(app).remove(app, data=False)
            await self._fail(app.app_id, f"{what}; {text}")
            return text
        return await self._come_up(app, what, finish=finish)

    async def _settle_enable(
        self, app: AppRecord, operation: Operation, what: str, *, finish: bool
    ) -> str:
        return await self._come_up(app, what, finish=finish)

    async def _come_up(self, app: AppRecord, what: str, *, finish: bool) -> str:
        """From wherever an app is on its way to enabled."""
        if app.state not in (State.WAITING, State.INITIALIZING, State.ENABLING):
            return f"the app is {app.state}"
        if not finish:
            text = "it was stopped; app:enable starts it"
            await self._host.backend(app).stop(app)
            await self._fail(app.app_id, f"{what}; {text}", enabled=False)
            return text
        notes = await self._host.backend(app).start(app)
        app = await self._host.registry.apply(
            app.app_id, lambda app: replace(app, deployment=dict(notes))
        )
        try:
            if app.state is State.WAITING:
                app = await self._host.installer.bring_up(app)
            elif app.state is State.INITIALIZING:
                app = await self._host.handshake(app).resume_init()
            else:
                app = await self._host.handshake(app).enable()
        except StepError as error:
            await self._host.installer.record_failure(app.app_id, Event.INIT_FAILED, error)
            if away := await self._host.daemons.away(app):
                raise away from error
            return f"it went on and failed: {error.cause}"
        return f"it went on, the app is {app.state}"

    async def _settle_disable(
        self, app: AppRecord, operation: Operation, what: str, *, finish: bool
    ) -> str:
        if app.state is State.DISABLED:
            await self._host.backend(app).stop(app)  # whoever disabled it may not have reached it
        if app.state is not State.DISABLING:
            return f"the app is {app.state}"
        if finish:
            error = await self._host.handshake(app).disable()
            return f"it was finished, the app said: {error}" if error else "it was finished"
        await self._host.backend(app).stop(app)
        text = "the app was stopped"
        await self._host.registry.apply(
            app.app_id,
            lambda app: app.after(Event.DISABLE_FINISHED, enabled=False, failure=f"{what}; {text}"),
        )
        return text

    async def _settle_unregister(
        self, app: AppRecord, operation: Operation, what: str, *, finish: bool
    ) -> str:
        if operation.step != "remove":
            # Nothing was removed, and it may be that the app did not want to be disabled.
            return await self._settle_disable(app, operation, what, finish=finish)
        await self._host.backend(app).remove(app, data=bool(operation.details.get("rm_data")))
        await self._host.registry.remove_app(app.app_id)
        return "it was finished, the app is gone"

    async def _settle_update(
        self, app: AppRecord, operation: Operation, what: str, *, finish: bool
    ) -> str:
        stored = operation.details.get("old")
        if stored is None:
            text = f"version {app.version} is as it was"
            await self._host.registry.apply(
                app.app_id, lambda app: replace(app, failure=f"{what}; {text}")
            )
            return text
        backend = self._host.backend(app)
        if operation.step == "discard":
            await backend.discard(app)
            return f"version {app.version} is installed and {app.state}"
        old = _restored(app, stored)
        if not await self._host.updater.roll_back(old, backend, what, enable=old.enabled):
            raise await self._host.daemons.away(old) or HostError(what)
        app = await self._host.app(app.app_id)
        return f"version {app.version} is installed and {app.state}"

    async def _fail(self, app_id: str, text: str, *, enabled: bool | None = None) -> None:
        def change(app: AppRecord) -> AppRecord:
            if Event.INTERRUPTED not in TRANSITIONS[app.state]:
                return replace(app, failure=text)
            return app.after(
                Event.INTERRUPTED, status=app.status.failed(text), enabled=enabled, failure=text
            )

        await self._host.registry.apply(app_id, change)

    # While a host serves

    async def watch(self) -> None:
        """Notice what nobody tells: processes and apps that die, limits that are over.

        Runs until it is cancelled.
        """
        seen: tuple[int, int] | None = None
        apps: list[AppRecord] = []
        async with anyio.create_task_group() as group:
            while True:
                for operation in await self._host.operations.all():
                    if await self._host.operations.is_orphaned(operation):
                        if self._away.get(operation.app_id, 0.0) <= time.monotonic():
                            settle = partial(self.settle, operation, finish=True)
                            group.start_soon(self._host.supervised, settle)
                    else:
                        self._warn_if_stuck(operation)
                revision = await self._host.registry.next_change()
                if revision != seen:  # reading a thousand apps each second would be felt
                    seen, apps = revision, await self._host.registry.apps()
                for app in apps:
                    await self._end_init(app)
                    self._follow(app, group)
                await anyio.sleep(_LOOK_SECONDS)

    def _warn_if_stuck(self, operation: Operation) -> None:
        seconds = self._host.settings.timeouts.stuck
        key = operation.app_id, operation.moved
        if time.time() - operation.moved < seconds or key in self._warned:
            return
        if operation.step == "init":
            return  # it has a limit of its own
        self._warned.add(key)
        self._host.bus.emit(
            Notice(
                operation.app_id,
                f"{NOUNS[operation.verb]} has been at the step {operation.step} for more than "
                f"{seconds:g} s, in process {operation.pid}; end that process to have it undone",
            )
        )

    async def _end_init(self, app: AppRecord) -> None:
        """Record that the initialization took too long; a later report of 100 still counts."""
        seconds, began = self._host.settings.timeouts.init, app.status.init_start_time
        if app.state is not State.INITIALIZING or began is None or time.time() < began + seconds:
            return
        text = (
            f"ExApp {app.app_id} initialization timed out ({seconds / 60:g}m); "
            f"the last progress reported was {app.status.init} %"
        )

        def change(app: AppRecord) -> AppRecord:
            if app.state is not State.INITIALIZING or app.status.init_start_time != began:
                return app
            return app.after(Event.INIT_FAILED, status=app.status.failed(text), failure=text)

        changed = await self._host.registry.apply(app.app_id, change)
        if changed.state is State.FAILED:
            self._host.bus.emit(StepFailed(app.app_id, "init", text))

    def _follow(self, app: AppRecord, group: TaskGroup) -> None:
        """Wait for the end of each app that runs, once for each of its starts."""
        if app.app_id in self._resumed or app.app_id in self._host.resumption.waiting:
            return
        known, scope = self._followed.get(app.app_id, (None, None))
        is_followed = app.state in (State.ENABLED, State.INITIALIZING)
        # Once it is enabled, another end counts: its engine may start it again.
        wanted = (app.state, app.deployment) if is_followed else None
        if wanted == known:
            return
        if scope is not None:
            scope.cancel()
        self._followed.pop(app.app_id, None)
        if wanted is not None:
            scope = anyio.CancelScope()
            self._followed[app.app_id] = wanted, scope
            group.start_soon(self._follow_within, scope, app)

    async def _follow_within(self, scope: anyio.CancelScope, app: AppRecord) -> None:
        with scope:
            await self._host.supervised(partial(self.follow_end, app))
            await anyio.sleep(self.pause)
            # Nobody could say how it is, or the app goes on: then it is followed anew.
            self._followed.pop(app.app_id, None)

    async def _end_of(self, app: AppRecord) -> str:
        """Wait for the end of an app; one that is interrupted in its init begins that anew."""
        backend = self._host.backend(app)
        while True:
            try:
                return await backend.exited(app)
            except AppInterruptedError as error:
                self._resumed.add(app.app_id)
                try:
                    await self._host.installer.resume(app, error)
                except AppInterruptedError:
                    pass
                except StepError as failed:
                    return failed.cause
                finally:
                    self._resumed.discard(app.app_id)
                app = await self._host.app(app.app_id)
            except DeployError as error:
                if app.state is not State.INITIALIZING:
                    raise
                return error.cause

    async def follow_end(self, app: AppRecord) -> None:
        """Wait for the end of an app, and record it unless somebody has wanted it."""
        try:
            backend = self._host.backend(app)
            how = await self._end_of(app)
            await anyio.sleep(self.grace)
            while operation := await self._host.operations.of(app.app_id):
                # Somebody may be about to stop or replace it; the record tells in the end.
                await self._host.operations.wait_for_end(operation)
                await anyio.sleep(self.grace)
            output = await backend.last_output(app, lines=_LAST_LINES)
        except DeployError as error:
            if self._unknown.get(app.app_id) != error.cause:
                self._unknown[app.app_id] = error.cause
                self._host.warn(app.app_id, f"nobody knows whether it still runs: {error.cause}")
            return
        except HostError:
            return
        self._unknown.pop(app.app_id, None)
        at = time.strftime("%Y-%m-%d %H:%M:%S")
        text = "\n".join([f"the app ended at {at}: {how}", *(f"  | {line}" for line in output)])
        ended = False

        def change(current: AppRecord) -> AppRecord:
            nonlocal ended
            ended = (current.state, current.deployment) == (app.state, app.deployment) or (
                current.state is State.ENABLED and current.deployment == app.deployment
            )
            if not ended:
                return current
            status = current.status.failed(f"the app ended: {how}")
            return current.after(Event.INTERRUPTED, status=status, failure=text)

        with anyio.CancelScope(shield=True):  # the change itself ends our watch
            try:
                current = await self._host.registry.apply(app.app_id, change)
            except NotFoundError:
                return
            if ended and current.state is State.FAILED:
                self._host.bus.emit(AppEnded(app.app_id, app.state.value, how, tuple(output)))
                await self._host.switch.stop_failed(app.app_id, Verb.ENABLE, only_later=True)


def was_never_deployed(app: AppRecord) -> bool:
    """Whether an installation ended before anything was in place; it can be made anew."""
    return app.state is State.FAILED and app.status.deploy < 100 and app.status.type != "update"


def _left(text: str, app: AppRecord) -> AppRecord:
    """An app that waits for its daemon; why it has failed already says more."""
    return app if app.state is State.FAILED and app.failure else replace(app, failure=text)


def snapshot(app: AppRecord) -> dict[str, Any]:
    """What of an app an update changes, as JSON values."""
    return {
        "version": app.version,
        "name": app.name,
        "state": app.state.value,
        "enabled": app.enabled,
        "status": app.status.to_wire(),
        "routes": [asdict(route) for route in app.routes],
        "deployment": dict(app.deployment),
        "options": dict(app.options),
    }


def _restored(app: AppRecord, stored: Mapping[str, Any]) -> AppRecord:
    """The record as it was when it was taken."""
    routes = (
        Route(
            route["url"],
            route["verb"],
            AccessLevel(route["access_level"]),
            tuple(route["headers_to_exclude"]),
            tuple(route["bruteforce_protection"]),
        )
        for route in stored["routes"]
    )
    return replace(
        app,
        version=stored["version"],
        name=stored["name"],
        state=State(stored["state"]),
        enabled=stored["enabled"],
        status=Status.from_wire(stored["status"]),
        routes=tuple(routes),
        deployment=stored["deployment"],
        options=stored["options"],
    )
