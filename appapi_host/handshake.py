"""What the host says to an app between its start and its being enabled, and back.

Order, headers, limits and the meaning of each answer are AppAPI's. The registry is told of each
step before the app is, so that the app may answer faster than we look: a report of 100 may arrive
before `POST /init` itself was answered.

Source: AppAPI documentation, App Installation Flow; behaviour of AppAPI 32.0.0.
"""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final, TypeVar

import anyio

from appapi_host.app_client import Answer, AppClient
from appapi_host.deploy.base import DeployBackend
from appapi_host.errors import (
    AppInterruptedError,
    DeployError,
    HostError,
    NotFoundError,
    RefusedError,
    StepError,
    StepTimeout,
)
from appapi_host.events import EventBus, Notice, StepFailed, StepFinished, StepStarted
from appapi_host.heartbeat import Heartbeat
from appapi_host.records import AppRecord
from appapi_host.registry import Registry
from appapi_host.settings import Timeouts
from exapp_sdk.errors import TransportError
from exapp_sdk.protocol.lifecycle import Event, State, enabled_error

__all__ = ["OUTPUT_LINES", "Handshake", "stepping"]

OUTPUT_LINES: Final = 20
"""How many of the app's last lines an error shows."""

_END_SECONDS: Final = 0.5
"""How soon it is known that an app has ended whose connection broke."""

_ENDED: Final = "the app ended: "
_LOOK_AT_LAST_LINES: Final = "its last lines should say why; start it by hand to try"

T = TypeVar("T")


class Handshake:
    """The conversation with one app.

    Attributes:
        remedy: what to try when the record says that it could not be enabled.

    Args:
        app_id: the app.
        registry: where its state is kept.
        client: how it is spoken to.
        backend: how it was deployed.
        bus: told of every step.
        timeouts: limits.
        on_progress: told of the app id and each new percentage of init while we wait.
        on_step: awaited before each step, so that it is written down before it acts.
    """

    def __init__(
        self,
        app_id: str,
        *,
        registry: Registry,
        client: AppClient,
        backend: DeployBackend,
        bus: EventBus,
        timeouts: Timeouts,
        on_progress: Callable[[str, int], None],
        on_step: Callable[[str], Awaitable[None]],
    ) -> None:
        self.app_id = app_id
        self.remedy = ""
        self._registry = registry
        self._client = client
        self._backend = backend
        self._bus = bus
        self._timeouts = timeouts
        self._on_progress = on_progress
        self._on_step = on_step

    async def wait_for_heartbeat(self) -> None:
        """Ask `GET /heartbeat` until it is answered with 200 and `{"status": "ok"}`.

        A health check of the app's own comes first, where its backend knows of one.

        Raises:
            StepTimeout: no good answer within the limit.
            StepError: the app ended, or what answers cannot be an ExApp.
            NotFoundError: the app was unregistered meanwhile.
        """
        await self._on_step("heartbeat")
        app = await self._app()
        await self._unless_ended(app, "healthcheck", lambda: self._backend.ready(app))
        with stepping(self._bus, self.app_id, "heartbeat"):
            heartbeat = Heartbeat(
                client=self._client,
                backend=self._backend,
                timeouts=self._timeouts,
                count=self._count_heartbeats,
                output=self._output,
            )
            await self._unless_ended(app, "heartbeat", lambda: heartbeat.wait(app))

    async def begin_init(self) -> AppRecord:
        """Mark the app as initializing and send `POST /init`.

        Returns:
            The record afterwards: initializing in most cases, but enabled already where the app has
            no init (404 or 501) or was very fast, and failed where it refused.
        """
        await self._on_step("init")
        now = int(time.time())
        app = await self._registry.apply(
            self.app_id,
            lambda app: app.after(
                Event.HEARTBEAT_ANSWERED, status=app.status.init_reported(0, now=now), enabled=True
            ),
        )
        return await self._send_init(app)

    async def resume_init(self) -> AppRecord:
        """Send `POST /init` again to an app that was started anew while it initialized."""
        await self.wait_for_heartbeat()
        await self._on_step("init")
        now = int(time.time())
        app = await self._registry.apply(
            self.app_id,
            lambda app: app.after(
                Event.INIT_RESTARTED, status=app.status.init_reported(0, now=now), enabled=True
            ),
        )
        return await self._send_init(app)

    async def finish_init(self) -> AppRecord:
        """Initialization is over: record 100 and enable the app."""
        now = int(time.time())
        await self._registry.apply(
            self.app_id,
            lambda app: app.after(
                Event.INIT_FINISHED, status=app.status.init_reported(100, now=now), enabled=True
            ),
        )
        return await self.enable()

    async def wait_for_init(self) -> AppRecord:
        """Wait until the app is enabled, has failed, or the limit is over.

        Raises:
            StepTimeout: neither within the limit.
            StepError: the app reported an error, or ended.
            AppInterruptedError: it was started again, and does not know that it shall initialize.
            RefusedError: it initialized but refused to be enabled.
            NotFoundError: it was unregistered meanwhile.
        """
        app = await self._app()
        seconds = self._timeouts.init
        settled = (State.ENABLED, State.DISABLED, State.FAILED)

        def is_settled(app: AppRecord | None) -> bool:
            if app is None:
                return True
            self._on_progress(self.app_id, app.status.init)
            return app.state in settled

        async def wait() -> AppRecord:
            try:
                with anyio.fail_after(seconds):
                    done = await self._registry.wait(self.app_id, is_settled)
            except TimeoutError:
                current = await self._app()
                raise StepTimeout(
                    "init",
                    seconds,
                    f"the last progress reported was {current.status.init} %",
                    remedy="report progress 100 when the preparation is over, or raise the limit",
                    output=await self._output(current),
                ) from None
            return self._present(done)

        if app.state not in settled:
            app = await self._unless_ended(app, "init", wait)
        if app.state is State.ENABLED:
            return app
        if app.state is State.DISABLED:
            raise RefusedError(app.failure, output=await self._output(app))
        step = "init" if app.status.init < 100 else "enabled"
        raise StepError(
            step,
            app.failure or app.status.error,
            remedy=_remedy(step, app.failure),
            output=await self._output(app),
        )

    async def enable(self) -> AppRecord:
        """Switch on an app that is `enabling`: start it, ask its heartbeat, `PUT /enabled`.

        Never raises for what the app does: the outcome is in the record (enabled, disabled after a
        refusal, failed), because nobody may be waiting who could catch it.
        """
        await self._on_step("start")
        try:
            app = await self._app()
            notes = await self._backend.start(app)
            app = await self._registry.apply(
                self.app_id, lambda app: replace(app, deployment=dict(notes))
            )
            await self.wait_for_heartbeat()
        except StepError as error:
            self.remedy = error.remedy
            return await self._settle(Event.ENABLE_FAILED, f"{error.step}: {error.cause}")
        except DeployError as error:
            self.remedy = error.remedy
            self._bus.emit(StepFailed(self.app_id, "start", error.cause, error.remedy))
            return await self._settle(Event.ENABLE_FAILED, f"start: {error.cause}")
        await self._on_step("enabled")
        try:
            with stepping(self._bus, self.app_id, "enabled") as step:
                error_text = await self._switch(app, enabled=True)
                if error_text:
                    step.fail(error_text)
        except StepError as error:
            failure = f"{error.step}: {error.cause}"
            return await self._settle(Event.ENABLE_FAILED, failure, enabled=False)
        if error_text:
            return await self._settle(Event.ENABLE_REFUSED, error_text, enabled=False)
        return await self._registry.apply(
            self.app_id,
            lambda app: app.after(
                Event.ENABLE_ACCEPTED, status=replace(app.status, error=""), enabled=True
            ),
        )

    async def disable(self) -> str:
        """Switch off an app that is `disabling`: `PUT /enabled?enabled=0`, then stop it.

        Returns:
            The app's error text, empty if it agreed. The app is disabled in either case.
        """
        await self._on_step("disabled")
        app = await self._app()
        with stepping(self._bus, self.app_id, "disabled") as step:
            try:
                error_text = await self._switch(app, enabled=False)
            except StepError as error:
                error_text = error.cause
            if error_text and await self._is_gone(app):
                error_text = ""
            if error_text:
                step.fail(error_text)
        try:
            await self._backend.stop(app)
        except DeployError as error:
            error_text = error_text or error.cause
        await self._settle(Event.DISABLE_FINISHED, error_text, enabled=False)
        return error_text

    async def _send_init(self, app: AppRecord) -> AppRecord:
        self._bus.emit(StepStarted(self.app_id, "init"))
        url = self._backend.url(app)
        try:
            with anyio.fail_after(self._timeouts.init_request):
                answer = await self._client.init(app, url)
        except TimeoutError:
            seconds = self._timeouts.init_request
            return await self._init_failed(
                f"POST {url}/init was not answered within {seconds:g} s; "
                "answer it at once and prepare in the background"
            )
        except TransportError as error:
            return await self._init_failed(await self._end_of(app) or str(error))
        if answer.status in (404, 501):
            self._bus.emit(StepFinished(self.app_id, "init", 0.0, "the app has no init"))
            await self.finish_init()
        elif answer.status >= 400:
            return await self._init_failed(_refusal("POST", answer))
        return await self._app()

    async def _switch(self, app: AppRecord, *, enabled: bool) -> str:
        """Send `PUT /enabled`; returns the error, empty for success.

        Raises:
            StepError: the app ended instead of answering.
        """
        url = self._backend.url(app)
        try:
            with anyio.fail_after(self._timeouts.enabled_request):
                answer = await self._client.enabled(app, url, enabled=enabled)
        except TimeoutError:
            seconds = self._timeouts.enabled_request
            return f"PUT /enabled was not answered within {seconds:g} s"
        except TransportError as error:
            if ended := await self._end_of(app):
                output = await self._output(app)
                raise StepError("enabled", ended, output=output) from error
            return str(error)
        body = answer.json()
        error_text = enabled_error(body, enabled=enabled)
        if not error_text and (answer.status >= 300 or not isinstance(body, dict)):
            self._bus.emit(
                Notice(
                    self.app_id,
                    f"PUT /enabled was answered with status {answer.status} and "
                    f"{answer.beginning()}; Nextcloud takes this as success, but "
                    '{"error": ""} with status 200 is what it expects',
                )
            )
        return error_text

    async def _count_heartbeats(self, failures: int) -> None:
        await self._registry.apply(
            self.app_id,
            lambda app: replace(app, status=replace(app.status, heartbeat_count=failures)),
        )

    async def _init_failed(self, error: str) -> AppRecord:
        """Record that `POST /init` failed, unless the app has meanwhile shown that it did not."""
        now = int(time.time())

        def change(app: AppRecord) -> AppRecord:
            if app.state is not State.INITIALIZING:
                return app
            return app.after(
                Event.INIT_FAILED,
                status=app.status.init_reported(0, error, now=now),
                failure=error.strip(),
            )

        app = await self._registry.apply(self.app_id, change)
        if app.state is State.FAILED:
            self._bus.emit(StepFailed(self.app_id, "init", error.strip()))
        else:
            self._bus.emit(Notice(self.app_id, f"{error.strip()}; but it reported its progress"))
        return app

    async def _settle(
        self, event: Event, failure: str, *, enabled: bool | None = None
    ) -> AppRecord:
        return await self._registry.apply(
            self.app_id, lambda app: app.after(event, failure=failure, enabled=enabled)
        )

    async def _end_of(self, app: AppRecord) -> str:
        """How an app ended that did not answer, or why nobody can know; empty if it did not end."""
        with anyio.move_on_after(_END_SECONDS), suppress(HostError):
            return f"{_ENDED}{await self._backend.exited(app)}"
        try:
            await self._backend.is_gone(app)
        except DeployError as away:
            return away.cause
        return ""

    async def _unless_ended(self, app: AppRecord, step: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work, but fail at once when the app ends before the work does."""
        results: list[T] = []
        errors: list[HostError] = []
        ended = ""

        async def run() -> None:
            # Carried out by hand: a task group would wrap the error into a group.
            try:
                results.append(await work())
            except HostError as error:
                errors.append(error)
            group.cancel_scope.cancel()

        async def watch() -> None:
            nonlocal ended
            try:
                ended = await self._backend.exited(app)
            except HostError as error:
                errors.append(error)
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            group.start_soon(watch)
        if results:
            return results[0]
        if errors and (
            isinstance(errors[0], AppInterruptedError) or not isinstance(errors[0], DeployError)
        ):
            raise errors[0]
        if errors:  # of what the app runs on
            output = await self._output(app)
            raise StepError(step, errors[0].cause, remedy=errors[0].remedy, output=output)
        raise StepError(
            step, f"{_ENDED}{ended}", remedy=_LOOK_AT_LAST_LINES, output=await self._output(app)
        )

    async def _is_gone(self, app: AppRecord) -> bool:
        try:
            return await self._backend.is_gone(app)
        except DeployError:
            return False

    async def _output(self, app: AppRecord) -> list[str]:
        return await self._backend.last_output(app, lines=OUTPUT_LINES)

    async def _app(self) -> AppRecord:
        return self._present(await self._registry.app(self.app_id))

    def _present(self, app: AppRecord | None) -> AppRecord:
        if app is None:
            raise NotFoundError(f"ExApp {self.app_id} was unregistered meanwhile.")
        return app


def _remedy(step: str, failure: str) -> str:
    """What to try when the record says why a step has failed."""
    if failure.startswith(_ENDED):
        return _LOOK_AT_LAST_LINES
    if step != "init" or failure.startswith("POST "):
        return ""
    return "the text comes from the app; its log says more"


class _Step:
    """A step that is going on; `fail()` ends it as failed without an exception."""

    def __init__(self) -> None:
        self.failure = ""

    def fail(self, cause: str) -> None:
        self.failure = cause


@contextmanager
def stepping(bus: EventBus, app_id: str, name: str) -> Iterator[_Step]:
    """Tell the bus when a step begins and how it ends."""
    bus.emit(StepStarted(app_id, name))
    started = time.perf_counter()
    step = _Step()
    try:
        yield step
    except StepError as error:
        bus.emit(StepFailed(app_id, error.step, error.cause, error.remedy))
        raise
    if step.failure:
        bus.emit(StepFailed(app_id, name, step.failure))
    else:
        bus.emit(StepFinished(app_id, name, time.perf_counter() - started))


def _refusal(method: str, answer: Answer) -> str:
    """The text that AppAPI stores when `/init` is answered with an error status."""
    kind = "Client" if answer.status < 500 else "Server"
    text = (
        f"{kind} error: `{method} {answer.url}` resulted in a "
        f"`{answer.status} {answer.reason}` response"
    )
    body = answer.body.decode("utf-8", "replace")
    if not body:
        return text
    shown = body[:120] + (" (truncated...)" if len(body) > 120 else "")
    return f"{text}:\n{shown}\n"
