"""What goes wrong with engines, with the way to them, and with the host itself."""

import threading
from collections.abc import Callable

from exapp_sdk.protocol.lifecycle import State
from tests.docker.fault_book import fault
from tests.docker.fault_scene import APP, Scene
from tests.docker.socket_proxy import socket_proxy
from tests.docker.stoppable import StoppableEngine
from tests.docker.tls import Authority
from tests.ports import free_port

CREATE = b"/containers/create"


End = Callable[[StoppableEngine], None]
"""How an engine goes that is started again."""


def again_during_the_pull(scene: Scene, image: str, end: End) -> None:
    """The engine goes when half a layer is there, and comes back."""
    scene.daemon()
    image = scene.fresh_image(image)

    def restart() -> None:
        end(scene.own)
        registry.limit = None
        registry.release.set()
        scene.own.start()

    with scene.holding_registry() as registry, scene.meanwhile() as then:
        then(registry.reached, restart)
        scene.install(image, registry=registry.name)


def again_at_create(scene: Scene, end: End) -> None:
    """The engine goes when it is asked to create the container, and comes back."""
    image = scene.make_image("quiet")

    def restart() -> None:
        end(scene.own)
        threading.Thread(target=scene.own.start).start()

    with scene.engine_behind(scene.at_request(CREATE, restart)) as path:
        scene.daemon(host=path)
        scene.install(image)


def again_in_init(scene: Scene, end: End) -> None:
    """The engine goes while the app is at work, and comes back."""

    def restart() -> None:
        scene.engine.docker("exec", f"nc_app_{APP}", "python3", "-c", "open('/ready', 'w')")
        end(scene.own)
        scene.own.start()

    with scene.served(), scene.meanwhile() as then:
        scene.daemon()
        then(scene.printed("preparing"), restart)
        scene.install(scene.make_image("idle"))


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
    again_during_the_pull(scene, "pulled-again", StoppableEngine.stop)


@fault("the engine is stopped as it shall create the container", "own")
def _(scene: Scene) -> None:
    scene.environ(APPAPI_HOST_ENGINE_TIMEOUT="1")
    image = scene.make_image("quiet")
    with scene.engine_behind(scene.at_request(CREATE, scene.own.stop)) as path:
        scene.daemon(host=path)
        scene.install(image)


@fault("the engine is restarted as it shall create the container", "own")
def _(scene: Scene) -> None:
    again_at_create(scene, StoppableEngine.stop)


@fault("the engine is stopped while the app initializes", "own")
def _(scene: Scene) -> None:
    scene.daemon()
    scene.environ(APPAPI_HOST_ENGINE_TIMEOUT="1")
    with scene.meanwhile() as then:
        then(scene.printed("preparing"), scene.own.stop)
        scene.install(scene.make_image("idle"))


@fault("the engine is restarted while the app initializes", "own")
def _(scene: Scene) -> None:
    again_in_init(scene, StoppableEngine.stop)


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


@fault("the engine behind a socket proxy is restarted: what `serve` prints", "own")
def _(scene: Scene) -> None:
    with (
        socket_proxy(scene.folder / "proxy", scene.engine.socket) as proxy,
        scene.served() as serve,
    ):
        address = f"127.0.0.1:{proxy.port}"
        scene.hidden[address] = "127.0.0.1:2375"
        scene.daemon("--haproxy_password", proxy.password, host=address)
        scene.install(scene.make_image("init"))
        assert scene.code == 0
        scene.own.stop()
        serve.until("has gone")
        scene.own.start()
        serve.until("is back")
        assert scene.answers()
        scene.screen = "\n".join(line for line in serve.lines if "the engine at" in line)


@fault("the engine is killed during the pull, and started again", "own")
def _(scene: Scene) -> None:
    again_during_the_pull(scene, "pulled-killed", StoppableEngine.kill)


@fault("the engine is killed as it shall create the container, and started again", "own")
def _(scene: Scene) -> None:
    again_at_create(scene, StoppableEngine.kill)


@fault("the engine is killed while the app initializes, and started again", "own")
def _(scene: Scene) -> None:
    again_in_init(scene, StoppableEngine.kill)


@fault(
    "the engine is killed while the app is enabled, and started again: what `serve` prints", "own"
)
def _(scene: Scene) -> None:
    with scene.served() as serve:
        scene.daemon()
        scene.install(scene.make_image("init"))
        assert scene.code == 0
        scene.own.kill()
        serve.until("has gone")
        assert scene.answers(), "the container lives on"
        scene.own.start()
        serve.until("is back")
        assert scene.answers()
        scene.screen = "\n".join(line for line in serve.lines if "the engine at" in line)


@fault("`serve` is started before the engine: what it prints", "own")
def _(scene: Scene) -> None:
    with scene.served():
        scene.daemon()
        scene.install(scene.make_image("init"))
        assert scene.code == 0
    scene.own.stop()
    with scene.served() as serve:
        serve.until("will go on")
        app = scene.app()
        assert (app.state, app.enabled) == (State.ENABLED, True)
        assert app.failure.endswith("docker.sock; the app goes on when that has changed")
        scene.own.start()
        serve.until("is there again")
        assert scene.answers()
        assert scene.app().failure == ""
        scene.screen = "\n".join(
            line for line in serve.lines if "docker.sock" in line or "daemon" in line
        )


@fault("host and engine are restarted while the app initializes: what `serve` prints", "own")
def _(scene: Scene) -> None:
    port = free_port()  # of a host that the app finds again
    with scene.served(port):
        scene.daemon()
        process = scene.installing(scene.make_image("idle"))
        scene.until_initializing()
        process.kill()
        process.communicate()
    scene.engine.docker("exec", f"nc_app_{APP}", "python3", "-c", "open('/ready', 'w')")
    scene.own.stop()
    scene.own.start()
    with scene.served(port) as serve:
        serve.until("started again")
        serve.until("is enabled")
        assert scene.answers()
        scene.screen = "\n".join(
            line for line in serve.lines if "started again" in line or "is enabled" in line
        )


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


@fault("two processes install two apps from one image at once")
def _(scene: Scene) -> None:
    scene.daemon()
    image = scene.fresh_image("shared")
    with scene.holding_registry() as registry:
        first = scene.installing(image, registry=registry.name)
        assert registry.reached.wait(60)
        second = scene.installing(image, registry=registry.name, app_id=f"{APP}2")
        scene.until_at(f"{APP}2", "fetch")
        registry.release.set()
        scene.ended(first)
        assert scene.code == 0, scene.screen
        shown = scene.screen
        scene.ended(second)
        scene.screen = shown + scene.screen


@fault("ten apps are installed at once: what becomes of them")
def _(scene: Scene) -> None:
    scene.daemon()
    scene.install_all(scene.make_image("quiet"), [f"{APP}{number}" for number in range(10)])


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


@fault("the engine behind the socket proxy does not run", "own")
def _(scene: Scene) -> None:
    scene.environ(APPAPI_HOST_ENGINE_TIMEOUT="1")
    with socket_proxy(scene.folder / "proxy", scene.engine.socket) as proxy:
        address = f"127.0.0.1:{proxy.port}"
        scene.hidden[address] = "127.0.0.1:2375"
        scene.own.stop()
        scene.daemon("--haproxy_password", proxy.password, host=address)
        scene.install("any")


@fault("the password of the socket proxy is wrong")
def _(scene: Scene) -> None:
    with socket_proxy(scene.folder / "proxy", scene.engine.socket) as proxy:
        address = f"127.0.0.1:{proxy.port}"
        scene.hidden[address] = "127.0.0.1:2375"
        scene.daemon("--haproxy_password", "wrong-password", host=address)
        scene.install("any")
    assert "wrong-password" not in scene.screen
