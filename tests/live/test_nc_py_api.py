"""An app written with nc_py_api, unchanged, as a process behind the live host."""

import base64
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from appapi_host.documents import Document
from appapi_host.events import Notice
from appapi_host.info_xml import AppInfo
from appapi_host.settings import HostSettings
from appapi_host.tasks import Task, TaskStatus
from appapi_host.testing import TEST_TIMEOUTS, InstalledApp, TestHost, live_host
from appapi_host.triggers import FileNode

pytestmark = pytest.mark.live
APP = Path(__file__).with_name("nc_app")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"  # what the ASGI server runs on


@asynccontextmanager
async def installed(folder: Path) -> AsyncIterator[tuple[TestHost, InstalledApp]]:
    """A host, of a version that triggers workers, with the app on it."""
    settings = HostSettings(timeouts=TEST_TIMEOUTS, nextcloud_version=33)
    async with live_host(folder, settings) as host:
        # A port of its own: other hosts on this machine choose from the same ones as ours does.
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        info = await anyio.to_thread.run_sync(AppInfo.from_folder, APP)
        yield host, await host.install(APP, info=replace(info, port=port))


@pytest.fixture(scope="module")
async def pair(
    tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[tuple[TestHost, InstalledApp]]:
    # One for the whole file: what each test does is nothing to the others.
    async with installed(tmp_path_factory.mktemp("nc_app") / "data") as pair:
        yield pair


@pytest.fixture
def host(pair: tuple[TestHost, InstalledApp]) -> TestHost:
    return pair[0]


@pytest.fixture
def app(pair: tuple[TestHost, InstalledApp]) -> InstalledApp:
    return pair[1]


async def documents(host: TestHost, kind: str) -> list[Document]:
    return await host.host.documents.read(lambda documents: documents.find(kind))


REGISTERED = {
    "top-menu",
    "initial-state",
    "script",
    "style",
    "files-action",
    "settings-form",
    "occ-command",
    "task-provider",
    "webhook",
    "talk-bot",
}


async def test_app_registers_itself_and_leaves_only_its_values(tmp_path: Path) -> None:
    async with installed(tmp_path / "data") as (host, app):
        assert app.enabled
        for kind in REGISTERED:
            assert [found.app_id for found in await documents(host, kind)] == ["nc_app"]
        await app.disable()
        assert await documents(host, "top-menu") == []
        await app.enable()
        assert len(await documents(host, "top-menu")) == 1
        await app.unregister()
        for kind in REGISTERED:
            assert await documents(host, kind) == []
        # The secret of the bot, which nc_py_api keeps there.
        [kept] = [value for value in await host.host.values.get("nc_app") if value.is_sensitive]
        assert len(kept.text) == 64


def reports(app: InstalledApp) -> list[int]:
    return [
        json.loads(exchange.request_body)["progress"]
        for exchange in app.exchanges
        if exchange.target.partition("?")[0].endswith("/ex-app/status")
    ]


async def test_default_init_fetches_models_and_reports_how_far_it_is(
    host: TestHost, app: InstalledApp
) -> None:
    assert next(one for one in app.received if one != "GET /heartbeat") == "POST /init"
    with anyio.fail_after(15):
        # The app is enabled within its last report, which is shown when it is answered.
        while 100 not in reports(app):
            more = anyio.Event()
            with host.host.bus.subscribed(lambda _, more=more: more.set()):
                await more.wait()
    assert reports(app) == sorted(reports(app))


async def test_app_finds_what_it_asks_the_host_for(host: TestHost, app: InstalledApp) -> None:
    answer = await app.post("exercise", user="admin", timeout=30)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found.pop("version")["major"] == 33
    assert found == {
        "user": "admin",
        "users": ["admin", "user"],
        "enabled": True,
        "config": {"key": "v", "other": "w"},
        "preference": "mine",
        "deleted": "gone",
        "notification": ["@User did it", "well", "admin"],
        "exists": [1],
        "notifications": 0,
        "menu": ["nc_app", "An app", "img/app.svg"],
        "state": {"a": [1, []]},
        "action": ["convert", "video", "2.0"],
        "form": True,
        "command": [{"name": "to", "mode": "required", "description": "how far"}],
        "webhooks": ["/hook"],
        "me": ["admin", ["admin"]],
        "groups": ["admin"],
        "status": ["dnd", "In a meeting", True],
        "theme": "Nextcloud",
        "model": "Nextcloud",
        "files": {
            "download": "alpha",
            "sizes": {"Work/a.txt": 5, "Work/Deep/b.bin": 300_000, "Work/Deep/d.txt": 5},
            "by_id": "Work/a.txt",
            "found": ["b.bin"],
            "favorites": ["a.txt"],
            "trash": ["Work"],
        },
    }
    notices = [event.text for event in host.events if isinstance(event, Notice)]
    assert "log warning: as if by chance" in notices


async def test_command_of_the_app_is_answered(app: InstalledApp) -> None:
    result = await app.occ("nc_app:count", "3")
    assert (result.exit_code, result.output) == (0, "1\n2\n3\n")


async def test_action_of_the_app_makes_a_file_of_a_file(host: TestHost, app: InstalledApp) -> None:
    node = await host.files.put("user", "/Videos/clip.mp4", b"a film")
    clip = FileNode.at("/Videos/clip.mp4", file_id=node.fileid, size=node.size)
    outcome = await app.trigger_file_action(files=[clip], user_id="user")
    assert outcome.is_success
    assert outcome.notes == (
        f"the browser goes to /index.php/apps/app_api/embedded/nc_app/main?fileIds={node.fileid}",
    )
    assert await host.files.get("user", "/Videos/clip.mp4.gif") == b"GIF of a film"


async def test_page_of_the_app_opens_with_what_it_registered(
    host: TestHost, app: InstalledApp
) -> None:
    async with host.client("user") as client:
        page = await client.get("/index.php/apps/app_api/embedded/nc_app/main")
    assert page.status_code == 200
    assert "/index.php/apps/app_api/proxy/nc_app/js/main.js" in page.text
    assert "/index.php/apps/app_api/proxy/nc_app/css/main.css" in page.text
    [state] = re.findall(r'id="initial-state-app_api-boot"\s+value="([^"]+)"', page.text)
    assert json.loads(json.loads(base64.b64decode(state))) == {"a": [1, []]}


async def test_webhook_of_the_app_is_sent(app: InstalledApp) -> None:
    outcome = await app.trigger_webhook(user_id="user")
    assert outcome.is_success
    heard = (await app.get("heard", user="admin")).json()
    assert outcome.told
    for told in outcome.told:  # files that other tests have made may be among them
        sent = json.loads(told.body)
        assert sent["event"]["class"] == "OCP\\Files\\Events\\Node\\NodeCreatedEvent"
        assert sent["user"] == {"uid": "user", "displayName": "User"}
        assert {"as": "user", **sent} in heard


async def test_app_reads_what_people_enter_in_its_form(app: InstalledApp) -> None:
    assert (await app.get("settings", user="admin")).json() == {}
    await app.trigger_setting("model", "large")
    await app.trigger_setting("token", "pssst")
    assert (await app.get("settings", user="admin")).json() == {"model": "large", "token": "pssst"}


async def ended(host: TestHost, number: int) -> Task:
    seen = None
    with anyio.fail_after(15):
        while True:
            seen = await host.host.registry.next_change(seen)
            task = await host.host.tasks.task(number)
            if task.times["ended"]:
                return task


async def schedule(host: TestHost, text: str) -> int:
    sound = await host.host.tasks.store_file(b"\x00\xff\r\n--boo")
    async with host.client("user") as client:
        answer = await client.post(
            "/ocs/v2.php/taskprocessing/schedule",
            params={"format": "json"},
            json={
                "type": "nc_app:shout",
                "appId": "assistant",
                "input": {"input": text, "sound": sound},
            },
            headers={"OCS-APIRequest": "true"},
        )
    assert answer.status_code == 200, answer.text
    task = answer.json()["ocs"]["data"]["task"]
    assert (task["status"], task["userId"], task["appId"]) == (
        "STATUS_SCHEDULED",
        "user",
        "assistant",
    )
    return int(task["id"])


async def test_app_does_a_task_that_it_is_told_of(host: TestHost, app: InstalledApp) -> None:
    task = await ended(host, await schedule(host, "hello"))
    assert task.status is TaskStatus.SUCCESSFUL
    assert task.output
    assert task.output["output"] == "HELLO"
    assert await host.host.tasks.file(task.id, task.output["sound"]) == b"\x00\xff\r\n--boo" * 2
    assert task.progress == 1


async def test_app_says_why_a_task_failed(host: TestHost, app: InstalledApp) -> None:
    task = await ended(host, await schedule(host, "fail"))
    assert (task.status, task.error, task.progress) == (TaskStatus.FAILED, "too quiet", 0.5)


async def test_bot_of_the_app_answers_in_the_conversation(app: InstalledApp) -> None:
    outcome = await app.trigger_talk("hi", user_id="user", seconds=15)
    assert outcome.is_success
    assert outcome.said == ("👍", "hihi")


def test_the_app_holds_nothing_of_ours() -> None:
    text = (APP / "main.py").read_text(encoding="utf-8")
    assert "exapp_sdk" not in text
    assert "appapi_host" not in text
