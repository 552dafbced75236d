"""What apps say about their health: how they are asked, and what is made of it."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from appapi_host.__main__ import main
from appapi_host.documents import Documents
from appapi_host.host import REGISTRY_FILE
from appapi_host.registry import Registry
from appapi_host.settings import HostSettings
from appapi_host.setup_checks import Issue
from exapp_sdk.protocol.status import Status
from tests.host.web_stage import APP, DAEMON, EchoApp, WebStage, web_stage

PATH = "/apps/app_api/api/v1/setup_check"
ANSWER = {
    "model": {
        "status": "warning",
        "text": "Model file is missing",
        "link_url": "https://example.org/help",
        "link_label": "How to fix",
    },
    "disk": {"status": " ERROR ", "text": "full"},
    "gpu": {"status": "success", "text": "found"},
    "odd": "text",
    "odder": {"status": 5},
}


def answering(value: Any, **headers: str) -> EchoApp:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    headers = {"content-length": str(len(body))} | headers
    listed = [(name.encode(), text.encode()) for name, text in headers.items() if text]
    return EchoApp(body=body, headers=listed)


@asynccontextmanager
async def asking(app: EchoApp, version: int = 35) -> AsyncIterator[WebStage]:
    async with web_stage(app, settings=HostSettings(nextcloud_version=version)) as s:
        await s.data("POST", PATH)
        yield s


async def test_app_that_opted_in_is_asked_and_its_issues_are_listed() -> None:
    app = answering(ANSWER)
    async with asking(app) as s:
        assert await s.host.setup_checks.issues() == [
            Issue(
                "nc_py_api",
                "App under test",
                "warning",
                "Model file is missing",
                "https://example.org/help",
                "How to fix",
            ),
            Issue("nc_py_api", "App under test", "error", "full"),
        ]
        [received] = app.received
        assert (received["method"], received["path"]) == ("GET", "/setup_checks")
        assert app.header("authorization-app-api") == ["OjEyMzQ1"]
        await s.data("DELETE", PATH)
        assert await s.host.setup_checks.issues() == []
        assert len(app.received) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"enabled": False},
        {"status": Status(deploy=100, init=40)},
        {"status": Status(deploy=100, init=100, action="init")},
    ],
)
async def test_app_that_is_not_ready_is_not_asked(changes: dict[str, Any]) -> None:
    app = answering(ANSWER)
    async with asking(app) as s:
        await s.change_app(**changes)
        assert await s.host.setup_checks.issues() == []
        assert app.received == []


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        (answering({}, **{"content-length": ""}), "no Content-Length"),
        (answering({}, **{"content-length": "1e3"}), "no Content-Length"),
        (answering(b"[" + b" " * 262_144 + b"]"), "longer than 262144 bytes"),
        (answering(b"text"), "neither a JSON object nor a list"),
        (answering("text"), "neither a JSON object nor a list"),
        (EchoApp(status=500), "answered 500"),
    ],
)
async def test_unusable_answer_is_one_warning_and_its_reason_is_told(
    app: EchoApp, reason: str
) -> None:
    async with asking(app) as s:
        [issue] = await s.host.setup_checks.issues()
        assert (issue.severity, issue.text) == ("warning", "not responding")
        assert reason in s.notices()[-1]


async def test_app_that_is_gone_is_one_warning() -> None:
    async with web_stage(settings=HostSettings(nextcloud_version=35)) as s:
        await s.data("POST", PATH)
        await s.change_app(port=1)
        [issue] = await s.host.setup_checks.issues()
        assert issue.text == "not responding"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"text": "a\x1b[31mb\n"}, ("a[31mb", "")),
        ({"text": ""}, ("reported a problem", "")),
        ({"text": 5}, ("reported a problem", "")),
        ({"text": "x" * 5000}, ("x" * 4096, "")),
        ({"text": "t", "link_url": "javascript:x"}, ("t", "")),
        ({"text": "t", "link_url": "https://a b"}, ("t", "")),
        ({"text": "t", "link_url": 'https://a/"'}, ("t", "")),
        ({"text": "t", "link_url": "https://a/" + "b" * 2048}, ("t", "")),
        ({"text": "t", "link_url": "HTTP://a/"}, ("t", "HTTP://a/")),
    ],
)
async def test_texts_and_links_cannot_do_harm(
    entry: dict[str, Any], expected: tuple[str, str]
) -> None:
    async with asking(answering([entry | {"status": "error"}])) as s:
        [issue] = await s.host.setup_checks.issues()
        assert (issue.text, issue.link_url) == expected


async def test_there_is_an_end_to_issues() -> None:
    many = [{"status": "success"}] * 990 + [{"status": "error", "text": "t"}] * 20
    async with asking(answering(many)) as s:
        assert len(await s.host.setup_checks.issues()) == 10
    async with asking(answering(many[980:])) as s:
        assert len(await s.host.setup_checks.issues()) == 16


async def test_what_is_new_is_said_once() -> None:
    app = answering(ANSWER)
    async with asking(app) as s, anyio.create_task_group() as group:

        async def watch() -> None:
            await s.host.setup_checks.watch(interval=0)

        group.start_soon(watch)
        while len(app.received) < 3:
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
        assert s.notices() == [
            "setup check, warning: Model file is missing",
            "setup check, error: full",
        ]


def store(folder: Path, port: int = APP.port) -> None:
    """An app that wants to be asked."""

    async def add() -> None:
        async with await Registry.open(folder / REGISTRY_FILE) as registry:
            await registry.add_daemon(DAEMON)
            await registry.add_app(replace(APP, port=port))
            await registry.write(
                lambda connection: Documents(connection).put("setup-check", "nc_py_api", "", {})
            )

    anyio.run(add)


@contextmanager
def served(answer: Any) -> Iterator[int]:
    """An app that answers everything in the same way; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_occ_shows_them_as_the_real_one_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = [
        {"status": "error", "text": "no {model}", "link_url": "https://a/", "link_label": "Help"},
        {"status": "error", "text": "<b>it's</b>", "link_url": "https://b/"},
    ]
    with served(answer) as port:
        store(tmp_path, port)
        assert main(["occ", "--data-dir", str(tmp_path), "--no-warnings", "setupchecks"]) == 1
    assert capsys.readouterr().out == (
        "\tsystem:\n"
        "\t\t✗ External Apps (Errors): App under test: no model Help<br />"
        "App under test: &lt;b&gt;it&#039;s&lt;/b&gt; https://b/\n"
        "\t\t✓ External Apps (Warnings)\n"
    )


def test_occ_asks_and_ends_with_1_when_something_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path)

    def occ(*words: str) -> tuple[str, str, int]:
        code = main(["occ", "--data-dir", str(tmp_path), "setupchecks", *words])
        captured = capsys.readouterr()
        return captured.out, captured.err, code

    out, err, code = occ()
    warned = "\t\t⚠ External Apps (Warnings): App under test: not responding\n"
    assert (out, code) == (f"\tsystem:\n\t\t✓ External Apps (Errors)\n{warned}", 1)
    assert "apps can ask for setup checks since Nextcloud 35" in err
    assert "GET /setup_checks: " in err
    name = "OCA\\AppAPI\\SetupChecks\\ExAppsErrorSetupCheck"
    out, _, code = occ(name, "--output=json")
    assert code == 0
    assert json.loads(out) == {
        "system": {
            name: {
                "name": "External Apps (Errors)",
                "severity": "success",
                "description": None,
                "linkToDoc": None,
            }
        }
    }
    assert occ("network") == ("Invalid type specified (or no results for that type)\n", "", 1)
    assert occ("--output=xml")[2] == 1
