"""Two hosts of one machine, each with its own registry, and apps that are processes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from appapi_host.errors import StepError
from appapi_host.host import Host
from appapi_host.info_xml import AppInfo
from appapi_host.records import Daemon
from appapi_host.settings import HostSettings, Timeouts
from tests.live.cli_shell import write_app

pytestmark = pytest.mark.live

URL = {"nextcloud_url": "http://127.0.0.1:1"}
DAEMON = Daemon("here", "Here", "process-install", "http", "127.0.0.1", URL)
INFO = AppInfo(id="plain", name="Plain", version="1.2.0")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def opened(data_dir: Path) -> AsyncIterator[Host]:
    settings = HostSettings(data_dir=data_dir, timeouts=Timeouts(heartbeat_wrong=0.2))
    async with Host.open(settings) as host:
        await host.register_daemon(DAEMON, set_default=True)
        try:
            yield host
        finally:
            for app in await host.registry.apps():
                await host.unregister(app.app_id, force=True, rm_data=True)


async def test_two_hosts_never_give_the_same_port_even_to_an_app_that_is_off(
    tmp_path: Path,
) -> None:
    source = write_app(tmp_path / "app")
    async with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        ports: list[int] = []

        async def register(host: Host) -> None:
            ports.append((await host.register(INFO, source=source)).port)

        async with anyio.create_task_group() as group:
            group.start_soon(register, one)
            group.start_soon(register, two)
        assert len(set(ports)) == 2

        first = await one.disable("plain")  # nobody listens there now
        await two.unregister("plain")
        assert (await two.register(INFO, source=source)).port != first.port
        assert (await one.enable("plain")).enabled


async def test_the_app_of_another_host_cannot_answer_for_one_that_does_not_listen(
    tmp_path: Path,
) -> None:
    source = write_app(tmp_path / "app")
    async with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        app = await one.register(INFO, source=source)
        deaf = AppInfo(id="plain", name="Plain", version="1.2.0", port=app.port, secret=app.secret)
        command = ("/bin/sh", "-c", "echo deaf; exec sleep 60")
        with pytest.raises(StepError) as caught:
            await two.register(deaf, source=source, command=command)
        pid = app.deployment["pid"]
        assert caught.value.step == "heartbeat"
        assert caught.value.cause.startswith(f"it is process {pid} (python")
        assert caught.value.cause.endswith(f"that listens on port {app.port}, not the app")
        assert "unregister the app and register it again" in caught.value.remedy
        assert caught.value.output == ("deaf",)
        assert (await two.app("plain")).state == "failed"
