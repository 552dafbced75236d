"""For the tests of apps: start one without a server, and sign requests as a host would."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.types import ASGIApp

from exapp_sdk.lifespan import lifespan_of
from exapp_sdk.protocol.environ import Settings

if TYPE_CHECKING:
    from exapp_sdk.client import Transport

__all__ = ["running", "signed_headers"]

AppT = TypeVar("AppT", bound=ASGIApp)


@asynccontextmanager
async def running(
    app: AppT, *, settings: Settings | None = None, transport: "Transport | None" = None
) -> AsyncIterator[AppT]:
    """Run the lifespan of an app around a block, on asyncio and trio.

    ```python
    async with running(app, settings=settings):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as host:
            answer = await host.get("/hello", headers=signed_headers(settings, "alice"))
    ```

    Args:
        app: usually an `ExApp`, but any ASGI application will do.
        settings: for an `ExApp`, instead of its own or of the environment.
        transport: for an `ExApp`, how its client reaches the host, instead of the network; an
            `httpx.ASGITransport` around a host in the same process, for instance.

    Raises:
        ExAppError: the app did not start.
    """
    extra: dict[str, Any] = {}
    if settings is not None:
        extra["exapp_sdk.settings"] = settings
    if transport is not None:
        extra["exapp_sdk.transport"] = transport
    async with lifespan_of(app, extra=extra):
        yield app


def signed_headers(settings: Settings, user_id: str = "") -> dict[str, str]:
    """The AppAPI headers of a request that the host makes to the app.

    Args:
        settings: of the app.
        user_id: in whose name; empty for the host's own.
    """
    credentials = replace(settings.credentials, user_id=user_id)
    return dict(credentials.headers(aa_version=settings.aa_version))
