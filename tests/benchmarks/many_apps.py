"""What things cost beside a thousand apps and beside ten: `python tests/benchmarks/many_apps.py`.

Both are measured in turns in one run; the best of each counts, of the command line's in seconds of
the processor. Exits with 1 when anything costs more than twice as much beside a thousand.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import httpx
from tables import Limit, show

from appapi_host.app_client import memory_transport, user_client
from appapi_host.asgi import create_app
from appapi_host.host import Host
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State

FEW, MANY = 10, 1000
ROUNDS: Final = 15
COMMAND_ROUNDS: Final = 7

Seconds = dict[str, list[float]]


def children() -> float:
    """Seconds of the processor that child processes have taken, to the end of the last one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """An app that agrees to everything."""
    body = b'{"status":"ok"}' if scope["path"] == "/heartbeat" else b'{"error":""}'
    kind = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": kind})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Beside:
    """A host with so many apps, and what things cost there."""

    host: Host
    client: httpx.AsyncClient
    folder: Path
    seconds: dict[str, list[float]] = field(default_factory=dict)

    async def take(
        self,
        what: str,
        work: Callable[[], Awaitable[object]],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        began = clock()
        await work()
        self.seconds.setdefault(what, []).append(clock() - began)

    async def report(self, percent: int) -> None:
        app = await self.host.app("app_0")
        headers = dict(app.credentials("").headers(aa_version=self.host.settings.aa_version))
        answer = await self.client.put(
            "/ocs/v1.php/apps/app_api/ex-app/status",
            json={"progress": percent},
            headers={**headers, "OCS-APIRequest": "true"},
        )
        answer.raise_for_status()

    async def occ(self, *words: str) -> None:
        await anyio.to_thread.run_sync(
            partial(
                subprocess.run,
                [sys.executable, "-m", "appapi_host", "occ", *words],
                env={**os.environ, "APPAPI_HOST_DATA_DIR": str(self.folder)},
                check=True,
                capture_output=True,
            )
        )


@asynccontextmanager
async def beside(folder: Path, count: int) -> AsyncIterator[Beside]:
    """A host with so many apps, one of which initializes and one of which is off."""
    settings = HostSettings(data_dir=folder)
    async with Host.open(settings, transport_for=lambda _: memory_transport(answer)) as host:
        daemon = Daemon("manual", "M", "manual-install", "http", "localhost")
        await host.register_daemon(daemon)
        app = AppRecord("app_0", "1.0.0", "App", daemon, 1024, Secret("x"), State.INITIALIZING)
        for number in range(count):
            state = (State.INITIALIZING, State.DISABLED)[number] if number < 2 else State.ENABLED
            await host.registry.add_app(
                replace(
                    app,
                    app_id=f"app_{number}",
                    port=1024 + number,
                    state=state,
                    enabled=state is not State.DISABLED,
                )
            )
        transport = memory_transport(create_app(host))
        async with user_client("http://localhost:8080", transport=transport) as client:
            yield Beside(host, client, folder)


async def measured(folder: Path) -> tuple[Seconds, Seconds]:
    """What things cost beside few apps and beside many."""
    async with beside(folder / "few", FEW) as few, beside(folder / "many", MANY) as many:
        for number in range(ROUNDS):
            for one in (few, many):
                await one.take("one app", partial(one.host.app, "app_0"))
                await one.take("one status report", partial(one.report, 1 + number))
                await one.take("one enable", partial(one.host.enable, "app_1"))
                await one.take("one disable", partial(one.host.disable, "app_1"))
        for _ in range(COMMAND_ROUNDS):
            for one in (few, many):
                work = partial(one.occ, "app_api:app:list")
                await one.take("occ app_api:app:list", work, children)
        return few.seconds, many.seconds


async def main() -> int:
    """Measure and compare; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        few, many = await measured(Path(folder))
    rows = []
    for what, samples in many.items():
        ours, peer = min(samples), min(few[what])
        shown = f"{ours * 1000:.2f} ms, {ours / peer:.2f} x"
        rows.append(
            Limit(what, f"≤ 2 x beside {FEW}", shown, ours <= 2 * peer, f"{peer * 1000:.2f} ms")
        )
    return show(f"Beside {MANY:,} apps", rows, peer=f"beside {FEW}")


if __name__ == "__main__":
    sys.exit(anyio.run(main))
