"""An engine with a small disk of its own that a test may stop, start and fill."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.docker.engines import (
    END_SECONDS,
    DockerEngine,
    free_bridge,
    free_network,
    is_answering,
    remove_everything,
    run,
    unmount_below,
    until,
)

DISK_BYTES = 512 * 1024 * 1024
"""Room for the image of the plain app, packed and unpacked, and not much more."""

_BLOCK = 64 * 1024


class StoppableEngine:
    """A dockerd whose data root is a file system in a file.

    Args:
        folder: for all of its files.
        bridge: name of its default bridge, which is there.
    """

    def __init__(self, folder: Path, bridge: str, gateway: str) -> None:
        self.socket = folder / "docker.sock"
        self._folder = folder
        self._log = folder / "dockerd.log"
        self._ballast = folder / "data" / "ballast"
        self._bridge = bridge
        self._gateway = gateway
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def engine(self) -> DockerEngine:
        """The same as other engines are, while it runs."""
        assert self._process is not None
        return DockerEngine(self.socket, self._bridge, self._gateway, self._process, self._log)

    def start(self) -> None:
        """Start it, and wait until it answers; nothing happens if it runs."""
        if self._process is not None:
            return
        folder = self._folder
        words = [
            *("dockerd", f"--bridge={self._bridge}", "--data-root", folder / "data"),
            *("--exec-root", folder / "exec", "--pidfile", folder / "pid"),
            # What is cut is cut: by itself it would try again after 5, 10, 15 and 20 seconds.
            *("--max-download-attempts", "1", "--debug", "-H", f"unix://{self.socket}"),
        ]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in words],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        until(lambda: is_answering(self.socket), self._process, self._log)

    def stop(self) -> None:
        """End it, its containers too, and wait until it has gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it with SIGKILL: its containers run on, its containerd is killed with it."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        process.wait()
        # The next one takes that containerd for alive where process 1 never reaps it, as in many
        # containers.
        (self._folder / "exec" / "containerd" / "containerd.pid").unlink()

    def fill(self, left: int = 0) -> None:
        """Leave so many bytes of its disk."""
        disk = os.statvfs(self._folder / "data")
        with self._ballast.open("wb", buffering=0) as ballast:
            os.posix_fallocate(ballast.fileno(), 0, disk.f_bavail * disk.f_frsize - left - _BLOCK)
            ballast.seek(0, os.SEEK_END)
            with suppress(OSError):  # how much of it is for the list of its blocks is unknown
                while not left:
                    ballast.write(bytes(_BLOCK // 16))

    def restore(self) -> None:
        """As it was at first: running, and empty but for images."""
        self._ballast.unlink(missing_ok=True)
        self.start()
        remove_everything(self.engine.docker)


@contextmanager
def stoppable_engine(folder: Path) -> Iterator[StoppableEngine]:
    """Such an engine, running; ended with the block."""
    data, disk = folder / "data", folder / "disk"
    data.mkdir(parents=True)
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    run("mkfs.ext4", "-q", "-F", "-m", "0", disk)
    bridge, network = free_bridge(), free_network()
    try:
        run("mount", "-o", "loop", disk, data)
        run("ip", "link", "add", bridge, "type", "bridge")
        run("ip", "addr", "add", f"{network}.1/24", "dev", bridge)
        run("ip", "link", "set", bridge, "up")
        engine = StoppableEngine(folder, bridge, f"{network}.1")
        engine.start()
        try:
            yield engine
        finally:
            with suppress(AssertionError):
                engine.restore()
            engine.stop()
    finally:
        unmount_below(folder)
        subprocess.run(["ip", "link", "del", bridge], capture_output=True, check=False)
