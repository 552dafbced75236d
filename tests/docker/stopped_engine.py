"""An engine that is stopped in the middle of an operation, and started again."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio.to_thread

from appapi_host.operations import Operation, Operations, Verb
from tests.docker.engines import DockerEngine, docker_engine, free_bridge, free_network


class StoppedEngine:
    """A Docker Engine of its own that can be stopped and started: its data stays.

    Args:
        folder: for all of its files; with a short name, because those of sockets must be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bridge, self._network = free_bridge(), free_network()
        self._stack = ExitStack()
        self.engine = self._started()

    def _started(self) -> DockerEngine:
        return self._stack.enter_context(docker_engine(self._folder, self._bridge, self._network))

    def start(self) -> None:
        """Start it unless it runs."""
        if self.engine.process.poll() is not None:
            self._stack.close()
            self.engine = self._started()

    def stop(self) -> None:
        """Stop it as its administrator would, with all its containers."""
        self.engine.process.terminate()
        self.engine.process.wait()

    def close(self) -> None:
        """End it for good."""
        self._stack.close()


def stop_at(operations: Operations, verb: Verb, step: str, engine: StoppedEngine) -> None:
    """Have an engine stopped as soon as a step of an operation is written down, once."""
    begin, step_of = operations.begin, operations.step
    is_done = False

    async def stop() -> None:
        nonlocal is_done
        if not is_done:
            is_done = True
            await anyio.to_thread.run_sync(engine.stop)

    async def begin_and_stop(
        app_id: str, begun: Verb, first: str, details: Mapping[str, Any]
    ) -> Operation | None:
        other = await begin(app_id, begun, first, details)
        if (begun, first) == (verb, step):
            await stop()
        return other

    async def step_and_stop(
        app_id: str, name: str, details: Mapping[str, Any] | None = None
    ) -> None:
        await step_of(app_id, name, details)
        present = await operations.of(app_id)
        if present is not None and (present.verb, name) == (verb, step):
            await stop()

    operations.begin = begin_and_stop  # type: ignore[method-assign]
    operations.step = step_and_stop  # type: ignore[method-assign]
