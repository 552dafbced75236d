"""Commands of apps on the command line: what may be registered, and what the app gets of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from appapi_host.__main__ import main
from appapi_host.cli.exapp_commands import command_of, payload
from appapi_host.cli.symfony import UsageError, parse
from appapi_host.documents import Document, Documents
from appapi_host.host import REGISTRY_FILE
from appapi_host.records import AppRecord, Daemon
from appapi_host.registry import Registry
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State
from tests.host.listening import listening
from tests.host.web_stage import EchoApp, web_stage, wire_rows

Occ = Callable[..., tuple[str, str, int]]


def document(**content: Any) -> Document:
    complete = {
        "name": "words:count",
        "description": "Counts",
        "hidden": 0,
        "arguments": [],
        "options": [],
        "usages": [],
        "execute_handler": "occ/count",
    }
    return Document("occ-command", 1, "words", "", "words:count", "", complete | content)


def typed(words: list[str], **content: Any) -> dict[str, Any]:
    command = command_of(document(**content))
    return payload(command, parse(command, words))


def option(mode: str, **more: Any) -> dict[str, Any]:
    return {"name": "it", "mode": mode, "description": "", **more}


@pytest.mark.parametrize(
    ("mode", "default", "words", "value"),
    [
        ("none", None, [], False),
        ("none", "ignored", [], False),
        ("none", None, ["--it"], True),
        ("nonsense", None, ["--it"], True),
        ("required", None, [], None),
        ("required", 10, [], 10),
        ("required", "10", ["--it", "5"], "5"),
        ("required", None, ["--it="], ""),
        ("optional", "x", [], "x"),
        ("optional", "x", ["--it"], None),
        ("optional", "x", ["--it=y"], "y"),
        ("negatable", None, [], None),
        ("negatable", True, [], True),
        ("negatable", None, ["--it"], True),
        ("negatable", True, ["--no-it"], False),
        ("array", None, [], []),
        ("array", "a,b", [], ["a", "b"]),
        ("array", ["a"], ["--it", "x", "--it=y"], ["x", "y"]),
        ("optional,array", None, ["--it", "--it=y"], ["y"]),
    ],
)
def test_options_arrive_in_the_type_of_their_mode(
    mode: str, default: Any, words: list[str], value: Any
) -> None:
    given = typed(words, options=[option(mode, default=default)])
    assert given == {"arguments": None, "options": {"it": value}}


@pytest.mark.parametrize(
    ("mode", "default", "words", "value"),
    [
        ("required", "ignored", ["x"], "x"),
        ("optional", None, [], None),
        ("optional", "d", [], "d"),
        ("nonsense", None, [], None),
        ("array", None, [], []),
        ("array", "a, b", [], ["a", "b"]),
        ("array", "a,b", ["x", "y"], ["x", "y"]),
        ("required,array", None, ["x"], ["x"]),
    ],
)
def test_arguments_arrive_in_the_type_of_their_mode(
    mode: str, default: Any, words: list[str], value: Any
) -> None:
    given = typed(words, arguments=[option(mode, default=default)])
    assert given == {"arguments": {"it": value}, "options": None}


def test_shortcuts_may_be_several() -> None:
    content = {"options": [option("required", shortcut="-i|x")]}
    assert typed(["-i5"], **content) == typed(["-x", "5"], **content)


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ({"arguments": [option("required")]}, [], 'Not enough arguments (missing: "it").'),
        ({"arguments": [option("required,array")]}, [], 'Not enough arguments (missing: "it").'),
        ({}, ["x"], 'No arguments expected for "words:count" command, got "x".'),
        ({"options": [option("required")]}, ["--it"], 'The "--it" option requires a value.'),
        ({"options": [option("array")]}, ["--it"], 'The "--it" option requires a value.'),
        ({"options": [option("none")]}, ["--it=1"], 'The "--it" option does not accept a value.'),
        (
            {"options": [{"name": "quiet", "mode": "none"}]},
            [],
            'An option named "quiet" already exists.',
        ),
        (
            {"options": [option("none", shortcut="v")]},
            [],
            'An option with shortcut "v" already exists.',
        ),
    ],
)
def test_wrong_command_lines_are_refused_in_the_words_of_symfony(
    content: dict[str, Any], words: list[str], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        typed(words, **content)
    assert caught.value.message == message


@pytest.mark.parametrize(
    "content",
    [
        {"arguments": ["text"]},
        {"arguments": [{"mode": "required"}]},
        {"options": [{"name": 3}]},
        {"options": [{"name": "--"}]},
        {"options": [{"name": "a=b"}]},
        {"options": [option("none"), option("none")]},
        {"arguments": [option("optional"), option("optional")]},
        {"arguments": [option("array"), {"name": "b", "mode": "optional"}]},
        {"arguments": [option("optional"), {"name": "b", "mode": "required"}]},
    ],
)
def test_nonsense_is_no_command(content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        command_of(document(**content))


async def test_app_gets_the_recorded_request() -> None:
    [recorded] = [row for row in wire_rows("host-to-exapp.jsonl") if "occ" in row["target"]]
    app = EchoApp(body=b"line1\nline2\n")
    async with web_stage(app) as s:
        words = json.loads(recorded["request_body"])["occ"]
        async with s.host.errands.run_command("nc_py_api", "/occ_ping", words) as answer:
            assert answer.status == 200
            assert b"".join([piece async for piece in answer.body]) == b"line1\nline2\n"
    [received] = app.received
    assert (received["method"], received["path"]) == (recorded["method"], recorded["target"])
    assert received["body"].decode() == recorded["request_body"]
    assert [
        (name, value) for name, value in received["headers"] if name not in ("host", "connection")
    ] == [(n.lower(), v) for n, v in recorded["request_headers"] if n.lower() != "host"]


@pytest.fixture
def occ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Occ:
    def run(*words: str) -> tuple[str, str, int]:
        code = main(["occ", "--data-dir", str(tmp_path), *words])
        captured = capsys.readouterr()
        return captured.out, captured.err, code

    return run


def store(folder: Path, *documents: Document, enabled: bool = True, port: int = 1) -> None:
    """An app that nobody runs, and its commands."""
    state = State.ENABLED if enabled else State.DISABLED
    place = Daemon("manual", "", "manual-install", "http", "127.0.0.1")
    app = AppRecord("words", "1.0.0", "Words", place, port, Secret("12345"), state, enabled)

    async def add() -> None:
        async with await Registry.open(folder / REGISTRY_FILE) as registry:
            await registry.add_daemon(place)
            await registry.add_app(app)
            for each in documents:
                await registry.write(
                    lambda connection, each=each: Documents(connection).put(
                        each.kind, each.app_id, each.name, each.content
                    )
                )

    anyio.run(add)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_answer_of_the_app_is_printed_as_it_is(occ: Occ, tmp_path: Path) -> None:
    with listening(200, "ä\n\x1b[1mtwo".encode()) as (url, told):
        store(tmp_path, document(), port=port_of(url))
        assert occ("words:count") == ("ä\n\x1b[1mtwo", "", 0)
        assert occ("words:count", "-q") == ("", "", 0)
    assert [path for _, path, _, _ in told] == ["/occ/count"] * 2


def test_refusal_of_the_app_is_printed_with_its_beginning(occ: Occ, tmp_path: Path) -> None:
    with listening(500, b"no disk" + b"." * 5000) as (url, _):
        store(tmp_path, document(), port=port_of(url))
        out, err, code = occ("words:count")
    assert (out, code) == ("[words:count] command executeHandler failed\n", 1)
    assert err.startswith("POST /occ/count was answered with 500: no disk...")
    assert len(err) < 1100


def test_app_that_does_not_run_is_no_traceback(occ: Occ, tmp_path: Path) -> None:
    store(tmp_path, document())
    out, err, code = occ("words:count")
    assert code == 1
    assert out.startswith("[words:count] command executeHandler failed. Error: ")
    assert "no connection" in out
    assert err == ""


def test_commands_of_an_app_that_run_has_are_there_too(occ: Occ, tmp_path: Path) -> None:
    (tmp_path / "run" / "words").mkdir(parents=True)
    store(tmp_path / "run" / "words", document())
    assert "words:count" in occ("list", "words")[0]
    out, _, code = occ("words:count")
    assert code == 1
    assert "no connection" in out


def test_command_of_a_disabled_app_names_the_app(occ: Occ, tmp_path: Path) -> None:
    store(tmp_path, document(), enabled=False)
    out, err, code = occ("words:count")
    assert (out, code) == ("", 1)
    assert 'Command "words:count" is not defined.' in err
    assert "occ app_api:app:enable words" in err
    assert "words:count" not in occ("list")[0]


def test_malformed_command_takes_no_other_along(occ: Occ, tmp_path: Path) -> None:
    broken = document(name="words:bad", options=["x"])
    store(
        tmp_path,
        Document("occ-command", 2, "words", "", "words:bad", "", broken.content),
        document(),
    )
    out, err, code = occ("list")
    assert code == 0
    assert "words:count" in out
    assert "words:bad" not in out
    assert err == "ExApp words: its command words:bad cannot run: an option has no name\n"


def test_commands_of_the_host_are_not_replaced(occ: Occ, tmp_path: Path) -> None:
    mine = document(name="app_api:app:list", description="Mine")
    store(tmp_path, mine)
    assert occ("app_api:app:list")[0].startswith("ExApps:")
    assert "Mine" not in occ("list")[0]
