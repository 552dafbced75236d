"""`trigger` within this process: what it prints, and how it ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from appapi_host.__main__ import main
from appapi_host.cli.places import as_served, note_served, place_of_app, run_places
from appapi_host.documents import Documents
from appapi_host.errors import NotFoundError
from appapi_host.host import REGISTRY_FILE
from appapi_host.records import AppRecord, Daemon, User
from appapi_host.registry import Registry
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State

Trigger = Callable[..., tuple[str, str, int]]

FORM = {
    "id": "main",
    "section_type": "admin",
    "fields": [{"id": "model", "type": "text"}],
    "storage_type": "external",
}
HOOK = {
    "userId": "",
    "httpMethod": "POST",
    "uri": "/hook",
    "event": "OCP\\Files\\Events\\Node\\NodeCreatedEvent",
    "eventFilter": {},
    "userIdFilter": "",
    "headers": None,
    "authMethod": "none",
    "authData": None,
}


def store(folder: Path, app_id: str = "words") -> None:
    """An app that nobody runs, two users, and what the app has registered."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Daemon("manual", "", "manual-install", "http", "127.0.0.1")
    app = AppRecord(app_id, "1.0.0", "Words", place, 1, Secret("12345"), State.ENABLED, True)

    async def add() -> None:
        async with await Registry.open(folder / REGISTRY_FILE) as registry:
            await registry.add_daemon(place)
            await registry.add_app(app)
            await registry.add_user(User("admin", is_admin=True))
            await registry.add_user(User("user"))

            def register(connection: Any) -> None:
                documents = Documents(connection)
                documents.put("settings-form", app_id, "main", {"scheme": FORM})
                documents.add("webhook", app_id, HOOK, label=HOOK["event"])

            await registry.write(register)

    anyio.run(add)


@pytest.fixture
def trigger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Trigger:
    def run(what: str, *words: str) -> tuple[str, str, int]:
        code = main(["trigger", what, *words, "--data-dir", str(tmp_path)])
        captured = capsys.readouterr()
        return captured.out, captured.err, code

    return run


@pytest.mark.parametrize("folder", ["", "run/words"])
def test_setting_is_entered_whoever_has_the_app(
    trigger: Trigger, tmp_path: Path, folder: str
) -> None:
    store(tmp_path / folder)
    out, err, code = trigger("setting", "words", "--value", "large")
    assert (out.splitlines()[0], err, code) == ("model is now large", "", 0)
    assert "note        nobody tells the app" in out


def test_app_that_does_not_run_is_a_failure(trigger: Trigger, tmp_path: Path) -> None:
    store(tmp_path)
    out, err, code = trigger("webhook", "words", "--data", '{"node": {"id": 7}}')
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert lines[0] == "POST /hook as user"
    assert "  AUTHORIZATION-APP-API: ***" in lines
    assert '      "uid": "user",' in lines
    assert any(line.startswith("(no connection") for line in lines)
    assert lines[-1].startswith("note        webhook 1, POST /hook, was told: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("webhook", "other"), "no app other is installed"),
        (("webhook", "words", "--event", "NodeCopiedEvent"), "does not listen to NodeCopiedEvent"),
        (("file-action", "words", "--file", "/a.txt"), "has registered no file action"),
        (("talk", "words"), "has registered no bot"),
        (("task", "words", "--input", "a=b"), "has registered no task provider"),
        (("setting", "words", "--user", "user"), "Logged in account must be an admin"),
    ],
)
def test_failure_has_a_reason(
    trigger: Trigger, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    store(tmp_path)
    out, err, code = trigger(*words)
    assert (out, code) == ("", 1)
    assert message in err


@pytest.mark.parametrize(
    "words",
    [
        ("webhook", "words", "--data", "{"),
        ("webhook", "words", "--data", "[]"),
        ("task", "words", "--input", "nothing"),
        ("task", "words", "--input-file", "input=/none"),
        ("task", "words", "--wait", "-1"),
        ("task",),
        ("nothing", "words"),
    ],
)
def test_wrong_command_line_is_refused(trigger: Trigger, words: tuple[str, ...]) -> None:
    out, err, code = trigger(*words)
    assert (out, code) == ("", 2)
    assert "Usage: python -m appapi_host trigger" in err


def test_nothing_is_started_behind_two_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trigger", "talk", "words", "--", "x"]) == 2
    assert "`--` belongs to run" in capsys.readouterr().err


async def test_state_says_how_it_is_served(tmp_path: Path) -> None:
    settings = HostSettings(data_dir=tmp_path)
    assert await as_served(settings) == settings
    assert await as_served(HostSettings()) == HostSettings()
    async with await Registry.open(tmp_path / REGISTRY_FILE) as registry:
        assert await as_served(settings) == settings
        served = HostSettings(data_dir=tmp_path, port=9123, nextcloud_version=34)
        await note_served(registry, served)
    assert await as_served(settings) == served
    assert served.aa_version == "34.0.0"
    with pytest.raises(NotFoundError):
        await place_of_app(tmp_path, "words")
    assert await anyio.to_thread.run_sync(run_places, tmp_path) == []
