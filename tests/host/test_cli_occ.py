"""occ commands within this process: what they print, and how they end."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from appapi_host.__main__ import main
from appapi_host.cli.apps import _mounts
from appapi_host.cli.symfony import Input
from appapi_host.host import REGISTRY_FILE
from appapi_host.records import AppRecord, Daemon
from appapi_host.registry import Registry
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State

Occ = Callable[..., tuple[list[str], list[str], int]]

MANUAL = ("manual", "Manual", "manual-install", "http", "localhost", "http://127.0.0.1:8080")
REGISTERED = "Daemon successfully registered."


@pytest.fixture
def occ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Occ:
    def run(*words: str) -> tuple[list[str], list[str], int]:
        code = main(["occ", "--data-dir", str(tmp_path), *words])
        captured = capsys.readouterr()
        return captured.out.splitlines(), captured.err.splitlines(), code

    return run


def store(folder: Path, *apps: AppRecord) -> None:
    """Put apps into the registry as they are; their daemons are not."""

    async def add() -> None:
        async with await Registry.open(folder / REGISTRY_FILE) as registry:
            for app in apps:
                await registry.add_app(app)

    anyio.run(add)


def record(app_id: str, *, enabled: bool = False, daemon: str = "gone") -> AppRecord:
    state = State.ENABLED if enabled else State.DISABLED
    place = Daemon(daemon, "", "", "", "")
    return AppRecord(app_id, "1.0.0", "App", place, 1, Secret("12345"), state, enabled)


def usage_error(err: list[str]) -> str:
    """The message of an error that is framed by blank lines."""
    assert err[0] == ""
    assert err[2] == ""
    return err[1].strip()


def test_without_a_command_all_are_listed(occ: Occ) -> None:
    out, err, code = occ()
    assert (out[0].startswith("appapi_host "), err, code) == (True, [], 0)
    assert out == occ("list")[0] == occ("--help")[0]
    assert any(line.startswith("  app_api:app:register ") for line in out)


def test_list_of_a_namespace_has_only_its_commands(occ: Occ) -> None:
    out, _, code = occ("list", "app_api:daemon")
    shown = out[out.index("Available commands:") + 1 :]
    assert code == 0
    assert [line.split()[0] for line in shown] == [
        "app_api",
        "app_api:daemon:list",
        "app_api:daemon:register",
        "app_api:daemon:registry:add",
        "app_api:daemon:registry:list",
        "app_api:daemon:registry:remove",
        "app_api:daemon:unregister",
    ]
    _, err, code = occ("list", "nope")
    assert code == 1
    assert usage_error(err) == 'There are no commands defined in the "nope" namespace.'


def test_help_of_a_command_is_given_in_two_ways(occ: Occ) -> None:
    assert occ("help", "app_api:app:list") == occ("app_api:app:list", "-h")
    assert occ("help")[0][1] == "  Display help for a command"
    assert occ("app_api:app:list", "--version")[0][0].startswith("appapi_host ")


def test_words_of_the_documentation_before_occ_do_not_matter(occ: Occ) -> None:
    assert occ("sudo", "-u", "www-data", "php", "occ", "app_api:app:list")[0] == ["ExApps:"]


def test_data_directory_is_told_in_three_ways(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (["--data-dir", str(tmp_path / "a")], [f"--data-dir={tmp_path / 'b'}"], []):
        monkeypatch.setenv("APPAPI_HOST_DATA_DIR", str(tmp_path / "c"))
        assert main(["occ", *words, "app_api:app:list"]) == 0
    assert capsys.readouterr().out == "ExApps:\n" * 3
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["a", "b", "c"]


def test_error_of_usage_is_framed_with_the_usage_line_below(occ: Occ) -> None:
    out, err, code = occ("app_api:app:enable")
    assert (out, code) == ([], 1)
    assert err == [
        "",
        '  Not enough arguments (missing: "appid").',
        "",
        "app_api:app:enable <appid>",
        "",
    ]


def test_daemon_is_registered_once_listed_and_unregistered(occ: Occ) -> None:
    assert occ("app_api:daemon:list") == (["No registered daemon configs."], [], 0)
    assert occ("app_api:daemon:register", *MANUAL, "--set-default") == ([REGISTERED], [], 0)
    assert occ("app_api:daemon:register", *MANUAL) == (
        ["Skip registration, as daemon config `manual` already registered."],
        [],
        0,
    )
    row = occ("app_api:daemon:list")[0][4]
    assert row.startswith("| *   | manual | Manual ")
    assert occ("app_api:daemon:unregister", "manual") == (["Daemon config unregistered."], [], 0)
    assert occ("app_api:daemon:unregister", "manual") == (
        ["Daemon config manual not found."],
        [],
        1,
    )


def test_daemons_are_listed_as_json_without_their_passwords(occ: Occ) -> None:
    harp = ("--harp", "--harp_shared_key", "s3cret", "--harp_frp_address", "harp:8782")
    assert occ("app_api:daemon:register", *MANUAL, *harp)[2] == 0
    out, _, code = occ("app_api:daemon:list", "--output=json")
    assert code == 0
    (daemon,) = json.loads(out[0])
    assert daemon["deploy_id"] == "manual-install"
    assert daemon["deploy_config"]["haproxy_password"] == "***"
    assert daemon["deploy_config"]["harp"] == {
        "frp_address": "harp:8782",
        "docker_socket_port": "24000",
        "exapp_direct": False,
    }
    pretty = occ("app_api:daemon:list", "--output", "json_pretty")[0]
    assert json.loads("\n".join(pretty)) == [daemon]
    assert len(pretty) > 10
    assert "| yes     | harp:8782        | 24000 " in "\n".join(occ("app_api:daemon:list")[0])
    _, err, code = occ("app_api:daemon:list", "--output=yaml")
    assert (usage_error(err), code) == ("--output must be plain, json or json_pretty.", 1)


@pytest.mark.parametrize(
    ("words", "out", "cause"),
    [
        (
            (*MANUAL, "--harp"),
            "Value error: HaRP enabled daemon requires `harp_shared_key` option.",
            "",
        ),
        (
            (*MANUAL, "--harp", "--harp_shared_key", "x"),
            "Value error: HaRP enabled daemon requires `harp_frp_address` option.",
            "",
        ),
        (("", *MANUAL[1:]), "Failed to register daemon.", "The name must have"),
        (("x" * 65, *MANUAL[1:]), "Failed to register daemon.", "The name must have"),
        (
            (*MANUAL[:4], "http://localhost", "u"),
            "Failed to register daemon.",
            "without a scheme",
        ),
    ],
)
def test_daemon_that_cannot_be_is_refused_with_the_reason(
    occ: Occ, words: tuple[str, ...], out: str, cause: str
) -> None:
    printed, err, code = occ("app_api:daemon:register", *words)
    assert (printed, code) == ([out], 1)
    assert cause in "".join(err)
    assert occ("app_api:daemon:list")[0] == ["No registered daemon configs."]


@pytest.mark.parametrize(("gpu", "device"), [("/dev/dri", "rocm"), ("/dev/nvidia0", "cuda")])
def test_gpu_option_of_the_documentation_is_taken_as_a_compute_device(
    occ: Occ, gpu: str, device: str
) -> None:
    out, err, code = occ("app_api:daemon:register", *MANUAL, "--gpu", gpu)
    assert (out, code) == ([REGISTERED], 0)
    assert err == [f"--gpu is an older option: it is taken as --compute_device {device}."]
    (daemon,) = json.loads(occ("app_api:daemon:list", "--output=json")[0][0])
    assert daemon["deploy_config"]["computeDevice"]["id"] == device


def test_port_in_the_host_of_a_manual_daemon_is_warned_about_unless_unwanted(occ: Occ) -> None:
    words = ("app_api:daemon:register", "m", "M", "manual-install", "http", "h:1", "u")
    assert occ(*words, "--no-warnings")[1] == []
    occ("app_api:daemon:unregister", "m")
    assert occ(*words)[1][0].startswith("Warning: The host contains a port")


def test_quiet_prints_nothing_but_ends_the_same(occ: Occ) -> None:
    assert occ("-q", "app_api:app:enable", "nope") == ([], [], 1)
    assert occ("app_api:app:unregister", "nope", "--quiet") == ([], [], 1)


INFO = '{"id": "notes", "name": "Notes", "version": "1.0.0", "port": 9}'


def test_registration_needs_a_daemon_and_says_which_there_are(occ: Occ) -> None:
    out, err, code = occ("app_api:app:register", "notes", "--json-info", INFO)
    assert (out, code) == (["Daemon config  not found."], 2)
    assert "Registered daemons: none." in err[0]
    assert "app_api:daemon:register manual_install" in err[0]
    occ("app_api:daemon:register", *MANUAL)
    out, err, code = occ("app_api:app:register", "notes", "x", "--json-info", INFO)
    assert (out, code) == (["Daemon config x not found."], 2)
    assert "Registered daemons: manual." in err[0]


def test_daemon_of_a_kind_that_does_not_exist_is_noticed_at_registration(occ: Occ) -> None:
    occ("app_api:daemon:register", "bad", "Bad", "no-such-install", *MANUAL[3:])
    out, err, code = occ("app_api:app:register", "notes", "bad", "--json-info", INFO)
    assert (out, code) == (["Daemon config bad actions for no-such-install not found."], 2)
    assert err[0].endswith("no-such-install is not available yet.")


def test_app_without_description_would_be_in_a_store_that_is_not_asked(occ: Occ) -> None:
    out, err, code = occ("app_api:app:register", "notes", "manual")
    assert (out, code) == (["Failed to get app info for `notes` from the Appstore"], 1)
    assert "--info-xml" in err[0]


def test_every_problem_of_a_description_is_told(occ: Occ, tmp_path: Path) -> None:
    path = tmp_path / "info.xml"
    path.write_text("<info><id>notes</id></info>")
    occ("app_api:daemon:register", *MANUAL)
    out, err, code = occ("app_api:app:register", "notes", "manual", "--info-xml", str(path))
    assert (out, code) == (["Error during registering ExApp notes."], 3)
    assert len(err) == 2
    assert occ("app_api:app:register", "notes", "manual", "--info-xml", str(path), "--silent") == (
        [],
        [],
        3,
    )


def test_app_that_is_registered_is_not_registered_again(occ: Occ, tmp_path: Path) -> None:
    occ("app_api:daemon:register", *MANUAL)
    store(tmp_path, record("notes"))
    words = ("app_api:app:register", "notes", "manual", "--json-info", INFO)
    assert occ(*words) == (["ExApp notes is already registered."], [], 3)
    out, err, code = occ("app_api:app:register", "other", "manual", "--json-info", INFO)
    assert (out, code) == (["Error during registering ExApp notes."], 3)
    assert err == ["An app with the id notes is registered already."]


def test_mounts_are_read_as_upstream_reads_them() -> None:
    texts = ("/a:/b", "/a:/b:ro", "/a:/b:rw", "/a:/b:nonsense", "/a")
    assert _mounts(Input({}, {"mount": texts})) == [
        ("/a", "/b", "rw"),
        ("/a", "/b", "ro"),
        ("/a", "/b", "rw"),
        ("/a", "/b", "rw"),
    ]


def test_apps_are_listed_by_id_with_their_state(occ: Occ, tmp_path: Path) -> None:
    store(tmp_path, record("zeta"), record("alpha", enabled=True, daemon="other"))
    assert occ("app_api:app:list")[0] == [
        "ExApps:",
        "alpha (App): 1.0.0 [enabled]",
        "zeta (App): 1.0.0 [disabled]",
    ]


def test_app_whose_daemon_is_gone_is_unregistered_only_with_force(occ: Occ, tmp_path: Path) -> None:
    store(tmp_path, record("notes"))
    missing = "Failed to get ExApp notes DaemonConfig by name gone"
    assert occ("app_api:app:unregister", "notes") == ([missing], [], 1)
    out, _, code = occ("app_api:app:unregister", "notes", "--force")
    assert code == 0
    assert out[0] == missing
    assert out[-1] == "ExApp notes successfully unregistered."
    assert occ("app_api:app:list")[0] == ["ExApps:"]


def test_limit_that_is_no_number_is_named(occ: Occ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPAPI_HOST_INIT_TIMEOUT", "soon")
    out, err, code = occ("app_api:app:list")
    assert (out, code) == ([], 1)
    assert "APPAPI_HOST_INIT_TIMEOUT is 'soon'" in usage_error(err)


def test_help_of_the_program_names_its_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--help"]) == 0
    commands = capsys.readouterr().out.partition("Commands:\n")[2]
    listed = [line.split()[0] for line in commands.splitlines() if line.startswith("  ")]
    assert {"run", "serve", "check", "repair", "occ"} <= set(listed)
    assert main(["run", "--help"]) == 0
    assert "PATH [-- COMMAND ...]" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert main([]) == 2


def test_help_loads_neither_the_host_nor_the_terminal() -> None:
    code = (
        "import sys\n"
        "from appapi_host.__main__ import main\n"
        "main(['--help'])\n"
        "print(sorted({'rich', 'httpx', 'lxml', 'uvicorn', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_bug_is_one_line_that_asks_for_a_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody can type a zero byte, so nobody checks for one.
    words = ["occ", "--data-dir", "a\0b", "app_api:app:list"]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "This is a bug." in err
    monkeypatch.setenv("APPAPI_HOST_DEBUG", "1")
    assert main(words) == 1
    assert "Traceback" in capsys.readouterr().err


def test_reader_that_went_away_ends_a_command_quietly(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "appapi_host", "occ", f"--data-dir={tmp_path}", "app_api:app:list"],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == b""
