"""Commands that an app has registered, as an administrator types them."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.cli_shell import Running, Shell

pytestmark = pytest.mark.live

APP = Path(__file__).with_name("errand_app")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("commands"))


@pytest.fixture(scope="module")
def serve(shell: Shell) -> Iterator[Running]:
    """A host with the app, for all tests of this file: none of them changes it."""
    with shell.start("serve", "--port", "0") as running:
        running.until("Ctrl-C stops it")
        words = ("local", "local", "process-install", "http", "127.0.0.1", running.url)
        assert shell.occ("app_api:daemon:register", *words)[1] == 0
        info = APP / "appinfo" / "info.xml"
        words = ("app_api:app:register", "errands", "local", "--info-xml", info)
        out, code = shell.occ(*words, "--wait-finish")
        assert code == 0, out
        yield running
        assert shell.occ("app_api:app:unregister", "errands", "--rm-data")[1] == 0
        running.process.send_signal(signal.SIGTERM)
        running.rest()


def test_command_gets_what_was_typed(shell: Shell, serve: Running) -> None:
    words = ("/Notes", "x", "-f", "--tag=t", "--tag", "u", "--no-colour", "y")
    out, code = shell.occ("errands:words", *words)
    assert code == 0
    assert json.loads("\n".join(out)) == {
        "occ": {
            "arguments": {"path": "/Notes", "extra": ["x", "y"]},
            "options": {"force": True, "limit": "10", "colour": False, "tag": ["t", "u"]},
        }
    }


def test_output_is_shown_as_it_comes(shell: Shell, serve: Running) -> None:
    with shell.start("occ", "errands:slow") as running:
        running.until("one")
        assert shell.occ("errands:go") == ([], 0)
        assert running.rest().splitlines() == ["one", "two"]
        assert running.process.returncode == 0


def test_interrupt_reaches_the_app(shell: Shell, serve: Running) -> None:
    # A command that waits again: the one that it waits for has been set by now.
    assert shell.occ("errands:half")[1] == 1
    with shell.start("occ", "errands:forever") as running:
        running.until("one")
        assert running.stop(signal.SIGINT) == 130
        assert running.lines == ["one"]
    serve.until("nobody listens any more")


def test_failures_are_told_with_their_reason(shell: Shell, serve: Running) -> None:
    done = shell.call("occ", "errands:broken")
    assert (done.stdout, done.returncode) == ("[errands:broken] command executeHandler failed\n", 1)
    assert done.stderr == "POST /occ/broken was answered with 500: no disk\n"
    out, code = shell.occ("errands:half")
    assert (out[0], code) == ("half", 1)
    assert out[1].startswith("[errands:half] command executeHandler failed. Error: ")


def test_list_and_help_show_it_while_the_app_is_enabled(shell: Shell, serve: Running) -> None:
    out, _ = shell.occ("list", "errands")
    shown = out[out.index(" errands") + 1 :]
    assert [line.split()[0] for line in shown] == [
        "errands:broken",
        "errands:forever",
        "errands:go",
        "errands:half",
        "errands:slow",
        "errands:words",
    ]
    out, code = shell.occ("help", "errands:words")
    assert code == 0
    assert out[:6] == [
        "Description:",
        "  Runs errands:words",
        "",
        "Usage:",
        "  errands:words [options] [--] <path> [<extra>...]",
        "  errands:words /Notes --limit 5",
    ]
    shown = [" ".join(line.split()) for line in out]
    assert 'extra More [default: ["a","b"]]' in shown
    assert "-f, --force No questions" in shown
    assert "--colour|--no-colour Or none" in shown
    assert "--tag=TAG Which (multiple values allowed)" in shown
