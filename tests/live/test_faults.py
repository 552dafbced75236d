"""The host is killed at each step of each operation: what the next process makes of it.

The table in docs/reference/faults.md is what these tests see. `python -m tests.live.test_faults`
writes it anew.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
import pytest

from appapi_host.host import REGISTRY_FILE, Host
from appapi_host.info_source import load_info
from appapi_host.operations import Verb
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.lifecycle import State
from tests.fault_page import FaultTable, first_cells
from tests.live.cli_shell import INFO, Shell, processes_of, write_app

pytestmark = pytest.mark.live

TABLE = FaultTable(
    "tests/live/test_faults.py",
    "operation",
    "killed at the step",
    "the next `occ` leaves",
    "the next `serve` leaves",
)

REGISTER = ("app_api:app:register", "plain", "local", "--info-xml", "old/appinfo/info.xml")
UPDATE = ("app_api:app:update", "plain", "--info-xml", "new/appinfo/info.xml")
STEPS: dict[Verb, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Verb.REGISTER: (
        REGISTER,
        ("register", "fetch", "deploy", "heartbeat", "init", "start", "enabled"),
    ),
    Verb.UPDATE: (
        UPDATE,
        (
            *("fetch", "disable", "disabled", "set aside", "deploy"),
            *("heartbeat", "init", "start", "enabled", "discard"),
        ),
    ),
    Verb.ENABLE: (("app_api:app:enable", "plain"), ("enable", "start", "heartbeat", "enabled")),
    Verb.DISABLE: (("app_api:app:disable", "plain"), ("disable", "disabled")),
    Verb.UNREGISTER: (("app_api:app:unregister", "plain"), ("disable", "remove")),
}
CASES = [(verb, step) for verb, (_, steps) in STEPS.items() for step in steps]


async def prepare(shell: Shell, verb: Verb) -> None:
    """What is there before the operation."""
    async with Host.open(HostSettings(data_dir=shell.data_dir)) as host:
        url = {"nextcloud_url": "http://127.0.0.1:1"}
        daemon = Daemon("local", "Local", "process-install", "http", "127.0.0.1", url)
        await host.register_daemon(daemon)
        if verb is not Verb.REGISTER:
            info = await load_info(str(shell.folder / "old" / "appinfo" / "info.xml"))
            await host.register(info, daemon="local", source=shell.folder / "old")
        if verb in (Verb.ENABLE, Verb.UNREGISTER):
            # occ's own unregister disables first, as an operation of its own.
            await host.disable("plain")


async def stored(shell: Shell) -> AppRecord | None:
    async with Host.open(HostSettings(data_dir=shell.data_dir)) as host:
        assert await host.operations.all() == []
        return await host.registry.app("plain")


async def remove(shell: Shell) -> None:
    async with Host.open(HostSettings(data_dir=shell.data_dir)) as host:
        if await host.registry.app("plain"):
            await host.unregister("plain", force=True)


def kill(shell: Shell, verb: Verb, step: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.live.killed_at", verb, step, "occ", *STEPS[verb][0]],
        env=shell.environment(PYTHONPATH=str(Path(__file__).parents[2])),
        cwd=shell.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, done.stdout + done.stderr


def seen(shell: Shell) -> str:
    """What there is, as the table says it."""
    app = anyio.run(stored, shell)
    running = len(processes_of(shell.data_dir))
    if app is None:
        assert running == 0, "nothing may run that app:list does not show"
        return "nothing"
    # A process for each app that is enabled, and for no other.
    assert running == (1 if app.state is State.ENABLED else 0)
    reason = f": {app.failure}" if app.failure else ""
    return f"{app.version}, {app.state}{reason}".replace("\n", " ")


def after_occ(shell: Shell, verb: Verb, step: str) -> str:
    kill(shell, verb, step)
    done = shell.call("occ", "app_api:app:list")
    assert done.returncode == 0
    assert f"was interrupted at the step {step}; " in done.stderr
    return seen(shell)


def after_serve(shell: Shell, verb: Verb, step: str) -> str:
    kill(shell, verb, step)
    with shell.start("serve", "--port", "0") as serve:
        serve.until(f"was interrupted at the step {step}; (?!going back)")
        serve.process.kill()  # before it stops the apps, as it would when asked to end
        serve.process.wait()
        return seen(shell)


def fresh(folder: Path, verb: Verb) -> Shell:
    shell = Shell(folder)
    write_app(folder / "old")
    new = write_app(folder / "new")
    text = INFO.format(app_id="plain").replace("1.2.0", "1.3.0")
    (new / "appinfo" / "info.xml").write_text(text)
    anyio.run(prepare, shell, verb)
    return shell


def row(verb: Verb, step: str) -> str:
    cells = []
    for look in (after_occ, after_serve):
        with tempfile.TemporaryDirectory(dir=os.environ.get("PYTEST_TMP")) as folder:
            shell = fresh(Path(folder), verb)
            try:
                cells.append(look(shell, verb, step))
            finally:
                anyio.run(remove, shell)
                assert processes_of(shell.data_dir) == []
    return f"| {verb.value} | {step} | {cells[0]} | {cells[1]} |"


@pytest.fixture(scope="module")
def table() -> list[str]:
    return TABLE.rows()


@pytest.mark.parametrize(("verb", "step"), CASES, ids=str)
def test_table_says_what_is_found_after_a_kill(verb: Verb, step: str, table: list[str]) -> None:
    assert row(verb, step) in table, "write it anew: python -m tests.live.test_faults"


def test_table_has_a_row_for_each_step_and_no_other(table: list[str]) -> None:
    assert first_cells(table) == [(verb.value, step) for verb, step in CASES]


def test_interrupted_installation_is_simply_repeated(tmp_path: Path) -> None:
    shell = fresh(tmp_path, Verb.REGISTER)
    kill(shell, Verb.REGISTER, "deploy")
    lines, code = shell.occ(*REGISTER)
    assert (lines[-1], code) == ("ExApp plain successfully registered.", 0)
    anyio.run(remove, shell)
    assert (shell.data_dir / REGISTRY_FILE).exists()


if __name__ == "__main__":
    TABLE.write([row(verb, step) for verb, step in CASES])
