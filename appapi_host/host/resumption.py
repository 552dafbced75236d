"""What a host takes up when it starts: apps that should run, and what had begun with them."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from appapi_host.deploy.base import DeployBackend
from appapi_host.errors import DeployError, NotFoundError, StepError
from appapi_host.events import Notice, StepFailed
from appapi_host.operations import Verb
from appapi_host.records import AppRecord
from exapp_sdk.protocol.lifecycle import TRANSITIONS, Event, State

if TYPE_CHECKING:
    from appapi_host.host import Host

__all__ = ["Resumption"]

_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 5.0
"""Until a daemon that is away is tried again: soon, for one that starts with the machine as we do,
and the more seldom the longer that takes."""

_CLOCK_SECONDS: Final = 1.0
"""The start of an init is noted in whole seconds."""

_ON_THE_WAY: Final = frozenset({State.ENABLING, State.DISABLING})
"""Where an app does not stay; if nobody is at work on it, we are."""

_RESUME: Final = "resume"
"""Step of an operation that a host takes up."""

_GOES_ON: Final = "; the app goes on when that has changed"
"""How the reason of an app ends whose daemon is away."""


class Resumption:
    """Takes up what an earlier host process left behind.

    Attributes:
        waiting: ids of the apps whose daemon has been away since we began; how they are is unknown.

    Args:
        host: whose apps.
    """

    def __init__(self, host: "Host") -> None:
        self._host = host
        self.waiting: set[str] = set()

    async def begin(self) -> None:
        """Start what should run, and go on with what had begun; see `Host.resume()`."""
        for operation in await self._host.recovery.orphans():
            self._host.start(partial(self._host.recovery.settle, operation, finish=True))
        at_work = {operation.app_id for operation in await self._host.operations.all()}
        away: dict[str, tuple[DeployError, list[AppRecord]]] = {}
        for app in await self._host.registry.apps():
            if app.app_id in at_work or not _should_run(app):
                continue
            name = app.daemon.name
            if name in away:
                away[name][1].append(app)
            elif error := await self._start(app):
                away[name] = (error, [app])
        for error, apps in away.values():
            self.waiting.update(app.app_id for app in apps)
            self._host.start(partial(self._wait, error, apps))

    async def _start(self, app: AppRecord) -> DeployError | None:
        """Start an app unless it runs, and go on with what had begun with it.

        Returns:
            None; or why it is left as it is, where its daemon cannot be reached.
        """
        try:
            backend = self._host.backend(app)
            notes = await backend.start(app)
            is_new = notes != app.deployment or await self._lost_its_init(app, backend)
        except NotFoundError as error:
            self._host.warn(app.app_id, error.cause)
            return None
        except DeployError as error:
            if error.is_unreachable:
                return error
            self._host.bus.emit(StepFailed(app.app_id, "start", error.cause, error.remedy))
            await self._change(app.app_id, partial(_could_not_start, error.cause))
            return None
        if is_new:
            place = f" as process {notes['pid']}" if "pid" in notes else ""
            self._host.bus.emit(Notice(app.app_id, f"started again{place}", is_warning=False))
        with suppress(NotFoundError):  # unregistered meanwhile
            app = await self._host.registry.apply(app.app_id, partial(_started, notes))
            if app.state is State.DISABLED:
                # Meanwhile, and its end may have come before our start.
                with suppress(DeployError):
                    await backend.stop(app)
            elif app.state in _ON_THE_WAY or (app.state is State.INITIALIZING and is_new):
                self._host.start(partial(self._resume, app))
        return None

    async def _lost_its_init(self, app: AppRecord, backend: DeployBackend) -> bool:
        """Whether something else has started an app again since it was told to initialize."""
        began = app.status.init_start_time
        if app.state is not State.INITIALIZING or began is None:
            return False
        since = await backend.running_since(app)
        return since is not None and since > began + _CLOCK_SECONDS

    async def _wait(self, error: DeployError, apps: list[AppRecord]) -> None:
        """Start the apps of a daemon that is away as soon as it is back."""
        name, names = apps[0].daemon.name, ", ".join(known.app_id for known in apps)
        for known in apps:
            await self._change(known.app_id, partial(_waits, error.cause))
        self._host.warn(
            "",
            f"{error.cause}; {names} on the daemon {name} will go on when that has changed. "
            f"Try: {error.remedy}",
        )
        pause, is_told = _PAUSE_SECONDS, False
        for known in apps:
            while True:
                await anyio.sleep(pause)
                app = await self._still(known.app_id)
                if app is None:
                    break
                if await self._start(app) is None:
                    if not is_told:
                        is_told, pause = True, 0.0
                        text = f"the daemon {name} is there again"
                        self._host.bus.emit(Notice("", text, is_warning=False))
                    break
                pause = min(2 * pause or _PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
            self.waiting.discard(known.app_id)

    async def _still(self, app_id: str) -> AppRecord | None:
        """An app that waits, unless somebody has done something about it meanwhile."""
        app = await self._host.registry.app(app_id)
        if app is None or not _should_run(app) or await self._host.operations.of(app_id):
            return None
        return app

    async def _resume(self, app: AppRecord) -> None:
        """Go on with an app that nobody is at work on."""
        verb = Verb.DISABLE if app.state is State.DISABLING else Verb.ENABLE
        if await self._host.operations.begin(app.app_id, verb, _RESUME, {}) is not None:
            return  # somebody has begun meanwhile, and it is theirs
        async with self._host.turns.ending(app.app_id):
            try:
                await self._go_on(app)
            except StepError as error:
                await self._host.installer.record_failure(app.app_id, Event.INIT_FAILED, error)
            except NotFoundError:
                return  # unregistered meanwhile
        await self._host.switch.stop_failed(app.app_id, Verb.ENABLE, only_later=True)

    async def _go_on(self, app: AppRecord) -> None:
        handshake = self._host.handshake(app)
        state = (await self._host.app(app.app_id)).state
        if state is not app.state:
            return  # it went on by itself
        if state is State.ENABLING:
            await handshake.enable()
        elif state is State.DISABLING:
            await handshake.disable()
        else:
            await handshake.resume_init()

    async def _change(self, app_id: str, change: Callable[[AppRecord], AppRecord]) -> None:
        with suppress(NotFoundError):  # unregistered meanwhile
            await self._host.registry.apply(app_id, change)


def _should_run(app: AppRecord) -> bool:
    """Whether an app is to be started; one that has failed is for a person to look at first."""
    return app.enabled and app.state is not State.FAILED


def _waits(cause: str, app: AppRecord) -> AppRecord:
    return replace(app, failure=f"{cause}{_GOES_ON}") if _should_run(app) else app


def _started(notes: Mapping[str, Any], app: AppRecord) -> AppRecord:
    failure = "" if app.failure.endswith(_GOES_ON) else app.failure
    return replace(app, deployment=dict(notes), failure=failure)


def _could_not_start(cause: str, app: AppRecord) -> AppRecord:
    if Event.INTERRUPTED in TRANSITIONS[app.state]:
        return app.after(Event.INTERRUPTED, failure=f"start: {cause}")
    return replace(app, failure=f"start: {cause}")
