"""What goes wrong with images, registries and apps."""

import io
import json
import socket
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from appapi_host.deploy.docker import images
from appapi_host.deploy.docker.engine import Engine
from appapi_host.deploy.docker.images import PULLED_PERCENT
from tests.docker.fault_book import fault
from tests.docker.fault_scene import APP, Scene
from tests.docker.registry import Registry
from tests.ports import free_port


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


@fault("the registry is slow: longer than it may be silent")
def _(scene: Scene) -> None:
    scene.daemon()
    image = scene.fresh_image("slow")
    percents: list[int] = []
    with scene.crawling_registry() as registry, scene.meanwhile() as then:
        scene.patch(Engine, "silence", 2.0)
        then(registry.reached, lambda: percents.extend(scene.deploy_percents()))
        started = time.monotonic()
        scene.install(image, registry=registry.name)
        assert time.monotonic() - started > Engine.silence
    assert 0 < percents[1] < percents[2] < PULLED_PERCENT


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


def full_at(scene: Scene, request: bytes) -> None:
    """The disk of the engine is full when it is asked for that."""
    image = scene.make_image("quiet")
    with scene.engine_behind(scene.at_request(request, scene.own.fill)) as path:
        scene.daemon(host=path)
        scene.install(image)


@fault("the disk of the engine is full as it shall create the container", "own")
def _(scene: Scene) -> None:
    full_at(scene, b"/containers/create")


@fault("the disk of the engine is full as certificates are installed", "own")
def _(scene: Scene) -> None:
    full_at(scene, b"PUT /")


@fault("the disk of the engine is full as it shall start the container", "own")
def _(scene: Scene) -> None:
    full_at(scene, b"/start")


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
