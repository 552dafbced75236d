"""What is measured of a server process: start, memory, answers per second."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.environ import Settings

HERE = Path(__file__).resolve().parent
COMPARED = ("ours", "bare", "nc_py_api")
SCRIPTS = {
    "ours": HERE / "subjects" / "ours.py",
    "bare": HERE / "subjects" / "bare.py",
    "nc_py_api": HERE / "subjects" / "nextcloud_py_api.py",
    "prepared": HERE / "subjects" / "prepared.py",
}
HEARTBEAT = b"GET /heartbeat HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
NO_HOST = "http://127.0.0.1:9"
"""Nothing listens there: the servers that are compared are never installed."""
START_LIMIT = 30.0
"""Seconds after which a server that does not answer counts as broken."""


def cores() -> tuple[int, int]:
    """One core for the server and one for the load; -1 where there is no second one."""
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[1]) if len(available) > 1 else (-1, -1)


def settings(port: int, nextcloud_url: str = NO_HOST) -> Settings:
    """Who the measured app is."""
    return Settings(
        app_id="bench",
        app_secret=Secret("0123456789abcdef" * 8),
        app_version="1.0.0",
        nextcloud_url=nextcloud_url,
        app_port=port,
    )


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Running:
    """A server that has answered its first heartbeat.

    Args:
        pid: its process.
        port: where it listens.
        seconds_to_heartbeat: from just before the process was started to the answer.
    """

    pid: int
    port: int
    seconds_to_heartbeat: float

    @property
    def memory_mib(self) -> float:
        """What the process and its children hold now (RSS)."""
        processes = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        return sum(process.memory_info().rss for process in processes) / 2**20


def heartbeat_answered(port: int) -> bool:
    """Ask once; False if nothing listens yet."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=START_LIMIT) as connection:
            connection.sendall(HEARTBEAT)
            return connection.recv(65536).startswith(b"HTTP/1.1 200")
    except ConnectionError:
        return False


@contextmanager
def started(subject: str, *, nextcloud_url: str = NO_HOST) -> Iterator[Running]:
    """Start a server, wait for its first heartbeat, end it."""
    port = free_port()
    environment = {**os.environ, **settings(port, nextcloud_url).to_environ()}
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, str(SCRIPTS[subject])], env=environment)
    try:
        while not heartbeat_answered(port):
            if process.poll() is not None or time.perf_counter() - began > START_LIMIT:
                sys.exit(f"{subject} did not start")
            time.sleep(0.0005)
        yield Running(process.pid, port, time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait()


def answers_per_second(running: Running, *, connections: int = 16, seconds: float = 1.5) -> float:
    """Load the server on a core of its own with authenticated requests from another one."""
    server_core, load_core = cores()
    if server_core >= 0:
        for thread in psutil.Process(running.pid).threads():
            os.sched_setaffinity(thread.id, {server_core})
    credentials = replace(settings(running.port).credentials, user_id="user")
    lines = [
        "GET /hello HTTP/1.1",
        f"Host: 127.0.0.1:{running.port}",
        "Accept: */*",
        *(f"{name}: {value}" for name, value in credentials.headers(aa_version="32.0.0")),
    ]
    arguments = ["127.0.0.1", str(running.port), str(connections), str(seconds), str(load_core)]
    done = subprocess.run(
        [sys.executable, str(HERE / "load.py"), *arguments],
        input=("\r\n".join(lines) + "\r\n\r\n").encode(),
        capture_output=True,
        check=False,
        timeout=seconds + 30,
    )
    if done.returncode:
        sys.exit(f"the load ended early: {done.stderr.decode().strip()}")
    return float(done.stdout)
