"""The way to an engine is cut while an app is enabled: what the host makes of what it finds."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from appapi_host.deploy.docker import DockerBackend
from appapi_host.errors import AppInterruptedError
from appapi_host.events import Notice
from appapi_host.info_rules import EnvironmentVariable
from appapi_host.records import AppRecord
from appapi_host.testing import TestHost, live_host
from exapp_sdk.protocol.lifecycle import State
from tests.docker.engines import DockerEngine
from tests.docker.reach import docker_daemon, plain_info
from tests.docker.registry import Registry
from tests.docker.relay import Relay, relay

pytestmark = pytest.mark.docker

CONTAINER = "nc_app_plain"


@pytest.fixture
def way(engine: DockerEngine, short_folder: Path) -> Iterator[Relay]:
    """The way to the session's engine, which can be cut while that runs on."""
    with relay(engine.socket, short_folder / "way.sock") as way:
        yield way


@pytest.fixture
async def host(
    way: Relay, registry: Registry, make_image: object, tmp_path: Path
) -> AsyncIterator[TestHost]:
    """A host that watches one app, whose folder `models` it needs to start."""
    models = tmp_path / "models"
    models.mkdir()
    assert callable(make_image)
    info = replace(
        plain_info(registry=registry.address, image=make_image("quiet")),
        environment_variables={"MODE": EnvironmentVariable("MODE", value="quiet")},
    )
    async with live_host(tmp_path / "host") as host:
        host.host.recovery.grace = 0.0
        await host.host.register_daemon(docker_daemon(host, way.name, registries=[]))
        await host.host.register(info, daemon="docker", mounts=[(str(models), "/models", "ro")])
        async with anyio.create_task_group() as group:
            group.start_soon(host.host.watch)
            yield host
            group.cancel_scope.cancel()


async def until(host: TestHost, text: str) -> None:
    """Wait for a notice."""
    with anyio.fail_after(30):
        while not any(isinstance(e, Notice) and text in e.text for e in host.events):
            await anyio.lowlevel.checkpoint()


async def failed(host: TestHost) -> str:
    """Wait until the app has failed; returns why."""
    with anyio.fail_after(30):
        app = await host.host.registry.wait(
            "plain", lambda app: app is not None and app.state is State.FAILED
        )
    assert isinstance(app, AppRecord)
    return app.failure


async def test_container_that_was_stopped_meanwhile_is_started(
    host: TestHost, way: Relay, engine: DockerEngine
) -> None:
    way.sever()
    await until(host, "has gone")
    await anyio.to_thread.run_sync(engine.docker, "stop", "--time", "0", CONTAINER)
    way.mend()
    await until(host, "is back")
    with anyio.fail_after(30):
        while await anyio.to_thread.run_sync(engine.docker, "ps", "--quiet") == "":
            pass
    assert (await host.host.app("plain")).state is State.ENABLED


@pytest.mark.parametrize("is_away", [True, False])
async def test_container_that_had_been_stopped_when_it_is_looked_at_first_was_interrupted(
    host: TestHost, way: Relay, engine: DockerEngine, short_folder: Path, is_away: bool
) -> None:
    way.sever()  # to the end: the host that has made the container does nothing here
    await until(host, "has gone")
    app = await host.host.app("plain")
    backend = DockerBackend(host.host.settings, host.host.bus)
    backend.instance = host.host.instance
    with relay(engine.socket, short_folder / "other.sock") as other:
        daemon = replace(app.daemon, host=other.name)
        app = replace(app, daemon=daemon, state=State.INITIALIZING)

        async def stop() -> None:
            await anyio.to_thread.run_sync(engine.docker, "stop", "--time", "0", CONTAINER)

        async def stop_and_mend() -> None:
            await until(host, f"{other.name} has gone")
            await stop()
            other.mend()

        async with anyio.create_task_group() as group:
            if is_away:
                other.sever()
                group.start_soon(stop_and_mend)
            else:
                await stop()
            with anyio.fail_after(30), pytest.raises(AppInterruptedError):
                await backend.exited(app)
        await backend.close()
    way.mend()


async def test_container_that_was_removed_meanwhile_is_said(
    host: TestHost, way: Relay, engine: DockerEngine
) -> None:
    way.sever()
    await until(host, "has gone")
    await anyio.to_thread.run_sync(engine.docker, "rm", "--force", CONTAINER)
    way.mend()
    assert (await failed(host)).endswith(": the container was removed")


async def test_container_that_cannot_be_started_again_is_said(
    host: TestHost, way: Relay, engine: DockerEngine, tmp_path: Path
) -> None:
    way.sever()
    await until(host, "has gone")
    await anyio.to_thread.run_sync(engine.docker, "stop", "--time", "0", CONTAINER)
    (tmp_path / "models").rmdir()
    way.mend()
    assert ": the engine cannot start it again: " in await failed(host)
