"""Whole installations on the session's engine, good and bad ones."""

import json
import re
import ssl
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from appapi_host.errors import DeployError, HostError, StepError
from appapi_host.events import Notice
from appapi_host.info_rules import DockerInstall
from appapi_host.info_xml import AppInfo
from appapi_host.records import AccessLevel, Daemon, Route
from appapi_host.settings import HostSettings, Timeouts
from appapi_host.testing import TestHost, live_host
from exapp_sdk.protocol.lifecycle import State
from tests.docker.conftest import MakeImage
from tests.docker.engines import DockerEngine, accepts
from tests.docker.registry import Registry
from tests.docker.socket_proxy import socket_proxy
from tests.docker.tls import Authority
from tests.ports import free_port

pytestmark = pytest.mark.docker

APP = "skel"
CONTAINER, VOLUME = f"nc_app_{APP}", f"nc_app_{APP}_data"


class Stage:
    """A host with a daemon for the session's engine."""

    def __init__(self, host: TestHost, engine: DockerEngine, registry: Registry) -> None:
        self.host = host
        self.engine = engine
        self.registry = registry
        self.port = free_port()

    async def daemon(self, name: str = "docker", **config: Any) -> Daemon:
        deploy_config = {
            "net": "host",
            "nextcloud_url": self.host.url,
            "computeDevice": {"id": "cpu", "label": "CPU"},
        } | config
        daemon = Daemon(name, "", "docker-install", "http", str(self.engine.socket), deploy_config)
        await self.host.host.register_daemon(daemon)
        return daemon

    def info(self, image: str, version: str = "1.0.0", app_id: str = APP) -> AppInfo:
        return AppInfo(
            id=app_id,
            name="Skeleton",
            version=version,
            docker_install=DockerInstall(self.registry.address, image, "1"),
            port=self.port,
            routes=(Route(".*", "GET", AccessLevel.PUBLIC),),
        )

    async def fails(self, info: AppInfo, **daemon: Any) -> HostError:
        """Register on a new daemon; what is said when that fails."""
        await self.daemon(**daemon)
        with anyio.fail_after(30), pytest.raises(HostError) as caught:
            await self.host.host.register(info, daemon="docker")
        return caught.value

    def inspect(self, name: str = CONTAINER) -> Any:
        return json.loads(self.engine.docker("inspect", name))[0]

    def state(self, name: str = CONTAINER) -> str:
        return str(self.inspect(name)["State"]["Status"])

    async def runs(self, command: str) -> str:
        """What a shell in the container prints."""
        words = ("exec", CONTAINER, "sh", "-c", command)
        return await anyio.to_thread.run_sync(self.engine.docker, *words)

    def containers(self) -> list[str]:
        return self.engine.docker("ps", "--all", "--format", "{{.Names}}").split()

    def volumes(self) -> list[str]:
        return self.engine.docker("volume", "ls", "--quiet").split()

    def notices(self) -> list[str]:
        return [event.text for event in self.host.events if isinstance(event, Notice)]


class Requests:
    """What the engine was asked since this was made."""

    def __init__(self, engine: DockerEngine) -> None:
        self._log = engine.log
        self._start = engine.log.stat().st_size

    def seen(self) -> list[str]:
        text = self._log.read_bytes()[self._start :].decode()
        return re.findall(r'msg="Calling (\w+ /\S+)"', text)


@pytest.fixture
async def stage(tmp_path: Path, engine: DockerEngine, registry: Registry) -> AsyncIterator[Stage]:
    async with live_host(tmp_path / "host") as host:
        yield Stage(host, engine, registry)


async def test_app_is_installed_switched_updated_and_removed(
    stage: Stage, make_image: MakeImage
) -> None:
    image = make_image()
    await stage.daemon()
    host = stage.host.host
    app = await host.register(stage.info(image), daemon="docker")
    assert app.state is State.ENABLED
    found = stage.inspect()
    assert found["State"]["Running"]
    assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    labels = found["Config"]["Labels"]
    assert labels["org.nextcloud.appapi.host"] == host.instance
    assert labels["org.nextcloud.appapi.app"] == APP
    assert labels["org.nextcloud.appapi.version"] == "1.0.0"
    assert stage.volumes() == [VOLUME]

    assert (await host.disable(APP)).state is State.DISABLED
    assert stage.state() == "exited"
    assert (await host.enable(APP)).state is State.ENABLED
    assert stage.inspect()["Id"] == found["Id"]
    output = await host.last_output(APP)
    assert output.count("switched /enabled?enabled=1") == 2
    await stage.runs("echo kept > $APP_PERSISTENT_STORAGE/data")

    before = stage.inspect()["State"]["StartedAt"]
    with pytest.raises(DeployError, match="no image could be had"):
        await host.update(stage.info("nowhere", "1.1.0"))
    assert stage.inspect()["State"]["StartedAt"] == before, "pulled first, so it was not stopped"

    updated = await host.update(stage.info(image, "1.1.0"))
    assert (updated.state, updated.version, updated.port) == (State.ENABLED, "1.1.0", app.port)
    assert stage.containers() == [CONTAINER]
    again = stage.inspect()
    assert again["Id"] != found["Id"]
    assert again["Config"]["Labels"]["org.nextcloud.appapi.version"] == "1.1.0"
    secret = next(word for word in found["Config"]["Env"] if word.startswith("APP_SECRET="))
    assert secret in again["Config"]["Env"]
    assert await stage.runs("cat $APP_PERSISTENT_STORAGE/data") == "kept"

    await host.unregister(APP)
    assert (stage.containers(), stage.volumes()) == ([], [VOLUME])
    await host.register(stage.info(image), daemon="docker")
    assert await stage.runs("cat $APP_PERSISTENT_STORAGE/data") == "kept"
    await host.unregister(APP, rm_data=True)
    assert (stage.containers(), stage.volumes()) == ([], [])


async def test_app_that_cannot_be_enabled_makes_room_for_the_old_version(
    stage: Stage, make_image: MakeImage
) -> None:
    good, bad = make_image(), make_image("exit")
    await stage.daemon()
    host = stage.host.host
    await host.register(stage.info(good), daemon="docker")
    before = stage.inspect()["Id"]
    with pytest.raises(StepError, match="the app ended: exit code 3") as caught:
        await host.update(stage.info(bad, "2.0.0"))
    assert "cannot find my model" in caught.value.output
    app = await host.app(APP)
    assert (app.state, app.version) == (State.ENABLED, "1.0.0")
    assert (stage.inspect()["Id"], stage.state()) == (before, "running")
    assert stage.containers() == [CONTAINER]


@pytest.mark.parametrize(
    ("mode", "code", "said"),
    [
        ("exit", 3, "cannot find my model"),
        ("brief", 5, "that was all"),
        ("crash", 6, "the model is broken"),
    ],
)
async def test_first_end_is_what_counts_and_its_last_lines_are_shown(
    stage: Stage, make_image: MakeImage, mode: str, code: int, said: str
) -> None:
    error = await stage.fails(stage.info(make_image(mode)))
    assert error.cause == f"the app ended: exit code {code}"
    assert error.output == (said,)  # once, though the engine may have started it again
    assert stage.state() == "exited"


async def test_app_that_uses_too_much_memory_is_named_as_such(
    stage: Stage, make_image: MakeImage
) -> None:
    greedy = 'CMD ["python3", "-c", "x = bytearray(10**9); x[:] = b\'1\' * 10**9"]'
    image = make_image("", greedy, name="plain-greedy")
    limit = 32 * 1024 * 1024
    error = await stage.fails(stage.info(image), resourceLimits={"memory": limit})
    assert "used more memory than its limit (exit code 137)" in error.cause
    assert stage.inspect()["HostConfig"]["Memory"] == limit


async def test_health_check_that_passes_is_waited_for(stage: Stage, make_image: MakeImage) -> None:
    image = make_image("init", "HEALTHCHECK --interval=300ms CMD echo fine", name="plain-healthy")
    await stage.daemon()
    await stage.host.host.register(stage.info(image), daemon="docker")
    assert stage.inspect()["State"]["Health"]["Status"] == "healthy"


async def test_health_check_that_fails_ends_the_install_with_its_output(
    stage: Stage, make_image: MakeImage
) -> None:
    image = make_image(
        "init",
        "HEALTHCHECK --interval=100ms --retries=2 CMD echo the model is missing; exit 1",
        name="plain-unhealthy",
    )
    error = await stage.fails(stage.info(image))
    assert isinstance(error, StepError)
    assert error.step == "healthcheck"
    assert "the model is missing" in error.cause
    assert error.remedy


async def test_container_of_somebody_else_is_never_touched(
    stage: Stage, make_image: MakeImage
) -> None:
    image = make_image()
    reference = f"{stage.registry.address}/{image}:1"
    other = stage.engine.docker("create", "--name", CONTAINER, reference)
    error = await stage.fails(stage.info(image))
    assert isinstance(error, DeployError)
    assert CONTAINER in error.cause
    assert "docker rename" in error.remedy
    assert stage.inspect()["Id"] == other
    assert stage.volumes() == []


async def test_failed_start_leaves_nothing_behind(stage: Stage, make_image: MakeImage) -> None:
    error = await stage.fails(stage.info(make_image()), net="nosuchnet")
    assert isinstance(error, DeployError)
    assert "nosuchnet" in error.cause
    assert "docker network create" in error.remedy
    assert (stage.containers(), stage.volumes()) == ([], [])


@pytest.mark.parametrize("device", ["cuda", "rocm"])
async def test_missing_gpu_is_named(stage: Stage, make_image: MakeImage, device: str) -> None:
    error = await stage.fails(stage.info(make_image()), computeDevice={"id": device})
    assert "the engine has no such compute device" in error.cause
    assert "--compute_device cpu" in error.remedy
    assert (stage.containers(), stage.volumes()) == ([], [])


async def test_mount_of_a_folder_that_is_not_there_is_named(
    stage: Stage, make_image: MakeImage
) -> None:
    await stage.daemon()
    with pytest.raises(DeployError, match="/nowhere/at/all") as caught:
        await stage.host.host.register(
            stage.info(make_image()),
            daemon="docker",
            mounts=[("/nowhere/at/all", "/models", "ro")],
        )
    assert "--mount" in caught.value.remedy
    assert (stage.containers(), stage.volumes()) == ([], [])


async def test_container_that_somebody_removed_is_no_obstacle(
    stage: Stage, make_image: MakeImage
) -> None:
    await stage.daemon()
    host = stage.host.host
    await host.register(stage.info(make_image()), daemon="docker")
    stage.engine.docker("rm", "--force", CONTAINER)
    assert (await host.disable(APP)).state is State.DISABLED
    with pytest.raises(StepError, match="not there any more"):
        await host.enable(APP)
    await host.unregister(APP, rm_data=True)
    assert stage.volumes() == []
    assert any("not there any more" in text for text in stage.notices())


async def test_app_whose_container_somebody_removed_is_unregistered_at_once(
    stage: Stage, make_image: MakeImage
) -> None:
    await stage.daemon()
    host = stage.host.host
    await host.register(stage.info(make_image()), daemon="docker")
    stage.engine.docker("rm", "--force", CONTAINER)
    await host.unregister(APP, rm_data=True)
    assert stage.volumes() == []
    assert await host.registry.app(APP) is None


async def test_output_of_a_container_is_followed_to_its_end(
    stage: Stage, make_image: MakeImage
) -> None:
    await stage.daemon()
    host = stage.host.host
    app = await host.register(stage.info(make_image()), daemon="docker")
    lines: list[str] = []
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(host.disable, APP)
            lines += [line async for line in host.backend(app).output(app)]
    assert lines[:1] == ["switched /enabled?enabled=1"]
    assert "switched /enabled?enabled=0" in lines


@pytest.mark.parametrize("user", ["root", "1000:1000"])
async def test_app_trusts_what_this_machine_trusts(
    stage: Stage, make_image: MakeImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    authority = Authority(tmp_path / "authority")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    pair = authority.server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        await stage.daemon()
        image = make_image("init", f"USER {user}", name=f"user-{user[:4]}")
        await stage.host.host.register(stage.info(image), daemon="docker")
        code = (
            "import socket, ssl; c = ssl.create_default_context(); "
            f"s = c.wrap_socket(socket.create_connection(('127.0.0.1', {server.server_port})),"
            "server_hostname='localhost'); print(s.version())"
        )
        said = await stage.runs(f'python3 -c "{code}"')
        server.shutdown()
    assert said.startswith("TLS")
    assert "1 certificates of this machine installed in the image" in stage.notices()


async def test_two_hosts_on_one_engine_do_not_meddle(
    stage: Stage, make_image: MakeImage, tmp_path: Path
) -> None:
    image = make_image()
    await stage.daemon()
    await stage.host.host.register(stage.info(image), daemon="docker")
    async with live_host(tmp_path / "other") as other:
        second = Stage(other, stage.engine, stage.registry)
        error = await second.fails(replace(second.info(image), port=free_port()))
        assert "belongs to another host" in error.cause
    assert stage.state() == "running"


async def test_ten_apps_are_installed_at_once(
    engine: DockerEngine, registry: Registry, make_image: MakeImage, tmp_path: Path
) -> None:
    image = make_image("quiet")
    app_ids = [f"skel{number}" for number in range(10)]
    # Ten at once have a small machine start slowly.
    async with live_host(tmp_path, HostSettings(timeouts=Timeouts(heartbeat=90))) as live:
        host, stage = live.host, Stage(live, engine, registry)
        await stage.daemon()
        infos = [replace(stage.info(image, app_id=app_id), port=None) for app_id in app_ids]
        async with anyio.create_task_group() as group:
            for info in infos:
                group.start_soon(partial(host.register, info, daemon="docker"))
        apps = await host.registry.apps()
        assert {app.app_id: app.state for app in apps} == dict.fromkeys(app_ids, State.ENABLED)
        assert len({app.port for app in apps}) == 10
        assert sorted(stage.containers()) == [f"nc_app_{app_id}" for app_id in app_ids]
        async with anyio.create_task_group() as group:
            for app_id in app_ids:
                group.start_soon(partial(host.unregister, app_id, rm_data=True))
    assert (stage.containers(), stage.volumes()) == ([], [])


@pytest.mark.parametrize("net", ["host", "apps"])
async def test_update_through_a_socket_proxy_comes_back_too(
    stage: Stage, make_image: MakeImage, tmp_path: Path, net: str
) -> None:
    good, bad = make_image("quiet"), make_image("exit")
    stage.engine.docker("network", "create", "apps")
    with socket_proxy(tmp_path / "proxy", stage.engine.socket) as proxy:
        config = {
            "net": net,
            "nextcloud_url": "http://host.test",  # the proxy hides where apps would find us
            "haproxy_password": proxy.password,
        }
        address = f"127.0.0.1:{proxy.port}"
        daemon = Daemon("proxied", "", "docker-install", "http", address, config)
        host = stage.host.host
        await host.register_daemon(daemon)
        await host.register(stage.info(good), daemon="proxied")
        assert (await host.update(stage.info(good, "1.1.0"))).version == "1.1.0"
        before = stage.inspect()
        with pytest.raises(StepError, match="the app ended"):
            await host.update(stage.info(bad, "2.0.0"))
        app = await host.app(APP)
        assert (app.state, app.version) == (State.ENABLED, "1.1.0")
        after = stage.inspect()
        assert after["Id"] != before["Id"]
        for part in ("Mounts", "RestartPolicy", "PortBindings", "NetworkMode"):
            assert after["HostConfig"][part] == before["HostConfig"][part]
        assert after["Config"]["Env"] == before["Config"]["Env"]
        assert after["Config"]["Labels"] == before["Config"]["Labels"]
        assert stage.containers() == [CONTAINER]
        await host.unregister(APP, rm_data=True)
    assert (stage.containers(), stage.volumes()) == ([], [])


async def test_app_that_ends_while_it_is_enabled_is_started_again_by_the_engine(
    stage: Stage, make_image: MakeImage
) -> None:
    await stage.daemon()
    host = stage.host.host
    app = await host.register(stage.info(make_image("die")), daemon="docker")
    ended: list[str] = []

    async def watch() -> None:
        ended.append(await host.exited(APP))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            async with await anyio.connect_tcp("localhost", app.port) as stream:
                await stream.send(b"GET /die HTTP/1.1\r\nHost: x\r\n\r\n")
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
            text = "the container ended (exit code 7); the engine starts it again"
            while text not in stage.notices():
                await anyio.lowlevel.checkpoint()
            while stage.state() != "running":
                await anyio.lowlevel.checkpoint()
            assert ended == []
            # Until Python has begun, process 1 ignores the signal.
            while not accepts(("127.0.0.1", app.port)):
                await anyio.lowlevel.checkpoint()
            await anyio.to_thread.run_sync(stage.engine.docker, "stop", CONTAINER)
    assert ended == ["exit code 130"]
    assert stage.inspect()["RestartCount"] == 1
