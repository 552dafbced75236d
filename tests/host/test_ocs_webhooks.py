"""Registration of webhooks, beyond what was recorded."""

from typing import Any

import pytest

from tests.host.web_stage import web_stage

PATH = "/apps/webhook_listeners/api/v1/webhooks"
CREATED = "OCP\\Files\\Events\\Node\\NodeCreatedEvent"
HOOK = {"httpMethod": "post", "uri": "/hook", "event": f"\\{CREATED}"}


async def test_registration_shows_everything_but_the_secret() -> None:
    async with web_stage() as s:
        given = {
            **HOOK,
            "eventFilter": {"user.uid": "bob"},
            "userIdFilter": "bob",
            "headers": {"X-My": "1"},
            "authMethod": "header",
            "authData": {"X-Key": "s3cr3t"},
        }
        found = await s.data("POST", PATH, json=given)
        secret = found.pop("authData")
        assert "s3cr3t" not in secret
        assert s.host.values.decrypted(secret, "") == '{"X-Key": "s3cr3t"}'
        assert found == {
            "id": 1,
            "appId": "nc_py_api",
            "userId": "",
            "httpMethod": "POST",
            "uri": "/hook",
            "event": CREATED,
            "eventFilter": {"user.uid": "bob"},
            "userIdFilter": "bob",
            "headers": {"X-My": "1"},
            "authMethod": "header",
        }
        replaced = await s.data("POST", f"{PATH}/1", json=HOOK)
        assert (replaced["id"], replaced["authData"], replaced["eventFilter"]) == (1, None, [])


async def test_registrations_are_found_by_uri_and_removed_by_app() -> None:
    async with web_stage() as s:
        for uri in ("/a", "/b", "/a"):
            await s.data("POST", PATH, json={**HOOK, "uri": uri})
        found = await s.data("GET", PATH, params={"uri": "/a"})
        assert [one["id"] for one in found] == [1, 3]
        assert await s.data("DELETE", f"{PATH}/byappid/nc_py_api") == 3
        assert await s.data("GET", PATH) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"event": "OCP\\Some\\Event"},
        {"event": "Nonsense"},
        {"httpMethod": "BREW"},
        {"authMethod": "magic"},
    ],
)
async def test_what_cannot_be_listened_to_is_refused(changed: dict[str, Any]) -> None:
    async with web_stage() as s:
        assert (await s.refusal("POST", PATH, json=HOOK | changed))[0] == 400
        assert (await s.refusal("POST", f"{PATH}/1", json=HOOK | changed))[0] == 400


async def test_unknown_ones_are_not_found() -> None:
    async with web_stage() as s:
        assert (await s.refusal("GET", f"{PATH}/7"))[0] == 404
        assert (await s.refusal("POST", f"{PATH}/7", json=HOOK))[0] == 404


async def test_only_apps_in_nobodys_name_and_administrators_may() -> None:
    async with web_stage() as s:
        await s.data("GET", PATH)
        await s.data("GET", PATH, user_id="admin")
        assert (await s.refusal("GET", PATH, user_id="user"))[0] == 403
        assert (await s.refusal("GET", PATH, headers={}))[0] == 997
        response = await s.client.post(
            f"/ocs/v2.php{PATH}?format=json", auth=("admin", "admin"), json=HOOK
        )
        found = response.json()["ocs"]["data"]
        assert (found["appId"], found["userId"]) == ("", "admin")
