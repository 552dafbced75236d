"""What `app.run()` hands to a server, and what it says when it cannot."""

import logging
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from exapp_sdk import ConfigError, ExApp, Settings
from exapp_sdk.server import address_options, import_string, run
from tests.sdk.stage import ENVIRON

ADDRESS = {"APP_HOST": "0.0.0.0", "APP_PORT": "9030"}


class Server:
    """Notes what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, dict[str, Any]]] = []

    def __call__(self, app: Any, **options: Any) -> None:
        self.calls.append((app, options))


@pytest.fixture(autouse=True)
def _own_logger() -> Iterator[None]:
    own = logging.getLogger("exapp_sdk")
    before = own.handlers[:], own.level, own.propagate
    yield
    own.handlers[:], own.level, own.propagate = before


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in (ENVIRON | ADDRESS).items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def uvicorn(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A stand-in that is imported as uvicorn, because the real one would serve until it is told."""
    server = Server()
    module = ModuleType("uvicorn")
    module.run = server  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "uvicorn", module)
    return server


@pytest.mark.usefixtures("environ")
def test_uvicorn_gets_address_and_quiet_defaults(uvicorn: Server) -> None:
    app = ExApp()
    app.run(log_level="warning")
    assert uvicorn.calls == [
        (
            app,
            {
                "host": "0.0.0.0",
                "port": 9030,
                "access_log": False,
                "lifespan": "on",
                "timeout_graceful_shutdown": 3,
                "log_level": "warning",
            },
        )
    ]


@pytest.mark.usefixtures("environ")
def test_options_win_over_what_is_chosen(uvicorn: Server) -> None:
    ExApp().run(port=1234, access_log=True)
    assert uvicorn.calls[0][1]["port"] == 1234
    assert uvicorn.calls[0][1]["access_log"] is True


def test_settings_that_were_passed_in_are_the_ones(uvicorn: Server) -> None:
    app = ExApp(settings=Settings.from_environ(ENVIRON | ADDRESS | {"APP_PORT": "9031"}))
    app.run()
    assert uvicorn.calls[0][1]["port"] == 9031


@pytest.mark.usefixtures("environ")
def test_another_server_gets_the_address_and_nothing_of_uvicorns() -> None:
    server, app = Server(), ExApp()
    app.run(server=server, more=1)
    assert server.calls == [(app, {"host": "0.0.0.0", "port": 9030, "more": 1})]


def test_missing_variables_are_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (*ENVIRON, *ADDRESS):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as caught:
        ExApp().run()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("APP_ID is not set; APP_SECRET is not set;")
    assert "Traceback" not in said


def test_a_missing_port_is_told(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], uvicorn: Server
) -> None:
    environ.delenv("APP_PORT")
    with pytest.raises(SystemExit):
        ExApp().run()
    assert "APP_PORT is not set" in capsys.readouterr().err
    ExApp().run(uds="/run/x.sock")
    ExApp().run(host="127.0.0.1", port=1)
    assert [options.get("uds") for _, options in uvicorn.calls] == ["/run/x.sock", None]


@pytest.mark.usefixtures("environ")
def test_a_missing_server_is_told_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(SystemExit) as caught:
        ExApp().run()
    assert caught.value.code == 2
    assert capsys.readouterr().err == ('there is no ASGI server: pip install "exapp-sdk[server]"\n')


@pytest.mark.usefixtures("environ")
def test_a_server_that_is_broken_is_no_missing_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "uvicorn.py").write_text("import a_module_that_is_not_there")
    monkeypatch.delitem(sys.modules, "uvicorn", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        ExApp().run()


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize(("servers", "ours"), [(1, 1), (3, 1), (0, 0), (None, None)])
def test_a_server_that_cannot_start_ends_the_app_with_1(servers: Any, ours: Any) -> None:
    def server(app: Any, **options: Any) -> None:
        raise SystemExit(servers)

    with pytest.raises(SystemExit) as caught:
        ExApp().run(server=server)
    assert caught.value.code == ours


# HaRP


def harp(path: Path) -> Settings:
    return Settings.from_environ(ENVIRON | {"HP_SHARED_KEY": "key", "HP_EXAPP_SOCK": str(path)})


def test_harp_means_the_unix_socket_and_nothing_else(tmp_path: Path) -> None:
    assert address_options(harp(tmp_path / "x.sock")) == {"uds": str(tmp_path / "x.sock")}


def test_a_socket_that_was_left_behind_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    assert path.is_socket()
    address_options(harp(path))
    assert not path.exists()


def test_anything_else_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="no socket"):
        address_options(harp(path))
    assert path.read_text() == "mine"
    with pytest.raises(ConfigError, match="no folder"):
        address_options(harp(tmp_path / "missing" / "x.sock"))


# Several processes


def script(app: object, file: str | None = "/srv/app/main.py") -> ModuleType:
    module = ModuleType("__main__")
    module.service = app  # type: ignore[attr-defined]
    if file:
        module.__file__ = file
    return module


def test_a_script_is_imported_by_its_name_and_folder() -> None:
    app = object()
    assert import_string(app, script(app)) == ("main:service", "/srv/app")


def test_an_app_that_is_no_global_of_a_script_cannot_be_imported() -> None:
    app = object()
    for module in (script(object()), script(app, None)):
        with pytest.raises(ConfigError, match="able to import the app"):
            import_string(app, module)


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize("options", [{"workers": 2}, {"reload": True}])
def test_workers_get_an_import_string(
    options: dict[str, Any], uvicorn: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = ExApp()
    monkeypatch.setitem(sys.modules, "__main__", script(app))
    app.run(**options)
    given, sent = uvicorn.calls[0]
    assert given == "main:service"
    assert sent["app_dir"] == "/srv/app"


@pytest.mark.usefixtures("environ")
def test_workers_without_an_importable_app_are_refused(
    capsys: pytest.CaptureFixture[str], uvicorn: Server
) -> None:
    with pytest.raises(SystemExit):
        run(ExApp(), workers=2)
    assert "app.run(workers=2)" in capsys.readouterr().err
    assert uvicorn.calls == []


# The log


@pytest.mark.usefixtures("environ")
def test_own_log_lines_are_shown_unless_the_author_has_configured_logging(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = logging.getLogger("exapp_sdk")
    ExApp().run(server=Server())
    assert own.handlers == [], "pytest has handlers of its own, as an author may have"
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    ExApp().run(server=Server())
    assert len(own.handlers) == 1
    assert own.isEnabledFor(logging.INFO)
    ExApp().run(server=Server())
    assert len(own.handlers) == 1
