"""app:update in processes of its own: what it prints, and what is installed afterwards."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.cli_shell import INFO, Shell, processes_of, write_app
from tests.ports import free_port

pytestmark = pytest.mark.live

ENABLED_NOTE = (
    "--enabled is an older option: an app is enabled after its update unless --include-disabled "
    "says otherwise."
)
NO_HEARTBEAT = (
    "ExApp plain heartbeat check failed. Make sure that Nextcloud instance and ExApp can reach it "
    "other."
)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """An app of version 1.2.0 is enabled; the folder `new` holds 1.3.0."""
    shell = Shell(tmp_path)
    write_app(tmp_path / "old")
    new = write_app(tmp_path / "new")
    info = new / "appinfo" / "info.xml"
    info.write_text(INFO.format(app_id="plain").replace("1.2.0", "1.3.0"))
    url = f"http://127.0.0.1:{free_port()}"
    words = ("local", "Local", "process-install", "http", "127.0.0.1", url, "--set-default")
    assert shell.occ("app_api:daemon:register", *words)[1] == 0
    assert shell.occ("app_api:app:register", "plain", "--info-xml", "old/appinfo/info.xml")[1] == 0
    yield shell
    shell.occ("app_api:app:unregister", "plain", "--force", "--silent")
    assert processes_of(shell.data_dir) == []


def update(shell: Shell, *options: str) -> tuple[list[str], list[str], int]:
    words = ("app_api:app:update", "plain", "--info-xml", "new/appinfo/info.xml", *options)
    done = shell.call("occ", *words)
    return done.stdout.splitlines(), done.stderr.splitlines(), done.returncode


def listed(shell: Shell) -> str:
    return shell.occ("app_api:app:list")[0][1]


def test_enabled_app_is_replaced_and_enabled(shell: Shell) -> None:
    assert update(shell, "--force-update", "-e") == (
        [
            "ExApp plain successfully disabled.",
            "ExApp plain update successfully deployed.",
            "ExApp plain successfully updated.",
        ],
        [
            "--force-update is an older option: nothing asks for a confirmation.",
            ENABLED_NOTE,
        ],
        0,
    )
    assert listed(shell) == "plain (Plain App): 1.3.0 [enabled]"
    assert update(shell)[::2] == (["ExApp plain is already updated (1.3.0)"], 0)


@pytest.mark.parametrize(
    ("options", "last", "state"),
    [
        ((), "ExApp plain successfully updated.", "enabled"),
        (("--include-disabled",), "ExApp plain successfully disabled after update.", "disabled"),
        (("--include-disabled", "--enabled"), "ExApp plain successfully updated.", "enabled"),
    ],
)
def test_disabled_app_ends_as_it_is_asked_for(
    shell: Shell, options: tuple[str, ...], last: str, state: str
) -> None:
    shell.occ("app_api:app:disable", "plain")
    out, _, code = update(shell, *options)
    assert out[:2] == [
        "ExApp plain was already disabled.",
        "ExApp plain update successfully deployed.",
    ]
    assert (out[-1], code) == (last, 0)
    assert listed(shell) == f"plain (Plain App): 1.3.0 [{state}]"


@pytest.mark.parametrize("state", ["enabled", "disabled"])
def test_failed_update_leaves_the_old_version_at_work_and_says_so(shell: Shell, state: str) -> None:
    if state == "disabled":
        shell.occ("app_api:app:disable", "plain")
    main = shell.folder / "new" / "main.py"
    main.write_text("raise SystemExit('the new one is broken')\n")
    out, err, code = update(shell)
    assert out == [
        "ExApp plain successfully disabled."
        if state == "enabled"
        else "ExApp plain was already disabled.",
        NO_HEARTBEAT,
    ]
    assert code == 1
    assert "  | the new one is broken" in err
    assert err[-1] == f"Version 1.2.0 is still installed and {state}."
    assert listed(shell) == f"plain (Plain App): 1.2.0 [{state}]"
    assert len(processes_of(shell.data_dir)) == (1 if state == "enabled" else 0)


def test_new_version_that_cannot_be_deployed_changes_nothing(shell: Shell) -> None:
    (shell.folder / "new" / "main.py").unlink()
    out, err, code = update(shell)
    assert code == 1
    assert out[-1].startswith("ExApp plain deployment update failed. Error: nothing in ")
    assert err[-1] == "Version 1.2.0 is still installed and enabled."
    assert listed(shell) == "plain (Plain App): 1.2.0 [enabled]"


def test_silent_update_prints_nothing(shell: Shell) -> None:
    assert update(shell, "--silent") == ([], [], 0)
    assert listed(shell) == "plain (Plain App): 1.3.0 [enabled]"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), 'Please specify an app to update or "--all" to update all updatable apps'),
        (("plain", "--all"), 'The "--all" flag is mutually exclusive with specifying app'),
        (
            ("plain",),
            "Failed to get app info for `plain` from the Appstore",
        ),
        (
            ("plain", "--json-info", '{"id": "plain", "name": "Plain"}'),
            "Failed to update ExApp plain info",
        ),
        (
            ("x", "--json-info", '{"name": "X", "version": "1"}'),
            "ExApp x not found.",
        ),
    ],
)
def test_update_that_cannot_begin(tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    assert Shell(tmp_path).occ("app_api:app:update", *words) == ([line], 1)


def test_update_of_all_has_nothing_to_do_without_an_app_store(tmp_path: Path) -> None:
    for words in (("--all",), ("--all", "--showonly"), ("--all", "--include-disabled")):
        done = Shell(tmp_path).call("occ", "app_api:app:update", *words)
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
