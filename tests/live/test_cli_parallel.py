"""Many occ processes on one state at once, beside a serve."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from appapi_host.host import REGISTRY_FILE
from appapi_host.operations import Operations, Verb
from appapi_host.registry import Registry
from tests.live.cli_shell import Running, Shell
from tests.ports import free_port

pytestmark = pytest.mark.live

SCENARIO = Path(__file__).with_name("scenario_app.py")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def serve(shell: Shell) -> Iterator[Running]:
    """A host with an app that somebody runs by hand, enabled."""
    port = free_port()
    with shell.start("serve", "--port", "0") as running:
        running.until("Ctrl-C stops it")
        words = (sys.executable, SCENARIO, "init_404", str(port), running.url)
        with subprocess.Popen(
            [*map(str, words), str(shell.folder / "log")], stdout=subprocess.PIPE, text=True
        ) as app:
            assert app.stdout is not None
            assert app.stdout.readline() == "listening\n"
            daemon = ("manual", "M", "manual-install", "http", "localhost", running.url)
            shell.occ("app_api:daemon:register", *daemon)
            info = {"id": "scen", "name": "S", "version": "1.0.0", "port": port, "secret": "12345"}
            words = ("app_api:app:register", "scen", "manual", "--json-info", json.dumps(info))
            assert shell.occ(*words)[1] == 0
            try:
                yield running
            finally:
                app.kill()


def test_fifty_processes_at_once_end_without_an_error(shell: Shell, serve: Running) -> None:
    commands = [
        ("app_api:app:list",),
        ("app_api:app:disable", "scen"),
        ("app_api:app:enable", "scen"),
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "appapi_host", "occ", *commands[number % 3]],
            env=shell.environment(),
            cwd=shell.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(50)
    ]
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, out + err
        assert "locked" not in err
        assert "Traceback" not in err
    # What the last request to the app asked for is what is stored.
    log = (shell.folder / "log").read_text().splitlines()
    last = [line for line in log if line.startswith("PUT /enabled")][-1]
    state = "enabled" if "enabled=1" in last else "disabled"
    assert shell.occ("app_api:app:list") == (["ExApps:", f"scen (S): 1.0.0 [{state}]"], 0)


def test_busy_app_is_refused_with_who_is_at_work(shell: Shell, serve: Running) -> None:
    async def meanwhile() -> "subprocess.CompletedProcess[str]":
        async with await Registry.open(shell.data_dir / REGISTRY_FILE) as registry:
            operations = Operations(registry)
            await operations.begin("scen", Verb.UPDATE, "deploy", {})
            try:
                return shell.call(
                    "occ", "app_api:app:disable", "scen", APPAPI_HOST_BUSY_TIMEOUT="0.2"
                )
            finally:
                await operations.end("scen")

    done = anyio.run(meanwhile)
    assert (done.returncode, done.stdout) == (1, "Failed to disable ExApp scen.\n")
    assert "is about to update it (step deploy)" in done.stderr


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
