"""The app is killed at each step of each operation: what whoever asked is told, and what is left.

The table in docs/reference/faults.md is what these tests see.
`python -m tests.live.test_app_faults` writes it anew.
"""

import os
import re
import select
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import psutil
import pytest

from appapi_host.errors import HostError, NotFoundError
from appapi_host.host import Host
from appapi_host.info_xml import AppInfo
from appapi_host.operations import Operation, Operations, Verb
from appapi_host.records import Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.lifecycle import State
from tests.fault_page import FaultTable, first_cells
from tests.live.cli_shell import processes_of, write_app
from tests.live.test_faults import STEPS

pytestmark = pytest.mark.live

TABLE: Final = FaultTable(
    "tests/live/test_app_faults.py",
    "operation",
    "app killed at the step",
    "whoever asked is told",
    "what is left",
)
PREPARING: Final = "init, answered"
"""Not a step of ours: the app prepares, and we wait for its report."""

URL: Final = {"nextcloud_url": "http://127.0.0.1:1"}
DAEMON: Final = Daemon("here", "Here", "process-install", "http", "127.0.0.1", URL)
OLD: Final = AppInfo(id="plain", name="Plain", version="1.2.0")
NEW: Final = AppInfo(id="plain", name="Plain", version="1.3.0")


def steps_of(verb: Verb) -> list[str]:
    """Those of the host, and where an app may prepare, that it does."""
    steps = list(STEPS[verb][1])
    if "init" in steps:
        steps.insert(steps.index("init") + 1, PREPARING)
    return steps


CASES: Final = [(verb, step) for verb in STEPS for step in steps_of(verb)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Killing(Operations):
    """Kills the app as soon as a certain step is written down."""

    def __init__(self, host: Host, verb: Verb, step: str, folder: Path) -> None:
        super().__init__(host.registry)
        self._when: tuple[Verb, str] | None = verb, step
        self._folder = folder

    async def begin(
        self, app_id: str, verb: Verb, step: str, details: Mapping[str, Any]
    ) -> Operation | None:
        other = await super().begin(app_id, verb, step, details)
        await self._kill_at(verb, step)
        return other

    async def step(self, app_id: str, step: str, details: Mapping[str, Any] | None = None) -> None:
        await super().step(app_id, step, details)
        present = await self.of(app_id)
        if present is not None:
            await self._kill_at(present.verb, step)

    async def _kill_at(self, verb: Verb, step: str) -> None:
        if (verb, step) == self._when:
            self._when = None  # once: what follows is the way back
            await anyio.to_thread.run_sync(kill_all, self._folder)


def kill_all(folder: Path) -> None:
    for process in processes_of(folder):
        with suppress(psutil.NoSuchProcess):
            ended = os.pidfd_open(process.pid)
            process.kill()
            # Not `wait()`: how it ended is the host's to hear.
            select.select([ended], [], [])
            os.close(ended)


async def row(verb: Verb, step: str) -> str:
    with tempfile.TemporaryDirectory(dir=os.environ.get("PYTEST_TMP")) as name:
        folder = Path(name)
        old, new = folder / "old", folder / "new"
        await anyio.to_thread.run_sync(write_apps, old, new, step)
        async with (
            Host.open(HostSettings(data_dir=folder / "data")) as host,
            anyio.create_task_group() as group,
        ):
            host.recovery.grace = 0.0
            group.start_soon(host.watch)  # as `serve` does
            await host.register_daemon(DAEMON, set_default=True)
            if verb is not Verb.REGISTER:
                await host.register(OLD, source=old)
            if verb is Verb.ENABLE:
                await host.disable("plain")
            host.operations.close()
            host.operations = Killing(host, verb, step, folder / "data")
            try:
                told = await outcome(host, verb, new)
                left = await found(host, folder / "data")
            finally:
                with suppress(NotFoundError):
                    await host.unregister("plain", force=True, rm_data=True)
                host.operations.close()
                group.cancel_scope.cancel()
    return f"| {verb.value} | {step} | {told} | {left} |"


def write_apps(old: Path, new: Path, step: str) -> None:
    write_app(old)
    main = write_app(new) / "main.py"
    if step == PREPARING:
        main.write_text(main.read_text().replace('"MODE", ""', '"MODE", "vanish"'))


async def outcome(host: Host, verb: Verb, source: Path) -> str:
    """What whoever asked is told."""
    try:
        if verb is Verb.REGISTER:
            await host.register(OLD, source=source)
        elif verb is Verb.UPDATE:
            await host.update(NEW, source=source)
        elif verb is Verb.ENABLE:
            await host.enable("plain")
        elif verb is Verb.DISABLE:
            await host.disable("plain")
        else:
            await host.unregister("plain", rm_data=True)
    except HostError as error:
        return in_a_cell(str(error))
    return "success"


async def found(host: Host, data_dir: Path) -> str:
    """What there is; nothing may run that the registry does not show."""
    assert await host.operations.all() == []
    running = len(await anyio.to_thread.run_sync(processes_of, data_dir))
    app = await host.registry.app("plain")
    if app and app.state is State.ENABLED and not running:
        app = await host.registry.wait(
            "plain", lambda app: app is None or app.state is not State.ENABLED
        )
    if app is None:
        assert running == 0
        return "nothing"
    assert running == (1 if app.state is State.ENABLED else 0), app
    reason = f": {in_a_cell(app.failure)}" if app.failure else ""
    return f"{app.version}, {app.state}{reason}"


def in_a_cell(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\d [\d:]+(?=:)", "TIME", text.replace("\n", " "))
    return text.replace("|", "\\|")


@pytest.fixture(scope="module")
def table() -> list[str]:
    return TABLE.rows()


@pytest.mark.parametrize(("verb", "step"), CASES, ids=str)
async def test_table_says_what_an_app_that_is_killed_leaves(
    verb: Verb, step: str, table: list[str]
) -> None:
    assert await row(verb, step) in table, "write it anew: python -m tests.live.test_app_faults"


def test_table_has_a_row_for_each_step_and_no_other(table: list[str]) -> None:
    assert first_cells(table) == [(verb.value, step) for verb, step in CASES]


async def write() -> None:
    TABLE.write([await row(verb, step) for verb, step in CASES])


if __name__ == "__main__":
    anyio.run(write)
