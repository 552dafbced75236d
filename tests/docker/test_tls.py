"""Engines behind TLS: installed on with a client certificate, and refused with the reason."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from appapi_host.info_xml import AppInfo
from appapi_host.records import Daemon
from appapi_host.testing import TestHost
from tests.docker.engines import accepts, process, until
from tests.docker.reach import IMAGE, NOWHERE, TLSEngine, docker_daemon, installed, refused
from tests.docker.registry import Registry
from tests.docker.tls import Authority, Pair
from tests.ports import free_port

pytestmark = pytest.mark.docker


async def test_app_is_pulled_and_installed_with_a_client_certificate(
    host: TestHost, tls_engine: TLSEngine, pulled_info: AppInfo
) -> None:
    address = f"127.0.0.1:{tls_engine.port}"
    daemon = docker_daemon(host, address, protocol="https", tls=tls_engine.tls())
    async with installed(host, daemon, pulled_info):
        assert tls_engine.names() == ["nc_app_plain"]
    assert (tls_engine.names(), tls_engine.names("volume")) == ([], [])


async def test_certificates_may_lie_in_one_folder_and_the_name_count(
    host: TestHost, tls_engine: TLSEngine, tmp_path: Path
) -> None:
    tls = {"cert_path": str(tls_engine.certificates_in(tmp_path / "certificates"))}
    daemon = docker_daemon(host, f"localhost:{tls_engine.port}", protocol="https", tls=tls)
    await host.host.check_daemon(daemon)


def test_certificates_of_the_environment_are_written_down(
    tls_engine: TLSEngine, tmp_path: Path, make_image: Callable[..., str], registry: Registry
) -> None:
    folder = tls_engine.certificates_in(tmp_path / "certificates")
    words = ("d", "D", "docker-install", "https", f"127.0.0.1:{tls_engine.port}", "http://h.test")
    limits = ("--memory", "200m", "--cpus", "0.5", "--no-name-suffix")
    done = host_command(
        tmp_path, "app_api:daemon:register", *words, *limits, DOCKER_CERT_PATH=folder
    )
    assert done.stdout == "Daemon successfully registered.\n"
    assert done.stderr == f"The certificates are those of DOCKER_CERT_PATH: {folder}.\n"
    info = tmp_path / "info.xml"
    info.write_text(INFO.format(registry=registry.address, image=make_image("quiet")))
    done = host_command(tmp_path, "app_api:app:register", "boxed", "d", "--info-xml", info)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[3] for line in done.stderr.splitlines() if ": image " in line] == [
        f"{registry.address}/plain-quiet:1-cpu:",
        f"{registry.address}/plain-quiet:1:",
    ]
    found = tls_engine.inspect("nc_app_boxed")["HostConfig"]
    assert (found["Memory"], found["NanoCpus"]) == (200 << 20, 500_000_000)
    done = host_command(tmp_path, "app_api:app:unregister", "boxed", "--rm-data")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tls_engine.names(), tls_engine.names("volume")) == ([], [])


def test_run_finds_engine_and_certificates_where_the_docker_command_does(
    tls_engine: TLSEngine, tmp_path: Path
) -> None:
    folder = tls_engine.certificates_in(tmp_path / "config")
    (tmp_path / "app" / "appinfo").mkdir(parents=True)
    (tmp_path / "app" / "Dockerfile").write_text(f"FROM {NOWHERE}/{IMAGE}:1\n")
    info = INFO.format(registry="x", image="y")
    (tmp_path / "app" / "appinfo" / "info.xml").write_text(info)
    words = ["run", tmp_path / "app", "--deploy", "docker", "--once", "--rm-image"]
    where = {"DOCKER_HOST": f"tcp://localhost:{tls_engine.port}", "DOCKER_TLS_VERIFY": "1"}
    done = command(tmp_path, *words, **where, DOCKER_CONFIG=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "boxed is stopped and removed" in done.stdout
    assert (tls_engine.names(), tls_engine.names("volume")) == ([], [])
    done = command(tmp_path, *words, **where, DOCKER_CERT_PATH=tmp_path)
    assert done.returncode == 1
    assert f"is missing: {tmp_path}/ca.pem" in done.stderr


INFO = """<info>
  <id>boxed</id><name>Boxed</name><version>1.0.0</version>
  <external-app><docker-install>
    <registry>{registry}</registry><image>{image}</image><image-tag>1</image-tag>
  </docker-install></external-app>
</info>"""


def host_command(folder: Path, *words: object, **environ: object) -> CompletedProcess[str]:
    return command(folder, "occ", "--data-dir", folder / "data", *words, **environ)


def command(folder: Path, *words: object, **environ: object) -> CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "appapi_host", *map(str, words)],
        env=os.environ
        | {"APPAPI_HOST_DATA_DIR": str(folder / "data")}
        | {name: str(value) for name, value in environ.items()},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_authority_of_another_engine_is_not_trusted(
    host: TestHost, tls_engine: TLSEngine, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    error = await refused(host, tls_daemon(host, tls_engine, ca=other.ca))
    assert "not signed by the CA" in error.cause
    assert "ca.pem" in error.remedy


async def test_client_certificate_of_another_authority_is_refused(
    host: TestHost, tls_engine: TLSEngine, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "other").client()
    error = await refused(host, tls_daemon(host, tls_engine, cert=stranger.cert, key=stranger.key))
    assert "does not accept our client certificate" in error.cause


async def test_without_a_client_certificate_the_engine_wants_one(
    host: TestHost, tls_engine: TLSEngine
) -> None:
    address = f"127.0.0.1:{tls_engine.port}"
    tls = {"ca": str(tls_engine.authority.ca)}
    error = await refused(host, docker_daemon(host, address, protocol="https", tls=tls))
    assert "client certificate" in error.cause


async def test_expired_client_certificate_is_refused(host: TestHost, tls_engine: TLSEngine) -> None:
    expired = tls_engine.authority.client("expired", days=-1)
    error = await refused(host, tls_daemon(host, tls_engine, cert=expired.cert, key=expired.key))
    assert "certificate" in error.cause


async def test_expired_certificate_of_the_engine_is_named_as_such(
    host: TestHost, tls_engine: TLSEngine, tmp_path: Path
) -> None:
    expired = tls_engine.authority.server("old", days=-1)
    with tls_server(expired, tmp_path) as port:
        daemon = docker_daemon(host, f"127.0.0.1:{port}", protocol="https", tls=tls_engine.tls())
        error = await refused(host, daemon)
    assert "has expired" in error.cause
    assert "renew" in error.remedy


async def test_certificate_for_another_name_is_named_as_such(
    host: TestHost, tls_engine: TLSEngine, tmp_path: Path
) -> None:
    other = tls_engine.authority.server("other", names="subjectAltName=DNS:engine.test\n")
    with tls_server(other, tmp_path) as port:
        daemon = docker_daemon(host, f"127.0.0.1:{port}", protocol="https", tls=tls_engine.tls())
        error = await refused(host, daemon)
    assert "another name" in error.cause


async def test_key_of_another_certificate_and_missing_files_are_noticed(
    host: TestHost, tls_engine: TLSEngine, tmp_path: Path
) -> None:
    other = tls_engine.authority.client("another")
    error = await refused(host, tls_daemon(host, tls_engine, key=other.key))
    assert "cannot be used" in error.cause
    error = await refused(host, tls_daemon(host, tls_engine, cert=tmp_path / "nothing.pem"))
    assert "missing" in error.cause


async def test_protocol_that_is_not_spoken_there_is_named(
    host: TestHost, tls_engine: TLSEngine
) -> None:
    error = await refused(host, docker_daemon(host, f"127.0.0.1:{tls_engine.port}"))
    assert "speaks TLS" in error.cause
    assert "https" in error.remedy
    plain_port = host.url.rpartition(":")[2]
    error = await refused(host, docker_daemon(host, f"127.0.0.1:{plain_port}", protocol="https"))
    assert "does not speak TLS" in error.cause


def tls_daemon(host: TestHost, engine: TLSEngine, **other: Path) -> Daemon:
    return docker_daemon(
        host, f"127.0.0.1:{engine.port}", protocol="https", tls=engine.tls(**other)
    )


@contextmanager
def tls_server(pair: Pair, folder: Path) -> Iterator[int]:
    """Something that speaks TLS with a certificate, and nothing else."""
    port, log = free_port(), folder / "tls.log"
    words = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-www", "-quiet"]
    with process([*words, "-cert", pair.cert, "-key", pair.key], log) as started:
        until(lambda: accepts(("127.0.0.1", port)), started, log)
        yield port
