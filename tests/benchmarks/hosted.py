"""What is measured of the host: an installation, and the fixture for tests."""

import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import measure

from appapi_host.info_xml import AppInfo
from appapi_host.records import Daemon
from appapi_host.testing import live_host

MANUAL = Daemon("manual_install", "Manual", "manual-install", "http", "127.0.0.1")

FIXTURE_TESTS = """
import pytest
from exapp_sdk import ExApp

pytestmark = pytest.mark.anyio
app = ExApp()


@pytest.mark.parametrize("number", range({count}))
async def test_installs(appapi_host, number):
    assert (await appapi_host.install(app)).enabled
"""

FIXTURE_CONFTEST = """
import pytest


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Durations:
    def __init__(self):
        self.seconds = {}

    def pytest_runtest_logreport(self, report):
        if report.failed:
            raise SystemExit(report.longreprtext)
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self):
        for seconds in list(self.seconds.values())[1:]:  # the first one pays for the imports
            print("took", seconds)


def pytest_configure(config):
    config.pluginmanager.register(Durations())
"""


def register_to_enabled(rounds: int) -> list[float]:
    """Seconds of `register()` on a real host for a real app that is running already.

    The app has an init, so its report and the callbacks are in it; the app's own time is too, which
    only makes the limit stricter.
    """
    return anyio.run(partial(_register_to_enabled, rounds))


async def _register_to_enabled(rounds: int) -> list[float]:
    results = []
    with tempfile.TemporaryDirectory() as folder:
        async with live_host(Path(folder) / "host") as test_host:
            host = test_host.host
            await host.register_daemon(
                replace(MANUAL, deploy_config={"nextcloud_url": test_host.url})
            )
            with measure.started("prepared", nextcloud_url=test_host.url) as running:
                settings = measure.settings(running.port)
                info = AppInfo(
                    id=settings.app_id,
                    name="Bench",
                    version=settings.app_version,
                    port=running.port,
                    secret=settings.app_secret,
                )
                for _ in range(rounds + 1):
                    began = time.perf_counter()
                    await host.register(info, daemon=MANUAL.name)
                    results.append(time.perf_counter() - began)
                    await host.unregister(info.id)
    return results[1:]  # the first one pays for imports and connections


def fixture(rounds: int) -> list[float]:
    """Seconds of a whole test: fixture up, installation, fixture down."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_fixture.py").write_text(FIXTURE_TESTS.format(count=rounds + 1))
        (folder / "conftest.py").write_text(FIXTURE_CONFTEST)
        (folder / "pytest.ini").write_text("[pytest]\n")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", name],
            cwd=folder,
            capture_output=True,
            check=False,
            text=True,
            timeout=120,
        )
    if done.returncode:
        sys.exit(f"the fixture failed:\n{done.stdout}{done.stderr}")
    lines = [line.split("took ") for line in done.stdout.splitlines()]
    return [float(parts[1]) for parts in lines if len(parts) == 2]
