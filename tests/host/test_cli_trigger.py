"""`trigger` within this process: what it prints, and how it ends."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from appapi_host.__main__ import main
from appapi_host.cli.console import open_console
from appapi_host.cli.places import as_served, note_served, place_of_app, run_places
from appapi_host.cli.trigger import show_more
from appapi_host.documents import Documents
from appapi_host.errors import NotFoundError
from appapi_host.host import REGISTRY_FILE, Host
from appapi_host.records import AccessLevel, AppRecord, Daemon, Route, User
from appapi_host.registry import Registry
from appapi_host.settings import HostSettings
from appapi_host.tasks import Task, TaskStatus
from appapi_host.triggers import TalkOutcome, TaskOutcome
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State
from tests.host.listening import listening

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


async def register(folder: Path, port: int, *registered: tuple[str, str, dict[str, Any]]) -> None:
    """Give the app a port, a route for everything, and what it has registered."""
    async with Host.open(HostSettings(data_dir=folder, nextcloud_version=33)) as host:
        routes = (Route(".*", "POST", AccessLevel.USER),)
        await host.registry.apply("words", lambda app: replace(app, port=port, routes=routes))
        await note_served(host.registry, host.settings)
        secret = await anyio.to_thread.run_sync(host.values.encrypted, "s3cr3t")

        def put(documents: Documents) -> None:
            for kind, name, content in registered:
                complete = content | ({"secret": secret} if kind == "talk-bot" else {})
                documents.put(kind, "words", name, complete)

        await host.documents.write(put)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


ACTION = {"mime": "video", "action_handler": "convert", "version": "2.0"}
BOT = {"bot_id": "b", "name": "Echo", "description": ""}
PROVIDER = {
    "provider": {
        "id": "sum",
        "name": "Sums up",
        "task_type": "core:text2text:summary",
        "expected_runtime": 1,
        "optional_input_shape": [],
        "optional_output_shape": [],
        "input_shape_enum_values": {},
        "input_shape_defaults": {},
        "optional_input_shape_enum_values": {},
        "optional_input_shape_defaults": {},
        "output_shape_enum_values": {},
        "optional_output_shape_enum_values": {},
    },
    "custom_type": None,
}


def test_click_shows_text_that_is_no_json_and_cuts_what_is_long(
    trigger: Trigger, tmp_path: Path
) -> None:
    store(tmp_path)
    with listening(200, b"line\n" * 300) as (url, told):
        anyio.run(register, tmp_path, port_of(url), ("files-action", "convert", ACTION))
        words = ("--file", "/a.bin", "--file", "/b.bin", "--mime", "video/x")
        out, err, code = trigger("file-action", "words", *words)
    assert (code, err) == (0, "")
    assert out.count("  line\n") == 200
    assert "  … and 100 lines more\n" in out
    files = json.loads(told[0][3])["files"]
    assert [(file["fileId"], file["mime"]) for file in files] == [(1, "video/x"), (2, "video/x")]


def test_bot_that_says_nothing_and_task_that_nobody_does(trigger: Trigger, tmp_path: Path) -> None:
    store(tmp_path)
    with listening(200, b"{}") as (url, told):
        anyio.run(
            register,
            tmp_path,
            port_of(url),
            ("talk-bot", "bot", BOT),
            ("task-provider", "sum", PROVIDER),
        )
        out, _, code = trigger("talk", "words", "--wait", "0")
        assert code == 0
        assert out.startswith("POST /bot in nobody's name\n")
        out, _, code = trigger("task", "words", "--wait", "0.01")
        assert code == 1
        assert "task 1 is STATUS_SCHEDULED\n" in out
    assert [path for _, path, _, _ in told] == ["/bot", "/trigger?providerId=sum"]


def test_what_came_out_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    console = open_console(sys.stdout, sys.stderr)
    times = dict.fromkeys(("updated", "scheduled", "started", "ended", "expected"), 0)
    task = Task(
        7, "t", TaskStatus.FAILED, None, "a", {}, None, None, 0, "too long", None, None, None, times
    )
    show_more(console, TalkOutcome((), said=("hi", "👍")))
    show_more(console, TaskOutcome((), task=task))
    done = replace(task, status=TaskStatus.SUCCESSFUL, error=None, output={"output": "x"})
    show_more(console, TaskOutcome((), task=done))
    assert capsys.readouterr().out == (
        "the bot says: hi\nthe bot says: 👍\n"
        'task 7 is STATUS_FAILED\n  {\n    "error": "too long"\n  }\n'
        'task 7 is STATUS_SUCCESSFUL\n  {\n    "output": "x"\n  }\n'
    )


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
