"""`logs APPID` of an app that is a process, and `run --watch` for it."""

import signal
from pathlib import Path

import pytest

from tests.live.cli_shell import Shell, write_app

pytestmark = pytest.mark.live


def test_output_of_an_app_is_shown_from_its_start_its_end_and_as_it_goes_on(tmp_path: Path) -> None:
    shell, app = Shell(tmp_path), write_app(tmp_path / "app")
    with shell.start("run", app, "--env", "MODE=leak") as running:
        running.until("Ctrl-C stops it")
        whole = ["my secret is ***", "switched /enabled?enabled=1"]
        assert shell.call("logs", "plain").stdout.splitlines() == whole
        assert shell.call("logs", "plain", "--tail", "1").stdout.splitlines() == whole[1:]
        assert shell.call("logs", "plain", "--tail", "0").stdout == ""
        with shell.start("logs", "plain", "-f", "--tail", "1") as following:
            following.until("switched /enabled.enabled=1")
            assert running.stop(signal.SIGINT) == 0
            assert following.rest().splitlines() == [*whole[1:], "switched /enabled?enabled=0"]
            assert following.process.returncode == 0


def test_app_that_is_not_there_is_said_and_no_state_is_made(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    done = shell.call("logs", "nope")
    assert done.returncode == 1
    assert f"ERROR: no app nope is installed in {shell.data_dir}" in done.stderr
    assert not shell.data_dir.exists()
    assert shell.call("logs", "nope", "--", "x").returncode == 2


def test_process_is_installed_anew_when_a_file_changes(tmp_path: Path) -> None:
    shell, app = Shell(tmp_path), write_app(tmp_path / "app")
    with shell.start("run", app, "--watch") as running:
        running.until("To install it anew: a change in the folder.")
        text = (app / "main.py").read_text()
        (app / "main.py").write_text(text.replace("switched", "turned"))
        running.until("changed: main.py")
        running.until_all(
            "app +turned /enabled.enabled=1", "plain 1.2.0 is enabled, installed anew."
        )
        assert running.stop(signal.SIGINT) == 0
    assert "app         turned /enabled?enabled=0" in running.lines
