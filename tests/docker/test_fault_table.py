"""What a person sees when something goes wrong with an engine, a registry, an image or an app.

The table in docs/reference/faults.md is what these tests see; `python -m
tests.docker.test_fault_table` writes it anew.
"""

import io
import json
import os
import re
import socket
import sys
import tarfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appapi_host.deploy.docker import images
from appapi_host.deploy.docker.engine import Engine
from tests.docker.engines import DockerEngine, free_port
from tests.docker.fault_scene import APP, Scene
from tests.docker.reach import TLSEngine
from tests.docker.registry import Registry
from tests.docker.socket_proxy import socket_proxy
from tests.docker.stoppable import StoppableEngine, stoppable_engine
from tests.docker.tls import Authority

pytestmark = [
    pytest.mark.docker,
    # The engine's library leaves a socket to the garbage collector that it could not connect.
    pytest.mark.filterwarnings("ignore:.*socket.socket.*family=1.*:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:.*socket.socket.*family=1:pytest.PytestUnraisableExceptionWarning"
    ),
]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"
TABLE = re.compile(
    r"(?<=<!-- seen by tests/docker/test_fault_table.py -->\n).*?(?=<!-- end -->)", re.DOTALL
)
HEAD = [
    "| what goes wrong | what is printed | what remains | exit code |",
    "|---|---|---|---|",
]
WRITES = "EXD_WRITE_FAULTS"

Case = Callable[[Scene], None]
FAULTS: dict[str, Case] = {}
OWN_ENGINE: set[str] = set()
"""Those that need an engine which may be stopped and filled."""


def fault(name: str, engine: str = "") -> Callable[[Case], Case]:
    """Put a case into the table under a name."""

    def add(case: Case) -> Case:
        FAULTS[name] = case
        if engine:
            OWN_ENGINE.add(name)
        return case

    return add


@fault("the engine is not there")
def _(scene: Scene) -> None:
    path = scene.folder / "no.sock"
    scene.hidden[str(path)] = "/var/run/docker.sock"
    scene.daemon(host=path)
    scene.install("any")


@fault("the image is in the registry under none of its names")
def _(scene: Scene) -> None:
    scene.daemon()
    scene.install("nowhere")


@fault("the registry is down")
def _(scene: Scene) -> None:
    scene.daemon()
    address = f"localhost:{free_port()}"
    scene.hidden[address] = "REGISTRY"
    scene.hidden[address.replace("localhost", "127.0.0.1")] = "ADDRESS"
    scene.hidden[address.replace("localhost", "[::1]")] = "ADDRESS"
    scene.install("any", registry=address)


@fault("a folder to mount is not there")
def _(scene: Scene) -> None:
    scene.daemon()
    scene.install(scene.make_image("quiet"), "--mount", "/nowhere:/models:ro")


@fault("there is no such GPU")
def _(scene: Scene) -> None:
    scene.daemon("--compute_device", "cuda")
    scene.install(scene.make_image("quiet"))


@fault("there is no such device")
def _(scene: Scene) -> None:
    scene.daemon("--compute_device", "rocm")
    scene.install(scene.make_image("quiet"))


@fault("a container of somebody else has the name")
def _(scene: Scene) -> None:
    scene.daemon()
    image = scene.make_image("quiet")
    reference = f"{scene.registry.address}/{image}:1"
    scene.engine.docker("create", "--name", f"nc_app_{APP}", reference)
    scene.install(image)


@fault("the port is taken, `--net host`")
def _(scene: Scene) -> None:
    scene.daemon()
    image = scene.make_image("quiet")
    with taken_port(scene):
        scene.install(image)


@fault("the port is taken, `--net bridge`")
def _(scene: Scene) -> None:
    scene.daemon("--net", "bridge")
    image = scene.make_image("quiet")
    with taken_port(scene):
        scene.install(image)


@fault("the app ends at once")
def _(scene: Scene) -> None:
    scene.daemon()
    scene.install(scene.make_image("exit"))


@fault("the app ends after its heartbeat")
def _(scene: Scene) -> None:
    scene.daemon()
    scene.install(scene.make_image("brief"))


@fault("the app crashes in its init")
def _(scene: Scene) -> None:
    scene.daemon()
    scene.install(scene.make_image("crash"))


@fault("the health check of the image fails")
def _(scene: Scene) -> None:
    scene.daemon()
    image = scene.make_image(
        "init",
        "HEALTHCHECK --interval=100ms --retries=2 CMD echo the model is missing; exit 1",
        name="plain-unhealthy",
    )
    scene.install(image)


@contextmanager
def taken_port(scene: Scene) -> Iterator[None]:
    """Somebody listens on the port of the app that is installed next."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        scene.port = listener.getsockname()[1]
        yield


@fault("the app uses more memory than the limit of the daemon")
def _(scene: Scene) -> None:
    greedy = 'CMD ["python3", "-c", "x = bytearray(10**9); x[:] = b\'1\' * 10**9"]'
    scene.daemon()
    scene.change_daemon(resourceLimits={"memory": 32 * 1024 * 1024})
    scene.install(scene.make_image("", greedy, name="plain-greedy"))


@fault("the app never answers its heartbeat")
def _(scene: Scene) -> None:
    scene.daemon()
    scene.environ(APPAPI_HOST_HEARTBEAT_TIMEOUT="3")
    scene.install(scene.make_image("deaf"))


@fault("the image is for other platforms only")
def _(scene: Scene) -> None:
    scene.daemon()
    push_for_another_platform(scene.registry, "foreign", "1")
    scene.install("foreign")


@fault("the program in the image is for another platform")
def _(scene: Scene) -> None:
    scene.daemon()
    machine_arm64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(100)
    reference = f"{scene.registry.address}/alien:1"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("program")
        member.mode, member.size = 0o755, len(machine_arm64)
        tar.addfile(member, io.BytesIO(machine_arm64))
    change = 'CMD ["/program"]'
    scene.engine.docker("import", "--change", change, "-", reference, stdin=archive.getvalue())
    scene.engine.docker("push", "--quiet", reference)
    scene.install("alien")


@fault("the registry sends nothing any more")
def _(scene: Scene) -> None:
    scene.daemon()
    image = scene.fresh_image("stalled")
    with scene.holding_registry() as registry:
        scene.patch(Engine, "silence", 1.0)
        scene.install(image, registry=registry.name)


@fault("the registry cuts each transfer in the middle of a layer", "own")
def _(scene: Scene) -> None:
    scene.daemon()
    scene.patch(images, "_FIRST_PAUSE", 0.01)
    image = scene.fresh_image("cut")
    with scene.cutting_registry() as registry:
        scene.install(image, registry=registry.name)


@fault("the registry cuts one transfer in the middle of a layer", "own")
def _(scene: Scene) -> None:
    scene.daemon()
    image = scene.fresh_image("cut-once")
    with scene.cutting_registry() as registry, scene.meanwhile() as then:
        then(registry.reached, lambda: setattr(registry, "limit", None))
        scene.install(image, registry=registry.name)


@fault("the disk of the engine is full", "own")
def _(scene: Scene) -> None:
    scene.daemon()
    image = scene.fresh_image("filling")
    scene.own.fill(1_000_000)
    scene.install(image)


@fault("the engine is stopped during the pull", "own")
def _(scene: Scene) -> None:
    scene.daemon()
    image = scene.fresh_image("pulled")
    scene.environ(APPAPI_HOST_ENGINE_TIMEOUT="1")
    with scene.holding_registry() as registry, scene.meanwhile() as then:
        then(registry.reached, scene.own.stop)
        scene.install(image, registry=registry.name)


@fault("the engine is restarted during the pull", "own")
def _(scene: Scene) -> None:
    scene.daemon()
    image = scene.fresh_image("pulled-again")

    def restart() -> None:
        scene.own.stop()
        registry.limit = None
        registry.release.set()
        scene.own.start()

    with scene.holding_registry() as registry, scene.meanwhile() as then:
        then(registry.reached, restart)
        scene.install(image, registry=registry.name)


@fault("the engine is stopped as it shall create the container", "own")
def _(scene: Scene) -> None:
    scene.environ(APPAPI_HOST_ENGINE_TIMEOUT="1")
    image = scene.make_image("quiet")
    with scene.engine_behind(scene.at_creation(scene.own.stop)) as path:
        scene.daemon(host=path)
        scene.install(image)


@fault("the engine is restarted as it shall create the container", "own")
def _(scene: Scene) -> None:
    image = scene.make_image("quiet")

    def restart() -> None:
        scene.own.stop()
        threading.Thread(target=scene.own.start).start()

    with scene.engine_behind(scene.at_creation(restart)) as path:
        scene.daemon(host=path)
        scene.install(image)


@fault("the engine is stopped while the app initializes", "own")
def _(scene: Scene) -> None:
    scene.daemon()
    scene.environ(APPAPI_HOST_ENGINE_TIMEOUT="1")
    with scene.meanwhile() as then:
        then(scene.printed("preparing"), scene.own.stop)
        scene.install(scene.make_image("idle"))


@fault("the engine is restarted while the app initializes", "own")
def _(scene: Scene) -> None:
    def restart() -> None:
        scene.engine.docker("exec", f"nc_app_{APP}", "python3", "-c", "open('/ready', 'w')")
        scene.own.stop()
        scene.own.start()

    with scene.served(), scene.meanwhile() as then:
        scene.daemon()
        then(scene.printed("preparing"), restart)
        scene.install(scene.make_image("idle"))


@fault("the engine is restarted while the app is enabled: what `serve` prints", "own")
def _(scene: Scene) -> None:
    with scene.served() as serve:
        scene.daemon()
        scene.install(scene.make_image("init"))
        assert scene.code == 0
        scene.own.stop()
        serve.until("has gone")
        scene.own.start()
        serve.until("is back")
        assert scene.answers()
        scene.screen = "\n".join(line for line in serve.lines if "the engine at" in line)


@fault("two processes install the same app at once")
def _(scene: Scene) -> None:
    scene.daemon()
    image = scene.fresh_image("wanted")
    with scene.holding_registry() as registry:
        first = scene.installing(image, registry=registry.name)
        assert registry.reached.wait(60)
        second = scene.installing(image, registry=registry.name)
        assert second.stdout is not None
        waiting = second.stdout.readline()
        registry.release.set()
        scene.ended(first)
        assert scene.code == 0, scene.screen
        scene.ended(second)
        scene.screen = waiting + scene.screen


@fault("the host is killed during the pull, then the next command")
def _(scene: Scene) -> None:
    scene.daemon()
    image = scene.fresh_image("killed")
    with scene.holding_registry() as registry:
        process = scene.installing(image, registry=registry.name)
        assert registry.reached.wait(30)
        process.kill()
        process.communicate()
        scene.occ("app_api:app:list")


@fault("the host is killed while the app initializes, then the next command")
def _(scene: Scene) -> None:
    scene.daemon()
    process = scene.installing(scene.make_image("idle"))
    scene.until_initializing()
    process.kill()
    process.communicate()
    scene.occ("app_api:app:list")


@fault("somebody removes the container, then `app:disable`")
def _(scene: Scene) -> None:
    scene.without_container()
    scene.occ("app_api:app:disable", APP)


@fault("somebody removes the container, then `app:disable`, `app:enable`")
def _(scene: Scene) -> None:
    scene.without_container()
    scene.occ("app_api:app:disable", APP)
    scene.occ("app_api:app:enable", APP)


@fault("somebody removes the container, then `app:unregister`")
def _(scene: Scene) -> None:
    scene.without_container()
    scene.occ("app_api:app:unregister", APP)


@fault("the engine has a certificate of another authority")
def _(scene: Scene) -> None:
    other = Authority(scene.folder / "other")
    scene.tls_daemon(ca=other.ca)
    scene.install("any")


@fault("the client certificate is of another authority")
def _(scene: Scene) -> None:
    other = Authority(scene.folder / "other").client()
    scene.tls_daemon(cert=other.cert, key=other.key)
    scene.install("any")


@fault("the client certificate has expired")
def _(scene: Scene) -> None:
    expired = scene.tls.authority.client("late", days=-1)
    scene.tls_daemon(cert=expired.cert, key=expired.key)
    scene.install("any")


@fault("the password of the socket proxy is wrong")
def _(scene: Scene) -> None:
    with socket_proxy(scene.folder / "proxy", scene.engine.socket) as proxy:
        address = f"127.0.0.1:{proxy.port}"
        scene.hidden[address] = "127.0.0.1:2375"
        scene.daemon("--haproxy_password", "wrong-password", host=address)
        scene.install("any")
    assert "wrong-password" not in scene.screen


def push_for_another_platform(registry: Registry, name: str, tag: str) -> None:
    """A list of images, as it is made for several platforms, that has none for this one."""
    kind = "application/vnd.docker.distribution.manifest.list.v2+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "manifests": [],
    }
    request = urllib.request.Request(
        f"http://{registry.address}/v2/{name}/manifests/{tag}",
        json.dumps(manifest).encode(),
        {"Content-Type": kind},
        method="PUT",
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201


@pytest.fixture(scope="module")
def own_engine(short_folder: Path) -> Iterator[StoppableEngine]:
    with stoppable_engine(short_folder / "own") as engine:
        yield engine


@pytest.fixture
def scene(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    engine: DockerEngine,
    bare_tls_engine: TLSEngine,
    registry: Registry,
    make_image: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    monkeypatch.setenv("APPAPI_HOST_DATA_DIR", str(tmp_path / "data"))
    scene = Scene(tmp_path, engine, registry, make_image, monkeypatch)
    scene.tls = bare_tls_engine
    if request.node.callspec.params["name"] in OWN_ENGINE:
        scene.own = request.getfixturevalue("own_engine")
        scene.own.restore()
    yield scene
    if scene.own is not None:
        scene.own.restore()


@pytest.fixture(scope="module")
def table() -> list[str]:
    found = TABLE.search(PAGE.read_text(encoding="utf-8"))
    assert found
    return found.group().strip().splitlines()


@pytest.mark.parametrize("name", FAULTS)
def test_table_says_what_is_seen(name: str, scene: Scene, table: list[str]) -> None:
    FAULTS[name](scene)
    row = scene.row(name)
    if os.environ.get(WRITES):
        _write(name, row)
    else:
        assert row in table, "write it anew: python -m tests.docker.test_fault_table"


def test_table_has_a_row_for_each_fault_and_no_other(table: list[str]) -> None:
    assert table[:2] == HEAD
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[2:]] == list(FAULTS)


def _write(name: str, row: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = TABLE.search(text)
    assert found
    rows = {
        line.split(" | ")[0].removeprefix("| "): line
        for line in found.group().strip().splitlines()[2:]
    } | {name: row}
    drawn = "\n".join([*HEAD, *(rows[key] for key in FAULTS if key in rows), ""])
    PAGE.write_text(TABLE.sub(lambda _: drawn, text), encoding="utf-8")


if __name__ == "__main__":
    os.environ[WRITES] = "1"
    sys.exit(pytest.main([__file__, "-q"]))
