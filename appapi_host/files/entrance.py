"""Where requests for files come in, before anything that serves them is loaded."""

from typing import Final

import anyio
import anyio.to_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from appapi_host.host import Host

__all__ = ["PREFIX", "FilesEntrance"]

PREFIX: Final = "/remote.php/"
"""Beginning of the path of every request for files."""


class FilesEntrance:
    """The ASGI application of the files, loaded with the first request.

    Loading the libraries takes longer than starting the rest of the host.

    Args:
        host: whose files.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._app is None:
            self._app = await anyio.to_thread.run_sync(self._loaded)
        await self._app(scope, receive, send)

    def _loaded(self) -> ASGIApp:
        from appapi_host.files.web import FilesApplication

        return FilesApplication(self._host)
