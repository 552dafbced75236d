"""User traffic through the host beside nginx: `python tests/benchmarks/proxy.py`.

`serve` as a person starts it and Debian's nginx, each bound to one core and in turn in front of the
same app, which shares the other core with the load. Shown are small requests per second, bytes per
second of large bodies in both directions, and what a stream adds to the memory of the host; then
small requests beside 100 and 1,000 registered apps. Exits with 1 when a limit is missed.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import measure
import psutil
from tables import Limit, show

from appapi_host.host import Host
from appapi_host.records import AccessLevel, AppRecord, Daemon, Route
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State
from exapp_sdk.protocol.status import Status

SMALL_PER_SECOND = 3000
"""Small requests per second that the host must pass on with one core."""

SHARE_OF_NGINX = 0.5
"""Of its bytes per second, for streams."""

MORE_MEMORY = 30.0
"""MiB that a stream of any length may add to the host."""

GROWTH = 1.25
"""How much more a request may cost with 1,000 apps than with one."""

MANUAL = Daemon("manual_install", "Manual", "manual-install", "http", "127.0.0.1")
ROUTES = (Route("^/", "GET,PUT", AccessLevel.PUBLIC),)
BASES = {
    "php": "/index.php/apps/app_api/proxy/app_0",
    "harp": "/exapps/app_0",
}
# Streaming is what the host does; with its default nginx would write large bodies to the disk. With
# another one it would close each connection after 1,000 requests, which the host never does.
NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_max_body_size 0; keepalive_requests 1000000000;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  upstream app {{ server 127.0.0.1:{app}; keepalive 100; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_request_buffering off;
    }}
  }}
}}
"""


async def prepare(folder: Path, app_port: int, apps: int) -> None:
    """The state of a host with so many apps, all enabled; the first is the one that answers."""
    async with Host.open(HostSettings(data_dir=folder)) as host:
        await host.users.create_defaults(loopback=True)
        await host.register_daemon(MANUAL)
        app = AppRecord(
            "app_0",
            "1.0.0",
            "App",
            MANUAL,
            app_port,
            Secret("0123456789abcdef" * 8),
            State.ENABLED,
            enabled=True,
            status=Status(deploy=100, init=100, type=""),
            routes=ROUTES,
        )
        await host.registry.add_app(app)
        for number in range(1, apps):
            await host.registry.add_app(replace(app, app_id=f"app_{number}", port=2000 + number))


def answers(port: int) -> bool:
    """Whether a server there answers at all; listening alone is not enough."""
    try:
        with socket.create_connection(("127.0.0.1", port), measure.START_LIMIT) as connection:
            connection.sendall(b"GET /status.php HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            return connection.recv(65536).startswith(b"HTTP/1.1 ")
    except ConnectionError:
        return False


@contextmanager
def running(words: list[str], port: int, core: int) -> Iterator[psutil.Process]:
    """Start a server on one core, wait until it listens, end it."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    began = time.perf_counter()
    try:
        while not answers(port):
            if process.poll() is not None or time.perf_counter() - began > measure.START_LIMIT:
                sys.exit(f"{words[:4]} did not start")
            time.sleep(0.01)
        found = psutil.Process(process.pid)
        for one in (found, *found.children()):
            for thread in one.threads() if core >= 0 else ():
                os.sched_setaffinity(thread.id, {core})
        yield found
    finally:
        process.terminate()
        process.wait()


@contextmanager
def app() -> Iterator[int]:
    """The app; hands out its port."""
    port = measure.free_port()
    words = [sys.executable, str(measure.HERE / "subjects" / "proxied.py"), str(port)]
    with running(words, port, measure.cores()[1]):
        yield port


@contextmanager
def host(folder: Path, app_port: int, apps: int = 1) -> Iterator[tuple[int, psutil.Process]]:
    """`serve` in front of it; hands out its port and its process."""
    data = folder / f"host-{apps}"
    if not data.exists():
        anyio.run(prepare, data, app_port, apps)
    port = measure.free_port()
    words = ["-m", "appapi_host", "serve", "--port", str(port), "--data-dir", str(data)]
    with running([sys.executable, *words], port, measure.cores()[0]) as process:
        yield port, process


@contextmanager
def nginx(folder: Path, app_port: int) -> Iterator[tuple[int, psutil.Process]]:
    """The peer in front of it."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        sys.exit("nginx not found: `python -m tests.install` as root on Debian installs it")
    port = measure.free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, app=app_port, port=port))
    words = [program, "-c", str(config), "-e", "stderr"]
    with running(words, port, measure.cores()[0]) as process:
        yield port, process


@dataclass(frozen=True, slots=True)
class Speed:
    """Requests per second: of the clock, and of the server's processor time.

    The latter does not depend on what else the machine does; both are the same where the server is
    what everybody waits for.
    """

    wall: float
    processor: float


def small(port: int, process: psutil.Process, base: str, seconds: float) -> Speed:
    """Small requests per second over 16 connections."""
    lines = [
        f"GET {base}/small HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Accept: */*",
        "User-Agent: bench/1.0",
        "Accept-Language: en",
    ]
    load(port, lines, 0.3)  # the first requests load modules and open connections
    before = spent(process)
    wall = load(port, lines, seconds)
    return Speed(wall, wall * seconds / (spent(process) - before))


def load(port: int, lines: list[str], seconds: float) -> float:
    """Requests per second of the clock."""
    words = ["127.0.0.1", str(port), "16", str(seconds), str(measure.cores()[1])]
    done = subprocess.run(
        [sys.executable, str(measure.HERE / "load.py"), *words],
        input=("\r\n".join(lines) + "\r\n\r\n").encode(),
        capture_output=True,
        check=False,
        timeout=seconds + 30,
    )
    if done.returncode:
        sys.exit(f"the load ended early: {done.stderr.decode().strip()}")
    return float(done.stdout)


def spent(process: psutil.Process) -> float:
    """Processor seconds of a server so far."""
    times = [one.cpu_times() for one in (process, *process.children())]
    return sum(one.user + one.system for one in times)


def down(port: int, base: str, size: int) -> float:
    """MB per second of one large answer."""
    request = f"GET {base}/down?{size} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    buffer = bytearray(1024 * 1024)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(60)
        began = time.perf_counter()
        connection.sendall(request.encode())
        head = connection.recv_into(buffer)
        received = head - (buffer[:head].index(b"\r\n\r\n") + 4)
        while count := connection.recv_into(buffer):
            received += count
        seconds = time.perf_counter() - began
    if received != size:
        sys.exit(f"{received} bytes arrived, not {size}")
    return size / seconds / 1e6


def up(port: int, base: str, size: int) -> float:
    """MB per second of one large request."""
    head = (
        f"PUT {base}/up HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
    )
    block = bytes(1024 * 1024)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(60)
        began = time.perf_counter()
        connection.sendall(head.encode())
        left = size
        while left:
            piece = block if left >= len(block) else block[:left]
            connection.sendall(piece)
            left -= len(piece)
        answer = b""
        while count := connection.recv(65536):
            answer += count
        seconds = time.perf_counter() - began
    if not answer.endswith(f"\r\n\r\n{size}".encode()):
        sys.exit(f"the answer to an upload is {answer[-200:]!r}")
    return size / seconds / 1e6


def peak_mib(process: psutil.Process) -> float:
    """The most memory that a process held since the last call; then counting begins anew."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    return int(line.split()[1]) / 1024


Found = dict[str, list[float]]


def note(found: Found, name: str, value: float) -> None:
    """Keep a value, and show it to whoever waits."""
    found.setdefault(name, []).append(value)
    sys.stderr.write(f"{name}: {value:,.0f}\n")


def note_small(found: Found, name: str, speed: Speed) -> None:
    """Keep both."""
    note(found, f"small {name}", speed.processor)
    note(found, f"clock {name}", speed.wall)


def compare(folder: Path, app_port: int, rounds: int, seconds: float, size: int) -> Found:
    """Everything that is compared with nginx, in turn."""
    found: Found = {}

    for _ in range(rounds):
        with nginx(folder, app_port) as (port, process):
            note_small(found, "nginx", small(port, process, "", seconds))
            note(found, "down nginx", down(port, "", size))
            note(found, "up nginx", up(port, "", size))
        with host(folder, app_port) as (port, process):
            for name, base in BASES.items():
                note_small(found, name, small(port, process, base, seconds))
            for name, base in BASES.items():
                for way in (down, up):
                    peak_mib(process)
                    before = peak_mib(process)
                    note(found, f"{way.__name__} {name}", way(port, base, size))
                    note(found, f"memory {way.__name__} {name}", peak_mib(process) - before)
    return found


def grown(folder: Path, app_port: int, rounds: int, seconds: float) -> Found:
    """Small requests per second beside more and more apps."""
    found: Found = {}
    for _ in range(rounds):
        for apps in (1, 100, 1000):
            with host(folder, app_port, apps) as (port, process):
                speed = small(port, process, BASES["harp"], seconds)
                note(found, f"{apps:,}", speed.processor)
    return found


def only_small(folder: Path, app_port: int, rounds: int, seconds: float) -> None:
    """What somebody wants to see who makes it faster."""
    found: Found = {}
    with host(folder, app_port) as (port, process):
        for _ in range(rounds):
            for name, base in BASES.items():
                note_small(found, name, small(port, process, base, seconds))


def main() -> int:
    """Measure, print, judge; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="repetitions (default 3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of small requests (default 2)")
    parser.add_argument("--mib", type=int, default=1024, help="size of large bodies (default 1024)")
    parser.add_argument("--small", action="store_true", help="small requests of one app alone")
    options = parser.parse_args()
    size = options.mib * 2**20
    if options.small:
        with tempfile.TemporaryDirectory() as name, app() as app_port:
            only_small(Path(name), app_port, options.rounds, options.seconds)
        return 0
    with tempfile.TemporaryDirectory() as name, app() as app_port:
        found = compare(Path(name), app_port, options.rounds, options.seconds, size)
        growth = grown(Path(name), app_port, options.rounds, options.seconds)
    medians = {key: statistics.median(values) for key, values in found.items()}
    limits = []
    for name in BASES:
        ours, peer = medians[f"small {name}"], medians["small nginx"]
        clock, clock_of_peer = medians[f"clock {name}"], medians["clock nginx"]
        limits.append(
            Limit(
                f"{name}: small requests per processor second (of the clock)",
                f"≥ {SMALL_PER_SECOND:,}",
                f"{ours:,.0f} ({clock:,.0f}), {ours / peer:.2f} x nginx",
                ours >= SMALL_PER_SECOND,
                f"{peer:,.0f} ({clock_of_peer:,.0f})",
            )
        )
        for way in ("down", "up"):
            ours, peer = medians[f"{way} {name}"], medians[f"{way} nginx"]
            ratios = [
                one / other
                for one, other in zip(found[f"{way} {name}"], found[f"{way} nginx"], strict=True)
            ]
            share = statistics.median(ratios)
            limits.append(
                Limit(
                    f"{name}: {options.mib:,} MiB {way}, MB/s",
                    f"≥ {SHARE_OF_NGINX} x nginx",
                    f"{ours:,.0f}, {share:.2f} x nginx",
                    share >= SHARE_OF_NGINX,
                    f"{peer:,.0f}",
                )
            )
            more = max(found[f"memory {way} {name}"])
            limits.append(
                Limit(
                    f"{name}: memory for it, MiB",
                    f"≤ {MORE_MEMORY:.0f} more",
                    f"{more:.1f} more",
                    more <= MORE_MEMORY,
                )
            )
    speeds = {apps: statistics.median(values) for apps, values in growth.items()}
    factor = speeds["1"] / speeds["1,000"]
    limits.append(
        Limit(
            "small requests beside 1 / 100 / 1,000 apps",
            f"≤ {GROWTH} x the cost",
            " / ".join(f"{value:,.0f}" for value in speeds.values()) + f", {factor:.2f} x",
            factor <= GROWTH,
        )
    )
    return show("The proxy beside nginx", limits, peer="nginx")


if __name__ == "__main__":
    sys.exit(main())
