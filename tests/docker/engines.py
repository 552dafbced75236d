"""Engines started for tests, on paths, ports and bridges of their own, and ended by them.

Plain context managers without pytest, so that fixtures of any scope can be made of them. Whatever
is started here is ended by the process id that starting it returned, nothing else is touched.
"""

import itertools
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30.0
END_SECONDS = 20.0
_numbers = itertools.count()


@dataclass(frozen=True)
class DockerEngine:
    """A dockerd of ours.

    Args:
        socket: its unix socket.
        bridge: its default bridge; containers find this machine at `gateway` on it.
        gateway: address of that bridge.
        process: the dockerd.
        log: what it prints.
    """

    socket: Path
    bridge: str
    gateway: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def docker(self, *words: object, stdin: bytes | None = None) -> str:
        """Run the docker client on it; returns what that printed."""
        return run("docker", "-H", f"unix://{self.socket}", *words, stdin=stdin)


def run(*words: object, stdin: bytes | None = None) -> str:
    """Run a command to its end; a failure shows what it said."""
    done = subprocess.run(
        [str(word) for word in words],
        input=stdin,
        # The classic builder: the other one is a package of its own.
        env=os.environ | {"DOCKER_BUILDKIT": "0"},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace")
        raise AssertionError(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{said}")
    return done.stdout.decode().strip()


def free_bridge() -> str:
    """A name for a bridge that no other test session has."""
    return f"ex{os.getpid()}x{next(_numbers)}"


def free_network() -> str:
    """The first three numbers of addresses that nothing on this machine has."""
    taken = run("ip", "-4", "route", "show", "table", "all")
    while f" 172.29.{(number := os.getpid() * 7 + next(_numbers)) % 250}." in taken:
        pass
    return f"172.29.{number % 250}"


@contextmanager
def process(words: Sequence[object], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Something that runs inside the block: ended with SIGTERM, and if need be with SIGKILL."""
    with (
        log.open("ab") as output,
        subprocess.Popen(
            [str(word) for word in words], stdout=output, stderr=output, stdin=subprocess.DEVNULL
        ) as started,
    ):
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                started.kill()


def until(is_there: Callable[[], bool], started: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait for something that a process of ours will do, and that cannot tell us."""
    deadline = time.monotonic() + START_SECONDS
    while not is_there():
        if started.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"not there:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.02)


def accepts(address: str | tuple[str, int]) -> bool:
    """Whether something listens on a unix socket or a port."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        try:
            client.connect(address)
        except OSError:
            return False
    return True


def is_answering(path: Path) -> bool:
    """Whether an engine is up; its socket accepts connections before that."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(START_SECONDS)
        try:
            client.connect(str(path))
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return client.recv(64).startswith(b"HTTP/1.0 200")
        except OSError:
            return False


@contextmanager
def docker_engine(
    folder: Path, bridge: str, network: str, *options: object
) -> Iterator[DockerEngine]:
    """A Docker Engine with a bridge, data and socket of its own.

    Args:
        folder: for all of its files.
        bridge: name of the interface that is made for it.
        network: the first three numbers of the addresses on it, for instance `172.29.7`.
        options: further words for dockerd.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, gateway, log = folder / "docker.sock", f"{network}.1", folder / "dockerd.log"
    run("ip", "link", "add", bridge, "type", "bridge")
    try:
        run("ip", "addr", "add", f"{gateway}/24", "dev", bridge)
        run("ip", "link", "set", bridge, "up")
        words = [
            *("dockerd", f"--bridge={bridge}", "--data-root", folder / "data"),
            *("--exec-root", folder / "exec", "--pidfile", folder / "pid"),
            *("-H", f"unix://{path}", *options),
        ]
        with process(words, log) as started:
            until(lambda: is_answering(path), started, log)
            engine = DockerEngine(path, bridge, gateway, started, log)
            try:
                yield engine
            finally:
                with suppress(AssertionError):  # the engine was ended by its test
                    remove_everything(engine.docker)
    finally:
        unmount_below(folder)
        subprocess.run(["ip", "link", "del", bridge], capture_output=True, check=False)


def remove_everything(docker: Callable[..., str]) -> None:
    """Remove all containers, volumes and networks.

    Args:
        docker: runs a client with the words that it is given.
    """
    if containers := docker("ps", "--all", "--quiet").split():
        docker("rm", "--force", "--volumes", *containers)
    if volumes := docker("volume", "ls", "--quiet").split():
        docker("volume", "rm", "--force", *volumes)
    for network in docker("network", "ls", "--format", "{{.Name}}").split():
        if network not in ("bridge", "host", "none", "podman"):
            docker("network", "rm", network)


def unmount_below(folder: Path) -> None:
    """Unmount what an engine left mounted below its folder, the deepest first."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}{os.sep}")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
