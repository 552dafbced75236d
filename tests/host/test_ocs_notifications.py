"""Notifications, beyond what was recorded."""

from typing import Any

import pytest

from tests.host.web_stage import WebStage, meta, signed, web_stage

NOTIFY = "/apps/app_api/api/v1/notification"
LIST = "/apps/notifications/api/v2/notifications"
DOC = {"doc": {"type": "file", "id": "17", "name": "report.pdf", "path": "a/report.pdf"}}


def params(subject: str = "s", values: Any = None, **changed: Any) -> dict[str, Any]:
    full = {
        "object": "job",
        "object_id": "17",
        "subject_type": "done",
        "subject_params": {
            "rich_subject": subject,
            "rich_subject_params": {} if values is None else values,
            "rich_message": "",
            "rich_message_params": {},
        },
    }
    return {"params": full | changed}


async def seen(s: WebStage, user_id: str = "user") -> list[Any]:
    found = await s.data("GET", LIST, version=2, user_id=user_id)
    assert isinstance(found, list)
    return found


async def test_placeholders_are_filled_in_by_kind() -> None:
    values = {**DOC, "who": {"type": "user", "id": "bob", "name": "Bob"}}
    values["what"] = {"type": "highlight", "id": "1", "name": "it"}
    async with web_stage() as s:
        given = params("{who} sent {doc}: {what}", values)
        await s.data("POST", NOTIFY, json=given, user_id="user")
        [found] = await seen(s)
        assert found["subject"] == "@Bob sent a/report.pdf: it"
        assert found["subjectRich"] == "{who} sent {doc}: {what}"
        assert found["subjectRichParameters"] == values
        assert await seen(s, "admin") == []


@pytest.mark.parametrize(
    ("subject", "values"),
    [
        ("", {}),
        ("{doc} is ready", {}),
        ("x", {"doc": {"type": "file", "name": "no id"}}),
        ("x", {"doc": {"type": "file", "id": 17, "name": "n"}}),
        ("x", {"doc": "text"}),
        ("x", ["text"]),
    ],
)
async def test_what_cannot_be_rendered_is_never_seen_and_said_at_once(
    subject: str, values: Any
) -> None:
    async with web_stage() as s:
        await s.data("POST", NOTIFY, json=params(subject, values), user_id="user")
        assert await seen(s) == []
        response = await s.ocs("GET", f"{LIST}/1", version=2, user_id="user")
        assert (response.status_code, response.json()["ocs"]["data"]) == (404, None)
        assert "will not see" in s.notices()[0]


@pytest.mark.parametrize(
    "given",
    [
        {"params": "text"},
        {},
        params(object=""),
        params(object_id="x" * 65),
        params(subject_type=None),
        params(subject_params=[1]),
        params(subject_params="text"),
        params(subject_params={"rich_subject": "x"}),
        params(subject_params={"rich_subject": "x", "rich_subject_params": {}, "rich_message": ""}),
    ],
)
async def test_malformed_ones_are_refused(given: dict[str, Any]) -> None:
    async with web_stage() as s:
        assert (await s.refusal("POST", NOTIFY, json=given, user_id="user"))[0] == 996
        assert await seen(s) == []


async def test_notifications_need_a_user() -> None:
    async with web_stage() as s:
        assert (await s.refusal("POST", NOTIFY, json=params()))[0] == 997
        response = await s.ocs("GET", LIST, version=2)
        assert (response.status_code, meta(response)[0]) == (401, 997)


async def test_those_of_others_and_of_disabled_apps_are_out_of_reach() -> None:
    async with web_stage() as s:
        await s.data("POST", NOTIFY, json=params(), user_id="user")
        await s.data("DELETE", f"{LIST}/1", version=2, user_id="admin")
        await s.data("DELETE", LIST, version=2, user_id="admin")
        assert (await s.refusal("GET", f"{LIST}/1", version=2, user_id="admin"))[0] == 404
        given = {"ids": [1, 2, "1"]}
        assert await s.data("POST", f"{LIST}/exists", json=given, user_id="admin") == []
        assert await s.data("POST", f"{LIST}/exists", json=given, user_id="user") == [1]
        await s.change_app(enabled=False)
        response = await s.client.get(f"/ocs/v2.php{LIST}?format=json", auth=("user", "user"))
        assert response.json()["ocs"]["data"] == []


async def test_list_has_an_etag_that_changes_with_it() -> None:
    async with web_stage() as s:
        etags = set()
        for _ in range(2):
            response = await s.ocs("GET", LIST, version=2, user_id="user")
            etags.add(response.headers["etag"])
            await s.data("POST", NOTIFY, json=params(), user_id="user")
        assert len(etags) == 2


async def test_list_that_the_client_has_already_is_not_sent_again() -> None:
    async with web_stage() as s:
        await s.data("POST", NOTIFY, json=params(), user_id="user")
        etag = (await s.ocs("GET", LIST, version=2, user_id="user")).headers["etag"]
        headers = signed("user") | {"If-None-Match": etag}
        same = await s.ocs("GET", LIST, version=2, headers=headers)
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
        assert same.headers["content-type"] == "application/json; charset=utf-8"
        assert await s.refusal("GET", LIST, headers=headers) == (304, "")
        await s.data("POST", NOTIFY, json=params(), user_id="user")
        assert (await s.ocs("GET", LIST, version=2, headers=headers)).status_code == 200
