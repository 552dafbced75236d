"""What people do with an app, set off from a test: the recorded requests, and every way to fail."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from starlette.requests import Request

from appapi_host.errors import HostError, NotFoundError
from appapi_host.files import instance_id
from appapi_host.records import User
from appapi_host.settings import HostSettings
from appapi_host.tasks import TaskStatus
from appapi_host.testing import TEST_TIMEOUTS, InstalledApp, TestHost, memory_host
from appapi_host.triggers import FileNode
from exapp_sdk import Access, ExApp
from tests.host.web_stage import wire_rows

API = "/apps/app_api/api/v1"
HOOKS = "/apps/webhook_listeners/api/v1/webhooks"
NODE = "OCP\\Files\\Events\\Node\\"
SHAPE = {"name": "n", "description": "", "shape_type": 0}
PROVIDER: dict[str, Any] = {
    "id": "app:all",
    "name": "Everything",
    "task_type": "app:all",
    "expected_runtime": 1,
    "optional_input_shape": [SHAPE],
    "optional_output_shape": [],
    "input_shape_enum_values": {"choice": [{"name": "One", "value": "one"}]},
    "input_shape_defaults": {},
    "optional_input_shape_enum_values": {},
    "optional_input_shape_defaults": [],
    "output_shape_enum_values": {},
    "optional_output_shape_enum_values": {},
}
KINDS = {"number": 0, "text": 1, "image": 2, "audio": 3, "file": 5, "choice": 6, "texts": 11}


def custom_type(**kinds: int) -> dict[str, Any]:
    shape = [{"name": key, "description": "", "shape_type": kind} for key, kind in kinds.items()]
    output = [{"name": "output", "description": "", "shape_type": 1}]
    return {
        "id": "app:all",
        "name": "All",
        "description": "",
        "input_shape": shape,
        "output_shape": output,
    }


class Registering:
    """An app that registers what a test wants when it is enabled, and answers what it wants."""

    def __init__(self, *calls: tuple[str, Mapping[str, Any]]) -> None:
        self.app = app = ExApp()
        self.received: list[tuple[str, str, Any]] = []
        self.answer: Any = {}

        @app.enabled
        async def switched(enabled: bool) -> str:
            for path, body in calls if enabled else ():
                await app.nextcloud.ocs("POST", path, json=body)
            return ""

        @app.post("/handler", access=Access.PUBLIC)
        async def handle(request: Request) -> Any:
            body = await request.body()
            self.received.append(
                (request.user.identity, request.url.path, json.loads(body) if body else None)
            )
            return self.answer

        @app.post("/trigger", access=Access.HOST)
        async def work(request: Request) -> Any:
            provider = request.query_params["providerId"]
            self.received.append(("", request.url.path, provider))
            if self.answer == "idle":
                return {}
            found = await app.nextcloud.ocs(
                "GET",
                "/taskprocessing/tasks_provider/next",
                params={"providerIds[]": provider, "taskTypeIds[]": "app:all"},
            )
            result = {"output": {"output": "done"}} if not self.answer else self.answer
            number = found["task"]["id"]
            path = f"/taskprocessing/tasks_provider/{number}/result"
            await app.nextcloud.ocs("POST", path, json=result)
            return {}


async def installed(host: TestHost, app: Registering) -> InstalledApp:
    return await host.install(app.app)


def action(version: int = 2, **changed: Any) -> tuple[str, dict[str, Any]]:
    given = {"name": "go", "displayName": "Go", "actionHandler": "/handler", "mime": "video"}
    return f"/apps/app_api/api/v{version}/ui/files-actions-menu", given | changed


# File actions


async def test_file_action_is_the_recorded_request(appapi_host: TestHost) -> None:
    [recorded] = [row for row in wire_rows("host-to-exapp.jsonl") if "action" in row["target"]]
    app = Registering(action())
    app.answer = {"redirect_handler": "first"}
    exapp = await installed(appapi_host, app)
    outcome = await exapp.trigger_file_action()
    [told] = outcome.told
    sent = {name.lower() for name, _ in told.headers}
    of_curl = {"authorization"}  # which signed in by a password
    assert {name.lower() for name, _ in recorded["request_headers"]} - of_curl <= sent
    assert (told.method, told.target, told.user_id) == ("POST", "/handler", "user")
    [(user, path, body)] = app.received
    assert (user, path) == ("user", "/handler")
    [node] = body.pop("files")
    assert body == {}
    assert set(json.loads(recorded["request_body"])["files"][0]) <= set(node)
    assert node.pop("etag")
    assert node.pop("mtime") > 1_700_000_000
    assert node == {
        "fileId": 1,
        "name": "clip.mp4",
        "directory": "/Videos",
        "mime": "video/mp4",
        "favorite": "false",
        "permissions": 27,
        "fileType": "file",
        "size": 1048576,
        "shareTypes": None,
        "shareAttributes": None,
        "sharePermissions": None,
        "shareOwner": None,
        "shareOwnerId": None,
        "userId": "user",
        "instanceId": instance_id(appapi_host.host.instance),
    }
    assert outcome.is_success
    assert outcome.notes == (
        "the browser goes to /index.php/apps/app_api/embedded/exapp_under_test/first?fileIds=1",
    )


async def test_old_kind_of_action_is_asked_once_for_each_file(appapi_host: TestHost) -> None:
    app = Registering(action(version=1))
    exapp = await installed(appapi_host, app)
    files = [FileNode.at("/a/b/clip.mp4", file_id=3), FileNode.at("/Films/", is_favorite=True)]
    outcome = await exapp.trigger_file_action(files=files, user_id="admin")
    assert [user for user, _, _ in app.received] == ["admin", "admin"]
    first, second = (body for _, _, body in app.received)
    assert (first["fileId"], first["directory"], first["fileType"]) == (3, "/a/b", "file")
    assert (second["name"], second["directory"], second["fileType"]) == ("Films", "/", "folder")
    assert second["favorite"] == "true"
    assert outcome.notes == (
        "the action is not shown for Films: httpd/unix-directory does not contain video",
    )


@pytest.mark.parametrize(
    ("mime", "name", "found"),
    [
        ("image,video", "clip.mp4", "video/mp4"),
        ("image", "photo.jpg", "image/jpeg"),
        ("application/pdf", "report.pdf", "application/pdf"),
        ("httpd/unix-directory", "Documents", "httpd/unix-directory"),
        ("application/zip", "sample.zip", "application/zip"),
        ("file", "notes.txt", "text/plain"),
    ],
)
async def test_sample_is_a_file_that_the_action_is_shown_for(
    appapi_host: TestHost, mime: str, name: str, found: str
) -> None:
    app = Registering(action(mime=mime))
    outcome = await (await installed(appapi_host, app)).trigger_file_action()
    [node] = app.received[0][2]["files"]
    assert (node["name"], node["mime"]) == (name, found)
    # "file", the default, is in the name of no type; Nextcloud shows such an action for nothing.
    assert bool(outcome.notes) is (mime == "file")


async def test_proxy_says_why_an_action_does_not_get_through(appapi_host: TestHost) -> None:
    app = Registering(action())
    exapp = await installed(appapi_host, app)
    await appapi_host.host.registry.apply(exapp.app_id, lambda record: replace(record, routes=()))
    outcome = await exapp.trigger_file_action()
    assert not outcome.is_success
    assert outcome.told[0].status == 404
    assert "no declared route matches POST /handler" in outcome.told[0].note
    assert app.received == []


@pytest.mark.parametrize("answer", ["text", [1], {"redirect_handler": 3}, {}])
async def test_most_answers_lead_nowhere(appapi_host: TestHost, answer: Any) -> None:
    app = Registering(action())
    app.answer = answer
    outcome = await (await installed(appapi_host, app)).trigger_file_action()
    assert (outcome.is_success, outcome.notes) == (True, ())


# What can go wrong with all of them


async def test_app_that_registered_nothing_says_so(appapi_host: TestHost) -> None:
    exapp = await installed(appapi_host, Registering())
    with pytest.raises(NotFoundError, match="has registered no file action"):
        await exapp.trigger_file_action()
    with pytest.raises(NotFoundError, match="has registered no task provider"):
        await exapp.trigger_task()
    with pytest.raises(NotFoundError, match="has registered no bot"):
        await exapp.trigger_talk()
    with pytest.raises(NotFoundError, match="has registered no webhook"):
        await exapp.trigger_webhook()
    with pytest.raises(NotFoundError, match="has registered no settings form"):
        await exapp.trigger_setting()


async def test_one_of_several_has_to_be_named(appapi_host: TestHost) -> None:
    app = Registering(action(), action(name="stop", mime="image"))
    exapp = await installed(appapi_host, app)
    with pytest.raises(HostError, match="has several: go, stop"):
        await exapp.trigger_file_action()
    with pytest.raises(NotFoundError, match="has no file action halt") as caught:
        await exapp.trigger_file_action("halt")
    assert caught.value.remedy == "it has go, stop"
    await exapp.trigger_file_action("stop")
    assert app.received[0][2]["files"][0]["mime"] == "image/jpeg"


async def test_nobody_else_can_act(appapi_host: TestHost) -> None:
    exapp = await installed(appapi_host, Registering(action()))
    with pytest.raises(NotFoundError, match="There is no user bob"):
        await exapp.trigger_file_action(user_id="bob")
    await appapi_host.host.registry.add_user(User("gone", is_enabled=False))
    with pytest.raises(HostError, match="The user gone is disabled"):
        await exapp.trigger_file_action(user_id="gone")
    for user in ("user", "admin", "gone"):
        await appapi_host.host.users.remove(user)
    with pytest.raises(NotFoundError, match="Nobody can sign in"):
        await exapp.trigger_file_action()


async def test_app_has_to_be_there_and_enabled(appapi_host: TestHost) -> None:
    exapp = await installed(appapi_host, Registering(action()))
    await exapp.disable()
    with pytest.raises(HostError, match="exapp_under_test is disabled"):
        await exapp.trigger_file_action()
    await exapp.unregister()
    with pytest.raises(NotFoundError, match="exapp_under_test not found"):
        await exapp.trigger_file_action()


# Webhooks


def hook(event: str = "NodeCreatedEvent", **changed: Any) -> tuple[str, dict[str, Any]]:
    name = event if "\\" in event else NODE + event
    return HOOKS, {"httpMethod": "POST", "uri": "/handler", "event": name} | changed


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("NodeCreatedEvent", {"node": {"id": 437, "path": "/user/files/notes.txt"}}),
        ("BeforeNodeCreatedEvent", {"node": {"path": "/user/files/notes.txt"}}),
        ("NodeDeletedEvent", {"node": {"path": "/user/files/notes.txt"}}),
        (
            "NodeRenamedEvent",
            {
                "source": {"path": "/user/files/old.txt"},
                "target": {"id": 437, "path": "/user/files/new.txt"},
            },
        ),
        (
            "BeforeNodeCopiedEvent",
            {
                "source": {"id": 436, "path": "/user/files/old.txt"},
                "target": {"path": "/user/files/new.txt"},
            },
        ),
        (
            "OCP\\SystemTag\\TagAssignedEvent",
            {"objectType": "files", "objectIds": ["437"], "tagIds": [3]},
        ),
        ("OCA\\Forms\\Events\\FormSubmittedEvent", {}),
    ],
)
async def test_webhook_gets_a_sample_of_its_event(
    appapi_host: TestHost, event: str, data: dict[str, Any]
) -> None:
    app = Registering(hook(event))
    outcome = await (await installed(appapi_host, app)).trigger_webhook()
    assert outcome.is_success, outcome.notes
    [(user, _, body)] = app.received
    assert user == "user"
    assert body.pop("time")
    name = event if "\\" in event else NODE + event
    assert body == {
        "event": {"class": name, **data},
        "user": {"uid": "user", "displayName": "User"},
    }
    assert (outcome.told[0].target, outcome.told[0].user_id) == ("/handler", "user")


@pytest.mark.parametrize("event", ["CalendarObjectMovedEvent", "CalendarObjectCreatedEvent"])
async def test_calendars_have_samples_too(appapi_host: TestHost, event: str) -> None:
    app = Registering(hook(f"OCP\\Calendar\\Events\\{event}"))
    await (await installed(appapi_host, app)).trigger_webhook()
    assert app.received[0][2]["event"]["objectData"]["id"] == 22


async def test_event_of_several_has_to_be_named_and_may_be_nobodys(appapi_host: TestHost) -> None:
    app = Registering(hook(), hook("NodeDeletedEvent"))
    exapp = await installed(appapi_host, app)
    with pytest.raises(HostError, match="listens to several events"):
        await exapp.trigger_webhook()
    with pytest.raises(NotFoundError, match="does not listen to NodeCopiedEvent"):
        await exapp.trigger_webhook("NodeCopiedEvent")
    with pytest.raises(HostError, match="is not an event that webhooks can listen to"):
        await exapp.trigger_webhook("OCP\\Nothing")
    await exapp.trigger_webhook(f"\\{NODE}NodeDeletedEvent", data={"node": {"id": 5}}, user_id="")
    [(user, _, body)] = app.received
    assert (user, body["user"]) == ("", None)
    assert body["event"] == {"class": f"{NODE}NodeDeletedEvent", "node": {"id": 5}}


async def test_filter_that_lets_nothing_through_is_told(appapi_host: TestHost) -> None:
    app = Registering(hook(eventFilter={"user.uid": "bob"}))
    outcome = await (await installed(appapi_host, app)).trigger_webhook()
    assert not outcome.is_success
    assert outcome.told == ()
    assert outcome.notes == ("webhook 1, POST /handler, was not told: its filter does not want it",)


# Talk


BOT = (f"{API}/talk_bot", {"name": "Echo", "route": "/handler", "description": "Says it again"})


async def test_bot_hears_what_is_said(appapi_host: TestHost) -> None:
    app = Registering(BOT)
    exapp = await installed(appapi_host, app)
    outcome = await exapp.trigger_talk("Hi", conversation="room1")
    assert outcome.is_success
    assert outcome.said == ()
    [(user, path, body)] = app.received
    assert (user, path) == ("", "/handler")
    assert (body["appId"], body["route"], body["type"]) == (exapp.app_id, "handler", "Create")
    assert body["actor"] == {"type": "Person", "id": "users/user", "name": "User"}
    assert json.loads(body["object"]["content"]) == {"message": "Hi", "parameters": {}}
    assert body["target"]["id"] == "room1"
    # The bot's own door: it is not open without the signature.
    path = f"/ocs/v2.php{API}/talk_proxy/{exapp.app_id}/handler"
    async with appapi_host.client() as client:
        assert (await client.post(path, json={})).status_code == 404


async def test_bot_that_fails_fails(appapi_host: TestHost) -> None:
    app = Registering((BOT[0], {**BOT[1], "route": "missing"}))
    outcome = await (await installed(appapi_host, app)).trigger_talk(route="/missing")
    assert not outcome.is_success
    assert outcome.told[0].status == 404


# Tasks


def provider(*, kinds: Mapping[str, int] = KINDS, **changed: Any) -> tuple[str, dict[str, Any]]:
    return f"{API}/ai_provider/task_processing", {
        "provider": PROVIDER | changed,
        "customTaskType": custom_type(**kinds),
    }


async def test_task_has_sample_inputs_and_a_result() -> None:
    async with memory_host(HostSettings(nextcloud_version=33, timeouts=TEST_TIMEOUTS)) as host:
        app = Registering(provider())
        exapp = await installed(host, app)
        outcome = await exapp.trigger_task(seconds=10)
        assert app.received == [("", "/trigger", "app:all")]
        assert (outcome.is_success, outcome.notes) == (True, ())
        task = outcome.task
        assert task
        assert (task.status, task.user_id) == (TaskStatus.SUCCESSFUL, "user")
        assert task.output == {"output": "done"}
        given = dict(task.input)
        files = [await host.host.tasks.file(task.id, given[key]) for key in ("image", "audio")]
        assert (files[0][:4], files[1][:4]) == (b"\x89PNG", b"RIFF")
        assert (given["number"], given["choice"]) == (1, "one")
        assert given["texts"] == [given["text"]]


async def test_task_takes_real_inputs() -> None:
    async with memory_host(HostSettings(nextcloud_version=33, timeouts=TEST_TIMEOUTS)) as host:
        exapp = await installed(host, Registering(provider(kinds={"text": 1, "files": 15})))
        outcome = await exapp.trigger_task(
            "app:all",
            values={"text": "7", "files": [b"a", b"b"], "n": "7"},
            user_id="admin",
            seconds=10,
        )
        assert outcome.task
        given = outcome.task.input
        assert (given["text"], given["n"]) == ("7", 7)
        assert await host.host.tasks.file(outcome.task.id, given["files"][1]) == b"b"
        with pytest.raises(HostError, match="the task has no input nonsense"):
            await exapp.trigger_task(values={"nonsense": 1})
        with pytest.raises(HostError, match="'x' is no Number for n"):
            await exapp.trigger_task(values={"n": "x"})


async def test_task_that_fails_fails() -> None:
    async with memory_host(HostSettings(nextcloud_version=33, timeouts=TEST_TIMEOUTS)) as host:
        app = Registering(provider(kinds={"text": 1}))
        app.answer = {"errorMessage": "too long"}
        outcome = await (await installed(host, app)).trigger_task(seconds=10)
        assert not outcome.is_success
        assert outcome.task
        assert outcome.task.error == "too long"


async def test_task_that_nobody_does_is_waited_for_in_vain() -> None:
    async with memory_host(HostSettings(nextcloud_version=33, timeouts=TEST_TIMEOUTS)) as host:
        app = Registering(provider(kinds={"text": 1}))
        app.answer = "idle"
        exapp = await installed(host, app)
        outcome = await exapp.trigger_task(seconds=0.01)
        assert not outcome.is_success
        assert outcome.task
        assert outcome.task.status is TaskStatus.SCHEDULED
        [running], _ = await host.host.tasks.take(["app:all"])
        assert running.status is TaskStatus.RUNNING
        again = await exapp.trigger_task()
        assert again.notes == ("/trigger is not called: a task of this kind is running already",)


async def test_workers_of_nextcloud_32_look_for_themselves(appapi_host: TestHost) -> None:
    app = Registering(provider(kinds={"text": 1}))
    outcome = await (await installed(appapi_host, app)).trigger_task()
    assert app.received == []
    assert outcome.told == ()
    assert outcome.notes[0].startswith("/trigger is not called: Nextcloud does so since version 33")


async def test_there_is_no_sample_of_a_video(appapi_host: TestHost) -> None:
    exapp = await installed(appapi_host, Registering(provider(kinds={"film": 4})))
    with pytest.raises(HostError, match="there is no sample of a Video for film"):
        await exapp.trigger_task()


# Settings


def form(section: str = "admin", *fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    scheme = {"id": "main", "section_type": section, "title": "Main", "fields": list(fields)}
    return f"{API}/ui/settings", {"formScheme": scheme}


MODEL = {"id": "model", "type": "select", "options": ["small", "large"]}
TOKEN = {"id": "token", "type": "password", "sensitive": True}


async def test_setting_is_where_the_app_reads_it(appapi_host: TestHost) -> None:
    exapp = await installed(appapi_host, Registering(form("admin", MODEL, TOKEN)))
    outcome = await exapp.trigger_setting()
    assert (outcome.key, outcome.user_id, outcome.text) == ("model", "", "large")
    assert "nobody tells the app" in outcome.notes[0]
    outcome = await exapp.trigger_setting("token", "s3cr3t", form="main")
    assert outcome.text == "s3cr3t"
    [value] = await appapi_host.host.values.get(exapp.app_id, ["token"])
    assert (value.text, value.is_sensitive) == ("s3cr3t", True)
    assert outcome.told == ()


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ({"id": "it", "type": "text"}, "sample"),
        ({"id": "it", "type": "number"}, "1"),
        ({"id": "it", "type": "checkbox"}, "true"),
        ({"id": "it", "type": "multi-select", "options": [{"name": "A", "value": "a"}]}, '["a"]'),
        (
            {"id": "it", "type": "multi-checkbox", "options": [{"name": "A", "value": "a"}, "ü/"]},
            '{"a":false,"\\u00fc\\/":true}',
        ),
    ],
)
async def test_personal_setting_has_a_sample_of_its_type(
    appapi_host: TestHost, field: dict[str, Any], text: str
) -> None:
    exapp = await installed(appapi_host, Registering(form("personal", field)))
    outcome = await exapp.trigger_setting()
    assert (outcome.user_id, outcome.text) == ("user", text)


async def test_setting_of_administrators_is_theirs(appapi_host: TestHost) -> None:
    exapp = await installed(appapi_host, Registering(form("admin", MODEL)))
    with pytest.raises(HostError, match="Logged in account must be an admin"):
        await exapp.trigger_setting(user_id="user")
    with pytest.raises(NotFoundError, match="The form main has no field other"):
        await exapp.trigger_setting("other")


# Commands


async def test_command_is_typed_from_a_test(appapi_host: TestHost) -> None:
    given = {
        "name": "app:go",
        "description": "Goes",
        "execute_handler": "handler",
        "arguments": [{"name": "where", "mode": "required"}],
    }
    app = Registering((f"{API}/occ_command", given))
    app.answer = {"well": "done"}
    exapp = await installed(appapi_host, app)
    result = await exapp.occ("app:go", "home")
    assert (result.exit_code, json.loads(result.output)) == (0, {"well": "done"})
    assert app.received == [
        ("", "/handler", {"occ": {"arguments": {"where": "home"}, "options": None}})
    ]
    with pytest.raises(HostError, match="Not enough arguments"):
        await exapp.occ("app:go")
    with pytest.raises(NotFoundError, match="has no command app:stop"):
        await exapp.occ("app:stop")
    await exapp.disable()
    with pytest.raises(HostError, match="is disabled"):
        await exapp.occ("app:go", "home")
