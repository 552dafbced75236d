"""Task processing: registration, the queue, files, and what the host does in return."""

import json
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from appapi_host.documents import FIRST_FILE
from appapi_host.settings import HostSettings
from appapi_host.task_types import CORE_TYPES, SHAPE_TYPES
from tests.host.listening import listening
from tests.host.web_stage import EchoApp, WebStage, meta, signed, web_stage

PROVIDER = "/apps/app_api/api/v1/ai_provider/task_processing"
WORK = "/taskprocessing/tasks_provider"
TASKS = "/taskprocessing"
SUMMARY = "core:text2text:summary"
NEXT = {"providerIds": ["sum"], "taskTypeIds": [SUMMARY]}
V33 = HostSettings(nextcloud_version=33)


def provider(**changed: Any) -> dict[str, Any]:
    return {
        "id": "sum",
        "name": "Sums up",
        "task_type": SUMMARY,
        "expected_runtime": 30,
        "optional_input_shape": [{"name": "tokens", "description": "limit", "shape_type": 0}],
        "optional_output_shape": [],
        "input_shape_enum_values": {},
        "input_shape_defaults": {},
        "optional_input_shape_enum_values": {},
        "optional_input_shape_defaults": {"tokens": 500},
        "output_shape_enum_values": {},
        "optional_output_shape_enum_values": {},
    } | changed


CUSTOM = {
    "id": "my:type",
    "name": "Mine",
    "description": "Does it",
    "input_shape": [
        {"name": "sounds", "description": "in", "shape_type": 13},
        {"name": "mode", "description": "how", "shape_type": 6},
    ],
    "output_shape": [{"name": "image", "description": "out", "shape_type": 2}],
}


async def register(s: WebStage, custom: Any = None, **changed: Any) -> None:
    given = {"provider": provider(**changed), "customTaskType": custom}
    await s.data("POST", PROVIDER, json=given)


async def schedule(s: WebStage, **changed: Any) -> dict[str, Any]:
    given = {"type": SUMMARY, "appId": "assistant", "input": {"input": "long text"}} | changed
    found = await s.data("POST", f"{TASKS}/schedule", json=given, user_id="user", version=2)
    task = found["task"]
    assert isinstance(task, dict)
    return task


async def test_provider_is_shown_as_json_text() -> None:
    async with web_stage() as s:
        await register(s)
        found = await s.data("GET", PROVIDER, params={"name": "sum"})
        assert found["custom_task_type"] == "null"
        assert found["provider"].startswith('{"id":"sum","name":"Sums up"')
        assert (found["id"], found["app_id"], found["display_name"]) == (1, "nc_py_api", "Sums up")
        assert await s.refusal("GET", PROVIDER, params={"name": "x"}) == (404, "")


@pytest.mark.parametrize(
    ("changed", "custom"),
    [
        ({"id": 5}, None),
        ({"name": None}, None),
        ({"expected_runtime": "long"}, None),
        ({"optional_input_shape": {"a": 1}}, None),
        ({"optional_output_shape": ["text"]}, None),
        ({"optional_output_shape": [{"name": "x", "shape_type": 7}]}, None),
        ({"input_shape_defaults": "text"}, None),
        ({}, CUSTOM),
        ({"task_type": "my:type"}, {**CUSTOM, "name": 5}),
        ({"task_type": "my:type"}, {**CUSTOM, "output_shape": None}),
    ],
)
async def test_malformed_provider_is_refused(changed: dict[str, Any], custom: Any) -> None:
    async with web_stage() as s:
        given = {"provider": provider(**changed), "customTaskType": custom}
        assert await s.refusal("POST", PROVIDER, json=given) == (400, "")


async def test_task_goes_from_scheduled_to_successful() -> None:
    async with web_stage() as s:
        await register(s)
        task = await schedule(s, customId="mine")
        assert task["completionExpectedAt"] == task["scheduledAt"] + 30
        assert (task["status"], task["input"]) == (
            "STATUS_SCHEDULED",
            {"tokens": 500, "input": "long text"},
        )
        assert (task["userId"], task["customId"], task["output"]) == ("user", "mine", None)
        taken = await s.data("GET", f"{WORK}/next", json=NEXT, version=2)
        assert taken["provider"] == {"name": "sum"}
        assert (taken["task"]["id"], taken["task"]["status"]) == (1, "STATUS_RUNNING")
        assert taken["task"]["startedAt"] is not None
        empty = await s.ocs("GET", f"{WORK}/next", json=NEXT, version=2)
        assert (empty.status_code, empty.content) == (204, b"")
        nothing = await s.ocs("GET", f"{WORK}/next", json=NEXT)
        assert (nothing.status_code, meta(nothing)) == (200, (204, ""))
        assert nothing.json()["ocs"]["data"] is None
        moved = await s.data("POST", f"{WORK}/1/progress", json={"progress": 0.25})
        assert moved["task"]["progress"] == 0.25
        done = await s.data("POST", f"{WORK}/1/result", json={"output": {"output": "short"}})
        assert (done["task"]["status"], done["task"]["progress"]) == ("STATUS_SUCCESSFUL", 1)
        late = await s.data("POST", f"{WORK}/1/result", json={"errorMessage": "late"})
        assert late["task"] == done["task"]
        found = await s.data("GET", f"{TASKS}/task/1", user_id="user")
        assert found["task"]["output"] == {"output": "short"}
        assert found["task"]["endedAt"] is not None


@pytest.mark.parametrize("given", [{"output": None, "errorMessage": "no"}, {}])
async def test_task_without_output_failed(given: dict[str, Any]) -> None:
    async with web_stage() as s:
        await register(s)
        await schedule(s)
        done = await s.data("POST", f"{WORK}/1/result", json=given)
        assert done["task"]["status"] == "STATUS_FAILED"
        task = await s.host.tasks.task(1)
        assert task.error == given.get("errorMessage", "the app gave neither output nor error")


@pytest.mark.parametrize("progress", [-0.1, 1.5, 100])
async def test_progress_is_between_0_and_1(progress: float) -> None:
    async with web_stage() as s:
        await register(s)
        await schedule(s)
        response = await s.ocs("POST", f"{WORK}/1/progress", json={"progress": progress})
        assert meta(response)[0] == 400


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"type": "core:text2image"}, 412),
        ({"type": "unheard:of"}, 412),
        ({"input": {}}, 400),
        ({"input": {"input": 5}}, 400),
        ({"input": {"input": "x", "tokens": "many"}}, 400),
    ],
)
async def test_task_that_nobody_can_do_is_refused(changed: dict[str, Any], code: int) -> None:
    async with web_stage() as s:
        await register(s)
        given = {"type": SUMMARY, "appId": "a", "input": {"input": "x"}} | changed
        response = await s.ocs("POST", f"{TASKS}/schedule", json=given, user_id="user", version=2)
        assert (response.status_code, meta(response)[0]) == (code, code)
        assert response.json()["ocs"]["data"]["message"]


async def test_custom_type_is_listed_and_its_input_is_checked() -> None:
    async with web_stage() as s:
        await register(s)
        await register(s, CUSTOM, id="mine", task_type="my:type")
        await register(s, id="unknown", task_type="no:such")
        found = await s.data("GET", f"{TASKS}/tasktypes", user_id="user")
        assert list(found["types"]) == [SUMMARY, "my:type"]
        described = found["types"]["my:type"]
        assert described["inputShape"]["sounds"] == {
            "name": "sounds",
            "description": "in",
            "type": "ListOfAudios",
        }
        assert described["optionalInputShapeDefaults"] == {"tokens": 500}
        files = [await s.host.tasks.store_file(b"") for _ in range(2)]
        for value, is_right in (
            (files, True),
            (files[0], False),
            (["a"], False),
            ([True], False),
            ([-1], False),
            ([2**70], False),
        ):
            given = {"type": "my:type", "appId": "a", "input": {"sounds": value, "mode": "m"}}
            response = await s.ocs("POST", f"{TASKS}/schedule", json=given, user_id="user")
            assert (meta(response)[0] == 100) is is_right


async def test_types_of_disabled_apps_are_not_there() -> None:
    async with web_stage() as s:
        await register(s)
        await s.change_app(enabled=False)
        response = await s.client.get(
            f"/ocs/v2.php{TASKS}/tasktypes?format=json", auth=("user", "user")
        )
        assert response.json()["ocs"]["data"] == {"types": []}


def test_core_types_have_shapes_that_exist() -> None:
    for task_type in CORE_TYPES.values():
        shapes = [*task_type.inputs.values(), *task_type.outputs.values()]
        assert shapes
        assert {shape.type for shape in shapes} <= set(SHAPE_TYPES.values())


async def test_batch_hands_out_several_and_says_whether_there_are_more() -> None:
    async with web_stage(settings=V33) as s:
        await register(s)
        for _ in range(3):
            await schedule(s)
        given = {**NEXT, "numberOfTasks": 2}
        found = await s.data("GET", f"{WORK}/next_batch", json=given)
        assert [one["task"]["id"] for one in found["tasks"]] == [1, 2]
        assert found["has_more"] is True
        found = await s.data("GET", f"{WORK}/next_batch", json=given)
        assert ([one["task"]["id"] for one in found["tasks"]], found["has_more"]) == ([3], False)
        assert await s.data("GET", f"{WORK}/next_batch", json=given) == {
            "tasks": [],
            "has_more": False,
        }


async def test_batch_does_not_exist_before_33() -> None:
    async with web_stage() as s:
        assert (await s.refusal("GET", f"{WORK}/next_batch", json=NEXT))[0] == 998


async def test_two_workers_never_get_the_same_task() -> None:
    async with web_stage() as s:
        await register(s)
        for _ in range(5):
            await schedule(s)
        numbers: list[int] = []

        async def work() -> None:
            while taken := (await s.host.tasks.take({SUMMARY}))[0]:
                numbers.append(taken[0].id)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(work)
        assert sorted(numbers) == [1, 2, 3, 4, 5]


async def test_routes_for_apps_are_refused_to_others_without_an_envelope() -> None:
    async with web_stage() as s:
        for options in ({"headers": {}}, {"headers": {}, "auth": ("admin", "admin")}):
            response = await s.client.get(f"/ocs/v2.php{WORK}/next", **options)
            assert (response.status_code, response.json()) == (412, {"message": "ExApp required"})
            assert response.headers["content-type"] == "application/json; charset=utf-8"


CONTENT = bytes(range(256)) + b"\r\n--x\n\n\r--\r\n\xff"


async def test_files_survive_as_they_are() -> None:
    async with web_stage() as s:
        await register(s, CUSTOM, id="mine", task_type="my:type")
        number = await s.host.tasks.store_file(CONTENT)
        await schedule(s, type="my:type", input={"sounds": [number], "mode": "m"})
        response = await s.ocs("GET", f"{WORK}/1/file/{number}")
        assert (response.status_code, response.content) == (200, CONTENT)
        assert response.headers["content-type"] == "application/octet-stream"
        files = {"other": b"no", "file": ("file", CONTENT)}
        response = await s.ocs("POST", f"{WORK}/1/file", files=files, version=2)
        assert response.status_code == 201
        uploaded = response.json()["ocs"]["data"]["fileId"]
        assert uploaded != number
        await s.data("POST", f"{WORK}/1/result", json={"output": {"image": uploaded}})
        response = await s.ocs("GET", f"{TASKS}/tasks/1/file/{uploaded}", user_id="user")
        assert response.content == CONTENT
        unrelated = await s.host.tasks.store_file(b"secret")
        for path in (f"{WORK}/1/file/{unrelated}", f"{WORK}/9/file/{number}"):
            assert (await s.refusal("GET", path))[0] == 404


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "text/plain"}, b"x"),
        ({"content-type": "multipart/form-data"}, b"x"),
        ({"content-type": "multipart/form-data; boundary=x"}, b""),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n--x--\r\n',
        ),
    ],
)
async def test_upload_without_a_file_is_refused(headers: dict[str, str], body: bytes) -> None:
    async with web_stage() as s:
        await register(s)
        await schedule(s)
        sent = {**headers, **signed(), "accept": "application/json"}
        response = await s.client.post(f"/ocs/v2.php{WORK}/1/file", headers=sent, content=body)
        assert meta(response)[0] == 996


async def test_tasks_of_others_are_not_found() -> None:
    async with web_stage() as s:
        await register(s)
        await schedule(s)
        for verb, path in (
            ("GET", "task/1"),
            ("POST", "tasks/1/cancel"),
            ("GET", "tasks/1/file/1"),
            ("GET", "task/9"),
        ):
            response = await s.ocs(verb, f"{TASKS}/{path}", user_id="admin", version=2)
            assert response.status_code == 404
            assert response.json()["ocs"]["data"] == {"message": "Task not found"}


async def test_deleting_what_is_not_there_changes_nothing() -> None:
    async with web_stage() as s:
        await register(s)
        await schedule(s)
        for path in ("task/1", "task/9"):
            assert await s.data("DELETE", f"{TASKS}/{path}", user_id="admin") is None
        await s.data("GET", f"{TASKS}/task/1", user_id="user")


async def test_files_that_the_user_has_are_handed_out() -> None:
    async with web_stage() as s:
        await register(s, CUSTOM, id="mine", task_type="my:type")
        node = await s.host.files.put("user", "sounds/a.wav", CONTENT)
        await schedule(s, type="my:type", input={"sounds": [node.fileid], "mode": "m"})
        response = await s.ocs("GET", f"{WORK}/1/file/{node.fileid}")
        assert response.content == CONTENT
        assert response.headers["content-type"] in ("audio/x-wav", "audio/wav")
        response = await s.ocs("GET", f"{TASKS}/tasks/1/file/{node.fileid}", user_id="user")
        assert response.content == CONTENT
        other = await s.host.files.put("user", "b.wav", b"")
        assert (await s.refusal("GET", f"{WORK}/1/file/{other.fileid}"))[0] == 404
        await s.host.files.delete("user", "sounds/a.wav")
        assert (await s.refusal("GET", f"{WORK}/1/file/{node.fileid}"))[0] == 404


@pytest.mark.parametrize("number", [99, FIRST_FILE + 99])
async def test_files_of_nobody_or_of_others_are_refused(number: int) -> None:
    async with web_stage() as s:
        await register(s, CUSTOM, id="mine", task_type="my:type")
        others = await s.host.files.put("admin", "a.wav", CONTENT)
        for file in (number, others.fileid):
            given = {"type": "my:type", "appId": "a", "input": {"sounds": [file], "mode": "m"}}
            response = await s.ocs(
                "POST", f"{TASKS}/schedule", json=given, user_id="user", version=2
            )
            assert response.status_code == 401
            assert "does not have access" in response.json()["ocs"]["data"]["message"]


async def test_apps_have_tasks_done_in_nobodys_name() -> None:
    async with web_stage(settings=V33) as s:
        await register(s)
        await register(s, CUSTOM, id="mine", task_type="my:type")
        path = f"{TASKS}/tasks_consumer"
        assert list((await s.data("GET", f"{path}/tasktypes"))["types"]) == [SUMMARY, "my:type"]
        given = {"type": SUMMARY, "appId": "nc_py_api", "input": {"input": "text"}}
        task = (await s.data("POST", f"{path}/schedule", json=given))["task"]
        assert (task["id"], task["userId"]) == (1, None)
        assert (await s.data("GET", f"{path}/task/1"))["task"]["id"] == 1
        # Neither is a user's task that of an app, nor the other way round.
        await schedule(s)
        assert (await s.refusal("GET", f"{path}/task/2"))[0] == 404
        assert (await s.refusal("GET", f"{TASKS}/task/1", user_id="user"))[0] == 404
        found = await s.data("POST", f"{path}/tasks/1/cancel")
        assert found["task"]["status"] == "STATUS_CANCELLED"
        assert await s.data("DELETE", f"{path}/task/1") is None
        given = {"type": "my:type", "appId": "a", "input": {"sounds": [1], "mode": "m"}}
        response = await s.ocs("POST", f"{path}/schedule", json=given, version=2)
        assert response.status_code == 401
        assert "without user context" in response.json()["ocs"]["data"]["message"]
        response = await s.ocs("GET", f"{path}/tasktypes", headers={})
        assert response.status_code == 412
    async with web_stage() as s:
        assert (await s.refusal("GET", f"{path}/tasktypes"))[0] == 998


async def test_result_comes_in_pieces() -> None:
    async with web_stage(settings=HostSettings(nextcloud_version=35)) as s:
        await register(s)
        await schedule(s)
        await s.data("GET", f"{WORK}/next", json=NEXT)
        for text in ("One", "One two"):
            given = {"output": {"output": text}}
            task = (await s.data("POST", f"{WORK}/1/stream-result", json=given))["task"]
            assert (task["status"], task["output"]) == ("STATUS_RUNNING", {"output": text})
            assert task["endedAt"] is None
        await s.data("POST", f"{WORK}/1/result", json={"output": {"output": "One two."}})
        late = {"output": {"output": "late"}}
        task = (await s.data("POST", f"{WORK}/1/stream-result", json=late))["task"]
        assert task["output"] == {"output": "One two."}
        assert (await s.refusal("POST", f"{WORK}/9/stream-result", json=late))[0] == 404
        assert (await s.refusal("POST", f"{WORK}/1/stream-result"))[0] == 996
    async with web_stage(settings=V33) as s:
        assert (await s.refusal("POST", f"{WORK}/1/stream-result", json=late))[0] == 998


async def test_queue_is_counted_for_administrators() -> None:
    async with web_stage(settings=V33) as s:
        await register(s)
        for _ in range(3):
            await schedule(s)
        await s.data("GET", f"{WORK}/next", json=NEXT)
        path = f"{TASKS}/queue_stats"
        assert await s.data("GET", path, user_id="admin") == {"scheduled": 2, "running": 1}
        for kind, count in ((SUMMARY, 2), ("core:text2image", 0)):
            given = {"taskTypeIds[]": kind}
            found = await s.data("GET", path, params=given, user_id="admin")
            assert found["scheduled"] == count
        assert (await s.refusal("GET", path, user_id="user"))[0] == 403


async def test_own_tasks_are_listed_cancelled_and_deleted() -> None:
    async with web_stage() as s:
        await register(s)
        await schedule(s, customId="a")
        await schedule(s)
        for app_id, ids in (("assistant", [1, 2]), ("other", [])):
            found = await s.data("GET", f"{TASKS}/tasks/app/{app_id}", user_id="user")
            assert [task["id"] for task in found["tasks"]] == ids
        given = {"customId": "a"}
        found = await s.data("GET", f"{TASKS}/tasks", params=given, user_id="user")
        assert [task["id"] for task in found["tasks"]] == [1]
        given = {"taskType": "core:text2image"}
        assert await s.data("GET", f"{TASKS}/tasks", params=given, user_id="user") == {"tasks": []}
        found = await s.data("POST", f"{TASKS}/tasks/1/cancel", user_id="user")
        assert found["task"]["status"] == "STATUS_CANCELLED"
        assert [task.id for task in (await s.host.tasks.take({SUMMARY}, limit=9))[0]] == [2]
        await s.data("DELETE", f"{TASKS}/task/1", user_id="user")
        found = await s.data("GET", f"{TASKS}/tasks", user_id="user")
        assert [task["id"] for task in found["tasks"]] == [2]


async def asked(app: EchoApp, count: int) -> None:
    """Wait until the app was asked so often."""
    with anyio.fail_after(20):
        while len(app.received) < count:
            await anyio.lowlevel.checkpoint()


async def test_app_is_told_of_a_task_unless_it_is_at_work() -> None:
    app = EchoApp()
    async with web_stage(app, settings=V33) as s:
        await register(s)
        await schedule(s)
        await asked(app, 1)
        await s.host.tasks.take({SUMMARY})
        await schedule(s)
        await s.data("POST", f"{WORK}/1/result", json={"output": {}})
        await schedule(s)
        await asked(app, 2)
        assert [(one["method"], one["path"], one["query"]) for one in app.received] == [
            ("POST", "/trigger", "providerId=sum")
        ] * 2
        assert app.header("aa-request-id") == ["CLI"]
        assert app.header("authorization-app-api") == ["OjEyMzQ1"]


async def test_who_asked_is_told_of_the_end() -> None:
    app = EchoApp()
    async with web_stage(app) as s:
        await register(s)
        for method, uri in (
            ("AppAPI:nc_py_api:PUT", "/done"),
            ("AppAPI:nc_py_api:BREW", "/done"),
            ("AppAPI:nc_py_api:PUT", "http://elsewhere"),
            ("HTTP:POST", "/done"),
        ):
            task = await schedule(s, webhookUri=uri, webhookMethod=method)
            await s.data("POST", f"{WORK}/{task['id']}/result", json={"output": {}})
        await asked(app, 1)
        [told] = app.received
        assert (told["method"], told["path"]) == ("PUT", "/done")
        assert json.loads(told["body"])["task"]["status"] == "STATUS_SUCCESSFUL"
        assert app.header("authorization-app-api") == ["dXNlcjoxMjM0NQ=="]
        assert app.header("content-type") == ["application/json"]


async def test_address_that_wants_to_know_is_told_without_a_signature() -> None:
    with listening() as (url, told):
        async with web_stage() as s:
            await register(s)
            for uri in (f"{url}/done", "http://127.0.0.1:1/done"):
                task = await schedule(s, webhookUri=uri, webhookMethod="HTTP:POST")
                await s.data("POST", f"{WORK}/{task['id']}/result", json={"output": {}})
            with anyio.fail_after(20):
                while not (told and s.notices()):
                    await anyio.lowlevel.checkpoint()
            assert "POST http://127.0.0.1:1/done: " in s.notices()[0]
    [(method, path, headers, body)] = told
    assert (method, path, headers["content-type"]) == ("POST", "/done", "application/json")
    assert json.loads(body)["task"]["id"] == 1
    assert "authorization-app-api" not in headers


async def test_app_that_is_not_there_is_said_so() -> None:
    async with web_stage() as s:
        await register(s)
        [found] = await s.host.tasks.providers("nc_py_api")
        assert await s.host.errands.trigger(found) is None
        await s.change_app(enabled=False)
        assert await s.host.errands.trigger(found) is None
        assert "no connection" in s.notices()[0]
        assert s.notices()[1] == "was not asked for POST /trigger?providerId=sum: not enabled"


async def test_slow_app_is_not_waited_for() -> None:
    async def sleeper(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep_forever()

    async with web_stage(sleeper) as s:
        await register(s)
        [found] = await s.host.tasks.providers("nc_py_api")
        assert await s.host.errands.trigger(found) is None
        assert s.notices() == ["POST /trigger?providerId=sum: no answer within 3 s"]
