"""Client → host → app, with two real servers in one process."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio
import httpx

from appapi_host.asgi import create_app, serve
from appapi_host.events import Event, Exchange
from appapi_host.host import Host
from appapi_host.records import AccessLevel, Route
from appapi_host.settings import HostSettings
from tests.host.web_stage import APP, DAEMON

App = Callable[[Any, Any, Any], Awaitable[None]]
PHP = "/index.php/apps/app_api/proxy/nc_py_api"
HARP = "/exapps/nc_py_api"


@dataclass
class LiveStage:
    host: Host
    client: httpx.AsyncClient
    port: int
    events: list[Event]

    @property
    def note(self) -> str:
        """Which rule decided about the last request."""
        return [event for event in self.events if isinstance(event, Exchange)][-1].note

    async def move_app(self, port: int) -> None:
        """Let the app be somewhere else."""
        await self.host.registry.apply("nc_py_api", lambda app: replace(app, port=port))


@asynccontextmanager
async def live_stage(app: App) -> AsyncIterator[LiveStage]:
    """Client → host → app, with two servers."""
    events: list[Event] = []
    with anyio.fail_after(20):
        async with Host.open(HostSettings()) as host, anyio.create_task_group() as group:
            app_port: int = await group.start(partial(serve, app))
            port: int = await group.start(partial(serve, create_app(host)))
            await host.register_daemon(DAEMON)
            routes = (Route(".*", "GET,HEAD,POST,PUT", AccessLevel.PUBLIC),)
            await host.registry.add_app(replace(APP, port=app_port, routes=routes))
            url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
                with host.bus.subscribed(events.append):
                    yield LiveStage(host, client, port, events)
            group.cancel_scope.cancel()
