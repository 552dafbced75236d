"""A person at the command line while something goes wrong, and what is there afterwards."""

import io
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
    redirect_stderr,
    redirect_stdout,
    suppress,
)
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest

from appapi_host.__main__ import main
from appapi_host.host import Host
from appapi_host.records import AppRecord
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.lifecycle import State
from tests.docker.engines import DockerEngine
from tests.docker.reach import TLSEngine, plain_info
from tests.docker.registry import Registry
from tests.docker.relay import Relay, relay
from tests.docker.stoppable import StoppableEngine
from tests.live.cli_shell import Running, Shell, get
from tests.ports import free_port

APP = "skel"
_FINE = re.compile(
    r"image \S+: (?!.*trying again)|\d+ certificates of this machine"
    r"|progress cannot be received"
    # Who of `occ` and `serve` initializes an app anew is chance; how much an app prints, too.
    r"|is initialized anew|about to enable it|^Last lines of the app:|^  \| "
)


class Scene:
    """One fault, seen through `occ`.

    Args:
        folder: of this test alone.
        engine: where apps are deployed.
        registry: where their images are.
        make_image: puts an image there.
        monkeypatch: for the environment of commands.
    """

    def __init__(
        self,
        folder: Path,
        engine: DockerEngine,
        registry: Registry,
        make_image: Callable[..., str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.patch = monkeypatch.setattr
        self._setenv = monkeypatch.setenv
        self.shell = Shell(folder)
        self.folder = folder
        self._engine = engine
        self.registry = registry
        self.make_image = make_image
        # Where nobody listens: the usual port may be that of a host in a test beside this one.
        self.url = f"http://127.0.0.1:{free_port()}"
        self.screen = ""
        self.code = 0
        self.hidden: dict[str, str] = {}
        self.ports: list[int] = []
        self.own: StoppableEngine | None = None
        self.tls: TLSEngine | None = None
        self.port = 0

    @property
    def engine(self) -> DockerEngine:
        """Where apps are deployed."""
        if self.own is None:
            return self._engine
        self.own.start()
        return self.own.engine

    @property
    def socket(self) -> Path:
        """Of that engine, which need not run."""
        return self._engine.socket if self.own is None else self.own.socket

    def host(self) -> AbstractAsyncContextManager[Host]:
        """A host over the same state, for the block."""
        return Host.open(HostSettings(data_dir=self.shell.data_dir))

    def occ(self, *words: object) -> None:
        """Run a command in this process; what it prints is the screen."""
        self.run("occ", *words)

    def run(self, *words: object) -> tuple[str, int]:
        """The same for any command of the host; returns screen and exit code."""
        screen = io.StringIO()
        self.environ(APPAPI_HOST_DATA_DIR=str(self.shell.data_dir))
        with redirect_stdout(screen), redirect_stderr(screen):
            self.code = main([str(word) for word in words])
        self.screen = screen.getvalue()
        self._check()
        return self.screen, self.code

    def _check(self) -> None:
        """No traceback but one of the app, which is shown indented."""
        assert not re.search(r"^(?!  \|).*Traceback", self.screen, re.MULTILINE), self.screen

    def environ(self, **variables: str) -> None:
        """Set variables for the commands to come."""
        for name, value in variables.items():
            self._setenv(name, value)

    def change_daemon(self, **config: object) -> None:
        """Set what Nextcloud's settings page can set, and occ cannot."""

        async def change() -> None:
            async with self.host() as host:
                await host.registry.apply_daemon(
                    "d", lambda d: replace(d, deploy_config={**d.deploy_config, **config})
                )

        anyio.run(change)

    def fresh_image(self, name: str) -> str:
        """An image whose last layer is large and not on the engine; returns its name."""
        content = "RUN python3 -c \"import os; open('/large', 'wb').write(os.urandom(3000000))\""
        image = self.make_image("quiet", content, name=name)
        self._engine.docker("rmi", f"{self.registry.address}/{image}:1")
        return image

    def holding_registry(self) -> AbstractContextManager[Relay]:
        """The registry, but each large answer stops in the middle until it is released."""
        return self._registry_behind(limit=300_000, at_limit="hold")

    def cutting_registry(self) -> AbstractContextManager[Relay]:
        """The registry, but each large answer is cut in the middle."""
        return self._registry_behind(limit=300_000)

    def crawling_registry(self) -> AbstractContextManager[Relay]:
        """The registry, but each large answer comes slowly."""
        return self._registry_behind(limit=300_000, at_limit="crawl")

    @contextmanager
    def _registry_behind(self, **options: object) -> Iterator[Relay]:
        port = int(self.registry.address.rpartition(":")[2])
        with relay(("127.0.0.1", port), **options) as found:
            self.hidden[found.name] = "REGISTRY"
            yield found

    @contextmanager
    def engine_behind(self, before: Callable[[bytes], None]) -> Iterator[Path]:
        """A socket in front of the engine's; `before` sees what is asked for."""
        path = Path(f"{self.socket}.behind")
        with relay(self.socket, path, before=before):
            self.hidden[str(path)] = "/var/run/docker.sock"
            yield path

    def at_request(self, words: bytes, act: Callable[[], object]) -> Callable[[bytes], None]:
        """Do something as soon as the engine is asked for something the first time."""
        done = []

        def see(request: bytes) -> None:
            if words in request and not done:
                done.append(request)
                act()

        return see

    def until_initializing(self) -> None:
        """Wait until the app is at work, and whoever installs it waits for that."""

        async def look(host: Host) -> bool:
            app = await host.registry.app(APP)
            is_at_work = app is not None and app.state is State.INITIALIZING
            return is_at_work and not await host.operations.all()

        self._until(look)

    def until_at(self, app_id: str, step: str) -> None:
        """Wait until an operation on an app has come to a step."""

        async def look(host: Host) -> bool:
            operation = await host.operations.of(app_id)
            return operation is not None and operation.step == step

        self._until(look)

    def _until(self, look: Callable[[Host], Awaitable[bool]]) -> None:
        """Wait for a change of the registry after which something is so."""

        async def wait() -> None:
            seen = None
            async with self.host() as host:
                with anyio.fail_after(60):
                    while not await look(host):
                        seen = await host.registry.next_change(seen)

        anyio.run(wait)

    def printed(self, text: str) -> threading.Event:
        """Set as soon as the app's container has printed something."""
        event = threading.Event()
        name = f"nc_app_{APP}"
        docker = self.engine.docker

        def look() -> None:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with suppress(AssertionError):
                    if text in docker("logs", name):
                        event.set()
                        return
                time.sleep(0.05)

        threading.Thread(target=look, daemon=True).start()
        return event

    @contextmanager
    def served(self, port: int = 0) -> Iterator[Running]:
        """A `serve` on the same state, which receives what apps report."""
        with self.shell.start("serve", "--port", port) as serve:
            serve.until("Ctrl-C stops it")
            self.url = serve.url
            yield serve

    def answers(self) -> bool:
        """Whether users reach the app again, in time."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if get(f"{self.url}/index.php/apps/app_api/proxy/{APP}/x")[0] == 200:
                return True
            time.sleep(0.1)
        return False

    @contextmanager
    def meanwhile(self) -> Iterator[Callable[[threading.Event, Callable[[], object]], None]]:
        """Do things in a thread when something has happened; the block waits for them."""
        threads: list[threading.Thread] = []

        def then(event: threading.Event, act: Callable[[], object]) -> None:
            def wait() -> None:
                assert event.wait(60)
                act()

            threads.append(threading.Thread(target=wait))
            threads[-1].start()

        yield then
        for thread in threads:
            thread.join()

    def without_container(self) -> None:
        """An app whose container somebody has removed."""
        self.daemon()
        self.install(self.make_image("quiet"))
        assert self.code == 0, self.screen
        self.engine.docker("rm", "--force", f"nc_app_{APP}")

    def tls_daemon(self, **files: Path) -> None:
        """Register a daemon that is reached with TLS; some of its files are others."""
        assert self.tls is not None
        address = f"127.0.0.1:{self.tls.port}"
        self.hidden[address] = "engine.example:2376"
        self.daemon(host=address, protocol="https")
        self.change_daemon(tls=self.tls.tls(**files))

    def daemon(self, *options: object, host: object = "", protocol: str = "http") -> None:
        """Register the daemon; `host` is that of the engine if it is not given."""
        words = ("d", "D", "docker-install", protocol, host or self.socket, self.url)
        self.occ("app_api:daemon:register", *words, *options)

    def info(
        self,
        image: str,
        *,
        app_id: str = APP,
        registry: str = "",
        version: str = "1.0.0",
        port: int = 0,
    ) -> tuple[str, str]:
        """The words that say what to install."""
        port, self.port = port or self.port or free_port(), 0
        self.ports.append(port)
        described = {
            "id": app_id,
            "name": "Skeleton",
            "version": version,
            "port": port,
            "routes": [{"url": "^/x$", "verb": "GET", "access_level": 0}],
            "docker-install": {
                "registry": registry or self.registry.address,
                "image": image,
                "image-tag": "1",
            },
        }
        return ("--json-info", json.dumps(described))

    def install(self, image: str, *options: object, app_id: str = APP, registry: str = "") -> None:
        """Install an app on the daemon, and wait for its end."""
        words = self.info(image, app_id=app_id, registry=registry)
        self.occ("app_api:app:register", app_id, "d", *words, "--wait-finish", *options)

    def install_all(self, image: str, app_ids: Sequence[str]) -> None:
        """Install apps at once in this process; what became of each is the screen."""
        infos = [plain_info(one, registry=self.registry.address, image=image) for one in app_ids]

        async def work() -> None:
            async with self.host() as host, anyio.create_task_group() as group:
                for info in infos:
                    group.start_soon(partial(host.register, info, daemon="d"))

        anyio.run(work)
        self.screen = "\n".join(f"{app.app_id} is {app.state}" for app in self.apps())

    def deploy_percents(self) -> list[int]:
        """Wait until a deployment has come to two different percentages on its way."""

        async def read() -> list[int]:
            async with self.host() as host:
                found = [0]
                for _ in range(2):
                    app = await host.registry.wait(
                        APP, lambda app: app is not None and app.status.deploy > found[-1]
                    )
                    assert app is not None
                    found.append(app.status.deploy)
                return found

        return anyio.run(read)

    def installing(
        self, image: str, *, registry: str = "", app_id: str = APP
    ) -> "subprocess.Popen[str]":
        """The same in a process of its own, begun."""
        words = self.info(image, app_id=app_id, registry=registry)
        words = ("app_api:app:register", app_id, "d", *words, "--wait-finish")
        return subprocess.Popen(
            [sys.executable, "-m", "appapi_host", "occ", *map(str, words)],
            env=self.shell.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ended(self, process: "subprocess.Popen[str]") -> None:
        """Wait for the end of such a process; what it printed is the screen."""
        self.screen, _ = process.communicate()
        self.code = process.returncode
        self._check()

    def app(self, app_id: str = APP) -> AppRecord | None:
        """One that is registered, as it is stored."""
        return next((app for app in self.apps() if app.app_id == app_id), None)

    def apps(self) -> list[AppRecord]:
        """All that is registered, as it is stored."""

        async def read() -> list[AppRecord]:
            async with self.host() as host:
                return await host.registry.apps()

        return anyio.run(read)

    def remains(self) -> str:
        """What there is on the engine and in the registry, in the words of the table."""
        found = [f"app {app.state}" for app in self.apps()]
        shown = "{{.Names}} {{.State}}"
        for line in sorted(self.engine.docker("ps", "--all", "--format", shown).splitlines()):
            name, _, state = line.partition(" ")
            found.append(f"{'previous ' * name.endswith('_previous')}container {state}")
        found += ["volume" for _ in self.engine.docker("volume", "ls", "--quiet").split()]
        counted = Counter(found)
        parts = [what if number == 1 else f"{number} {what}" for what, number in counted.items()]
        return ", ".join(parts) or "nothing"

    def row(self, fault: str) -> str:
        """This fault as a row of the table."""
        seen = self._plain(self.screen.strip()).replace("|", "\\|").replace("\n", "<br>")
        return f"| {fault} | {seen} | {self.remains()} | {self.code} |"

    def _plain(self, text: str) -> str:
        """Without what is different each time or on each machine."""
        for word, instead in self.hidden.items():
            text = text.replace(word, instead)
        text = text.replace(str(self.socket), "/var/run/docker.sock")
        text = text.replace(self.registry.address, "REGISTRY")
        for port in self.ports:
            text = text.replace(str(port), "PORT")
        text = text.replace(str(self.folder), "/somewhere")
        text = re.sub(r"\b[0-9a-f]{64}\b", "ID", text)
        text = re.sub(r"127\.0\.0\.1:\d+->", "127.0.0.1:PORT->", text)
        text = re.sub(r"layers, [\d.]+ MB in [\d.]+ s", "layers, N MB in N s", text)
        text = re.sub(r"\b(within|for) [13] s\b", r"\1 N s", text)
        text = re.sub(r"^\d\d:\d\d:\d\d +", "", text, flags=re.MULTILINE)
        text = re.sub(r"\bprocess \d+", "process N", text)
        text = text.replace(str(self.socket.parent / "data"), "/var/lib/docker")
        text = re.sub(r"\bGetImageBlob\d+", "GetImageBlobN", text)
        text = re.sub(r" +\n", "\n", text)
        text = re.sub(r"\n{2,}", "\n", text)
        # What went well says nothing here.
        return "\n".join(line for line in text.splitlines() if not _FINE.search(line))
