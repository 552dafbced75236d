"""What the host's output says about one request of a user."""

import time
from collections.abc import Iterable

from starlette.types import Scope

from appapi_host.events import Direction, EventBus, Exchange, Notice, masked_raw_headers
from appapi_host.proxy.admission import raw_path

__all__ = ["Report"]


class Report:
    """One request.

    Args:
        bus: told of it.
        scope: the request.
    """

    def __init__(self, bus: EventBus, scope: Scope) -> None:
        self._bus = bus
        self._scope = scope
        self._started = time.perf_counter()

    def emit(
        self,
        app_id: str,
        user_id: str,
        status: int,
        note: str,
        headers: Iterable[tuple[bytes, bytes]] | None = None,
    ) -> None:
        """Tell how it ended.

        Args:
            app_id: the app, empty if it is none.
            user_id: who asked, empty for nobody.
            status: HTTP status, 101 for a websocket, 0 for no answer.
            note: which rule decided.
            headers: what the app got; what the client sent if it got nothing.
        """
        query = self._scope.get("query_string", b"").decode("latin-1")
        path = raw_path(self._scope)
        self._bus.emit(
            Exchange(
                Direction.USER_TO_APP,
                app_id,
                self._scope.get("method", "GET"),
                f"{path}?{query}" if query else path,
                status,
                time.perf_counter() - self._started,
                user_id=user_id,
                request_headers=masked_raw_headers(
                    self._scope["headers"] if headers is None else headers
                ),
                note=note,
            )
        )

    def notice(self, app_id: str, text: str) -> None:
        """Tell something that a developer should know."""
        self._bus.emit(Notice(app_id, text))
