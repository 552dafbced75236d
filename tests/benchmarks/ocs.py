"""What calls of the OCS API cost: `python tests/benchmarks/ocs.py`.

`serve` as a person starts it, in a process bound to one core, loaded from another one; beside it a
bare Starlette route, in the same run. Then the same with 100 and with 1,000 registered apps.

Shown are calls per second of the clock, and per second of the server's own processor time, which
does not depend on what else the machine is doing. Exits with 1 when a small read takes more than
`LIMIT` allows, or an app costs more because there are others.
"""

import argparse
import base64
import json
import os
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

from appapi_host.host import Host
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State
from exapp_sdk.protocol.status import Status

LIMIT = 3000
"""Small reads per second of processor time that the host must answer."""

GROWTH = 1.25
"""How much more a call may cost with 1,000 apps than with one."""

SECRET = "0123456789abcdef" * 8
API = "/ocs/v1.php/apps/app_api/api/v1"
MANUAL = Daemon("manual_install", "Manual", "manual-install", "http", "127.0.0.1")


@dataclass(frozen=True, slots=True)
class Call:
    """A typical call.

    Args:
        name: in the table.
        method: HTTP verb.
        target: path.
        body: what is sent as JSON, None for nothing.
        is_read: whether `LIMIT` is for it.
        user: in whose name.
    """

    name: str
    method: str
    target: str
    body: object = None
    is_read: bool = True
    user: str = "admin"

    def request(self, port: int) -> bytes:
        """The call as an nc_py_api of version 0.30 sends it."""
        signature = base64.b64encode(f"{self.user}:{SECRET}".encode()).decode()
        lines = [
            f"{self.method} {self.target}?format=json HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "User-Agent: ExApp/bench/1.0.0 (httpx/0.28.1)",
            "Accept: application/json",
            "Accept-Encoding: gzip, deflate",
            "Connection: keep-alive",
            "AA-VERSION: 32.0.0",
            "EX-APP-ID: app_0",
            "EX-APP-VERSION: 1.0.0",
            "OCS-APIRequest: true",
            f"AUTHORIZATION-APP-API: {signature}",
        ]
        body = b"" if self.body is None else json.dumps(self.body).encode()
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


NOTIFICATION = {
    "params": {
        "object": "job",
        "object_id": "17",
        "subject_type": "job_done",
        "subject_params": {
            "rich_subject": "{doc} is ready",
            "rich_subject_params": {"doc": {"type": "highlight", "id": "1", "name": "report.pdf"}},
            "rich_message": "",
            "rich_message_params": {},
            "link": "",
        },
    }
}
CALLS = (
    Call("state", "GET", "/ocs/v1.php/apps/app_api/ex-app/state"),
    Call("config: get", "POST", f"{API}/ex-app/config/get-values", {"configKeys": ["key"]}),
    Call("preference: get", "POST", f"{API}/ex-app/preference/get-values", {"configKeys": ["key"]}),
    Call("users", "GET", f"{API}/users"),
    Call("top menu: get", "GET", f"{API}/ui/top-menu", {"name": "main"}),
    Call(
        "next task, none",
        "GET",
        "/ocs/v1.php/taskprocessing/tasks_provider/next",
        {"providerIds": ["p"], "taskTypeIds": ["t"]},
        user="",
    ),
    Call("capabilities", "GET", "/ocs/v1.php/cloud/capabilities"),
    Call("log", "POST", f"{API}/log", {"level": 1, "message": "well"}),
    Call(
        "config: set",
        "POST",
        f"{API}/ex-app/config",
        {"configKey": "key", "configValue": "v"},
        is_read=False,
    ),
    Call(
        "preference: set",
        "POST",
        f"{API}/ex-app/preference",
        {"configKey": "key", "configValue": "v"},
        is_read=False,
    ),
    Call("notification", "POST", f"{API}/notification", NOTIFICATION, is_read=False),
)


async def prepare(folder: Path, apps: int) -> None:
    """The state of a host with so many apps, all enabled."""
    async with Host.open(HostSettings(data_dir=folder)) as host:
        await host.users.create_defaults(loopback=True)
        await host.register_daemon(MANUAL)
        app = AppRecord(
            "app_0",
            "1.0.0",
            "App",
            MANUAL,
            0,
            Secret(SECRET),
            State.ENABLED,
            enabled=True,
            status=Status(deploy=100, init=100, type=""),
        )
        for number in range(apps):
            secret = Secret(SECRET if number == 0 else f"{number:0128d}")
            port = 30000 + number
            await host.registry.add_app(
                replace(app, app_id=f"app_{number}", port=port, secret=secret)
            )
        content = {
            "display_name": "App",
            "icon": "",
            "admin_required": 0,
        }
        await host.documents.write(lambda docs: docs.put("top-menu", "app_0", "main", content))
        for user_id in ("", "admin"):
            await host.values.set("app_0", "key", "v", user_id=user_id)


@contextmanager
def served(folder: Path, apps: int) -> Iterator[measure.Running]:
    """`serve` on the state of a host with so many apps."""
    if not folder.exists():
        anyio.run(prepare, folder, apps)
    port = measure.free_port()
    words = ["-m", "appapi_host", "serve", "--port", str(port), "--data-dir", str(folder)]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    began = time.perf_counter()
    try:
        while not is_up(port):
            if process.poll() is not None or time.perf_counter() - began > measure.START_LIMIT:
                sys.exit("the host did not start")
            time.sleep(0.01)
        settle(psutil.Process(process.pid))
        yield measure.Running(process.pid, port, time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait()


def settle(process: psutil.Process) -> None:
    """Wait until a host has done what it does once: it looks at each of its apps."""
    for _ in range(60):
        before = process.cpu_times()
        time.sleep(0.5)
        after = process.cpu_times()
        if after.user + after.system - before.user - before.system < 0.05:
            return
    sys.exit("the host does not come to rest")


def is_up(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Speed:
    """Calls per second: of the clock, and of the server's processor time."""

    wall: float
    processor: float


def speed(running: measure.Running, request: bytes, seconds: float) -> Speed:
    """Load the server with one request on 16 connections."""
    server_core, load_core = measure.cores()
    process = psutil.Process(running.pid)
    if server_core >= 0:
        for thread in process.threads():
            os.sched_setaffinity(thread.id, {server_core})
    words = ["127.0.0.1", str(running.port), "16", str(seconds), str(load_core)]
    before = process.cpu_times()
    done = subprocess.run(
        [sys.executable, str(measure.HERE / "load.py"), *words],
        input=request,
        capture_output=True,
        check=False,
        timeout=seconds + 30,
    )
    after = process.cpu_times()
    if done.returncode:
        sys.exit(f"the load ended early: {done.stderr.decode().strip()}")
    wall = float(done.stdout)
    spent = after.user + after.system - before.user - before.system
    return Speed(wall, wall * seconds / spent)


def main() -> int:
    """Measure, print, judge; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="repetitions (default 3)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each (default 1.5)")
    parser.add_argument("--only", help="the call of this name alone, with one app")
    options = parser.parse_args()
    calls = [call for call in CALLS if options.only in (None, call.name)]
    counts = (1,) if options.only else (1, 100, 1000)
    found: dict[tuple[str, int], list[Speed]] = {}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(options.rounds):
            with measure.started("bare") as running:
                request = f"GET /hello HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\n\r\n".encode()
                found.setdefault(("bare Starlette", 1), []).append(
                    speed(running, request, options.seconds)
                )
            for apps in counts:
                with served(Path(name, str(apps)), apps) as running:
                    for call in calls:
                        found.setdefault((call.name, apps), []).append(
                            speed(running, call.request(running.port), options.seconds)
                        )
    medians = {
        key: Speed(
            statistics.median(one.wall for one in speeds),
            statistics.median(one.processor for one in speeds),
        )
        for key, speeds in found.items()
    }
    return report(medians, calls, counts)


def report(
    medians: dict[tuple[str, int], Speed], calls: list[Call], counts: tuple[int, ...]
) -> int:
    """Print the table; returns the exit code."""
    write = sys.stdout.write
    bare = medians["bare Starlette", 1]
    write("calls per second of processor time (in brackets: of the clock)\n")
    heads = "".join(f"{f'{count:,} apps':>18}" for count in counts)
    write(f"{'':18}{heads}{'to bare':>10}{'growth':>9}\n")
    write(f"{'bare Starlette':18}{f'{bare.processor:,.0f} ({bare.wall:,.0f})':>18}\n")
    is_met = True
    for call in calls:
        row = [medians[call.name, count] for count in counts]
        cells = "".join(f"{f'{one.processor:,.0f} ({one.wall:,.0f})':>18}" for one in row)
        growth = row[0].processor / row[-1].processor
        slow = call.is_read and row[0].processor < LIMIT
        grows = growth > GROWTH
        is_met = is_met and not slow and not grows
        share = row[0].processor / bare.processor
        remark = f"{'  too slow' if slow else ''}{'  grows' if grows else ''}"
        write(f"{call.name:18}{cells}{share:10.2f}{growth:9.2f}{remark}\n")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
