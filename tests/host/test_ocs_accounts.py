"""Administration of users and groups.

Source: Nextcloud OCS API, Instruction set for users and for groups.
"""

from typing import Any

import anyio
import pytest

from tests.host.web_stage import WebStage, meta, web_stage


async def done(s: WebStage, method: str, path: str, **given: Any) -> Any:
    return await s.data(method, path, json=given, user_id="admin")


async def refused(s: WebStage, method: str, path: str, **given: Any) -> tuple[int, str]:
    return await s.refusal(method, path, json=given, user_id="admin")


async def test_user_is_created_changed_and_deleted() -> None:
    async with web_stage() as s:
        await done(s, "POST", "/cloud/groups", groupid="team", displayname="Team")
        given = {"userid": "bob", "password": "first", "displayName": "Bob", "groups": ["team"]}
        assert await done(s, "POST", "/cloud/users", **given) == {"id": "bob"}
        found = await done(s, "GET", "/cloud/users/bob")
        assert (found["displayname"], found["groups"], found["enabled"]) == ("Bob", ["team"], True)
        bob = {"headers": {}, "auth": ("bob", "first")}
        assert (await s.data("GET", "/cloud/user", **bob))["id"] == "bob"

        await s.host.files.put("bob", "a.txt", "1")
        assert await done(s, "PUT", "/cloud/users/bob", key="displayname", value="Robert") == []
        assert await done(s, "PUT", "/cloud/users/bob", key="password", value="second") == []
        assert meta(await s.ocs("GET", "/cloud/user", **bob)) == (997, "Unauthorised")
        bob["auth"] = ("bob", "second")
        assert (await s.data("GET", "/cloud/user", **bob))["displayname"] == "Robert"

        assert await done(s, "PUT", "/cloud/users/bob/disable") == []
        assert (await s.refusal("GET", "/cloud/user", user_id="bob"))[0] == 997
        assert await done(s, "PUT", "/cloud/users/bob/enable") == []
        assert (await s.data("GET", "/cloud/user", user_id="bob"))["groups"] == ["team"]
        assert await done(s, "DELETE", "/cloud/users/bob") == []
        assert (await refused(s, "GET", "/cloud/users/bob"))[0] == 404
        assert await done(s, "GET", "/cloud/groups/team") == {"users": []}


async def test_users_change_themselves_and_nobody_else() -> None:
    async with web_stage() as s:
        given = {"key": "displayname", "value": "Me"}
        assert await s.data("PUT", "/cloud/users/user", json=given, user_id="user") == []
        assert (await s.data("GET", "/cloud/user", user_id="user"))["displayname"] == "Me"
        assert (await s.refusal("PUT", "/cloud/users/admin", json=given, user_id="user"))[0] == 998


async def test_members_come_and_go() -> None:
    async with web_stage() as s:
        await done(s, "POST", "/cloud/groups", groupid="team")
        for group_id in ("team", "admin"):
            path = "/cloud/users/user/groups"
            assert await done(s, "POST", path, groupid=group_id) == []
            assert group_id in (await done(s, "GET", path))["groups"]
            assert await done(s, "DELETE", path, groupid=group_id) == []
            assert group_id not in (await done(s, "GET", path))["groups"]
        await done(s, "POST", "/cloud/users/user/groups", groupid="team")
        named = {"key": "displayname", "value": "The Team"}
        assert await done(s, "PUT", "/cloud/groups/team", **named) == []
        [found] = (await done(s, "GET", "/cloud/groups/details", search="the"))["groups"]
        assert (found["id"], found["displayname"], found["usercount"]) == ("team", "The Team", 1)
        assert await done(s, "DELETE", "/cloud/groups/team") == []
        assert (await done(s, "GET", "/cloud/groups"))["groups"] == ["admin"]
        assert (await done(s, "GET", "/cloud/users/user"))["groups"] == []


GROUPS = "/cloud/users/user/groups"


@pytest.mark.parametrize(
    ("method", "path", "given", "code"),
    [
        ("POST", "/cloud/users", {"userid": "user", "password": "x"}, 102),
        ("POST", "/cloud/users", {"userid": "bob", "password": "x", "groups": ["none"]}, 104),
        ("POST", "/cloud/users", {"userid": "b/b", "password": "x"}, 101),
        ("POST", "/cloud/users", {"userid": "..", "password": "x"}, 101),
        ("POST", "/cloud/users", {"userid": "", "password": "x"}, 101),
        ("POST", "/cloud/users", {"userid": "bob"}, 108),
        ("PUT", "/cloud/users/nobody", {"key": "displayname", "value": "x"}, 998),
        ("PUT", "/cloud/users/user", {"key": "password", "value": ""}, 113),
        ("PUT", "/cloud/users/user", {"key": "shoes", "value": "43"}, 113),
        ("PUT", "/cloud/users/nobody/enable", {}, 101),
        ("PUT", "/cloud/users/admin/disable", {}, 101),
        ("DELETE", "/cloud/users/admin", {}, 101),
        ("DELETE", "/cloud/users/nobody", {}, 101),
        ("POST", "/cloud/groups", {"groupid": " "}, 101),
        ("POST", "/cloud/groups", {"groupid": "admin"}, 102),
        ("PUT", "/cloud/groups/none", {"key": "displayname", "value": "x"}, 998),
        ("PUT", "/cloud/groups/admin", {"key": "displayname", "value": "x"}, 101),
        ("PUT", "/cloud/groups/admin", {"key": "shoes", "value": "43"}, 999),
        ("DELETE", "/cloud/groups/admin", {}, 102),
        ("DELETE", "/cloud/groups/none", {}, 101),
        ("POST", GROUPS, {}, 101),
        ("POST", GROUPS, {"groupid": "none"}, 102),
        ("POST", "/cloud/users/nobody/groups", {"groupid": "admin"}, 103),
        ("DELETE", "/cloud/users/admin/groups", {"groupid": "admin"}, 105),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    method: str, path: str, given: dict[str, Any], code: int
) -> None:
    async with web_stage() as s:
        before = await s.host.users.all(), await s.host.users.groups()
        assert (await refused(s, method, path, **given))[0] == code
        assert (await s.host.users.all(), await s.host.users.groups()) == before


async def test_of_two_who_create_a_user_at_once_one_is_refused() -> None:
    async with web_stage() as s:
        codes = []

        async def create() -> None:
            given = {"userid": "bob", "password": "x"}
            codes.append(meta(await s.ocs("POST", "/cloud/users", json=given, user_id="admin"))[0])

        async with anyio.create_task_group() as group:
            group.start_soon(create)
            group.start_soon(create)
        assert sorted(codes) == [100, 102]


async def test_user_with_an_address_for_a_password_cannot_sign_in() -> None:
    async with web_stage() as s:
        given = {"userid": "bob", "email": "bob@example.org"}
        assert await done(s, "POST", "/cloud/users", **given) == {"id": "bob"}
        assert await s.host.users.authenticate("bob", "") is None
        assert (await s.data("GET", "/cloud/user", user_id="bob"))["id"] == "bob"


async def test_who_gets_the_id_of_a_deleted_user_finds_nothing_of_theirs() -> None:
    async with web_stage() as s:
        preference = "/apps/app_api/api/v1/ex-app/preference"
        for user_id in ("user", "admin"):
            given = {"configKey": "key", "configValue": "mine", "sensitive": 1}
            await s.data("POST", preference, json=given, user_id=user_id)
        status = {"statusType": "dnd"}
        path = "/apps/user_status/api/v1/user_status"
        await s.data("PUT", f"{path}/status", json=status, user_id="user")
        await done(s, "DELETE", "/cloud/users/user")
        await done(s, "POST", "/cloud/users", userid="user", password="new")
        asked = {"json": {"configKeys": ["key"]}}
        assert await s.data("POST", f"{preference}/get-values", user_id="user", **asked) == []
        [kept] = await s.data("POST", f"{preference}/get-values", user_id="admin", **asked)
        assert kept["configvalue"] == "mine"
        assert (await s.data("GET", path, user_id="user"))["status"] == "offline"
