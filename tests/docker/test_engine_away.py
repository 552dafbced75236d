"""The way to an engine is cut while an app is enabled: what the host makes of what it finds."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
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


@asynccontextmanager
async def another(
    host: TestHost, way: Relay, engine: DockerEngine, folder: Path
) -> AsyncIterator[tuple[DockerBackend, AppRecord, Relay]]:
    """Another process that has never looked at the app, which initializes, and its own way."""
    way.sever()  # the host that has made the container does nothing here
    await until(host, "has gone")
    app = await host.host.app("plain")
    backend = DockerBackend(host.host.settings, host.host.bus)
    backend.instance = host.host.instance
    with relay(engine.socket, folder / "other.sock") as other:
        daemon = replace(app.daemon, host=other.name)
        with anyio.fail_after(30):
            yield backend, replace(app, daemon=daemon, state=State.INITIALIZING), other
        await backend.close()
    way.mend()


def stop(engine: DockerEngine) -> None:
    engine.docker("stop", "--time", "0", CONTAINER)


async def test_container_that_is_stopped_before_its_engine_is_reached_was_interrupted(
    host: TestHost, way: Relay, engine: DockerEngine, short_folder: Path
) -> None:
    async with another(host, way, engine, short_folder) as (backend, app, other):

        async def stop_and_mend() -> None:
            await until(host, f"{other.name} has gone")
            await anyio.to_thread.run_sync(stop, engine)
            other.mend()

        other.sever()
        async with anyio.create_task_group() as group:
            group.start_soon(stop_and_mend)
            with pytest.raises(AppInterruptedError):
                await backend.exited(app)


async def test_container_that_is_stopped_before_it_is_looked_at_was_interrupted(
    host: TestHost, way: Relay, engine: DockerEngine, short_folder: Path
) -> None:
    async with another(host, way, engine, short_folder) as (backend, app, _):
        await anyio.to_thread.run_sync(stop, engine)
        with pytest.raises(AppInterruptedError):
            await backend.exited(app)


async def test_container_that_ended_and_runs_again_before_it_is_looked_at_has_ended(
    host: TestHost, way: Relay, engine: DockerEngine, short_folder: Path
) -> None:
    def die_and_come_back() -> None:
        shown = "{{.State.Pid}} {{.RestartCount}} {{.State.Running}} {{.State.Restarting}}"
        pid = engine.docker("inspect", "--format", shown, CONTAINER).split()[0]
        os.kill(int(pid), signal.SIGKILL)
        while not engine.docker("inspect", "--format", shown, CONTAINER).endswith(" 1 true false"):
            pass

    async with another(host, way, engine, short_folder) as (backend, app, _):
        await anyio.to_thread.run_sync(die_and_come_back)
        how = await backend.exited(app)
        assert how == "nobody saw how, and the engine started it again"
        assert await anyio.to_thread.run_sync(engine.docker, "ps", "--quiet") == ""


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
