"""Running the lifespan of an ASGI application from Python, as a server would."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from starlette.types import ASGIApp, Message

from exapp_sdk.errors import ExAppError, LocalProtocolError

__all__ = ["lifespan_of"]

logger = logging.getLogger("exapp_sdk")

_LONGEST_SHUTDOWN: Final = 10.0
"""Seconds for an application that does not end when it is told to; engines kill after 10."""


@asynccontextmanager
async def lifespan_of(
    app: ASGIApp, *, extra: Mapping[str, Any] | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Start an application, and stop it at the end of the block.

    An application that knows no lifespan is simply there, as with ASGI servers.

    Args:
        app: the application.
        extra: more members of the lifespan scope.

    Yields:
        The state that its requests are to find in `scope["state"]`.

    Raises:
        ExAppError: it could not start; the application's own error where it raised one of ours.
    """
    run = _Lifespan(app, extra or {})
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await run.started.wait()
            run.check()
            try:
                yield run.state
            finally:
                run.stopping.set()
                with anyio.move_on_after(_LONGEST_SHUTDOWN, shield=True):
                    await run.ended.wait()
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        if len(errors.exceptions) > 1:
            raise
        raise errors.exceptions[0] from errors.exceptions[0].__cause__


class _Lifespan:
    """One run: the state between the two halves of the protocol."""

    def __init__(self, app: ASGIApp, extra: Mapping[str, Any]) -> None:
        self.state: dict[str, Any] = {}
        self.started = anyio.Event()
        self.stopping = anyio.Event()
        self.ended = anyio.Event()
        self._app = app
        self._extra = extra
        self._asked = False
        self._complete = False
        self._refusal: str | None = None
        self._error: Exception | None = None

    async def __call__(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
            **self._extra,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as error:
            self._error = error
            if self._complete:
                raise
            if self._refusal is None:
                logger.debug("%r knows no lifespan: %r", self._app, error)
        finally:
            self.started.set()
            self.ended.set()

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self.stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            self._complete = True
            self.started.set()
        elif message["type"] in ("lifespan.startup.failed", "lifespan.shutdown.failed"):
            self._refusal = message.get("message", "")
            if self._complete:
                logger.error("an application failed to stop: %s", self._refusal)

    def check(self) -> None:
        """Raise if the application said that it cannot start."""
        if self._refusal is None:
            return
        if isinstance(self._error, ExAppError):
            raise self._error
        raise LocalProtocolError(f"the application did not start: {self._refusal}")
