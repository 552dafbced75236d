"""The 14 recorded ExApps, played against `serve` and `occ` in processes of their own.

What is compared with the recording: output and exit code of each command, what `app:list` says, the
status object as stored, and every request and report in order.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from appapi_host.host import REGISTRY_FILE
from appapi_host.registry import Registry
from tests.ports import free_port

pytestmark = pytest.mark.live

HERE = Path(__file__).parent
SCENARIOS = {
    row["exapp"]: row
    for row in json.loads((HERE.parent / "wire" / "lifecycle-scenarios.json").read_text())
}

# Where we differ on purpose, and why: the real one exits 0 with "successfully registered" although
# the app has just refused to be enabled. A script that installs an app must see that.
REGISTER_DIFFERS = {
    "en_err": [
        "ExApp scen deployed successfully.",
        "ExApp scen failed to enable. Error: i cannot handle enabling",
    ],
    "en_500": [
        "ExApp scen deployed successfully.",
        "ExApp scen failed to enable. Error: x",
    ],
}


class Shell:
    """Runs commands against one host."""

    def __init__(self, data_dir: Path, url: str) -> None:
        self.data_dir = data_dir
        self.url = url

    def popen(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "appapi_host", "occ", *words],
            env={**os.environ, "APPAPI_HOST_DATA_DIR": str(self.data_dir)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def occ(self, *words: str) -> tuple[list[str], int]:
        with self.popen(*words) as process:
            stdout, stderr = process.communicate(timeout=30)
        assert "Traceback" not in stderr
        return stdout.splitlines(), process.returncode

    async def stored(self) -> tuple[dict[str, Any], bool]:
        async with await Registry.open(self.data_dir / REGISTRY_FILE) as registry:
            app = await registry.app("scen")
            assert app is not None
            return app.status.to_wire(), app.enabled

    async def wait_for_progress(self, percent: int) -> None:
        with anyio.fail_after(10):
            async with await Registry.open(self.data_dir / REGISTRY_FILE) as registry:
                await registry.wait("scen", lambda app: app and app.status.init == percent)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    data_dir = tmp_path_factory.mktemp("host")
    port = free_port()
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "appapi_host", "serve"),
            *("--port", str(port), "--data-dir", str(data_dir)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as serve:
        assert serve.stdout is not None
        for line in serve.stdout:
            if str(port) in line:
                break
        else:
            pytest.fail("serve did not start")
        shell = Shell(data_dir, f"http://127.0.0.1:{port}")
        try:
            lines, code = shell.occ(
                *("app_api:daemon:register", "manual_install", "Manual", "manual-install"),
                *("http", "localhost", shell.url),
            )
            assert (lines, code) == (["Daemon successfully registered."], 0)
            yield shell
        finally:
            serve.terminate()
            serve.communicate(timeout=20)


@pytest.fixture
def app_log(request: pytest.FixtureRequest, shell: Shell, tmp_path: Path) -> Iterator[Path]:
    """The log of the scenario's app, which runs while the test does."""
    name = request.node.callspec.params["name"]
    log = tmp_path / "requests.log"
    log.touch()
    port = free_port()
    with subprocess.Popen(
        [sys.executable, str(HERE / "scenario_app.py"), name, str(port), shell.url, str(log)],
        stdout=subprocess.PIPE,
        text=True,
    ) as app:
        assert app.stdout is not None
        assert app.stdout.readline() == "listening\n"
        (tmp_path / "port").write_text(str(port))
        try:
            yield log
        finally:
            app.kill()


def without_times(lines: list[str]) -> list[str]:
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in lines]


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_equals_the_recording(name: str, shell: Shell, app_log: Path) -> None:
    recorded = SCENARIOS[name]
    port = int((app_log.parent / "port").read_text())
    info = {"id": "scen", "name": "Scen", "version": "1.0.0", "port": port, "secret": "12345"}
    words = (
        *("app_api:app:register", "scen", "manual_install"),
        *("--json-info", json.dumps(info), "--wait-finish"),
    )
    try:
        if name == "init_never":  # was ended by hand, and is here
            with shell.popen(*words) as register:
                anyio.run(shell.wait_for_progress, 10)
                register.kill()
                assert register.stdout is not None
                assert register.stdout.read().splitlines() == recorded["register"]["output"]
        else:
            expected = REGISTER_DIFFERS.get(name)
            lines, code = shell.occ(*words)
            assert lines == [
                line.replace("9041", str(port))
                for line in expected or recorded["register"]["output"]
            ]
            assert code == (1 if expected else recorded["register"]["exit_code"])

        assert shell.occ("app_api:app:list") == (
            ["ExApps:", f"scen (Scen): 1.0.0 [{recorded['list_says']}]"],
            0,
        )
        status, enabled = anyio.run(shell.stored)
        times = ("deploy_start_time", "init_start_time")
        expected_status = dict(recorded["stored_status"])
        expected_status["error"] = expected_status["error"].replace("9041", str(port))
        assert {**status, **dict.fromkeys(times)} == {**expected_status, **dict.fromkeys(times)}
        assert all(isinstance(status[key], int) for key in times)
        assert enabled == recorded["stored_enabled"]

        for action in ("disable", "enable", "unregister"):
            lines, code = shell.occ(f"app_api:app:{action}", "scen")
            assert lines == recorded[action]["output"], action
            assert code == recorded[action]["exit_code"], action
    finally:
        shell.occ("app_api:app:unregister", "scen", "--force", "--silent")
    assert app_log.read_text().splitlines() == without_times(recorded["wire_seen_by_exapp"])
