"""`serve` and `occ` as an administrator uses them: two shells, one state."""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.live.cli_shell import Running, Shell, get, processes_of, write_app
from tests.ports import free_port

pytestmark = pytest.mark.live

SEED = Path(__file__).parent.parent / "wire" / "seed-manual-install.txt"


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
def serve(shell: Shell) -> Iterator[Running]:
    with shell.start("serve", "--port", "0") as running:
        running.until("Ctrl-C stops it")
        for name, kind in (("local", "process-install"), ("manual_install", "manual-install")):
            words = (name, name, kind, "http", "127.0.0.1", running.url)
            assert shell.occ("app_api:daemon:register", *words)[1] == 0
        yield running
        running.process.send_signal(signal.SIGTERM)
        running.rest()


@pytest.fixture
def info(tmp_path: Path) -> Path:
    return write_app(tmp_path / "app") / "appinfo" / "info.xml"


def test_process_install_lives_through_all_commands(
    shell: Shell, serve: Running, info: Path
) -> None:
    words = ("app_api:app:register", "plain", "local", "--info-xml", info)
    assert shell.occ(*words, "--wait-finish") == (
        ["ExApp plain deployed successfully.", "ExApp plain successfully registered."],
        0,
    )
    assert shell.occ("app_api:app:list") == (["ExApps:", "plain (Plain App): 1.2.0 [enabled]"], 0)
    serve.until(r"plain +app +switched /enabled\?enabled=1")
    assert get(f"{serve.url}/index.php/apps/app_api/proxy/plain/public/x")[0] == 200
    serve.until("user → app +GET .*public/x +200")
    assert shell.occ(*words) == (["ExApp plain is already registered."], 3)
    assert shell.occ(*words, "--test-deploy-mode")[1] == 0
    assert shell.occ("app_api:app:enable", "plain") == (["ExApp plain already enabled."], 0)
    assert shell.occ("app_api:app:disable", "plain") == (["ExApp plain successfully disabled."], 0)
    assert processes_of(shell.data_dir) == []
    assert shell.occ("app_api:app:disable", "plain") == (["ExApp plain already disabled."], 0)
    assert shell.occ("app_api:app:list")[0][1] == "plain (Plain App): 1.2.0 [disabled]"
    assert shell.occ("app_api:app:enable", "plain") == (["ExApp plain successfully enabled."], 0)
    lines, code = shell.occ("app_api:daemon:unregister", "local")
    assert (lines, code) == (
        ["Error: local daemon contains 1 ExApps, please remove them first to proceed."],
        1,
    )
    assert shell.occ("app_api:app:unregister", "plain", "--rm-data") == (
        [
            "ExApp plain successfully disabled.",
            "ExApp plain process successfully removed",
            "ExApp plain data volume successfully removed",
            "ExApp plain successfully unregistered.",
        ],
        0,
    )
    serve.until("plain +note +unregistered")
    assert shell.occ("app_api:daemon:unregister", "local") == (["Daemon config unregistered."], 0)
    assert not (shell.data_dir / "apps" / "plain").exists()


def test_progress_reports_reach_serve_while_occ_waits(
    shell: Shell, serve: Running, info: Path
) -> None:
    (info.parent.parent / "Procfile").write_text(f"web: MODE=init {sys.executable} main.py\n")
    words = ("app_api:app:register", "plain", "local", "--info-xml", "app/appinfo/info.xml")
    assert shell.occ(*words, "--wait-finish", "--silent") == ([], 0)
    serve.until(r"app → host +PUT /ocs/v1.php/apps/app_api/ex-app/status +200")
    assert shell.occ("app_api:app:unregister", "plain", "--silent") == ([], 0)
    assert shell.occ("app_api:app:unregister", "plain", "--silent") == ([], 0)


def test_command_line_of_the_documentation_registers_an_app_started_by_hand(
    shell: Shell, serve: Running, tmp_path: Path
) -> None:
    port = free_port()
    environment = {
        "APP_ID": "nc_py_api",
        "APP_SECRET": "12345",
        "APP_VERSION": "1.0.0",
        "APP_HOST": "127.0.0.1",
        "APP_PORT": str(port),
        "NEXTCLOUD_URL": serve.url,
        "MODE": "init",
    }
    line = SEED.read_text().replace("$APP_PORT", str(port))
    script = f'python() {{ {shlex.quote(sys.executable)} "$@"; }}\npython -m appapi_host occ {line}'
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "plain_app.py")],
        env=shell.environment(**environment),
    ) as app:
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", script],
                env=shell.environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.stdout.splitlines() == [
                "ExApp nc_py_api deployed successfully.",
                "ExApp nc_py_api successfully registered.",
            ], done.stderr
            assert done.returncode == 0
            serve.until(r"nc_py_api +note +nc_py_api 1.0.0 is enabled")
            for verb in ("disable", "enable"):
                lines, code = shell.occ(f"app_api:app:{verb}", "nc_py_api")
                assert (lines, code) == ([f"ExApp nc_py_api successfully {verb}d."], 0)
            assert shell.occ("app_api:app:unregister", "nc_py_api") == (
                [
                    "ExApp nc_py_api successfully disabled.",
                    "ExApp nc_py_api successfully unregistered.",
                ],
                0,
            )
        finally:
            app.kill()


@pytest.mark.parametrize(
    ("mode", "lines", "cause"),
    [
        (
            "refuse",
            [
                "ExApp plain deployed successfully.",
                "ExApp plain failed to enable. Error: not today",
            ],
            "",
        ),
        (
            "fail",
            [
                "ExApp plain deployed successfully.",
                "ExApp plain initialization step failed. Error: no space left",
            ],
            "",
        ),
        (
            "exit",
            [
                (
                    "ExApp plain heartbeat check failed. Make sure that Nextcloud instance and "
                    "ExApp can reach it other."
                )
            ],
            "  | cannot find my model",
        ),
    ],
)
def test_failed_registration_prints_the_line_of_the_real_one_and_our_cause(
    shell: Shell, serve: Running, info: Path, mode: str, lines: list[str], cause: str
) -> None:
    (info.parent.parent / "Procfile").write_text(f"web: MODE={mode} {sys.executable} main.py\n")
    words = ("occ", "app_api:app:register", "plain", "local", "--info-xml", info)
    done = shell.call(*words, "--wait-finish")
    assert (done.stdout.splitlines(), done.returncode) == (lines, 1)
    assert cause in done.stderr
    assert shell.occ("app_api:app:unregister", "plain", "--force", "--silent") == ([], 0)


def test_failed_enable_and_disable_exit_with_1_and_say_why(
    shell: Shell, serve: Running, info: Path
) -> None:
    (info.parent.parent / "Procfile").write_text(f"web: MODE=refuse {sys.executable} main.py\n")
    shell.occ("app_api:app:register", "plain", "local", "--info-xml", info)
    done = shell.call("occ", "app_api:app:enable", "plain")
    assert (done.stdout, done.returncode) == ("Failed to enable ExApp plain.\n", 1)
    assert done.stderr.startswith("not today\n")
    assert shell.occ("app_api:app:unregister", "plain")[1] == 0


def test_app_that_is_gone_is_disabled_without_being_asked(
    shell: Shell, serve: Running, info: Path
) -> None:
    shell.occ("app_api:app:register", "plain", "local", "--info-xml", info)
    serve.until("plain +app +switched")
    for process in processes_of(shell.data_dir):
        process.kill()
    serve.until("ERROR: plain ended while it was enabled: (ended|killed)")
    done = shell.call("occ", "app_api:app:disable", "plain")
    assert (done.stdout, done.returncode) == ("ExApp plain successfully disabled.\n", 0)
    assert shell.occ("app_api:app:unregister", "plain")[1] == 0


def test_app_that_clings_is_disabled_nevertheless(shell: Shell, serve: Running, info: Path) -> None:
    (info.parent.parent / "Procfile").write_text(f"web: MODE=cling {sys.executable} main.py\n")
    shell.occ("app_api:app:register", "plain", "local", "--info-xml", info)
    done = shell.call("occ", "app_api:app:disable", "plain")
    assert (done.stdout, done.returncode) == ("Failed to disable ExApp plain.\n", 1)
    assert done.stderr == "not today\nIt is disabled nevertheless.\n"
    assert shell.occ("app_api:app:unregister", "plain")[1] == 0


def test_unregister_goes_on_after_a_failure_only_with_force(
    shell: Shell, serve: Running, info: Path
) -> None:
    (info.parent.parent / "Procfile").write_text(f"web: MODE=cling {sys.executable} main.py\n")
    words, refusal = ("app_api:app:unregister", "plain"), "Error during disabling plain ExApp."
    shell.occ("app_api:app:register", "plain", "local", "--info-xml", info)
    lines, code = shell.occ(*words, "--force")
    assert (lines[0], lines[-1], code) == (refusal, "ExApp plain successfully unregistered.", 0)
    shell.occ("app_api:app:register", "plain", "local", "--info-xml", info)
    assert shell.occ(*words) == ([refusal], 1)
    assert shell.occ(*words)[1] == 0  # it is disabled by now


def test_init_that_nobody_can_receive_is_explained(shell: Shell, info: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    shell.occ("app_api:daemon:register", "local", "L", "process-install", "http", "x", url)
    (info.parent.parent / "Procfile").write_text(f"web: MODE=init {sys.executable} main.py\n")
    words = ("occ", "app_api:app:register", "plain", "local", "--info-xml", info)
    done = shell.call(*words)
    assert done.returncode == 0
    assert "no `python -m appapi_host serve` runs on this state" in done.stderr
    assert shell.occ("app_api:app:unregister", "plain", "--force")[1] == 0
    with shell.start(*words, "--wait-finish") as waiting:
        waiting.until("no `python -m appapi_host serve` runs on this state")
        assert waiting.stop(signal.SIGINT) == 130
    assert shell.occ("app_api:app:unregister", "plain", "--force")[1] == 0


def test_serve_stops_its_apps_and_starts_them_again(shell: Shell, info: Path) -> None:
    port = free_port()
    with shell.start("serve", "--port", port) as first:
        first.until("Ctrl-C stops it")
        words = ("local", "L", "process-install", "http", "x", first.url)
        shell.occ("app_api:daemon:register", *words)
        shell.occ("app_api:app:register", "plain", "local", "--info-xml", info)
        first.until("plain +app +switched")
        assert first.stop(signal.SIGINT) == 0
        assert first.lines[-1] == "Stopped."
        assert "ERROR" not in "\n".join(first.lines)
    assert processes_of(shell.data_dir) == []
    assert shell.occ("app_api:app:list")[0][1] == "plain (Plain App): 1.2.0 [enabled]"
    with shell.start("serve", "--port", port) as second:
        second.until(r"plain +note +started again as process \d+")
        assert len(processes_of(shell.data_dir)) == 1
        assert second.stop(signal.SIGTERM) == 0
    assert shell.occ("app_api:app:unregister", "plain", "--force")[1] == 0


def test_app_that_cannot_be_started_again_does_not_keep_serve_from_serving(
    shell: Shell, info: Path
) -> None:
    with shell.start("serve", "--port", "0") as first:
        first.until("Ctrl-C stops it")
        words = ("local", "L", "process-install", "http", "x", first.url)
        shell.occ("app_api:daemon:register", *words)
        shell.occ("app_api:app:register", "plain", "local", "--info-xml", info)
        first.stop(signal.SIGINT)
    (shell.data_dir / "apps" / "plain" / "process.json").unlink()
    with shell.start("serve", "--port", "0") as second:
        second.until("plain +start +failed +how to start plain is not known")
        second.until("plain +warning +Plain App 1.2.0 is failed: start: how to start plain")
        assert second.stop(signal.SIGINT) == 0


def test_one_state_is_served_once(shell: Shell, serve: Running) -> None:
    done = shell.call("serve", "--port", "0")
    assert done.returncode == 1
    assert f"already, by process {serve.process.pid}" in done.stderr
    assert "try:" in done.stderr


def test_port_in_use_is_an_error_with_a_remedy(shell: Shell, serve: Running) -> None:
    port = serve.url.rpartition(":")[2]
    done = shell.call("serve", "--port", port, "--data-dir", shell.folder / "other")
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr


def test_passwords_are_told_on_loopback_and_made_up_elsewhere(shell: Shell) -> None:
    with shell.start("serve", "--port", "0") as running:
        running.until(r"sign in +\S+  \(admin, password admin; user, password user\)")
        assert running.stop(signal.SIGINT) == 0
    with shell.start("serve", "--port", "0", "--bind", "0.0.0.0") as running:
        first = running.until(r"sign in +\S+  \(admin, password (\S+);")[1]
        assert first != "admin"
        assert re.fullmatch(r"\S{12,}", first)
        assert running.stop(signal.SIGINT) == 0


def test_second_ctrl_c_ends_serve_at_once_and_the_next_one_finds_the_apps(
    shell: Shell, info: Path
) -> None:
    with shell.start("serve", "--port", "0") as first:
        first.until("Ctrl-C stops it")
        words = ("local", "L", "process-install", "http", "x", first.url)
        shell.occ("app_api:daemon:register", *words)
        (info.parent.parent / "Procfile").write_text(
            f"web: MODE=stubborn {sys.executable} main.py\n"
        )
        shell.occ("app_api:app:register", "plain", "local", "--info-xml", info)
        first.until(r"children \d+")
        first.process.send_signal(signal.SIGINT)
        first.until("once more ends at once")
        first.process.send_signal(signal.SIGINT)
        first.rest()
        assert first.process.returncode == 130
    left = processes_of(shell.data_dir)
    assert len(left) >= 3
    with shell.start("serve", "--port", "0") as second:
        second.until(r"plain +app +children \d+")
        assert processes_of(shell.data_dir) == left
        second.process.kill()
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=20)


def test_terminal_sees_a_bar_besides_the_lines(shell: Shell, serve: Running, info: Path) -> None:
    (info.parent.parent / "Procfile").write_text(f"web: MODE=init {sys.executable} main.py\n")
    words = ("occ", "app_api:app:register", "plain", "local", "--info-xml", info, "--wait-finish")
    shown, code = shell.at_terminal(*words)
    assert code == 0, shown
    assert "━" in shown
    assert "✓" not in shown
    assert "ExApp plain deployed successfully." in shown
    assert "ExApp plain successfully registered." in shown
    assert shell.occ("app_api:app:unregister", "plain")[1] == 0


def test_who_guesses_secrets_is_refused_if_that_is_asked_for(shell: Shell) -> None:
    guess = {"EX-APP-ID": "nobody", "AUTHORIZATION-APP-API": "Ong="}
    with shell.start("serve", "--port", "0", "--throttling") as running:
        url = running.until(r"Host on (\S+),")[1]
        answers = [
            get(f"{url}/ocs/v2.php/apps/app_api/api/v1/users", headers=guess)[0] for _ in range(7)
        ]
        running.process.send_signal(signal.SIGTERM)
        running.rest()
    assert answers == [401] * 5 + [429] * 2
