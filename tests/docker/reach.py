"""Fixtures of the tests that reach engines in other ways than through the session's own socket."""

import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from appapi_host.errors import HostError
from appapi_host.events import Exchange, Notice
from appapi_host.info_rules import DockerInstall
from appapi_host.info_xml import AppInfo
from appapi_host.records import AccessLevel, Daemon, Route
from appapi_host.testing import InstalledApp, TestHost, live_host
from exapp_sdk.protocol.lifecycle import State
from tests.docker.engines import (
    DockerEngine,
    docker_engine,
    free_bridge,
    free_network,
    remove_everything,
)
from tests.docker.podman import PodmanEngine, podman_engine
from tests.docker.tls import Authority, Pair
from tests.ports import free_port

NOWHERE = "local.test"
IMAGE = "plain"
PUBLIC = (Route(".*", "GET", AccessLevel.PUBLIC),)


def plain_info(app_id: str = IMAGE, *, registry: str = "", image: str = IMAGE) -> AppInfo:
    """The app that reports its init to the host: enabled means that it could reach us.

    Args:
        app_id: of the app.
        registry: pulled from there; if not given, the image is on the engine already.
        image: its name.
    """
    return AppInfo(
        id=app_id,
        name="Plain App",
        version="1.0.0",
        docker_install=DockerInstall(registry or NOWHERE, image, "1"),
        port=free_port(),  # what the host would choose may be what tests beside this one have
        routes=PUBLIC,
    )


def docker_daemon(host: TestHost, address: object, name: str = "docker", **config: Any) -> Daemon:
    """A daemon whose images are on the engine already.

    Args:
        host: where its apps call back.
        address: path of a socket, or `host:port`.
        name: of the daemon.
        config: further keys of its deploy config; `protocol` and `net` among them.
    """
    protocol = config.pop("protocol", "http")
    deploy_config = {
        "net": "host",
        "nextcloud_url": host.url,
        "haproxy_password": "",
        "computeDevice": {"id": "cpu", "label": "CPU"},
        "registries": [{"from": NOWHERE, "to": "local"}],
    } | config
    return Daemon(name, "", "docker-install", protocol, str(address), deploy_config)


@asynccontextmanager
async def installed(
    host: TestHost, daemon: Daemon, info: AppInfo | None = None
) -> AsyncIterator[InstalledApp]:
    """Check and register a daemon, install the plain app on it, use it, and unregister it."""
    await host.host.check_daemon(daemon)
    if await host.host.registry.daemon(daemon.name) is None:
        await host.host.register_daemon(daemon)
    app = InstalledApp(host, await host.host.register(info or plain_info(), daemon=daemon.name))
    assert app.state is State.ENABLED
    assert "PUT /ocs/v1.php/apps/app_api/ex-app/status" in app.sent
    answer = await app.get("/public/x")
    assert (answer.status_code, answer.json()["path"]) == (200, "/public/x")
    yield app
    await app.unregister(rm_data=True)


async def refused(host: TestHost, daemon: Daemon) -> HostError:
    """What is said about a daemon that cannot be used."""
    with anyio.fail_after(20), pytest.raises(HostError) as caught:
        await host.host.check_daemon(daemon)
    assert caught.value.remedy
    return caught.value


def notices(host: TestHost) -> list[str]:
    return [event.text for event in host.events if isinstance(event, Notice)]


def refusals(host: TestHost) -> list[Exchange]:
    return [e for e in host.exchanges if e.note.startswith("refused at the gateway")]


@dataclass(frozen=True)
class TLSEngine:
    """An engine that is reached with TLS on loopback, and through its unix socket.

    Args:
        engine: itself.
        port: of TLS on 127.0.0.1.
        authority: signed all of its certificates.
        client: what it wants to be shown.
    """

    engine: DockerEngine
    port: int
    authority: Authority
    client: Pair

    def tls(self, **other: Path) -> dict[str, str]:
        """The files that a daemon config names; `ca`, `cert` and `key` may be others."""
        usual = {"ca": self.authority.ca, "cert": self.client.cert, "key": self.client.key}
        return {name: str(path) for name, path in (usual | other).items()}

    def certificates_in(self, folder: Path) -> Path:
        """A folder in the layout of `DOCKER_CERT_PATH`."""
        folder.mkdir()
        for name, path in self.tls().items():
            shutil.copy(path, folder / f"{name}.pem")
        return folder

    def names(self, kind: str = "container") -> list[str]:
        """What there is on the engine: containers, volumes or networks."""
        everything = ("--all",) if kind == "container" else ()
        column = "{{.Names}}" if kind == "container" else "{{.Name}}"
        return self.engine.docker(kind, "ls", *everything, "--format", column).split()

    def inspect(self, container: str) -> Any:
        return json.loads(self.engine.docker("inspect", container))[0]


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder with a short name, because those of unix sockets must be."""
    folder = Path(tempfile.mkdtemp(prefix="exr-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def authority(short_folder: Path) -> Authority:
    return Authority(short_folder / "ca")


@pytest.fixture(scope="session")
def bare_tls_engine(short_folder: Path, authority: Authority) -> Iterator[TLSEngine]:
    """The engine as it starts, without images."""
    server, client, port = authority.server(), authority.client(), free_port()
    options = [
        *("-H", f"tcp://127.0.0.1:{port}", "--tlsverify", "--tlscacert", authority.ca),
        *("--tlscert", server.cert, "--tlskey", server.key),
    ]
    with docker_engine(short_folder / "tls", free_bridge(), free_network(), *options) as engine:
        yield TLSEngine(engine, port, authority, client)


@pytest.fixture(scope="session")
def plain_archive(
    session_engine: DockerEngine, registry: Any, make_image: Callable[..., str], short_folder: Path
) -> bytes:
    """The image of the plain app under a name that no registry has, as `docker save` writes it."""
    docker, path = session_engine.docker, short_folder / "plain.tar"
    docker("tag", f"{registry.address}/{make_image('init')}:1", f"{NOWHERE}/{IMAGE}:1")
    docker("save", "--output", path, f"{NOWHERE}/{IMAGE}:1")
    docker("rmi", f"{NOWHERE}/{IMAGE}:1")
    return path.read_bytes()


@pytest.fixture
def pulled_info(registry: Any, make_image: Callable[..., str]) -> AppInfo:
    """The plain app, to be pulled from the session's registry."""
    return plain_info(registry=registry.address, image=make_image("init"))


@pytest.fixture(scope="session")
def loaded_tls_engine(bare_tls_engine: TLSEngine, plain_archive: bytes) -> TLSEngine:
    bare_tls_engine.engine.docker("load", stdin=plain_archive)
    return bare_tls_engine


@pytest.fixture
def tls_engine(loaded_tls_engine: TLSEngine) -> Iterator[TLSEngine]:
    """The engine with the plain app's image; what a failed test leaves does not fail the next."""
    yield loaded_tls_engine
    remove_everything(loaded_tls_engine.engine.docker)


@pytest.fixture
def podman(loaded_podman: PodmanEngine) -> Iterator[PodmanEngine]:
    """Podman with the same image."""
    yield loaded_podman
    remove_everything(loaded_podman.podman)


@pytest.fixture(scope="session")
def loaded_podman(short_folder: Path, plain_archive: bytes) -> Iterator[PodmanEngine]:
    with podman_engine(short_folder / "pod", free_bridge(), free_network()) as engine:
        engine.podman("load", stdin=plain_archive)
        yield engine


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[TestHost]:
    async with live_host(tmp_path / "host") as host:
        yield host
