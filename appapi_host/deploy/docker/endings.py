"""How containers end, and whether they begin again."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio

from appapi_host.deploy.docker.engine import Engine, EngineError
from appapi_host.deploy.docker.watching import ContainerState, Watcher
from appapi_host.records import AppRecord
from appapi_host.settings import Timeouts
from exapp_sdk.protocol.lifecycle import State

__all__ = ["Endings"]

_SETTLED: Final = frozenset({State.ENABLED, State.DISABLED, State.DISABLING})
"""Where the engine's own restarts are welcome; before, an end is a failure to be looked at."""


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
        self._restarts: dict[str, int] = {}

    def begun(self, container: str) -> None:
        """A container was started on purpose: restarts are counted anew."""
        self._restarts[container] = 0

    async def ended(self, app: AppRecord, container: str) -> str:
        """Wait until the container has ended.

        Before the app is enabled, its first end counts and the engine is kept from starting it
        again: the app would never get its init. Later, restarts by the engine are told only.

        Raises:
            EngineError: the engine was away for too long while the app was to come up.

        Returns:
            `exit code 1`, `killed for its memory (exit code 137)`, `removed`.
        """
        # Whoever waits for an app to come up wants to know; an app that is up can be waited for.
        patience = math.inf if app.state in _SETTLED else self._timeouts.away
        before = await self._watcher.until(container, lambda _: True, patience=patience)
        restarts = self._restarts.setdefault(container, before.restarts)

        def is_over(state: ContainerState) -> bool:
            return not state.is_running or state.restarts > restarts

        state = await self._watcher.until(container, is_over, patience=patience)
        text = self._how(container, state)
        if app.state not in _SETTLED and state.exists:
            with anyio.CancelScope(shield=True), suppress(EngineError):
                await self._engine.stop(container, self._timeouts.stop)
        elif state.exists:
            state = await self._after_restarts(app, container, text)
            text = self._how(container, state)
        return text

    async def _after_restarts(self, app: AppRecord, container: str, text: str) -> ContainerState:
        """Wait for the end of a container that its restart policy may start again."""
        while True:
            found = await self._engine.container(container)
            state = ContainerState.of(found)
            raw = (found or {}).get("State") or {}
            if not raw.get("Running") and not raw.get("Restarting"):
                return state
            self._restarts[container] = state.restarts
            self._warn(app.app_id, f"the container ended ({text}); the engine starts it again")
            seen = state.restarts

            def is_news(state: ContainerState, seen: int = seen) -> bool:
                return not state.is_running or state.restarts > seen

            await self._watcher.until(container, lambda state: state.is_running or not state.exists)
            state = await self._watcher.until(container, is_news)
            text = self._how(container, state)

    def _how(self, container: str, state: ContainerState) -> str:
        if not state.exists:
            return "the container was removed"
        seen = self._watcher.exit_code(container)
        code = state.exit_code if seen is None else seen
        if state.is_oom or self._watcher.is_out_of_memory(container):
            return f"killed because it used more memory than its limit (exit code {code})"
        if state.error:
            return f"exit code {code}, {state.error}"
        return f"exit code {code}"
