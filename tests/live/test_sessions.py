"""Sessions over real connections: a restart of the host, and websockets of foreign pages."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from appapi_host.asgi import create_app, serve
from appapi_host.host import Host
from appapi_host.identity import cookie_name
from appapi_host.records import AccessLevel, Route
from appapi_host.settings import HostSettings
from tests.host.browsing import fields
from tests.live.proxy_stage import HARP, live_stage
from tests.live.test_proxy_websockets import EchoApp

pytestmark = pytest.mark.live
ME = "/ocs/v2.php/cloud/user?format=json"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # what the ASGI server runs on


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[str]:
    """The address of a host that keeps its state in a folder."""
    async with Host.open(HostSettings(data_dir=folder)) as host:
        await host.users.create_defaults(loopback=True)
        async with anyio.create_task_group() as group:
            port: int = await group.start(partial(serve, create_app(host)))
            yield f"http://127.0.0.1:{port}"
            group.cancel_scope.cancel()


async def test_session_outlives_a_restart_of_the_host(tmp_path: Path) -> None:
    async with httpx.AsyncClient(trust_env=False) as browser:
        async with served(tmp_path / "one") as url:
            form = fields((await browser.get(f"{url}/login")).text)
            given = form | {"user": "user", "password": "user"}
            response = await browser.post(f"{url}/login", data=given)
            assert response.status_code == 303
        # On another port, which browsers do not tell apart.
        async with served(tmp_path / "one") as url:
            response = await browser.get(url + ME, headers={"OCS-APIRequest": "true"})
            assert response.json()["ocs"]["data"]["id"] == "user"
        async with served(tmp_path / "another") as url:
            response = await browser.get(url + ME, headers={"OCS-APIRequest": "true"})
            assert response.status_code == 401


async def test_websocket_knows_the_session_unless_a_foreign_page_opened_it() -> None:
    app = EchoApp()
    async with live_stage(app) as s:
        await s.host.users.create_defaults(loopback=True)
        routes = (Route("^/ws", "GET", AccessLevel.USER),)
        await s.host.registry.apply("nc_py_api", lambda record: replace(record, routes=routes))
        user = await s.host.registry.user("user")
        assert user
        token = await s.host.sessions.begin(user)
        cookie = {"Cookie": f"a=1; {cookie_name(s.host)}={token}"}
        address, own = f"ws://127.0.0.1:{s.port}{HARP}/ws", f"http://127.0.0.1:{s.port}"
        async with connect(address, proxy=None, additional_headers=cookie, origin=own) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
        assert app.header(b"cookie") == [b"a=1"]
        for origin in ("http://127.0.0.1:1", "https://evil.example", "null"):
            with pytest.raises(InvalidStatus) as caught:
                await connect(address, proxy=None, additional_headers=cookie, origin=origin)
            assert caught.value.response.status_code == 403
