"""AppAPI's socket proxy in front of an engine, and what is behind a port that is none."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio import to_thread
from websockets.asyncio.client import connect

from appapi_host.info_xml import AppInfo
from appapi_host.settings import HostSettings, Timeouts
from appapi_host.testing import InstalledApp, TestHost, live_host
from exapp_sdk.protocol.lifecycle import State
from tests.docker.engines import accepts, process, until
from tests.docker.reach import TLSEngine, docker_daemon, installed, notices, plain_info, refused
from tests.docker.registry import Registry
from tests.docker.socket_proxy import SocketProxy, socket_proxy
from tests.ports import free_port

pytestmark = pytest.mark.docker


@pytest.fixture
def proxy(tls_engine: TLSEngine, tmp_path: Path) -> Iterator[SocketProxy]:
    with socket_proxy(tmp_path / "proxy", tls_engine.engine.socket) as proxy:
        yield proxy


async def test_app_is_pulled_and_installed_through_the_proxy(
    host: TestHost,
    tls_engine: TLSEngine,
    proxy: SocketProxy,
    pulled_info: AppInfo,
) -> None:
    daemon = docker_daemon(host, f"127.0.0.1:{proxy.port}", haproxy_password=proxy.password)
    async with installed(host, daemon, pulled_info) as app:
        assert tls_engine.names() == ["nc_app_plain"]
        bundle = "/etc/ssl/certs/ca-certificates.crt"
        code = f"print(open({bundle!r}).read().count('BEGIN CERTIFICATE'))"
        words = ("exec", "nc_app_plain", "python3", "-c", code)
        trusted = await to_thread.run_sync(tls_engine.engine.docker, *words)
        assert f"{trusted} certificates of this machine installed in the image" in notices(host)
        await app.disable()
        assert not tls_engine.inspect("nc_app_plain")["State"]["Running"]
        await app.enable()
        assert tls_engine.inspect("nc_app_plain")["State"]["Running"]
    assert (tls_engine.names(), tls_engine.names("volume")) == ([], [])


async def test_certificate_of_the_proxy_is_checked_against_the_authority_of_the_daemon(
    host: TestHost, tls_engine: TLSEngine, tmp_path: Path
) -> None:
    certificate = tls_engine.authority.server("proxy").as_one_file
    with socket_proxy(
        tmp_path / "proxy", tls_engine.engine.socket, certificate=certificate
    ) as proxy:
        daemon = docker_daemon(
            host,
            f"127.0.0.1:{proxy.port}",
            protocol="https",
            haproxy_password=proxy.password,
            tls={"ca": str(tls_engine.authority.ca)},
            additional_options={"OVERRIDE_APP_HOST": ""},
        )
        await host.host.check_daemon(daemon)
        address = f"127.0.0.1:{proxy.port}"
        error = await refused(host, docker_daemon(host, address, haproxy_password=proxy.password))
        assert error.cause == f"http://{address} speaks TLS, but the daemon is registered with http"
        assert "protocol https" in error.remedy
        daemon = docker_daemon(host, address, protocol="https", haproxy_password=proxy.password)
        assert "ca.pem" in (await refused(host, daemon)).remedy


@pytest.mark.parametrize("net", ["host", "bridge"])
async def test_app_behind_the_proxy_with_tls_is_reached_through_it(
    host: TestHost,
    tls_engine: TLSEngine,
    registry: Registry,
    make_image: Callable[..., str],
    tmp_path: Path,
    net: str,
) -> None:
    # An address of this machine that is not its loopback: as good as another machine.
    elsewhere = tls_engine.engine.gateway
    names = f"subjectAltName=IP:{elsewhere}"
    certificate = tls_engine.authority.server(f"apps-{net}", names=names).as_one_file
    info = plain_info(registry=registry.address, image=make_image("quiet"))
    with socket_proxy(
        tmp_path / "proxy",
        tls_engine.engine.socket,
        address=elsewhere,
        certificate=certificate,
        app_port=info.port or 0,
    ) as proxy:
        daemon = docker_daemon(
            host,
            f"{elsewhere}:{proxy.port}",
            net=net,
            protocol="https",
            nextcloud_url="http://host.test",
            haproxy_password=proxy.password,
            tls={"ca": str(tls_engine.authority.ca)},
        )
        await host.host.register_daemon(daemon)
        record = await host.host.register(info, daemon=daemon.name)
        assert record.state is State.ENABLED
        assert host.host.url_of(record) == f"https://{elsewhere}:{info.port}"
        app = InstalledApp(host, record)
        assert (await app.get("/public/x")).status_code == 200
        answer = await app.get("/headers", headers={"Authorization": "Bearer mine"})
        assert answer.json()["authorization"] == "Bearer mine"
        async with connect(
            f"{host.url.replace('http', 'ws', 1)}/exapps/plain/ws",
            additional_headers={"Authorization": "Bearer mine"},
            proxy=None,
        ) as client:
            assert await client.recv() == "Bearer mine"
            for message in ("grüße", b"\x00\xff"):
                await client.send(message)
                assert await client.recv() == message
            await client.close(4001)
        assert client.close_code == 4001
        assert proxy.password not in str(host.events)
        await app.unregister(rm_data=True)
    assert (tls_engine.names(), tls_engine.names("volume")) == ([], [])


async def test_wrong_password_is_named(host: TestHost, proxy: SocketProxy) -> None:
    address = f"127.0.0.1:{proxy.port}"
    for password in ("wrong-password", ""):
        error = await refused(host, docker_daemon(host, address, haproxy_password=password))
        assert "password" in error.cause
        assert "--haproxy_password" in error.remedy
        assert "wrong-password" not in f"{error.cause} {error.remedy}"


async def test_proxy_that_has_heard_too_many_wrong_passwords_is_silent(
    tls_engine: TLSEngine, proxy: SocketProxy, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{proxy.port}"
    async with live_host(tmp_path, HostSettings(timeouts=Timeouts(check=2.0))) as host:
        for number in range(6):
            await refused(host, docker_daemon(host, address, haproxy_password=f"wrong-{number}"))
        error = await refused(host, docker_daemon(host, address, haproxy_password=proxy.password))
    assert "after several wrong passwords" in error.remedy


async def test_proxy_that_hides_networks_is_said_before_anything_is_made(
    host: TestHost, tls_engine: TLSEngine, proxy: SocketProxy
) -> None:
    daemon = docker_daemon(
        host, f"127.0.0.1:{proxy.port}", net="bridge", haproxy_password=proxy.password
    )
    error = await refused(host, daemon)
    assert "does not tell where" in error.cause
    assert "--net host" in error.remedy
    assert tls_engine.names() == []


async def test_host_that_apps_on_another_machine_cannot_find_is_said(
    host: TestHost, tls_engine: TLSEngine, tmp_path: Path
) -> None:
    # An address of this machine that is not its loopback: as good as another machine.
    elsewhere = tls_engine.engine.gateway
    with socket_proxy(tmp_path / "proxy", tls_engine.engine.socket, address=elsewhere) as proxy:
        address = f"{elsewhere}:{proxy.port}"
        daemon = docker_daemon(host, address, haproxy_password=proxy.password)
        error = await refused(host, daemon)
        assert error.cause.startswith(f"{host.url} is where apps on http://{address} shall find")
        assert "--bind" in error.remedy
        url = f"http://{elsewhere}:8080"
        options = {"haproxy_password": proxy.password, "nextcloud_url": url}
        await host.host.check_daemon(docker_daemon(host, address, **options))
        assert await host.host.gateway(docker_daemon(host, address, net="bridge")) == ""


async def test_port_of_something_else_is_no_engine(host: TestHost) -> None:
    error = await refused(host, docker_daemon(host, host.url.removeprefix("http://")))
    assert "Docker Engine" in error.cause


@pytest.mark.parametrize("version", ["1.24", "1.39"])
async def test_engine_that_is_too_old_is_named_as_such(
    host: TestHost, tmp_path: Path, version: str
) -> None:
    with answering(tmp_path, version) as port:
        error = await refused(host, docker_daemon(host, f"127.0.0.1:{port}"))
    assert version in error.cause
    assert "pdate" in error.remedy


async def test_nothing_behind_address_or_socket_is_told_apart(
    host: TestHost, tmp_path: Path
) -> None:
    error = await refused(host, docker_daemon(host, f"127.0.0.1:{free_port()}"))
    assert "nothing listens" in error.cause
    error = await refused(host, docker_daemon(host, tmp_path / "no.sock"))
    assert "no socket" in error.cause
    error = await refused(host, docker_daemon(host, "no-such-machine.invalid:2375"))
    assert "no machine" in error.cause


async def test_engine_that_hangs_is_given_up_on(tls_engine: TLSEngine, tmp_path: Path) -> None:
    settings = HostSettings(timeouts=Timeouts(check=0.5))
    async with live_host(tmp_path, settings) as host:
        daemon = docker_daemon(host, tls_engine.engine.socket)
        os.kill(tls_engine.engine.process.pid, signal.SIGSTOP)
        try:
            error = await refused(host, daemon)
            left = [one for one in threading.enumerate() if one.name == "engine-connection"]
            assert left
            assert all(thread.daemon for thread in left), "no process would end before its answer"
        finally:
            os.kill(tls_engine.engine.process.pid, signal.SIGCONT)
    assert error.cause == f"{tls_engine.engine.socket} did not answer within 0.5 s"


def test_command_line_registers_and_warns(tmp_path: Path) -> None:
    done = occ_register(tmp_path, tmp_path / "no.sock")
    assert done.stdout == "Daemon successfully registered.\n"
    assert done.returncode == 0
    warning, remedy = done.stderr.splitlines()
    assert warning == f"Warning: there is no socket {tmp_path / 'no.sock'}."
    assert remedy.startswith("What to do: start the Docker Engine")


def test_socket_that_one_must_not_use_is_named(tmp_path: Path) -> None:
    # Root may use every socket, but not without the capability that says so.
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0)
        drop = "-dac_override,-dac_read_search"
        done = occ_register(tmp_path, path, "setpriv", "--bounding-set", drop)
    assert done.stdout == "Daemon successfully registered.\n"
    assert f"no permission to use the engine at {path}" in done.stderr
    assert "docker" in done.stderr


def occ_register(folder: Path, address: Path, *before: str) -> "subprocess.CompletedProcess[str]":
    words = ["occ", "--data-dir", folder / "data", "app_api:daemon:register", "d", "D"]
    words += ["docker-install", "http", address, "http://127.0.0.1:8080"]
    return subprocess.run(
        [*before, sys.executable, "-m", "appapi_host", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def answering(folder: Path, version: str) -> Iterator[int]:
    """An engine so old that no package of it is left: it says its version, and nothing else."""
    port, path, log = free_port(), folder / "old.cfg", folder / "old.log"
    answer = (
        f"http-request return status 200 content-type text/plain string OK "
        f"hdr Api-Version {version} hdr Server Docker/1.12"
    )
    path.write_text(
        f"defaults\n  mode http\n  timeout client 5s\n"
        f"frontend old\n  bind 127.0.0.1:{port}\n  {answer}\n"
    )
    with process(["haproxy", "-db", "-f", path], log) as started:
        until(lambda: accepts(("127.0.0.1", port)), started, log)
        yield port
