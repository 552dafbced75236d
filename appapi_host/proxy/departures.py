"""Clients that go away while an app takes its time.

The end of a client's connection shows only to who waits for it, and a task that waits costs as much
as the rest of a small request. So requests are watched from the moment when they have taken longer
than most do; for those that are over by then nobody could have gone in time.
"""

from collections.abc import Callable
from typing import Final

import anyio

from appapi_host.proxy.upload import Upload

__all__ = ["PATIENCE", "Departures"]

PATIENCE: Final = 0.05
"""Seconds until a request is watched."""


class Departures:
    """Watches the clients of one host.

    Args:
        start: runs something for as long as the host is open.
    """

    def __init__(self, start: Callable[..., object]) -> None:
        self._start = start
        self._has_started = False
        self._unwatched: dict[Upload, float] = {}
        self._wanted = anyio.Event()

    def expect(self, upload: Upload) -> None:
        """A request begins."""
        self._unwatched[upload] = anyio.current_time()
        if not self._has_started:
            self._has_started = True
            self._start(self._run)
        if not self._wanted.is_set():
            self._wanted.set()

    def forget(self, upload: Upload) -> None:
        """A request is over."""
        self._unwatched.pop(upload, None)
        upload.stop_watching()

    async def _run(self) -> None:
        async with anyio.create_task_group() as group:
            while True:
                await self._wanted.wait()
                await anyio.sleep(PATIENCE)
                late = anyio.current_time() - PATIENCE
                # In the order of their beginning.
                for upload, began in tuple(self._unwatched.items()):
                    if began > late:
                        break
                    del self._unwatched[upload]
                    group.start_soon(upload.watch)
                if not self._unwatched:
                    self._wanted = anyio.Event()
