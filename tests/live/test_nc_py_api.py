"""An app written with nc_py_api, unchanged, as a process behind the live host."""

import socket
from collections.abc import AsyncIterator
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

pytestmark = pytest.mark.live
APP = Path(__file__).with_name("nc_app")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # what the ASGI server runs on


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[TestHost]:
    # A version that triggers workers.
    settings = HostSettings(timeouts=TEST_TIMEOUTS, nextcloud_version=33)
    async with live_host(tmp_path / "data", settings) as host:
        yield host


@pytest.fixture
async def app(host: TestHost) -> InstalledApp:
    # A port of its own: other hosts on this machine choose from the same ones as ours does.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    info = await anyio.to_thread.run_sync(AppInfo.from_folder, APP)
    return await host.install(APP, info=replace(info, port=port))


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


async def test_app_registers_itself_and_leaves_only_its_values(
    host: TestHost, app: InstalledApp
) -> None:
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
    }
    notices = [event.text for event in host.events if isinstance(event, Notice)]
    assert "log warning: as if by chance" in notices


async def test_command_of_the_app_is_answered(host: TestHost, app: InstalledApp) -> None:
    record = app.record
    answer = await host.host.client.ask(
        record,
        host.host.url_of(record),
        "POST",
        "/occ/count",
        content=b'{"occ": {"arguments": {"to": "3"}, "options": null}}',
        content_type="application/json",
    )
    assert (answer.status, answer.body) == (200, b"1\n2\n3\n")


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


async def test_bot_of_the_app_answers_in_the_conversation(
    host: TestHost, app: InstalledApp
) -> None:
    activity = {
        "type": "Create",
        "actor": {"type": "Person", "id": "users/user", "name": "User"},
        "object": {
            "type": "Note",
            "id": "991",
            "name": "message",
            "content": '{"message":"hi","parameters":{}}',
            "mediaType": "text/markdown",
        },
        "target": {"type": "Collection", "id": "n3xtc10ud", "name": "room"},
    }
    answer = await host.host.errands.deliver_message("nc_app", "bot", activity)
    assert answer
    assert answer.status == 200
    seen = None
    with anyio.fail_after(15):
        while len(said := await documents(host, "talk-message")) < 2:
            seen = await host.host.registry.next_change(seen)
    assert [found.content.get("reaction", found.content.get("message")) for found in said] == [
        "👍",
        "hihi",
    ]
    assert {found.label for found in said} == {"n3xtc10ud"}


def test_the_app_holds_nothing_of_ours() -> None:
    text = (APP / "main.py").read_text(encoding="utf-8")
    assert "exapp_sdk" not in text
    assert "appapi_host" not in text
