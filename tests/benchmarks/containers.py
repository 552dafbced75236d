"""What installing, switching and removing cost on a Docker Engine, without the app's own time.

It starts an engine and a registry of its own and ends them, as the tests in tests/docker do. The
app's own times come from the engine's events and from the app, which prints when it listens. The
peer is the recorded run of AppAPI 32 in tests/wire/docker-install.jsonl and occ.json; that of ten
installs at once is the engine, asked for ten such containers without a host.

`python tests/benchmarks/containers.py` exits with 1 when a limit is missed.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio
import docker
import docker.types
from tables import Limit, show

sys.path.insert(0, str(Path(__file__).parents[2]))

from appapi_host.deploy.docker.certificates import instance_bundle
from appapi_host.host import Host
from appapi_host.info_rules import DockerInstall
from appapi_host.info_xml import AppInfo
from appapi_host.records import AccessLevel, Daemon, Route
from appapi_host.settings import HostSettings
from appapi_host.testing import live_host
from tests.docker.engines import (
    DockerEngine,
    docker_engine,
    free_bridge,
    free_network,
    remove_everything,
)
from tests.docker.python_image import python_image
from tests.docker.registry import Registry, docker_registry
from tests.install import PATH, engine_obstacle
from tests.ports import free_port

HERE = Path(__file__).parent
WIRE = HERE.parent / "wire"
AT_ONCE = 10
DOCKERFILE = """\
FROM exd/python:1
COPY plain_app.py contained.py /
ENV MODE=init
STOPSIGNAL SIGINT
CMD ["python3", "/contained.py"]
"""
BARE, USUAL = "plain", "usual"
"""Images: one that has no certificates of authorities, so that they are uploaded to each container,
and one that has those of this machine, as Python's official images have the usual ones."""


@dataclass(frozen=True)
class Bench:
    """Where things are measured.

    Args:
        engine: of our own.
        registry: has the image.
        folder: for the data of hosts.
        rounds: repetitions.
    """

    engine: DockerEngine
    registry: Registry
    folder: Path
    rounds: int

    def info(self, app_id: str = "bench", image: str = BARE) -> AppInfo:
        return AppInfo(
            id=app_id,
            name="Bench",
            version="1.0.0",
            docker_install=DockerInstall(self.registry.address, image, "1"),
            port=free_port(),
            routes=(Route(".*", "GET", AccessLevel.PUBLIC),),
        )

    def event(self, app_id: str, action: str, since: float) -> float:
        """When the engine last did something to a container, in seconds since 1970."""
        words = [
            *("events", "--since", f"{since:.9f}", "--until", f"{time.time():.9f}"),
            *("--filter", f"container=nc_app_{app_id}", "--filter", f"event={action}"),
            *("--format", "{{.TimeNano}}"),
        ]
        return int(self.engine.docker(*words).split()[-1]) / 1e9

    def own_start(self, app_id: str, since: float) -> float:
        """Seconds from the start of a container to its app's listening."""
        printed = self.engine.docker("logs", "--since", f"{since:.9f}", f"nc_app_{app_id}")
        listening = re.findall(r"^listening (\S+)$", printed, re.MULTILINE)
        return float(listening[-1]) - self.event(app_id, "start", since)

    def own_stop(self, app_id: str, since: float) -> float:
        """Seconds from the signal to the end of an app."""
        return self.event(app_id, "die", since) - self.event(app_id, "kill", since)

    def requests(self, seen: int) -> int:
        """How much the engine was asked since its log had that size."""
        return self.engine.log.read_bytes()[seen:].count(b'msg="Calling ')


@contextmanager
def bench(rounds: int) -> Iterator[Bench]:
    """Start everything; end it with the block."""
    folder = Path(tempfile.mkdtemp(prefix="exb-", dir="/tmp"))
    os.environ |= {"PATH": PATH, "DOCKER_CONFIG": str(folder / "config")}
    for name in ("DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"):
        os.environ.pop(name, None)
    try:
        with (
            docker_engine(folder / "e", free_bridge(), free_network(), "--debug") as engine,
            docker_registry(folder / "registry") as registry,
        ):
            archive = python_image(folder / "python")
            engine.docker("import", archive, "exd/python:1")
            context = folder / "context"
            context.mkdir()
            shutil.copy(HERE / "subjects" / "contained.py", context)
            shutil.copy(HERE.parent / "live" / "plain_app.py", context)
            (context / "trusted.pem").write_text("\n".join(instance_bundle(os.environ)) + "\n")
            copied = "COPY trusted.pem /etc/ssl/certs/ca-certificates.crt\n"
            for image, more in ((BARE, ""), (USUAL, copied)):
                (context / "Dockerfile").write_text(DOCKERFILE + more)
                reference = f"{registry.address}/{image}:1"
                engine.docker("build", "--quiet", "--tag", reference, context)
                engine.docker("push", "--quiet", reference)
            yield Bench(engine, registry, folder, rounds)
            remove_everything(engine.docker)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Samples:
    """Seconds of each round, and requests."""

    install: list[float]
    whole_install: list[float]
    switch: list[float]
    removal: list[float]
    requests: list[int]


async def one_by_one(bench: Bench, host: Host) -> Samples:
    """Install, switch off and on, and remove, again and again."""
    samples = Samples([], [], [], [], [])
    for number in range(bench.rounds + 1):
        size = bench.engine.log.stat().st_size
        at, began = time.time(), time.perf_counter()
        await host.register(bench.info(), daemon="docker")
        took = time.perf_counter() - began
        install = took - bench.own_start("bench", at)
        requests = bench.requests(size)

        at, began = time.time(), time.perf_counter()
        await host.disable("bench")
        await host.enable("bench")
        switch = time.perf_counter() - began - bench.own_start("bench", at)

        at, began = time.time(), time.perf_counter()
        await host.unregister("bench", rm_data=True)
        removal = time.perf_counter() - began - bench.own_stop("bench", at)
        if number:  # the first one pays for imports and caches
            samples.install.append(install)
            samples.whole_install.append(took)
            samples.switch.append(switch)
            samples.removal.append(removal)
            samples.requests.append(requests)
    return samples


async def at_once(bench: Bench, host: Host, image: str, count: int = AT_ONCE) -> float:
    """Seconds until so many apps are enabled that were all registered at the same moment."""
    infos = [bench.info(f"bench{number}", image) for number in range(count)]
    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for info in infos:
            group.start_soon(partial(host.register, info, daemon="docker"))
    took = time.perf_counter() - began
    async with anyio.create_task_group() as group:
        for info in infos:
            group.start_soon(partial(host.unregister, info.id, rm_data=True))
    return took


def without_host(bench: Bench, count: int) -> float:
    """Seconds until so many containers of the same image listen that only the engine is asked for.

    Nobody installs faster than this: a volume, a container and its start for each, all at once.
    """
    names = [f"bare{number}" for number in range(count)]
    known = {"APP_HOST": "127.0.0.1", "APP_ID": "bare", "APP_VERSION": "1", "APP_SECRET": "-"}
    clients = [docker.APIClient(f"unix://{bench.engine.socket}", version="1.41") for _ in names]

    def start(client: docker.APIClient, name: str) -> None:
        client.create_volume(name)
        mount = docker.types.Mount("/data", name)
        container = client.create_container(
            f"{bench.registry.address}/{USUAL}:1",
            name=name,
            environment=known | {"APP_PORT": str(free_port())},
            host_config=client.create_host_config(network_mode="host", mounts=[mount]),
        )
        client.start(container)
        next(line for line in client.logs(container, stream=True) if b"listening" in line)

    try:
        with ThreadPoolExecutor(count) as pool:
            began = time.perf_counter()
            list(pool.map(start, clients, names))
            return time.perf_counter() - began
    finally:
        bench.engine.docker("rm", "--force", *names)
        bench.engine.docker("volume", "rm", *names)
        for client in clients:
            client.close()


@dataclass
class Together:
    """Seconds of installs at once, by image, and of the engine alone: so many, and one."""

    ours: dict[str, list[float]]
    ours_one: list[float]
    engine: list[float]
    engine_one: list[float]


async def measured(bench: Bench) -> tuple[Samples, Together]:
    """All that is measured."""
    async with live_host(bench.folder / "host", HostSettings()) as test_host:
        host = test_host.host
        config = {"net": "host", "nextcloud_url": test_host.url}
        daemon = Daemon("docker", "", "docker-install", "http", "", config)
        await host.register_daemon(replace(daemon, host=str(bench.engine.socket)))
        samples = await one_by_one(bench, host)
        together = Together({BARE: [], USUAL: []}, [], [], [])
        await at_once(bench, host, USUAL, 1)  # the first one pays for looking into the image
        for _ in range(max(2, bench.rounds // 2)):  # in turns: the machine may be noisy
            for image, took in together.ours.items():
                took.append(await at_once(bench, host, image))
            together.ours_one.append(await at_once(bench, host, USUAL, 1))
            together.engine.append(without_host(bench, AT_ONCE))
            together.engine_one.append(without_host(bench, 1))
    return samples, together


def recorded() -> tuple[int, dict[str, float]]:
    """Requests to the engine of AppAPI's install, and the seconds of some rows of occ.json."""
    lines = (WIRE / "docker-install.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    first = next(n for n, row in enumerate(rows) if "images/create" in row.get("target", ""))
    uploads = sum("/archive" in row.get("target", "") for row in rows)
    requests = sum("target" in row for row in rows[first:]) - uploads + 146
    rows = json.loads((WIRE / "occ.json").read_text())
    numbers = {"install": 28, "disable": 31, "enable": 33, "unregister": 27}
    return requests, {name: rows[number]["seconds"] for name, number in numbers.items()}


def limits(samples: Samples, together: Together) -> list[Limit]:
    """The table.

    Where the engine alone needs more than three times as long for ten containers as for one,
    because there are few processors, that is what ten installs are compared with.
    """
    asked, seconds = recorded()
    requests = max(samples.requests)
    engine, engine_one = map(statistics.median, (together.engine, together.engine_one))
    is_slow = engine > 3 * engine_one
    alone = f"engine alone {engine:.2f} s, {engine / engine_one:.1f} x one ({engine_one:.2f} s)"

    def ten(image: str, what: str, one: float, share: float) -> Limit:
        took = statistics.median(together.ours[image])
        return Limit(
            f"{AT_ONCE} installs at once, {what}",
            f"≤ {share:g} x the engine alone" if is_slow else "≤ 3 x one",
            f"{took:.2f} s, {took / engine:.2f} x that; {took / one:.1f} x one ({one:.2f} s)",
            took <= (share * engine if is_slow else 3 * one),
            alone,
        )

    def row(what: str, limit: float, values: list[float], peer: str) -> Limit:
        value = statistics.median(values)
        shown = f"{value:.3f} s ({min(values):.3f} to {max(values):.3f})"
        return Limit(what, f"≤ {limit:g} s", shown, value <= limit, peer)

    install, switch = seconds["install"], seconds["disable"] + seconds["enable"]
    return [
        row(
            "register to enabled, warm image, without the app's own start",
            *(0.6, samples.install, f"{install:.1f} s with it"),
        ),
        row(
            "disable and enable, without the app's own start",
            *(0.4, samples.switch, f"{switch:.1f} s with it"),
        ),
        row(
            "unregister with data, without the app's own stop",
            *(0.5, samples.removal, f"{seconds['unregister']:.1f} s with it"),
        ),
        ten(USUAL, "usual image", statistics.median(together.ours_one), 1.5),
        ten(BARE, "certificates for each", statistics.median(samples.whole_install), 2.5),
        Limit(
            "requests to the engine for one install",
            f"≤ {asked // 3}",
            str(requests),
            requests <= asked / 3,
            str(asked),
        ),
    ]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="repetitions (default 7)")
    options = parser.parse_args()
    if reason := engine_obstacle():
        sys.stdout.write(f"containers are not measured here: {reason}\n")
        return 1 if os.environ.get("CI") else 0
    with bench(options.rounds) as prepared:
        samples, together = anyio.run(measured, prepared)
    return show("On a Docker Engine", limits(samples, together), peer="AppAPI 32")


if __name__ == "__main__":
    sys.exit(main())
