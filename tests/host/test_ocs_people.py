"""Users, groups, their statuses and preferences; and apps as administrators see them."""

import time
from typing import Any

import pytest

from tests.host.web_stage import EchoApp, web_stage

STATUS = "/apps/user_status/api/v1"
EX_APP = "/apps/app_api/api/v1/ex-app"


async def test_users_are_searched_by_administrators() -> None:
    async with web_stage() as s:
        for params, found in (
            ({}, ["admin", "gone", "user"]),
            ({"search": "ADMINI"}, ["admin"]),
            ({"limit": 1, "offset": 1}, ["gone"]),
        ):
            data = await s.data("GET", "/cloud/users", params=params, user_id="admin")
            assert data == {"users": found}
        details = await s.data("GET", "/cloud/users/details", user_id="admin")
        assert details["users"]["gone"]["enabled"] is False
        assert (await s.refusal("GET", "/cloud/users", user_id="user"))[0] == 403


async def test_others_see_the_public_part_of_a_user() -> None:
    async with web_stage() as s:
        found = await s.data("GET", "/cloud/users/admin", user_id="user")
        assert found == {
            "id": "admin",
            "displayname": "Administrator",
            "display-name": "Administrator",
            "groups": ["admin"],
        }
        quota = (await s.data("GET", "/cloud/users/user", user_id="user"))["quota"]
        assert quota == {"free": -3, "used": 0, "total": -3, "relative": 0, "quota": -3}
        await s.host.files.put("user", "folder/a.txt", "12345")
        assert (await s.data("GET", "/cloud/user", user_id="user"))["quota"]["used"] == 5


async def test_groups_are_listed_with_their_members() -> None:
    async with web_stage() as s:
        await s.host.users.add_group("team")
        await s.host.users.add_member("team", "gone")
        await s.host.users.add_member("team", "user")
        found = await s.data("GET", "/cloud/groups", user_id="user")
        assert found == {"groups": ["admin", "team"]}
        found = await s.data("GET", "/cloud/groups", params={"search": "TE"}, user_id="user")
        assert found == {"groups": ["team"]}
        for path in ("/cloud/groups/team", "/cloud/groups/team/users"):
            assert await s.data("GET", path, user_id="admin") == {"users": ["gone", "user"]}
        details = await s.data("GET", "/cloud/groups/details", user_id="admin")
        assert details["groups"][1] == {
            "id": "team",
            "displayname": "team",
            "usercount": 2,
            "disabled": 1,
            "canAdd": True,
            "canRemove": True,
        }
        found = await s.data("GET", "/cloud/users/user/groups", user_id="user")
        assert found == {"groups": ["team"]}
        assert (await s.refusal("GET", "/cloud/users/admin/groups", user_id="user"))[0] == 998
        refused = await s.refusal("GET", "/cloud/groups/none", user_id="admin")
        assert refused == (404, "The requested group could not be found")


async def test_status_is_set_message_is_set_and_taken_back() -> None:
    async with web_stage() as s:
        own = f"{STATUS}/user_status"

        async def put(path: str, **given: Any) -> Any:
            return await s.data("PUT", f"{own}/{path}", json=given, user_id="user")

        assert (await s.data("GET", own, user_id="user"))["status"] == "offline"
        assert (await s.refusal("GET", f"{STATUS}/statuses/user", user_id="admin"))[0] == 404
        await put("status", statusType="invisible")
        found = await put("message/predefined", messageId="commuting")
        assert (found["message"], found["messageIsPredefined"]) == ("Commuting", True)
        assert 1790 <= found["clearAt"] - time.time() <= 1800
        found = await put("message/predefined", messageId="sick-leave")
        assert 0 < found["clearAt"] - time.time() <= 25 * 3600
        assert (await put("message/predefined", messageId="vacationing"))["clearAt"] is None
        found = await put("message/predefined", messageId="meeting", clearAt=2**33)
        assert found["clearAt"] == 2**33
        found = await put("message/custom", statusIcon="🐍", message="Snakes")
        assert (found["message"], found["icon"], found["messageId"]) == ("Snakes", "🐍", None)
        [listed] = await s.data("GET", f"{STATUS}/statuses", user_id="admin")
        assert listed == {
            "userId": "user",
            "message": "Snakes",
            "icon": "🐍",
            "clearAt": None,
            "status": "offline",  # that is what invisible means
        }
        assert await s.data("GET", f"{STATUS}/statuses/user", user_id="admin") == listed
        page = {"limit": 0}
        assert await s.data("GET", f"{STATUS}/statuses", params=page, user_id="user") == []
        await s.data("DELETE", f"{own}/message", user_id="user")
        found = await s.data("GET", own, user_id="user")
        assert (found["message"], found["status"]) == (None, "invisible")


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("status", {"statusType": "asleep"}),
        ("message/predefined", {"messageId": "none"}),
        ("message/custom", {"message": "x", "clearAt": 5}),
    ],
)
async def test_statuses_that_do_not_exist_are_refused(path: str, given: dict[str, Any]) -> None:
    async with web_stage() as s:
        url = f"{STATUS}/user_status/{path}"
        assert (await s.refusal("PUT", url, json=given, user_id="user"))[0] == 400


async def test_message_ends_by_itself() -> None:
    async with web_stage() as s:
        await s.host.documents.write(
            lambda documents: documents.put(
                "user-status", "", "", {"message": "old", "clearAt": 5}, user_id="user"
            )
        )
        found = await s.data("GET", f"{STATUS}/user_status", user_id="user")
        assert (found["message"], found["clearAt"]) == (None, None)


async def test_predefined_messages_are_listed() -> None:
    async with web_stage() as s:
        found = await s.data("GET", f"{STATUS}/predefined_statuses", user_id="user")
        assert found[0] == {
            "id": "meeting",
            "icon": "📅",
            "message": "In a meeting",
            "clearAt": {"type": "period", "time": 3600},
        }


async def test_preferences_of_other_apps_are_kept_by_user() -> None:
    base = "/apps/provisioning_api/api/v1/config/users/theming"

    async with web_stage() as s:

        async def kept() -> dict[str, Any]:
            found = await s.host.documents.read(
                lambda documents: documents.find("user-preference", app_id="theming")
            )
            return {f"{one.user_id} {one.name}": one.content["value"] for one in found}

        await s.data("POST", f"{base}/one", json={"configValue": "1"}, user_id="user")
        await s.data("POST", base, json={"configs": {"two": "2", "three": 3}}, user_id="user")
        await s.data("POST", f"{base}/one", json={"configValue": "a"}, user_id="admin")
        assert await kept() == {
            "user one": "1",
            "user two": "2",
            "user three": "3",
            "admin one": "a",
        }
        await s.data("DELETE", f"{base}/one", user_id="user")
        await s.data("DELETE", base, json={"configKeys": ["two", "none"]}, user_id="user")
        assert await kept() == {"user three": "3", "admin one": "a"}


async def test_apps_are_shown_to_administrators() -> None:
    async with web_stage() as s:
        [shown] = await s.data("GET", f"{EX_APP}/all", user_id="admin")
        assert (shown["id"], shown["enabled"]) == ("nc_py_api", True)
        assert await s.data("GET", f"{EX_APP}/info/nc_py_api", user_id="admin") == shown
        assert await s.refusal("GET", f"{EX_APP}/info/none", user_id="admin") == (404, "")
        assert await s.refusal("GET", f"{EX_APP}/some", user_id="admin") == (400, "")
        assert (await s.refusal("GET", f"{EX_APP}/all"))[0] == 997
        assert (await s.refusal("GET", f"{EX_APP}/all", user_id="user"))[0] == 403
        found = await s.data("GET", "/cloud/apps", user_id="admin")
        assert "webhook_listeners" in found["apps"]
        params = {"filter": "disabled"}
        assert await s.data("GET", "/cloud/apps", params=params, user_id="admin") == {"apps": []}
        params = {"filter": "odd"}
        assert (await s.refusal("GET", "/cloud/apps", params=params, user_id="admin"))[0] == 101
        found = await s.data("GET", "/cloud/apps/files", user_id="admin")
        assert found["id"] == "files"
        assert (await s.refusal("GET", "/cloud/apps/nc_py_api", user_id="admin"))[0] == 998


async def test_administrators_switch_apps() -> None:
    app = EchoApp(body=b'{"status": "ok", "error": ""}')
    async with web_stage(app) as s:
        path = f"{EX_APP}/nc_py_api/enabled"
        auth = {"auth": ("admin", "admin"), "headers": {}}
        assert await s.refusal("PUT", path, json={}, **auth) == (
            996,
            "Internal Server Error\nthe required parameter 'enabled' is missing",
        )
        for enabled, word in ((1, "enabled"), (0, "disabled")):
            await s.change_app(enabled=bool(enabled))
            refused = await s.refusal("PUT", path, json={"enabled": enabled}, **auth)
            assert refused == (400, f"ExApp already {word}")
        await s.change_app(enabled=True)
        assert await s.data("PUT", path, json={"enabled": 0}, **auth) == []
        assert not (await s.host.app("nc_py_api")).enabled
        assert await s.data("PUT", path, json={"enabled": 1}, **auth) == []
        assert (await s.host.app("nc_py_api")).enabled
        app.body = b'{"error": "no"}'
        refused = await s.refusal("PUT", path, json={"enabled": 0}, **auth)
        assert refused == (400, "Failed to disable ExApp")
        none = f"{EX_APP}/none/enabled"
        assert await s.refusal("PUT", none, json={"enabled": 1}, **auth) == (404, "")


async def test_administrators_ask_apps() -> None:
    app = EchoApp(status=418, headers=[(b"X-A", b"1"), (b"X-A", b"2")], body=b"teapot")
    async with web_stage(app) as s:
        path = f"{EX_APP}/request/nc_py_api/"
        given: dict[str, Any] = {"route": "/tea", "params": {"a": 1}, "userId": "user"}
        found = await s.data("POST", path, json=given, user_id="admin")
        assert found["status_code"] == 418
        assert found["body"] == "teapot"
        headers = {name.lower(): values for name, values in found["headers"].items()}
        assert headers["x-a"] == ["1", "2"]
        assert (app.received[-1]["method"], app.received[-1]["body"]) == ("POST", b'{"a":1}')
        assert app.header("authorization-app-api") == ["dXNlcjoxMjM0NQ=="]
        given |= {"method": "get", "params": {"a": [1, 2]}}
        await s.data("POST", path.rstrip("/"), json=given, user_id="admin")
        assert app.received[-1]["query"] == "a=1&a=2"
        # An older form has the user in the path.
        del given["userId"]
        await s.data("POST", f"{path}admin", json=given, user_id="admin")
        assert app.header("authorization-app-api") == ["YWRtaW46MTIzNDU="]
        given |= {"method": "BREW"}
        assert (await s.refusal("POST", path, json=given, user_id="admin"))[0] == 400
        none = f"{EX_APP}/request/none"
        assert await s.data("POST", none, json=given, user_id="admin") == {
            "error": "ExApp `none` not found"
        }


async def test_app_that_cannot_be_asked_is_said_so() -> None:
    async with web_stage() as s:
        given = {"route": "x"}
        response = await s.ocs(
            "POST", f"{EX_APP}/request/nc_py_api", json=given, user_id="admin", version=2
        )
        assert response.status_code == 400
        assert "no connection" in response.json()["ocs"]["data"]["error"]
