"""The endpoints that apps live from, against what was recorded."""

import json
from typing import Any

import pytest
from starlette.requests import Request

from appapi_host.ocs._endpoints import Call, OCSRefusal
from appapi_host.ocs.status import report_status
from exapp_sdk.protocol.lifecycle import State
from exapp_sdk.protocol.status import Status
from tests.host.web_stage import APP, WebStage, meta, web_stage, wire_rows

ROWS = wire_rows("exapp-to-host-basics.jsonl")
STATUS = "/apps/app_api/ex-app/status"
OLD_STATUS = "/apps/app_api/apps/status"
STATE = "/apps/app_api/ex-app/state"
LOG = "/apps/app_api/api/v1/log"

# What describes that server or its users; the recorded conversation looks at these.
DESCRIBING = ("/cloud/user?",)


def shown_header(response_headers: Any) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in response_headers]


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if not any(path in row["target"] for path in DESCRIBING)],
    ids=lambda row: f"{row['method']} {row['target']} {row['request_body'][:30]}",
)
async def test_recorded_call_is_answered_as_recorded(row: dict[str, Any]) -> None:
    async with web_stage() as s:
        response = await s.client.request(
            row["method"],
            row["target"],
            headers=[
                *((name, value) for name, value in row["request_headers"]),
                *([("Content-Type", "application/json")] if row["request_body"] else []),
            ],
            content=row["request_body"],
        )
        recorded = shown_header(row["response_headers"])
        answered = shown_header(response.headers.items())
        assert response.status_code == row["status"]
        assert [name for name, _ in answered] == [name for name, _ in recorded]
        if "capabilities" in row["target"]:
            return  # what that server could do; the next test looks at the shape
        if "users" in row["target"]:
            # Our host has one more user of its own, and the stage a disabled one.
            assert response.text.replace(',"gone","user"]', "]") == row["response_body"]
            return
        assert answered == recorded
        assert response.text == row["response_body"]


def shape(value: Any) -> Any:
    return (
        {key: shape(member) for key, member in value.items()}
        if isinstance(value, dict)
        else type(value)
    )


async def test_capabilities_are_part_of_the_recorded_ones() -> None:
    [row] = [row for row in ROWS if "capabilities" in row["target"]]
    async with web_stage() as s:
        response = await s.client.get(row["target"], headers=row["request_headers"])
    recorded = json.loads(row["response_body"])["ocs"]["data"]
    answered = response.json()["ocs"]["data"]
    assert answered["version"] == recorded["version"]
    assert answered["capabilities"]["app_api"] == recorded["capabilities"]["app_api"]
    assert list(answered["capabilities"]["app_api"]) == ["loglevel", "version"]
    # Talk was not there when that was recorded; here its bots can be tried.
    del answered["capabilities"]["spreed"]
    for section, members in answered["capabilities"].items():
        for name, value in members.items():
            assert shape(value) == shape(recorded["capabilities"][section][name])


async def test_capabilities_without_a_user_are_the_public_part() -> None:
    async with web_stage() as s:
        signed_call = await s.ocs("GET", "/cloud/capabilities")
        anonymous = await s.ocs("GET", "/cloud/capabilities", headers={})
        assert signed_call.text == anonymous.text
        found = signed_call.json()["ocs"]["data"]["capabilities"]
        assert found["app_api"] == {"version": "32.0.0"}
        assert set(found) == {"app_api", "bruteforce", "spreed", "theming"}


async def test_users_are_listed_in_nobodys_name_too() -> None:
    async with web_stage() as s:
        for user_id in ("", "user"):
            response = await s.ocs("GET", "/apps/app_api/api/v1/users", user_id=user_id)
            assert response.json()["ocs"]["data"] == ["admin", "gone", "user"]


@pytest.mark.parametrize(
    ("level", "label"), [(0, "debug"), (1, "info"), (2, "warning"), (3, "error"), (4, "fatal")]
)
async def test_log_line_is_shown_with_its_level(level: int, label: str) -> None:
    async with web_stage() as s:
        await s.ocs("POST", LOG, json={"level": level, "message": "as é\nit is"})
        assert s.notices() == [f"log {label}: as é\nit is"]
        assert [event.is_warning for event in s.events if hasattr(event, "is_warning")] == [
            level >= 2
        ]


@pytest.mark.parametrize("level", [-1, 5, "7", 10**30])
async def test_other_log_levels_are_refused(level: Any) -> None:
    async with web_stage() as s:
        response = await s.ocs("POST", LOG, json={"level": level, "message": "x"}, version=2)
        assert (response.status_code, meta(response)) == (400, (400, "Invalid log level"))
        assert s.notices() == []


async def test_state_is_a_number() -> None:
    async with web_stage() as s:
        assert (await s.ocs("GET", STATE)).text.endswith('"data":1}}')
        await s.change_app(enabled=False)
        assert (await s.ocs("GET", STATE)).text.endswith('"data":0}}')


async def initializing(s: WebStage) -> None:
    status = Status(deploy=100, action="init", init_start_time=1)
    await s.change_app(state=State.INITIALIZING, status=status)


@pytest.mark.parametrize("path", [STATUS, f"{OLD_STATUS}/nc_py_api"])
async def test_report_moves_the_progress(path: str) -> None:
    async with web_stage() as s:
        await initializing(s)
        response = await s.ocs("PUT", path, json={"progress": "42.9"})
        assert response.text.endswith('"data":[]}}')
        assert (await s.host.app("nc_py_api")).status.init == 42
        await s.ocs("PUT", path, json={"progress": 50, "error": "out of disk"})
        app = await s.host.app("nc_py_api")
        assert (app.status.init, app.status.error) == (42, "out of disk")


@pytest.mark.parametrize("progress", [150, -1, 10**30, "101"])
async def test_report_outside_the_range_is_refused_in_the_recorded_words(progress: Any) -> None:
    async with web_stage() as s:
        await initializing(s)
        response = await s.ocs("PUT", STATUS, json={"progress": progress})
        assert response.text == (
            '{"ocs":{"meta":{"status":"failure","statuscode":996,"message":'
            '"Internal Server Error\\nInvalid ExApp init status progress value",'
            '"totalitems":"","itemsperpage":""},"data":[]}}'
        )
        assert (await s.host.app("nc_py_api")).status.init == 0


async def test_report_of_an_app_that_is_gone_by_now_is_not_found() -> None:
    async with web_stage() as s:
        call = Call(s.host, Request({"type": "http", "headers": []}), b"", None, APP)
        await s.host.registry.remove_app("nc_py_api")
        with pytest.raises(OCSRefusal) as caught:
            await report_status(call, 5)
    assert (caught.value.statuscode, caught.value.message) == (404, "")


async def test_report_for_another_app_is_refused() -> None:
    async with web_stage() as s:
        await initializing(s)
        for other in ("neighbour", "unknown"):
            response = await s.ocs("PUT", f"{OLD_STATUS}/{other}", json={"progress": 5})
            assert meta(response) == (404, "")
        body = {"progress": 5, "appId": "neighbour"}
        assert meta(await s.ocs("PUT", f"{OLD_STATUS}/nc_py_api", json=body)) == (404, "")
        assert (await s.host.app("nc_py_api")).status.init == 0
        assert s.exchanges()[-1].note == "'nc_py_api' reports for 'neighbour'"
