"""What an app costs beside ten and a thousand others: `python tests/benchmarks/many_apps.py`.

Exits with 1 when either a report or a lookup costs more than twice as much.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import anyio
from tables import Limit, show

from appapi_host.host import Host
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State


async def cost(folder: Path, count: int) -> dict[str, float]:
    """Seconds of a few things with so many apps; the best of some."""
    times: dict[str, list[float]] = {"lookup": [], "report": []}
    async with Host.open(HostSettings(data_dir=folder)) as host:
        daemon = Daemon("manual", "M", "manual-install", "http", "localhost")
        await host.register_daemon(daemon)
        app = AppRecord(
            "app_0", "1.0.0", "App", daemon, 0, Secret("x"), State.INITIALIZING, enabled=True
        )
        for number in range(count):
            await host.registry.add_app(replace(app, app_id=f"app_{number}", port=1024 + number))
        for number in range(20):
            began = time.perf_counter()
            await host.report_init("app_0", 1 + number)
            times["report"].append(time.perf_counter() - began)
            began = time.perf_counter()
            await host.registry.app("app_0")
            times["lookup"].append(time.perf_counter() - began)
    return {name: min(seconds) for name, seconds in times.items()}


async def main() -> int:
    """Measure both; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        few = await cost(Path(folder, "few"), 10)
        many = await cost(Path(folder, "many"), 1000)
    return show(
        "One app beside 1,000",
        [
            Limit(
                name,
                "≤ 2 x beside 10",
                f"{seconds * 1000:.2f} ms, {seconds / few[name]:.1f} x",
                seconds <= 2 * few[name],
                f"{few[name] * 1000:.2f} ms",
            )
            for name, seconds in many.items()
        ],
        peer="beside 10",
    )


if __name__ == "__main__":
    sys.exit(anyio.run(main))
