"""What apps tell about their initialization, and what follows from it."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import anyio

from appapi_host.errors import NotFoundError
from appapi_host.events import ProgressChanged, StepFailed, StepFinished, StepStarted
from appapi_host.operations import Verb
from appapi_host.records import AppRecord
from exapp_sdk.protocol.lifecycle import TRANSITIONS, Event
from exapp_sdk.protocol.status import report_event

if TYPE_CHECKING:
    from appapi_host.host import Host

__all__ = ["Reports"]


class Reports:
    """Takes what apps report.

    Args:
        host: whose apps.
    """

    def __init__(self, host: "Host") -> None:
        self._host = host
        self._shown_progress: dict[str, int] = {}
        self._init_began: dict[str, float] = {}

    async def init(self, app_id: str, progress: int, error: str = "") -> None:
        """Take a report of progress; see `Host.report_init()`."""
        now = int(time.time())
        happened: Event | None = None

        def change(app: AppRecord) -> AppRecord:
            nonlocal happened
            happened = report_event(app.status, progress, error)
            if happened not in TRANSITIONS[app.state]:
                happened = None
            if happened is None:
                return app
            status = app.status.init_reported(progress, error, now=now)
            return app.after(
                happened,
                status=status,
                enabled=True,
                failure=status.error if error else app.failure,
            )

        app = await self._host.registry.apply(app_id, change)
        if happened is None:
            if not (progress and app.status.init == 100):
                self._host.warn(
                    app_id, f"reported progress {progress} while {app.state.value}: ignored"
                )
            return
        self.show_progress(app_id, app.status.init)
        if happened is Event.INIT_FAILED:
            self._host.bus.emit(StepFailed(app_id, "init", error))
        elif happened is Event.INIT_FINISHED:
            if error:
                self._host.warn(
                    app_id, "reported 100 with an error; like Nextcloud, the host enables it"
                )
            # In whole seconds only if another process sent /init.
            began = self._init_began.pop(app_id, None)
            seconds = time.time() - (began or app.status.init_start_time or now)
            self._host.bus.emit(StepFinished(app_id, "init", seconds))
            await self._owned(partial(self._enable_reported, app))

    def show_progress(self, app_id: str, percent: int) -> None:
        """Emit the progress of init, once per change.

        It is seen twice where app and waiter are in one process: in the report and in the registry.
        """
        if self._shown_progress.get(app_id) != percent:
            self._shown_progress[app_id] = percent
            self._host.bus.emit(ProgressChanged(app_id, "init", percent))

    def note_time(self, event: object) -> None:
        """Remember when the initialization of an app began."""
        if isinstance(event, StepStarted) and event.step == "init":
            self._init_began[event.app_id] = time.time()

    def forget(self, app_id: str) -> None:
        """Forget what was noted about an app that is gone."""
        self._shown_progress.pop(app_id, None)
        self._init_began.pop(app_id, None)

    async def _enable_reported(self, app: AppRecord) -> None:
        """Enable an app that has finished its init."""
        other = await self._host.operations.begin(app.app_id, Verb.ENABLE, "enable", {})
        if other is not None:
            # Whoever installs it is still at it, and this is a part of that.
            await self._host.handshake(app).enable()
            return
        async with self._host.turns.ending(app.app_id):
            await self._host.handshake(app).enable()
            await self._host.switch.stop_failed(app.app_id, Verb.ENABLE)

    async def _owned(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do the work where it may go on without us, and wait for its end.

        Whoever waits may be cancelled (an app hangs up); the work goes on.
        """
        done = anyio.Event()

        async def run() -> None:
            try:
                await work()
            except NotFoundError as error:
                self._host.warn("", str(error))
            finally:
                done.set()

        self._host.start(run)
        await done.wait()
