"""The way to an engine: made with the first request, lost when the engine goes, and made anew.

The library below blocks, so its calls run in worker threads: reads and waits are left behind when
their deadline comes, what changes something runs to its end, which a socket timeout bounds.
"""

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from appapi_host.deploy.docker.address import Address
from appapi_host.deploy.docker.connection import FOREIGN, Attempt, Connection, translated
from appapi_host.deploy.docker.faults import EngineError

__all__ = ["Link"]

PATIENCE_SECONDS: Final = 30.0
"""How long an engine that has gone is waited for where nobody says otherwise."""

_RETRY_SECONDS: Final = 0.25
"""Until an engine that has gone is tried again; the time that it takes to start is longer."""

_CONNECT_SECONDS: Final = 60.0
"""An engine that has not been reached by then is away, whatever the library below waits for."""

_STREAMS: Final = 200
"""Streams and requests at once on one engine; each has a thread."""

T = TypeVar("T")


class Link:
    """The connection to one engine.

    Args:
        address: how it is reached.
        patience: seconds that it may take to come back when it has gone.
        tell: told that it has gone, and that it is back.
    """

    def __init__(
        self,
        address: Address,
        *,
        patience: float = PATIENCE_SECONDS,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.address = address
        self._patience = patience
        self._tell = tell
        self._is_gone = False
        self._returning = anyio.Lock()
        self._waiting = 0
        self._connection: Connection | None = None
        self._connecting = anyio.Lock()
        self._limiter = anyio.CapacityLimiter(_STREAMS)

    @property
    def shown(self) -> str:
        """How the engine is reached, for people."""
        return self.address.shown

    @property
    def is_proxied(self) -> bool:
        """Whether a socket proxy decides what we may ask."""
        return bool(self.address.password)

    @property
    def is_podman(self) -> bool:
        """Whether the engine is Podman, as far as it has been asked."""
        return self._connection is not None and self._connection.is_podman

    async def connect(self) -> None:
        """Reach the engine and agree on a version of its API: one request, once.

        Raises:
            EngineError: it cannot be reached, is none, or is too old.
        """
        async with self._connecting:
            if self._connection is None:
                self._connection = await self._new_connection()

    async def is_there(self) -> bool:
        """Whether the engine accepts connections; the one that we have may outlive its end.

        Raises:
            EngineError: there is another reason that it cannot be used.
        """
        try:
            connection = await self._new_connection()
        except EngineError as error:
            if not error.is_unreachable:
                raise
            return False
        old, self._connection = self._connection, connection
        if old is not None:
            # Nobody waits for its end: it may still be in use in a thread that was left behind.
            threading.Thread(target=old.close, name="engine-closing", daemon=True).start()
        self._answers()
        return True

    def _answers(self) -> None:
        """Tell that it is back if it had gone; whoever noticed that may wait no more."""
        if self._is_gone:
            self._is_gone = False
            self._tell(f"the engine at {self.shown} is back")

    async def _is_there_again(self) -> bool:
        """The same for one that has gone, and may be starting."""
        try:
            return await self.is_there()
        except EngineError as error:
            if error.status or not self._is_gone:
                raise
            # Its socket is there before its group may use it, and a connection that is cut in the
            # middle of TLS looks like a refusal of our certificate.
            return False

    async def is_back(self, *, for_ever: bool = False) -> bool:
        """Wait for an engine that may have gone; returns whether it can be used again.

        Args:
            for_ever: wait as long as it takes.
        """
        self._waiting += 1
        try:
            with anyio.move_on_after(math.inf if for_ever else self._patience):
                async with self._returning:
                    while not await self._is_there_again():
                        if not self._is_gone:
                            self._is_gone = True
                            self._tell(f"the engine at {self.shown} has gone; waiting for it")
                        await anyio.sleep(_RETRY_SECONDS)
                return True
        finally:
            self._waiting -= 1
        if not self._waiting:
            self._is_gone = False  # given up, which is told; the next to wait says so anew
        return False

    def gone(self) -> EngineError:
        """What to say about one that did not come back."""
        return EngineError(
            "gone",
            f"the engine at {self.shown} has gone and was not back within {self._patience:g} s",
            remedy="start the Docker Engine (`systemctl start docker`) and try again",
        )

    async def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await anyio.to_thread.run_sync(connection.close)

    async def _new_connection(self) -> Connection:
        attempt = Attempt(self.address)
        made, token = anyio.Event(), anyio.lowlevel.current_token()

        def make() -> None:
            attempt.make()
            with suppress(Exception):  # the loop has ended before us
                anyio.from_thread.run_sync(made.set, token=token)

        # Not one of anyio's threads: no process could end before an engine that hangs has answered.
        threading.Thread(target=make, name="engine-connection", daemon=True).start()
        try:
            with anyio.fail_after(_CONNECT_SECONDS):
                await made.wait()
        except BaseException as error:
            attempt.give_up()
            if isinstance(error, TimeoutError):
                raise translated(self.shown, error) from error
            raise
        try:
            return attempt.result()
        except FOREIGN as error:
            raise translated(self.shown, error) from error

    async def _run(self, function: Callable[..., T], *args: Any, wait: bool = False) -> T:
        """Run something that blocks in a thread and translate what it raises.

        Args:
            function: what to run.
            args: its arguments.
            wait: it changes nothing, so a deadline need not wait for it.
        """
        try:
            return await anyio.to_thread.run_sync(
                function, *args, abandon_on_cancel=wait, limiter=self._limiter
            )
        except FOREIGN as error:
            raise translated(self.shown, error) from error

    def _connected(self) -> Connection:
        if self._connection is None:
            raise EngineError("closed", f"the connection to {self.shown} was closed")
        return self._connection
