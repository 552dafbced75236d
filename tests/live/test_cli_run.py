"""`run PATH` as a person uses it: one process for the host, one for the app, real signals."""

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests.live.cli_shell import Shell, get, is_alive, processes_of, write_app

pytestmark = pytest.mark.live


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    left = processes_of(shell.data_dir)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    assert left == []


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_app(tmp_path / "app")


def steps(output: str) -> list[str]:
    return re.findall(r"^(?:deploy|heartbeat|init|enabled|disabled) .*$", output, re.MULTILINE)


def test_once_shows_each_step_and_exits_with_0(shell: Shell, app: Path) -> None:
    done = shell.call("run", app, "--once", "--env", "MODE=init")
    assert done.returncode == 0, done.stdout + done.stderr
    found = [re.sub(r"\d+\.\d\d s", "N s", line) for line in steps(done.stdout)]
    assert found == [
        "deploy      ok  N s",
        "heartbeat   ok  N s",
        "init        20 %",
        "init        60 %",
        "init        100 %",
        "init        ok  N s",
        "enabled     ok  N s",
        "disabled    ok  N s",
    ]
    assert "Plain App 1.2.0 (plain)" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_disables_stops_the_app_and_its_children_and_exits_with_0(
    shell: Shell, app: Path, number: int
) -> None:
    with shell.start("run", app, "--env", "MODE=children") as running:
        pids = [int(pid) for pid in running.until(r"children (\d+) (\d+)").groups()]
        running.until("Ctrl-C stops it")
        assert all(is_alive(pid) for pid in pids)
        assert running.stop(number) == 0
    assert "app         switched /enabled?enabled=0" in running.lines
    assert not any(is_alive(pid) for pid in pids)
    assert processes_of(shell.data_dir) == []


def test_addresses_can_be_opened_by_those_who_may_and_every_exchange_is_shown(
    shell: Shell, app: Path
) -> None:
    with shell.start("run", app, "--env", "MODE=init") as running:
        running.until("Ctrl-C stops it")
        opened = dict(
            re.findall(r"^open +(\S+)  \((.*)\)$", "\n".join(running.lines), re.MULTILINE)
        )
        base = f"{running.url}/index.php/apps/app_api/proxy/plain/"
        assert opened == {
            f"{base}public/": "anyone",
            f"{base}die": "anyone",
            f"{base}ui/": "user, admin",
            f"{base}admin": "admin",
        }
        who = "admin, password admin; user, password user"
        assert f"sign in     {running.url}/login  ({who})" in running.lines
        assert get(f"{base}public/x")[0] == 200
        running.until(r"user → app +GET \S*/?public/x +200 .* ms")
        assert get(f"{base}ui/x")[0] == 404
        running.until(r"user → app +GET \S*/?ui/x +404")
        status, body = get(f"{base}ui/x", user="user")
        assert (status, json.loads(body)["path"]) == (200, "/ui/x")
        running.until(r"user → app +GET \S*/?ui/x +200 .* as user")
        assert get(f"{base}admin", user="user")[0] == 404
        assert get(f"{base}admin", user="admin")[0] == 200
        assert running.stop(signal.SIGINT) == 0


def test_app_that_dies_while_enabled_ends_the_run_with_its_last_words(
    shell: Shell, app: Path
) -> None:
    with shell.start("run", app, "--env", "MODE=die") as running:
        running.until("Ctrl-C stops it")
        get(f"{running.url}/index.php/apps/app_api/proxy/plain/die")
        output = running.rest()
        assert running.process.returncode == 1
    assert "ERROR: plain ended while it was enabled: exit code 7" in output
    assert "    | dying now" in output


def test_secret_is_not_shown_though_the_app_prints_it(shell: Shell, app: Path) -> None:
    with shell.start("run", app, "--env", "MODE=leak") as running:
        assert running.until(r"my secret is (\S+)")[1] == "***"
        assert running.stop(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("mode", "options", "step", "cause"),
    [
        ("exit", [], "heartbeat", "the app ended: exit code 3"),
        ("deaf", ["--heartbeat-timeout", "1"], "heartbeat", "no success within 1 s"),
        ("html", [], "heartbeat", "answered 200 with '<html>It works!</html>'"),
        ("fail", [], "init", "no space left"),
        ("refuse", [], "enabled", "not today"),
    ],
)
def test_app_that_cannot_be_installed_ends_with_step_cause_and_remedy(
    shell: Shell, app: Path, mode: str, options: list[str], step: str, cause: str
) -> None:
    done = shell.call("run", app, "--once", "--env", f"MODE={mode}", *options)
    assert done.returncode == 1
    assert f"ERROR: plain could not be installed ({step})" in done.stderr
    assert f"  cause: {cause}" in done.stderr or cause in done.stderr
    assert "  try:   " in done.stderr
    assert steps(done.stdout)[-1].split()[:2] in ([step, "failed"], ["disabled", "ok"])
    assert "Traceback" not in done.stderr + done.stdout


def test_last_lines_of_the_app_are_shown_when_it_fails(shell: Shell, app: Path) -> None:
    done = shell.call("run", app, "--env", "MODE=exit")
    assert done.returncode == 1
    assert done.stderr.endswith("  last lines of the app:\n    | cannot find my model\n")


def test_command_behind_two_dashes_starts_the_app_instead(shell: Shell, app: Path) -> None:
    (app / "main.py").rename(app / "other.py")
    done = shell.call("run", app, "--once", "--", sys.executable, "other.py")
    assert done.returncode == 0, done.stderr
    assert "plain is enabled" in done.stdout


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        (["no-such-program"], "the command 'no-such-program' was not found"),
        (["./missing.sh", "--flag"], "missing.sh does not exist"),
        (["./appinfo/info.xml"], "is not executable"),
    ],
)
def test_start_command_that_is_not_there_is_named(
    shell: Shell, app: Path, command: list[str], cause: str
) -> None:
    done = shell.call("run", app, "--once", "--", *command)
    assert done.returncode == 1
    assert cause in done.stderr
    assert "  try:   " in done.stderr


def test_folder_without_anything_to_start_says_what_was_looked_for(shell: Shell, app: Path) -> None:
    (app / "main.py").unlink()
    done = shell.call("run", app)
    assert done.returncode == 1
    assert "Procfile, ex_app/lib/main.py and main.py" in done.stderr


@pytest.mark.parametrize(
    ("path", "content", "texts"),
    [
        ("nowhere", None, ["the folder", "nowhere", "does not exist", "try:"]),
        ("file", "", ["is no folder", "try:"]),
        ("empty/x", "", ["appinfo/info.xml", "try:"]),
        (
            "bad/appinfo/info.xml",
            "<info>\n<name>x</name>\n<version></version></info>",
            ["cause: <id> is missing", "cause: <version> is missing"],
        ),
        ("cut/appinfo/info.xml", "<info><id>", ["line 1", "try:"]),
    ],
)
def test_folder_that_is_no_app_ends_with_everything_that_is_wrong(
    shell: Shell, path: str, content: str | None, texts: list[str]
) -> None:
    top = shell.folder / path.partition("/")[0]
    if content is not None:
        (shell.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (shell.folder / path).write_text(content)
    done = shell.call("run", top)
    assert done.returncode == 1
    for text in texts:
        assert text in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["run"], "Missing argument 'PATH'"),
        (["run", "a", "b"], "unexpected extra argument"),
        (["run", "a", "--port", "99999"], "--port"),
        (["run", "a", "--env", "NOVALUE"], "'NOVALUE' is not NAME=VALUE"),
        (["run", "a", "--"], "must be followed by the command"),
        (["run", "a", "--heartbeat-timeout", "0"], "--heartbeat-timeout"),
        (["serve", "--", "x"], "serve starts no command"),
        (["serve", "x"], "unexpected extra argument"),
        (["dance"], "No such command 'dance'"),
    ],
)
def test_wrong_words_on_the_command_line_exit_with_2(
    shell: Shell, words: list[str], text: str
) -> None:
    done = shell.call(*words)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Usage: " in done.stderr


def test_port_in_use_is_an_error_only_if_it_was_asked_for(shell: Shell, app: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = shell.call("run", app, "--once", "--port", port)
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use by another program" in done.stderr
    assert "leave --port out" in done.stderr


def test_usual_port_that_is_in_use_is_replaced_by_a_free_one(shell: Shell, app: Path) -> None:
    with ExitStack() as stack:
        with suppress(OSError):  # in use by somebody else is as good as by us
            stack.enter_context(socket.create_server(("127.0.0.1", 8080)))
        done = shell.call("run", app, "--once")
    assert done.returncode == 0
    assert re.search(r"^note +port 8080 is in use, so the host takes \d+$", done.stdout, re.M)


def test_address_of_another_machine_cannot_be_listened_on(shell: Shell, app: Path) -> None:
    done = shell.call("run", app, "--bind", "192.0.2.1")
    assert done.returncode == 1
    assert "no address of this machine" in done.stderr


def test_second_run_of_the_same_app_is_refused_while_the_first_goes_on(
    shell: Shell, app: Path
) -> None:
    with shell.start("run", app) as first:
        first.until("Ctrl-C stops it")
        done = shell.call("run", app)
        assert done.returncode == 1
        assert f"plain is being run already, by process {first.process.pid}" in done.stderr
        assert first.stop(signal.SIGINT) == 0


def test_run_finds_and_stops_what_a_killed_run_has_left(shell: Shell, app: Path) -> None:
    with shell.start("run", app, "--env", "MODE=children") as first:
        first.until("Ctrl-C stops it")
        first.process.kill()
        first.process.wait()
        left = processes_of(shell.data_dir)
        assert len(left) == 3
        done = shell.call("run", app, "--once")
    assert done.returncode == 0, done.stderr
    assert re.search(r"an earlier run was killed: its app still ran \(process \d+\)", done.stdout)
    psutil.wait_procs(left, timeout=20)
    assert not any(is_alive(process.pid) for process in left)


def test_second_ctrl_c_kills_an_app_that_does_not_end(shell: Shell, app: Path) -> None:
    with shell.start("run", app, "--env", "MODE=stubborn") as running:
        running.until_all(r"children \d+ \d+", "heartbeat   ok")
        running.process.send_signal(signal.SIGINT)
        running.until("once more kills the app at once")
        running.process.send_signal(signal.SIGINT)
        running.rest()
        assert running.process.returncode == 130
    assert processes_of(shell.data_dir) == []


def test_ctrl_c_before_the_app_is_enabled_fails_only_where_that_was_waited_for(
    shell: Shell, app: Path
) -> None:
    for words, code in (((), 0), (("--once",), 130)):
        with shell.start("run", app, *words, "--env", "MODE=deaf") as running:
            running.until(r"app +deaf")
            assert running.stop(signal.SIGINT) == code
        assert processes_of(shell.data_dir) == []


def test_run_ends_when_nobody_reads_any_more(shell: Shell, app: Path) -> None:
    with shell.start("run", app, "--env", "MODE=die") as running:
        running.until("Ctrl-C stops it")
        assert running.process.stdout is not None
        running.process.stdout.close()
        get(f"{running.url}/index.php/apps/app_api/proxy/plain/public/x")
        assert running.process.wait() == 0


def test_host_that_others_can_reach_makes_up_passwords(shell: Shell, app: Path) -> None:
    with shell.start("run", app, "--bind", "0.0.0.0") as running:
        running.until("Ctrl-C stops it")
        output = "\n".join(running.lines)
        assert re.search(
            r"^sign in +\S+  \(admin, password (?!admin)\S{12,};", output, re.MULTILINE
        )
        page = f"{running.url}/index.php/apps/app_api/proxy/plain/admin"
        assert get(page, user="admin")[0] == 401
        assert running.stop(signal.SIGINT) == 0


def test_data_dir_that_cannot_be_used_is_named(shell: Shell, app: Path) -> None:
    (shell.folder / "data").write_text("a file")
    done = shell.call("run", app)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert str(shell.data_dir) in done.stderr


def test_error_that_is_ours_is_one_line_and_a_traceback_only_if_asked_for(
    shell: Shell, app: Path
) -> None:
    # The registry of an earlier run is a folder: nobody has thought of that.
    (shell.data_dir / "run" / "plain" / "state.sqlite3").mkdir(parents=True)
    done = shell.call("run", app)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    debug = shell.call("run", app, APPAPI_HOST_DEBUG="1")
    assert "Traceback" in debug.stderr


def test_environment_of_the_shell_is_not_taken_for_that_of_the_app(shell: Shell, app: Path) -> None:
    done = shell.call("run", app, "--once", APP_ID="other", APP_PORT="1")
    assert done.returncode == 0, done.stderr
    assert os.environ.get("APP_ID") is None


def test_terminal_sees_ticks_and_a_bar(shell: Shell, app: Path) -> None:
    shown, code = shell.at_terminal("run", app, "--once", "--env", "MODE=init")
    assert code == 0, shown
    assert shown.count("✓") == 5
    assert "━" in shown
    assert "\x1b[?25h" in shown  # the cursor is back


def test_terminal_sees_a_failure_in_a_frame(shell: Shell, app: Path) -> None:
    shown, code = shell.at_terminal("run", app, "--once", "--env", "MODE=exit")
    assert code == 1
    for text in ("╭", "plain could not be installed", "exit code 3", "cannot find my model"):
        assert text in shown


def test_app_that_does_not_agree_to_be_disabled_is_stopped_all_the_same(
    shell: Shell, app: Path
) -> None:
    (app / "main.py").write_text(
        (app / "main.py")
        .read_text()
        .replace('self.path.endswith("=1")', "False")
        .replace('"not today" if refuses else ""', '"no" if self.path.endswith("=0") else ""')
    )
    with shell.start("run", app) as running:
        running.until("Ctrl-C stops it")
        assert running.stop(signal.SIGINT) == 0
    assert "disabled    failed  no" in running.lines
