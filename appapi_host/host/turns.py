"""Whose turn it is: one operation on an app at a time, whichever process asks for it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from appapi_host.errors import DeployError
from appapi_host.events import Notice
from appapi_host.operations import Verb

if TYPE_CHECKING:
    from appapi_host.host import Host

__all__ = ["Turns"]


class Turns:
    """Has each app to itself for the time of an operation.

    Args:
        host: whose apps.
    """

    def __init__(self, host: "Host") -> None:
        self._host = host

    @asynccontextmanager
    async def take(
        self, app_id: str, verb: Verb, step: str, **details: object
    ) -> AsyncIterator[None]:
        """Have an app to ourselves inside the block, and have it written down.

        Raises:
            BusyError: another process is at work on it, for longer than we wait.
        """
        await self._begin(app_id, verb, step, details)
        async with self.ending(app_id):
            yield

    @asynccontextmanager
    async def ending(self, app_id: str) -> AsyncIterator[None]:
        """End our operation with the block; leave it to the next one if the block is cancelled."""
        try:
            yield
        except Exception:
            await self._host.operations.end(app_id)
            raise
        except BaseException:
            await self._host.operations.abandon(app_id)
            raise
        await self._host.operations.end(app_id)

    async def _begin(
        self, app_id: str, verb: Verb, step: str, details: Mapping[str, object]
    ) -> None:
        limit = anyio.current_time() + self._host.settings.timeouts.busy
        is_told = False
        while True:
            other = await self._host.operations.begin(app_id, verb, step, details)
            if other is None:
                return
            if await self._host.operations.is_orphaned(other):
                if verb is Verb.UNREGISTER and details.get("force"):
                    # Whatever it was: the app is about to be gone.
                    await self._host.operations.drop(other)
                elif away := await self._host.recovery.settle(other, finish=False):
                    raise DeployError(
                        f"ExApp {app_id} was left in the middle of something, which must be "
                        f"settled first: {away.cause}",
                        remedy=f"{away.remedy}; app:unregister --force forgets the app at once",
                    )
                continue
            if self._host.operations.owns(other) or anyio.current_time() >= limit:
                raise other.busy()
            if not is_told:
                is_told = True
                self._host.bus.emit(
                    Notice(
                        app_id,
                        f"waiting for process {other.pid}, which is about to {other.verb} it "
                        f"(step {other.step})",
                        is_warning=False,
                    )
                )
            with anyio.move_on_at(limit):
                await self._host.operations.wait_for_end(other)
