"""`app …` and `daemon …`: managing for people, with real apps."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from appapi_host.cli import main, manage
from appapi_host.cli.places import note_served
from appapi_host.cli.session import Session
from appapi_host.host import Host
from appapi_host.settings import HostSettings
from tests.live.cli_shell import INFO, write_app

pytestmark = pytest.mark.live

Call = Callable[..., tuple[list[str], list[str], int]]


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    def call(*words: object) -> tuple[list[str], list[str], int]:
        code = main([*map(str, words), "--data-dir", str(tmp_path / "data")])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return captured.out.splitlines(), captured.err.splitlines(), code

    yield call
    anyio.run(remove_all, tmp_path / "data")


async def remove_all(data_dir: Path) -> None:
    async with Host.open(HostSettings(data_dir=data_dir)) as host:
        for app in await host.apps():
            await host.unregister(app.app_id, force=True, rm_data=True)


def test_an_app_is_managed_from_its_installation_to_its_end(call: Call, tmp_path: Path) -> None:
    app, new = write_app(tmp_path / "app"), write_app(tmp_path / "new")
    (new / "appinfo" / "info.xml").write_text(INFO.format(app_id="plain").replace("1.2", "1.3"))

    assert call("app", "list")[0] == ["No apps are installed; `app install PATH` installs one."]
    out, err, code = call("app", "install", app)
    assert (len(out), code) == (1, 0)
    assert out[0].startswith("plain 1.2.0 is enabled, at http://127.0.0.1:23")
    assert err[0] == "No daemon was registered: local is one now, for local processes."
    address = out[0].split()[-1].rstrip(".")

    out, _, code = call("app", "list")
    assert [line.split() for line in out] == [
        ["App", "Name", "Version", "State", "Daemon", "Address"],
        ["plain", "Plain", "App", "1.2.0", "enabled", "local", address],
    ]
    assert call("app", "disable", "plain")[0] == ["plain is disabled."]
    assert call("app", "enable", "plain")[0] == ["plain is enabled."]
    out, _, code = call("app", "show", "plain")
    assert [line.split(maxsplit=1) for line in out[:4]] == [
        ["name", "Plain App 1.2.0"],
        ["state", "enabled"],
        ["daemon", "local"],
        ["address", address],
    ]
    assert out[-1] == "  | switched /enabled?enabled=1"
    assert call("app", "update", app)[0] == ["plain 1.2.0 is installed already."]
    assert call("app", "update", new)[0] == ["plain 1.3.0 is enabled; it was 1.2.0."]
    assert call("daemon", "remove", "local")[2] == 1
    kept = "What it has stored is kept; --data removes that, too."
    assert call("app", "remove", "plain")[0] == [f"plain is removed. {kept}"]
    assert call("daemon", "remove", "local")[0] == ["Daemon local is removed."]


def test_new_daemons_lead_apps_to_where_the_host_is_served(call: Call, tmp_path: Path) -> None:
    def urls() -> set[str]:
        return {line.split()[-1] for line in call("daemon", "list")[0] if "http:" in line}

    assert call("daemon", "add", "usual", "manual-install")[2] == 0
    assert urls() == {"http://127.0.0.1:8080"}
    anyio.run(serve_at, tmp_path / "data", 8123)
    assert call("daemon", "add", "served", "manual-install")[2] == 0
    assert urls() == {"http://127.0.0.1:8080", "http://127.0.0.1:8123"}


async def serve_at(data_dir: Path, port: int) -> None:
    settings = HostSettings(data_dir=data_dir, port=port)
    async with Host.open(settings) as host:
        await note_served(host.registry, settings)


def test_an_app_that_fails_says_why_wherever_one_looks(call: Call, tmp_path: Path) -> None:
    app = write_app(tmp_path / "app")
    (app / "main.py").write_text("raise SystemExit('my key is lost')")
    out, err, code = call("app", "install", app / "appinfo" / "info.xml")
    assert (out, code) == ([], 1)
    assert any("the app ended: exit code 1" in line for line in err)
    assert any("my key is lost" in line for line in err)
    assert "failed" in call("app", "list")[0][1]
    assert call("app", "list")[0][1].endswith("the app ended: exit code 1")
    out = call("app", "show", "plain")[0]
    assert "failure    the app ended: exit code 1" in out
    assert out[-1] == "  | my key is lost"
    assert call("app", "enable", "plain")[2] == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("app", "show", "nope"), "ExApp nope not found."),
        (("app", "install", "nowhere"), "nowhere"),
        (("daemon", "add", "x", "nonsense"), "actions for nonsense not found"),
        (("daemon", "remove", "x"), "there is no daemon 'x'"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_1(
    call: Call, words: tuple[str, ...], text: str
) -> None:
    out, err, code = call(*words)
    assert (out, code) == ([], 1)
    assert text in "\n".join(err)


@pytest.mark.parametrize(
    "words", [("app",), ("app", "install", ".", "--env", "x"), ("daemon", "add", "x")]
)
def test_wrong_words_end_with_exit_code_2(words: tuple[str, ...]) -> None:
    assert main(list(words)) == 2


def test_the_command_of_an_app_belongs_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "list", "--", "python3"]) == 2
    assert "`--` belongs to run" in capsys.readouterr().err


def test_daemons_are_added_and_listed(call: Call) -> None:
    assert call("daemon", "list")[0][0].startswith("No daemons are registered")
    words = ("daemon", "add", "hand", "manual-install", "--host", "localhost", "--default")
    assert call(*words)[0] == ["Daemon hand is registered."]
    out, err, _ = call("daemon", "list")
    assert out[1].split() == ["hand", "*", "manual-install", "localhost", "http://127.0.0.1:8080"]
    assert err == ["* is the default daemon."]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_table(call: Call, tmp_path: Path) -> None:
    call("daemon", "add", "hand", "manual-install")
    screen = Terminal()
    session = Session(HostSettings(data_dir=tmp_path / "data"), screen, io.StringIO())
    assert anyio.run(manage.list_daemons, session) == 0
    assert "\x1b[1mDaemon" in screen.getvalue()
    assert "│ hand" in screen.getvalue()
