"""Podman's Docker-compatible service as a second kind of engine, with all of its files apart."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.docker.engines import accepts, process, unmount_below, until

# runc, because crun refuses hybrid cgroups; limits that a container without CAP_SYS_RESOURCE has.
_CONFIGURATION = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
runtime = "runc"
events_logger = "file"
cgroup_manager = "cgroupfs"
[network]
network_backend = "cni"
network_config_dir = "{networks}"
"""


@dataclass(frozen=True)
class PodmanEngine:
    """A Podman service of ours.

    Args:
        socket: its unix socket.
        gateway: address of its default bridge, which is there while a container is on it.
        folder: all of its files.
        environment: for the client.
    """

    socket: Path
    gateway: str
    folder: Path
    environment: dict[str, str]

    def podman(self, *words: object, stdin: bytes | None = None) -> str:
        """Run the client on the same storage, past the service."""
        done = subprocess.run(
            [*_words(self.folder), *map(str, words)],
            input=stdin,
            env=self.environment,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError((done.stdout + done.stderr).decode(errors="replace"))
        return done.stdout.decode().strip()


def _words(folder: Path) -> list[str]:
    storage = ["--root", str(folder / "root"), "--runroot", str(folder / "run")]
    return ["podman", *storage, "--storage-driver", "vfs", "--tmpdir", str(folder / "tmp")]


def _network(bridge: str, network: str) -> dict[str, object]:
    """The default network as Podman writes it, but with addresses and an interface of our own."""
    ranges = [[{"subnet": f"{network}.0/24", "gateway": f"{network}.1"}]]
    ipam = {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}], "ranges": ranges}
    return {
        "cniVersion": "0.4.0",
        "name": "podman",
        "plugins": [
            {
                "type": "bridge",
                "bridge": bridge,
                "isGateway": True,
                "ipMasq": True,
                "hairpinMode": True,
                "ipam": ipam,
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
            {"type": "firewall"},
            {"type": "tuning"},
        ],
    }


@contextmanager
def podman_engine(folder: Path, bridge: str, network: str) -> Iterator[PodmanEngine]:
    """A Podman service with data, network and socket of its own.

    Args:
        folder: for all of its files; short, because its sockets have long names.
        bridge: name of the interface of its default network; its usual one has a fixed name.
        network: the first three numbers of the addresses on it.
    """
    for name in ("root", "run", "tmp", "networks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    configuration = folder / "containers.conf"
    configuration.write_text(_CONFIGURATION.format(networks=folder / "networks"))
    (folder / "networks" / "podman.conflist").write_text(json.dumps(_network(bridge, network)))
    environment = os.environ | {"CONTAINERS_CONF": str(configuration)}
    path, log = folder / "podman.sock", folder / "podman.log"
    engine = PodmanEngine(path, f"{network}.1", folder, environment)
    words = ["env", f"CONTAINERS_CONF={configuration}", *_words(folder)]
    words += ["system", "service", "--time=0", f"unix://{path}"]
    try:
        with process(words, log) as started:
            until(lambda: accepts(str(path)), started, log)
            try:
                yield engine
            finally:
                engine.podman("rm", "--all", "--force", "--time", "0")
    finally:
        unmount_below(folder)
        subprocess.run(["ip", "link", "del", bridge], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def load(engine: PodmanEngine, archive: bytes) -> None:
    """Give it images that `docker save` wrote."""
    engine.podman("load", stdin=archive)


__all__ = ["PodmanEngine", "load", "podman_engine"]
