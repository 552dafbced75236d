"""How containers end, and whether they begin again."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import anyio

from appapi_host.deploy.docker.engine import Engine, EngineError
from appapi_host.deploy.docker.faults import explain
from appapi_host.deploy.docker.watching import ContainerState, Watcher
from appapi_host.errors import AppInterruptedError
from appapi_host.records import AppRecord
from appapi_host.settings import Timeouts
from exapp_sdk.protocol.lifecycle import State

__all__ = ["Endings", "unix_time"]

_SETTLED: Final = frozenset({State.ENABLED, State.DISABLED, State.DISABLING})
"""Where the engine's own restarts are welcome; before, an end is a failure to be looked at."""

_UNWANTED_SECONDS: Final = 1.0
"""How long a run may take to end that the engine has begun after a failure: it has not been told to
do anything yet."""

_OUT_OF_MEMORY: Final = "killed because it used more memory than its limit"
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")
_NOT_OUR_PLATFORM: Final = "exec format error"
"""What the kernel says about a program for another processor."""


@dataclass(slots=True)
class _Run:
    """Since when a container runs.

    Args:
        restarts: how often the engine had started it again by then.
        started: when it was started last, in the engine's words; empty if nobody has looked.
        interruptions: how often the engine had gone by then, see `Watcher`.
    """

    restarts: int = 0
    started: str = ""
    interruptions: int = 0

    def is_over(self, state: ContainerState) -> bool:
        """Whether it does not run any more, or does so again."""
        if not self.started:
            self.started = state.started
        return (
            not state.is_running or state.restarts > self.restarts or state.started != self.started
        )


class Endings:
    """The ends of containers on one engine.

    Args:
        engine: where they are.
        watcher: of that engine.
        timeouts: how long a container has to end when it is stopped, and how long an engine may be
            away.
        warn: told the app's id and what a person should know.
    """

    def __init__(
        self,
        engine: Engine,
        watcher: Watcher,
        timeouts: Timeouts,
        warn: Callable[[str, str], None],
    ) -> None:
        self._engine = engine
        self._watcher = watcher
        self._timeouts = timeouts
        self._warn = warn
        self._runs: dict[str, _Run] = {}
        self._failures: dict[str, str] = {}

    def begun(self, container: str) -> None:
        """A container was started on purpose: restarts are counted anew."""
        self._runs[container] = _Run(interruptions=self._watcher.interruptions)
        self._failures.pop(container, None)

    def failed_at(self, container: str) -> str:
        """When the end came that counts as a failure, in unix seconds with nine decimals.

        Returns:
            Empty if there was none. What is printed later is of a run that the engine has begun
            before we kept it from that.
        """
        return self._failures.get(container, "")

    async def ended(self, app: AppRecord, container: str) -> str:
        """Wait until the container has ended.

        Before the app is enabled, its first end counts and the engine is kept from starting it
        again: the app would never get its init. Later, restarts by the engine are told only.

        An engine that is stopped ends its containers too. It is waited for, for ever once the app
        is enabled. It starts again what has run, but not after it was killed: then it ends what it
        finds when it is back, and takes that for its administrator's wish. So we start it.

        Returns:
            `exit code 1`, `killed for its memory (exit code 137)`, `removed`.

        Raises:
            AppInterruptedError: the engine was restarted while the app initialized.
            EngineError: the engine has gone before the app was enabled, or cannot be asked.
        """
        is_settled = app.state in _SETTLED
        while True:
            state = await self._over(container, for_ever=is_settled)
            text = self._how(container, state)
            is_gone = not await self._engine.is_there()
            if is_gone and not await self._engine.is_back(for_ever=is_settled):
                raise self._engine.gone()
            if is_gone or (state.exists and self._was_interrupted(container)):
                if failure := await self._begin_again(app, container):
                    return failure
            elif is_settled and state.exists:
                last = await self._after_restarts(app, container, text)
                if last is not None and await self._engine.is_there():
                    return self._how(container, last)
            elif state.is_running and state.restarts <= self._runs[container].restarts:
                await self._begin_again(app, container)  # started, but by no policy of its own
            else:
                break
        if state.exists:
            self._failures[container] = unix_time(state.finished)
            await self._keep_stopped(app, container, state)
        return text

    async def _over(self, container: str, *, for_ever: bool) -> ContainerState:
        """Wait until a container does not run, or was started again."""
        if container not in self._runs:
            # If the engine is away already, what it has ended did not end by itself; nor did it if
            # the engine had gone before we looked.
            interruptions = self._watcher.interruptions
            seen = await self._watcher.until(container, lambda state: True, for_ever=for_ever)
            interruptions -= seen.is_held
            # Before it is settled, an end that the engine has undone already counts too.
            restarts = seen.restarts if for_ever else 0
            self._runs[container] = _Run(restarts, interruptions=interruptions)
        run = self._runs[container]

        def is_over(state: ContainerState) -> bool:
            if run.is_over(state):
                return True
            run.interruptions = self._watcher.interruptions  # it has outlived them
            return False

        return await self._watcher.until(container, is_over, for_ever=for_ever)

    def _was_interrupted(self, container: str) -> bool:
        """Whether the engine has gone since a container was seen to run."""
        return self._runs[container].interruptions < self._watcher.interruptions

    async def _begin_again(self, app: AppRecord, container: str) -> str:
        """Go on with a container that the engine has stopped, and in most cases started again.

        Returns:
            Why an enabled app cannot be started; empty if it runs, or that is to be seen.

        Raises:
            AppInterruptedError: the app was initializing, which is not to be gone on with.
            EngineError: it cannot be started, before it was enabled.
        """
        self._watcher.forget(container)
        self.begun(container)
        try:
            if app.state not in (State.DISABLED, State.DISABLING):
                await self._engine.start(container)
        except EngineError as error:
            if app.state not in _SETTLED:
                raise
            is_to_be_seen = error.is_unreachable or error.status == 404
            return "" if is_to_be_seen else f"the engine cannot start it again: {error.cause}"
        if app.state is State.INITIALIZING:
            raise AppInterruptedError(
                f"the engine at {self._engine.shown} was restarted, and the app with it"
            )
        return ""

    async def _keep_stopped(self, app: AppRecord, container: str, state: ContainerState) -> None:
        """Keep the engine from starting the container again.

        Raises:
            EngineError: for a reason that what it has printed tells better than how it ended.
        """
        printed, is_oom = b"", state.is_oom
        code = self._watcher.exit_code(container) or state.exit_code
        with anyio.CancelScope(shield=True), suppress(EngineError):
            await self._engine.stop(container, min(self._timeouts.stop, _UNWANTED_SECONDS))
            printed = await self._engine.log(container, 1, until=self.failed_at(container))
            # What the kernel did may be known only after the end.
            is_oom |= ContainerState.of(await self._engine.container(container)).is_oom
        said = printed.decode("utf-8", "replace")
        if app.state not in _SETTLED and _NOT_OUR_PLATFORM in said:
            raise explain(self._engine.shown, said, status=200)
        is_oom |= self._watcher.is_out_of_memory(container)
        if app.state not in _SETTLED and is_oom:
            raise EngineError(
                "memory",
                f"the app was {_OUT_OF_MEMORY} (exit code {code})",
                remedy="raise the memory limit of the daemon, or have the app use less",
            )

    async def _after_restarts(
        self, app: AppRecord, container: str, text: str
    ) -> ContainerState | None:
        """Wait for the end of a container that its restart policy may start again.

        Returns:
            How it is then, None if the engine went away.
        """
        while True:
            try:
                found = await self._engine.container(container)
            except EngineError as error:
                if not error.is_unreachable:
                    raise
                return None
            state = ContainerState.of(found)
            raw = (found or {}).get("State") or {}
            if not raw.get("Running") and not raw.get("Restarting"):
                return state
            self._warn(app.app_id, f"the container ended ({text}); the engine starts it again")
            seen = state.restarts

            def is_news(state: ContainerState, seen: int = seen) -> bool:
                return not state.is_running or state.restarts > seen

            started = await self._watcher.until(
                container, lambda state: state.is_running or not state.exists, for_ever=True
            )
            self._runs[container] = _Run(
                state.restarts, started.started, self._watcher.interruptions
            )
            state = await self._watcher.until(container, is_news, for_ever=True)
            text = self._how(container, state)

    def _how(self, container: str, state: ContainerState) -> str:
        if not state.exists:
            return "the container was removed"
        seen = self._watcher.exit_code(container)
        if seen is None and state.is_running:
            return "nobody saw how, and the engine started it again"
        code = state.exit_code if seen is None else seen
        if state.is_oom or self._watcher.is_out_of_memory(container):
            return f"{_OUT_OF_MEMORY} (exit code {code})"
        if state.error:
            return f"exit code {code}, {state.error}"
        return f"exit code {code}"


def unix_time(text: str) -> str:
    """A time of the engine in the form in which it wants to be asked for one; empty for none."""
    found = _TIME.fullmatch(text)
    if found is None or text.startswith("0001-"):  # Go's time that is not set
        return ""
    seconds = datetime.fromisoformat(f"{found[1]}{found[3].replace('Z', '+00:00')}").timestamp()
    return f"{seconds:.0f}.{found[2] or '':0<9.9}"
