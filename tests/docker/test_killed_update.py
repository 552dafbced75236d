"""An update is killed in the middle: what the next process makes of both containers."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docker.engines import DockerEngine
from tests.docker.fault_scene import APP, Scene
from tests.docker.registry import Registry
from tests.docker.socket_proxy import socket_proxy

pytestmark = pytest.mark.docker

CONTAINER = f"nc_app_{APP}"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def scene(
    tmp_path: Path,
    engine: DockerEngine,
    registry: Registry,
    make_image: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> Scene:
    return Scene(tmp_path, engine, registry, make_image, monkeypatch)


def killed_at(scene: Scene, image: str, step: str) -> None:
    """Update the app, and be killed as soon as that step is written down."""
    words = scene.info(image, version="1.1.0", port=scene.ports[0])
    update = ["occ", "app_api:app:update", APP, *words, "--wait-finish"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.live.killed_at", "update", step, *update],
        env=scene.shell.environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, done.stdout + done.stderr


def containers(scene: Scene) -> dict[str, tuple[str, str, str]]:
    """Name → image, version and state of what is there."""
    found = {}
    for name in scene.engine.docker("ps", "--all", "--format", "{{.Names}}").split():
        seen = json.loads(scene.engine.docker("inspect", name))[0]
        image = seen["Config"]["Image"].rpartition("/")[2]
        assert f"APP_VERSION={seen['Config']['Labels'][VERSION]}" in seen["Config"]["Env"]
        found[name] = (image, seen["Config"]["Labels"][VERSION], seen["State"]["Status"])
    return found


VERSION = "org.nextcloud.appapi.version"
OLD = {CONTAINER: ("plain-quiet:1", "1.0.0", "running")}
NEW = ("plain-html:1", "1.1.0", "running")


@pytest.mark.parametrize("proxied", [False, True], ids=["socket", "proxy"])
def test_old_container_comes_back(scene: Scene, tmp_path: Path, *, proxied: bool) -> None:
    scene.make_image("html")  # its heartbeat is none, and it is not asked for one
    with ExitStack() as stack:
        if proxied:
            proxy = stack.enter_context(socket_proxy(tmp_path / "proxy", scene.engine.socket))
            words = ("--haproxy_password", proxy.password)
            scene.daemon(*words, host=f"127.0.0.1:{proxy.port}")
        else:
            scene.daemon()
        scene.install(scene.make_image("quiet"))
        assert containers(scene) == OLD
        killed_at(scene, "plain-html", "heartbeat")
        aside = {f"{CONTAINER}_previous": ("plain-quiet:1", "1.0.0", "exited")}
        assert containers(scene) == {CONTAINER: NEW} | ({} if proxied else aside)
        scene.occ("app_api:app:list")
        assert "the update was interrupted at the step heartbeat" in scene.screen
        assert f"{APP} (Skeleton): 1.0.0 [enabled]" in scene.screen
        assert containers(scene) == OLD


def test_what_was_set_aside_is_removed_when_the_new_version_was_at_work(scene: Scene) -> None:
    scene.daemon()
    scene.install(scene.make_image("quiet"))
    killed_at(scene, "plain-quiet", "discard")
    assert f"{CONTAINER}_previous" in containers(scene)
    scene.occ("app_api:app:list")
    assert containers(scene) == {CONTAINER: ("plain-quiet:1", "1.1.0", "running")}


def test_repair_shows_and_removes_what_was_set_aside(scene: Scene) -> None:
    scene.daemon()
    scene.install(scene.make_image("quiet"))
    labels = json.loads(scene.engine.docker("inspect", CONTAINER))[0]["Config"]["Labels"]
    words = [f"--label={name}={value}" for name, value in labels.items()]
    image = f"{scene.registry.address}/plain-quiet:1"
    scene.engine.docker("create", "--name", f"{CONTAINER}_previous", *words, image)
    said, code = scene.run("repair")
    assert f"container {CONTAINER}_previous of {APP} on d" in said
    assert code == 1
    said, code = scene.run("repair", "--remove", f"{CONTAINER}_previous")
    assert f"container {CONTAINER}_previous" in said
    assert code == 0
    assert containers(scene) == OLD
