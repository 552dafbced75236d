"""What a host asks its apps, as it is typed beside a running `serve`: commands and triggers."""

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
    with shell.start("serve", "--port", "0", "--nextcloud-version", "33") as running:
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


def test_file_action_shows_request_and_answer(shell: Shell, serve: Running) -> None:
    done = shell.call("trigger", "file-action", "errands", "--file", "/Films/a.mp4")
    lines = done.stdout.splitlines()
    assert (lines[0], done.returncode) == ("POST /convert as user", 0), done.stderr
    assert f"  host: {serve.url.removeprefix('http://')}" in lines
    assert "  AUTHORIZATION-APP-API: ***" in lines
    assert "  AA-VERSION: 33.0.0" in lines
    assert '"name": "a.mp4",' in [line.strip() for line in lines]
    assert any(line.startswith("answered 200 in ") for line in lines)
    assert any("route 1 of 1, ^/convert.*" in line for line in lines)
    serve.until(r'/convert .*"directory": ?"/Films"')


def test_bot_answers_in_time(shell: Shell, serve: Running) -> None:
    done = shell.call("trigger", "talk", "errands", "--message", "hi", "--wait", "30")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("POST /bot in nobody's name\n")
    assert "the bot says: hihi\n" in done.stdout


def test_task_is_done(shell: Shell, serve: Running) -> None:
    done = shell.call("trigger", "task", "errands", "--input", "input=hello")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("POST /trigger?providerId=errands:shout in nobody's name\n")
    assert 'task 1 is STATUS_SUCCESSFUL\n  {\n    "output": "HELLO"\n  }\n' in done.stdout
