"""The HTTP library, imported when something of it is needed: most commands ask no app."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio.to_thread

__all__ = ["httpx", "ready"]

if TYPE_CHECKING:
    import httpx
else:

    class _Httpx:
        """Stands for the library until something of it is asked for."""

        def __getattr__(self, name: str) -> Any:
            value = getattr(_imported(), name)
            setattr(self, name, value)  # from now on without this method
            return value

    httpx = _Httpx()


@cache
def _imported() -> ModuleType:
    import httpcore  # noqa: F401  # httpx would import it at the first request
    import httpx

    return httpx


async def ready() -> None:
    """Have the library imported, without blocking the loop."""
    if not _imported.cache_info().currsize:
        await anyio.to_thread.run_sync(_imported)
