"""Apps in networks of their own: reached by the host, and reaching it back; several at once."""

import json
import re
import signal
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from appapi_host.errors import HostError
from appapi_host.info_xml import AppInfo
from appapi_host.testing import TestHost, live_host
from tests.docker.engines import DockerEngine, free_network
from tests.docker.reach import (
    TLSEngine,
    docker_daemon,
    installed,
    notices,
    plain_info,
    refusals,
)
from tests.live.cli_shell import Shell, get
from tests.ports import free_port

pytestmark = pytest.mark.docker

NETWORK = "apps"


@pytest.fixture
def network(tls_engine: TLSEngine) -> str:
    """A network of its own on the engine; returns its gateway."""
    addresses = free_network()
    words = ["--subnet", f"{addresses}.0/24", "--gateway", f"{addresses}.1"]
    tls_engine.engine.docker("network", "create", *words, NETWORK)
    return f"{addresses}.1"


def environment(engine: TLSEngine, container: str = "nc_app_plain") -> dict[str, str]:
    pairs = (word.partition("=") for word in engine.inspect(container)["Config"]["Env"])
    return {name: value for name, _, value in pairs}


@pytest.mark.parametrize("net", ["host", "bridge", NETWORK])
async def test_app_and_host_reach_each_other(
    host: TestHost, tls_engine: TLSEngine, network: str, net: str
) -> None:
    gateway = {"host": "", "bridge": tls_engine.engine.gateway, NETWORK: network}[net]
    port = host.url.rpartition(":")[2]
    daemon = docker_daemon(host, tls_engine.engine.socket, net=net)
    async with installed(host, daemon):
        url = environment(tls_engine)["NEXTCLOUD_URL"]
        assert url == (f"http://{gateway}:{port}" if gateway else host.url)
        said = (
            f"the host listens on {gateway} port {port} as well, for the apps of the daemon "
            "docker; only what an app has signed is accepted there"
        )
        assert [t for t in notices(host) if "listens on" in t] == ([said] if gateway else [])
    if gateway:
        with anyio.fail_after(20):
            while True:
                try:
                    await (await anyio.connect_tcp(gateway, int(port))).aclose()
                except OSError:
                    break
    assert (tls_engine.names(), tls_engine.names("volume")) == ([], [])


async def test_container_gets_nothing_at_the_gateway_that_no_app_has_signed(
    host: TestHost, tls_engine: TLSEngine
) -> None:
    code = """
import base64, json, os, urllib.error, urllib.request
url = os.environ["NEXTCLOUD_URL"]
def status(path, headers):
    try:
        return urllib.request.urlopen(urllib.request.Request(url + path, headers=headers)).status
    except urllib.error.HTTPError as error:
        return error.code
def basic(text):
    return base64.b64encode(text.encode()).decode()
def signed(secret):
    return {"EX-APP-ID": os.environ["APP_ID"], "EX-APP-VERSION": os.environ["APP_VERSION"],
            "AUTHORIZATION-APP-API": basic(":" + secret)}
paths = "/", "/login", "/status.php", "/index.php/apps/app_api/proxy/plain/x", \
    "/ocs/v1.php/cloud/capabilities"
ways = {}, {"Authorization": "Basic " + basic("admin:admin")}, signed("wrong")
print(json.dumps([status(path, way) for path in paths for way in ways]
      + [status(paths[-1], signed(os.environ["APP_SECRET"]))]))
"""
    async with installed(host, docker_daemon(host, tls_engine.engine.socket, net="bridge")):
        words = ["docker", "-H", f"unix://{tls_engine.engine.socket}", "exec", "nc_app_plain"]
        done = await anyio.run_process([*words, "python3", "-c", code])
        assert json.loads(done.stdout) == [403] * 15 + [200]
        assert len(refusals(host)) == 15


async def test_network_that_does_not_exist_is_named_before_anything_is_made(
    host: TestHost, tls_engine: TLSEngine
) -> None:
    daemon = docker_daemon(host, tls_engine.engine.socket, net="no_such_network")
    with pytest.raises(HostError, match="no_such_network") as caught:
        await host.host.check_daemon(daemon)
    assert "docker network create" in caught.value.remedy
    await host.host.register_daemon(daemon)
    with pytest.raises(HostError, match="no_such_network"):
        await host.host.register(plain_info(), daemon=daemon.name)
    assert await host.host.registry.apps() == []
    assert (tls_engine.names(), tls_engine.names("volume")) == ([], [])


async def test_daemons_of_one_host_serve_at_once(
    host: TestHost,
    tls_engine: TLSEngine,
    network: str,
    engine: DockerEngine,
    pulled_info: AppInfo,
) -> None:
    socket = tls_engine.engine.socket
    address = f"127.0.0.1:{tls_engine.port}"
    daemons = [
        docker_daemon(host, socket, "one", net="bridge"),
        docker_daemon(host, address, "two", net=NETWORK, protocol="https", tls=tls_engine.tls()),
        docker_daemon(host, socket, "three"),
        docker_daemon(host, engine.socket, "another engine", net="bridge"),
    ]
    async with (
        installed(host, daemons[0], plain_info("first")) as first,
        installed(host, daemons[1], plain_info("second")) as second,
        installed(host, daemons[2], plain_info("third")) as third,
        installed(host, daemons[3], replace(pulled_info, id="fourth")) as fourth,
    ):
        for app in (first, second, third, fourth):
            assert (await app.get("/x")).status_code == 200
        assert engine.docker("ps", "--format", "{{.Names}}") == "nc_app_fourth"
        assert sorted(tls_engine.names()) == ["nc_app_first", "nc_app_second", "nc_app_third"]
    assert sum("listens on" in text and "as well" in text for text in notices(host)) == 3


async def test_two_hosts_on_one_engine_leave_each_other_alone(
    host: TestHost, tls_engine: TLSEngine, tmp_path: Path
) -> None:
    async with live_host(tmp_path / "other") as other:
        daemon = docker_daemon(host, tls_engine.engine.socket, net="bridge")
        others = docker_daemon(other, tls_engine.engine.socket, net="bridge")
        async with installed(host, daemon) as ours:
            await other.host.register_daemon(others)
            with pytest.raises(HostError) as caught:
                await other.host.register(plain_info(), daemon=others.name)
            assert "nc_app_plain" in caught.value.cause
            assert caught.value.remedy
            assert await other.host.registry.apps() == []
            assert (await ours.get("/x")).status_code == 200, "not touched"

            async with installed(other, others, plain_info("theirs")) as theirs:
                label = "org.nextcloud.appapi.host"
                labels = {
                    tls_engine.inspect(f"nc_app_{app_id}")["Config"]["Labels"][label]
                    for app_id in ("plain", "theirs")
                }
                assert len(labels) == 2
                for app in (ours, theirs):
                    assert (await app.get("/x")).status_code == 200
            assert tls_engine.names() == ["nc_app_plain"]
            assert tls_engine.names("volume") == ["nc_app_plain_data"]


def test_serve_opens_the_gateway_for_an_app_that_occ_registers(
    tls_engine: TLSEngine, tmp_path: Path
) -> None:
    shell = Shell(tmp_path)
    gateway = tls_engine.engine.gateway
    info = json.dumps(
        {
            "id": "plain",
            "name": "Plain",
            "version": "1.0.0",
            "port": free_port(),
            "docker-install": {
                "registry": "local.test",
                "image": "plain",
                "image-tag": "1",
            },
            "routes": [{"url": ".*", "verb": "GET", "access_level": 0}],
        }
    )
    with shell.start("serve", "--port", "0") as serve:
        serve.until("Ctrl-C stops it")
        words = ["d", "D", "docker-install", "http", tls_engine.engine.socket, serve.url]
        done = shell.call("occ", "app_api:daemon:register", *words, "--net", "bridge")
        assert (done.stdout, done.stderr) == ("Daemon successfully registered.\n", "")
        words = ["plain", "d", "--json-info", info, "--wait-finish"]
        done = shell.call("occ", "app_api:app:register", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        serve.until(rf"listens on {re.escape(gateway)} port \d+ as well")
        assert get(f"{serve.url}/index.php/apps/app_api/proxy/plain/x")[0] == 200
        done = shell.call("occ", "app_api:app:unregister", "plain", "--rm-data")
        assert done.returncode == 0, done.stdout + done.stderr
        serve.until(rf"listens on {re.escape(gateway)} no longer")
        assert serve.stop(signal.SIGTERM) == 0
    assert tls_engine.names() == []
