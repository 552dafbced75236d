"""The body of a request on its way to the app, and the end of the client's connection.

The two belong together, because both come through `receive()`, which has one reader.
"""

from collections.abc import AsyncGenerator
from typing import Final

import anyio
from starlette.types import Receive, Scope

from appapi_host.errors import HostError

__all__ = ["REPLAYED_BYTES", "Upload"]

REPLAYED_BYTES: Final = 1024 * 1024
"""How much of a body is kept for an app that redirects it."""


class Upload:
    """One body.

    Args:
        scope: the request.
        receive: gives its body, and at last the disconnect.
        cancel_scope: cancelled when the client goes away, and with it the request to the app.
        keeps: the body may be wanted a second time.
    """

    def __init__(
        self, scope: Scope, receive: Receive, cancel_scope: anyio.CancelScope, *, keeps: bool
    ) -> None:
        self.length, is_chunked = _declared(scope)
        self.has_body = is_chunked or self.length not in (b"", b"0")
        self._receive = receive
        self._cancel_scope = cancel_scope
        self._watching: anyio.CancelScope | None = None
        self._is_finished = False
        self._is_over = not self.has_body
        self._over: anyio.Event | None = None
        self._kept: list[bytes] | None = [] if keeps else None
        self._kept_bytes = 0
        self._is_read = False

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes; the second time what has been kept of it, and the rest."""
        for body in tuple(self._kept or ()):
            yield body
        while not self._is_read:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._cancel_scope.cancel()
                await anyio.sleep_forever()
            self._is_read = not message.get("more_body", False)
            if body := message.get("body", b""):
                self._keep(body)
                yield body
        self.finish()

    def check_replayable(self) -> None:
        """Make sure that the body can be sent once more.

        Raises:
            HostError: too much of it has been read for that.
        """
        if self._kept is None:
            raise HostError(
                f"the app redirects a body of more than {REPLAYED_BYTES} bytes, which is not kept",
                remedy="answer such requests at the path that they are sent to",
            )

    def finish(self) -> None:
        """Nobody wants more of the body: it is read, or the app has answered."""
        self._is_over = True
        if self._over is not None:
            self._over.set()

    async def watch(self) -> None:
        """Cancel the request to the app when the client has gone."""
        if self._is_finished:
            return
        with anyio.CancelScope() as self._watching:
            if not self._is_over:
                self._over = anyio.Event()
                await self._over.wait()
            while (await self._receive())["type"] != "http.disconnect":
                pass  # what is left of a body, or the empty one of a request without
            self._cancel_scope.cancel()

    def stop_watching(self) -> None:
        """The answer is complete, or there is none."""
        self._is_finished = True
        if self._watching is not None:
            self._watching.cancel()

    def _keep(self, body: bytes) -> None:
        self._kept_bytes += len(body)
        if self._kept is not None:
            self._kept.append(body)
            if self._kept_bytes > REPLAYED_BYTES:
                self._kept = None


def _declared(scope: Scope) -> tuple[bytes, bool]:
    """The length that the client announced, and whether the body comes in chunks instead."""
    length, is_chunked = b"", False
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = value
        elif name == b"transfer-encoding":
            is_chunked = True
    # With both, the length is not to be believed. Source: RFC 9112, 6.3.
    return (b"" if is_chunked else length), is_chunked
