"""What happens to containers: told by the engine's events, or looked for where it tells none.

One stream of events per engine serves everybody who waits. It does not say what is, only that
something has changed, so whoever waits looks once more: what was seen stays valid until the next
event about that container.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import anyio
import anyio.from_thread
import anyio.lowlevel

from appapi_host.deploy.docker.engine import Engine, EngineError
from appapi_host.deploy.docker.streams import Stream

__all__ = ["ContainerState", "Watcher"]

_POLL: Final = 0.25
"""Seconds between two looks where a socket proxy does not let us hear of events."""

_RESTARTING: Final = frozenset({"always", "unless-stopped"})
"""Restart policies under which a container that ends by itself does not stay ended."""

_ACTIONS: Final = ["start", "die", "died", "oom", "health_status", "destroy", "remove"]


@dataclass(frozen=True, slots=True)
class ContainerState:
    """How a container is.

    Args:
        exists: whether it is there at all.
        is_running: its process runs; not while it waits to be restarted.
        is_held: it has ended and its policy would have it started again, but somebody has stopped
            it, or its engine did when that ended.
        restarts: how often the engine has restarted it since it was last started on purpose.
        exit_code: of the last end that is known.
        is_oom: the kernel ended it for its memory.
        error: why it could not be started.
        started: when it was started last, in the engine's words.
        finished: when it ended last, in the same.
        health: `starting`, `healthy`, `unhealthy`, or empty without a health check.
        probe: what the last health check printed.
    """

    exists: bool = True
    is_running: bool = False
    is_held: bool = False
    restarts: int = 0
    exit_code: int = 0
    is_oom: bool = False
    error: str = ""
    started: str = ""
    finished: str = ""
    health: str = ""
    probe: str = ""

    @classmethod
    def of(cls, found: Mapping[str, Any] | None) -> "ContainerState":
        """What an engine says about a container."""
        if found is None:
            return cls(exists=False)
        state = found.get("State") or {}
        health = state.get("Health") or state.get("Healthcheck") or {}
        log = health.get("Log") or [{}]
        status = str(health.get("Status") or "")
        policy = ((found.get("HostConfig") or {}).get("RestartPolicy") or {}).get("Name")
        is_over = not state.get("Running") and not state.get("Restarting")
        return cls(
            is_running=bool(state.get("Running")) and not state.get("Restarting"),
            is_held=is_over and state.get("Status") == "exited" and policy in _RESTARTING,
            restarts=int(found.get("RestartCount") or 0),
            exit_code=int(state.get("ExitCode") or 0),
            is_oom=bool(state.get("OOMKilled")),
            error=str(state.get("Error") or ""),
            started=str(state.get("StartedAt") or ""),
            finished=str(state.get("FinishedAt") or ""),
            health="" if status == "none" else status,
            probe=str(log[-1].get("Output") or "").strip(),
        )


class Watcher:
    """Waits for changes of containers on one engine.

    Attributes:
        interruptions: how often the engine has gone meanwhile, as far as that was noticed; it may
            have stopped containers then.

    Args:
        engine: where they are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.interruptions = 0
        self._opening = anyio.Lock()
        self._stream: Stream | None = None
        self._thread: threading.Thread | None = None
        self._is_silent = False
        self._changed = anyio.Event()
        self._changes = 0
        self._starts = 0
        self._looking: dict[str, anyio.Lock] = {}
        self._states: dict[str, ContainerState] = {}
        self._exit_codes: dict[str, int] = {}
        self._out_of_memory: set[str] = set()

    async def begin(self) -> None:
        """See to it that from now on nothing is missed.

        Raises:
            EngineError: the engine cannot be reached.
        """
        async with self._opening:
            if self._is_silent or self._thread is not None:
                return
            filters = {"type": ["container"], "event": _ACTIONS}
            try:
                stream, messages = await self._engine.events(filters)
            except EngineError as error:
                if error.kind != "forbidden":
                    raise
                self._is_silent = True
                return
            self._stream = stream
            self._states.clear()
            token = anyio.lowlevel.current_token()
            self._thread = threading.Thread(
                target=self._read, args=(stream, messages, token), name="engine-events", daemon=True
            )
            self._thread.start()

    async def close(self) -> None:
        """Stop to listen."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await anyio.to_thread.run_sync(stream.close)

    def forget(self, container: str) -> None:
        """What was known of a container counts no more: it is about to be started."""
        self._looking.pop(container, None)
        self._states.pop(container, None)
        self._exit_codes.pop(container, None)
        self._out_of_memory.discard(container)

    async def state(self, container: str) -> ContainerState:
        """How a container is now; asks the engine only if something may have changed."""
        await self.begin()
        async with self._looking.setdefault(container, anyio.Lock()):
            return await self._look(container)

    async def _look(self, container: str) -> ContainerState:
        if container in self._states:
            return self._states[container]
        changes, starts = self._changes, self._starts
        state = ContainerState.of(await self._engine.container(container))
        # That it was started meanwhile is no news about one that was seen to run.
        is_current = changes == self._changes and (state.is_running or starts == self._starts)
        if is_current and not self._is_silent:
            self._states[container] = state
        return state

    async def until(
        self,
        container: str,
        is_reached: Callable[[ContainerState], bool],
        *,
        for_ever: bool = False,
    ) -> ContainerState:
        """Wait for a state; an engine that has gone meanwhile is waited for too.

        Args:
            container: name or id.
            is_reached: whether a state will do.
            for_ever: wait for the engine as long as it takes.

        Raises:
            EngineError: it did not come back, or refuses to tell.
        """
        while True:
            changed = self._changed
            try:
                state = await self.state(container)
            except EngineError as error:
                if not error.is_unreachable:
                    raise
                self.interruptions += 1
                if not await self._engine.is_back(for_ever=for_ever):
                    raise self._engine.gone() from error
                continue
            if is_reached(state):
                return state
            if self._is_silent:
                await anyio.sleep(_POLL)
            else:
                await changed.wait()

    def exit_code(self, container: str) -> int | None:
        """With which code a container ended since it was last started, if it was seen to."""
        return self._exit_codes.get(container)

    def is_out_of_memory(self, container: str) -> bool:
        """Whether a container was seen to end for its memory since it was last started."""
        return container in self._out_of_memory

    def _read(self, stream: Stream, messages: Any, token: Any) -> None:
        """Hand on what comes, in a thread of its own, until the stream ends."""
        with suppress(Exception):  # closed by us, or the engine has gone: the same to who waits
            while (message := stream.next(messages)) is not None:
                anyio.from_thread.run_sync(self._note, message, token=token)
        stream.close()
        with suppress(Exception):  # the loop has ended before us
            anyio.from_thread.run_sync(self._ended, token=token)

    def _note(self, message: Mapping[str, Any]) -> None:
        actor = message.get("Actor") or {}
        container = str(actor.get("ID") or message.get("id") or "")
        attributes = actor.get("Attributes") or {}
        action = str(message.get("Action") or message.get("status") or "")
        if action in ("die", "died"):
            code = attributes.get("exitCode", attributes.get("containerExitCode", 0))
            self._exit_codes[container] = int(code or 0)
        elif action == "oom":
            self._out_of_memory.add(container)
        if action == "start":
            self._starts += 1
        else:
            self._changes += 1
        known = self._states.get(container)
        if known is not None and not (action == "start" and known.is_running):
            del self._states[container]
        self._wake()

    def _ended(self) -> None:
        self.interruptions += 1
        self._thread = None
        self._stream = None
        self._states.clear()
        self._changes += 1
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
