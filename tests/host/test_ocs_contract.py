"""Every route that ExApps call: who may call it, and in which order that is checked.

Source: AppAPI documentation, and answers measured on AppAPI 32.0.0.
"""

import pytest

from appapi_host.settings import HostSettings
from tests.host.web_stage import WebStage, meta, signed, web_stage

API = "/apps/app_api/api/v1"

# Signed by the app, whoever it acts for. The third part says which parameter must be there.
APP = """
POST /apps/app_api/api/v1/log level
PUT /apps/app_api/ex-app/status progress
PUT /apps/app_api/apps/status/nc_py_api progress
GET /apps/app_api/ex-app/state
GET /apps/app_api/api/v1/users
GET /apps/app_api/api/v1/info/nextcloud_url/absolute url
POST /apps/app_api/api/v1/ex-app/config configKey
DELETE /apps/app_api/api/v1/ex-app/config configKeys
POST /apps/app_api/api/v1/ex-app/config/get-values configKeys
POST /apps/app_api/api/v1/ui/top-menu name
GET /apps/app_api/api/v1/ui/top-menu name
DELETE /apps/app_api/api/v1/ui/top-menu name
POST /apps/app_api/api/v1/ui/files-actions-menu name
GET /apps/app_api/api/v1/ui/files-actions-menu name
DELETE /apps/app_api/api/v1/ui/files-actions-menu name
POST /apps/app_api/api/v2/ui/files-actions-menu name
POST /apps/app_api/api/v1/ui/initial-state type
GET /apps/app_api/api/v1/ui/initial-state type
DELETE /apps/app_api/api/v1/ui/initial-state type
POST /apps/app_api/api/v1/ui/script type
GET /apps/app_api/api/v1/ui/script type
DELETE /apps/app_api/api/v1/ui/script type
POST /apps/app_api/api/v1/ui/style type
GET /apps/app_api/api/v1/ui/style type
DELETE /apps/app_api/api/v1/ui/style type
POST /apps/app_api/api/v1/ui/settings formScheme
GET /apps/app_api/api/v1/ui/settings formId
DELETE /apps/app_api/api/v1/ui/settings formId
POST /apps/app_api/api/v1/occ_command name
GET /apps/app_api/api/v1/occ_command name
DELETE /apps/app_api/api/v1/occ_command name
POST /apps/app_api/api/v1/talk_bot name
DELETE /apps/app_api/api/v1/talk_bot route
POST /apps/app_api/api/v1/ai_provider/task_processing provider
GET /apps/app_api/api/v1/ai_provider/task_processing name
DELETE /apps/app_api/api/v1/ai_provider/task_processing name
"""
# The same, for somebody.
APP_USER = """
POST /apps/app_api/api/v1/ex-app/preference configKey
DELETE /apps/app_api/api/v1/ex-app/preference configKeys
POST /apps/app_api/api/v1/ex-app/preference/get-values configKeys
POST /apps/app_api/api/v1/notification params
"""
ADMIN = """
GET /apps/app_api/api/v1/info/nextcloud_url
GET /apps/app_api/api/v1/ex-app/all
GET /apps/app_api/api/v1/ex-app/info/nc_py_api
PUT /apps/app_api/api/v1/ex-app/nc_py_api/enabled enabled
POST /apps/app_api/api/v1/ex-app/request/nc_py_api route
POST /apps/app_api/api/v1/ex-app/request/nc_py_api/ route
POST /apps/app_api/api/v1/ex-app/request/nc_py_api/admin route
GET /cloud/users
POST /cloud/users userid
PUT /cloud/users/nobody/enable
PUT /cloud/users/nobody/disable
DELETE /cloud/users/nobody
POST /cloud/users/nobody/groups
DELETE /cloud/users/nobody/groups
POST /cloud/groups groupid
DELETE /cloud/groups/none
GET /cloud/apps
"""
USER = """
GET /cloud/user
GET /cloud/user/fields
GET /cloud/users/admin
PUT /cloud/users/user key
GET /cloud/groups
GET /apps/notifications/api/v2/notifications
GET /apps/notifications/api/v2/notifications/1
DELETE /apps/notifications/api/v2/notifications/1
DELETE /apps/notifications/api/v2/notifications
POST /apps/notifications/api/v2/notifications/exists ids
POST /apps/provisioning_api/api/v1/config/users/files/key configValue
DELETE /apps/provisioning_api/api/v1/config/users/files/key
GET /apps/user_status/api/v1/user_status
GET /apps/user_status/api/v1/statuses
GET /settings/api/declarative/forms
POST /settings/api/declarative/value app
POST /settings/api/declarative/value-sensitive app
GET /taskprocessing/tasktypes
POST /taskprocessing/schedule input
GET /taskprocessing/task/1
DELETE /taskprocessing/task/1
GET /taskprocessing/tasks
"""
# Routes of the server itself, which demand an app.
EX_APP = """
GET /taskprocessing/tasks_provider/next providerIds
GET /taskprocessing/tasks_provider/1/file/1
POST /taskprocessing/tasks_provider/1/file
POST /taskprocessing/tasks_provider/1/progress progress
POST /taskprocessing/tasks_provider/1/result
"""
# Apps in nobody's name, or administrators.
EX_APP_OR_ADMIN = """
GET /apps/webhook_listeners/api/v1/webhooks
GET /apps/webhook_listeners/api/v1/webhooks/1
POST /apps/webhook_listeners/api/v1/webhooks httpMethod
POST /apps/webhook_listeners/api/v1/webhooks/1 httpMethod
DELETE /apps/webhook_listeners/api/v1/webhooks/1
DELETE /apps/webhook_listeners/api/v1/webhooks/byappid/other
"""
SINCE = {
    33: "GET /taskprocessing/tasks_provider/next_batch\nGET /taskprocessing/queue_stats",
    35: f"POST {API}/setup_check\nDELETE {API}/setup_check\n"
    "POST /taskprocessing/tasks_provider/1/stream-result",
}


def rows(table: str) -> list[tuple[str, str, str]]:
    found = [(*line.split(), "", "")[:3] for line in table.split("\n") if line]
    return [(method, path, needed) for method, path, needed in found]


async def lacks(s: WebStage, method: str, path: str, needed: str, user_id: str) -> None:
    """A call by somebody who may, without what it needs, is 996; with it, it is none."""
    code, message = meta(await s.ocs(method, path, user_id=user_id))
    if needed:
        assert (code, message.split("\n")[0]) == (996, "Internal Server Error"), (method, path)
        assert f"'{needed}'" in message, (method, path, message)
    else:
        assert code not in (996, 997, 998), (method, path, message)


async def test_calls_of_apps_need_a_signature_before_anything_else() -> None:
    async with web_stage() as s:
        for method, path, needed in rows(APP + APP_USER):
            for version in (1, 2):
                for headers in ({}, signed("user", authorization_app_api="dXNlcjp4")):
                    answer = await s.ocs(method, path, version=version, headers=headers)
                    assert answer.status_code == 401, (method, path)
                    assert meta(answer) == (997, "AppAPI authentication failed")
                    assert answer.json()["ocs"]["data"] == []
            password = await s.client.request(
                method, f"/ocs/v1.php{path}?format=json", auth=("admin", "admin")
            )
            assert meta(password) == (997, "AppAPI authentication failed")
            await lacks(s, method, path, needed, "user")
        for method, path, needed in rows(APP):
            await lacks(s, method, path, needed, "")
        for method, path, _ in rows(APP_USER):
            assert (await s.refusal(method, path))[0] == 997, (method, path)


async def test_calls_of_administrators_say_who_is_none() -> None:
    async with web_stage() as s:
        for method, path, needed in rows(ADMIN):
            for headers in ({}, signed()):
                answer = await s.ocs(method, path, headers=headers)
                assert answer.status_code == 401, (method, path)
                assert meta(answer) == (997, "Current user is not logged in")
            for version, status in ((1, 200), (2, 403)):
                answer = await s.ocs(method, path, version=version, user_id="user")
                assert answer.status_code == status
                assert meta(answer) == (403, "Logged in account must be an admin")
            await lacks(s, method, path, needed, "admin")


async def test_calls_of_users_need_one() -> None:
    async with web_stage() as s:
        for method, path, needed in rows(USER):
            for headers in ({}, signed(), signed("gone"), signed("nobody")):
                answer = await s.ocs(method, path, headers=headers)
                assert answer.status_code == 401, (method, path)
                assert meta(answer) == (997, "Current user is not logged in")
            await lacks(s, method, path, needed, "user")


async def test_routes_of_the_server_for_apps_are_refused_without_an_envelope() -> None:
    async with web_stage() as s:
        for method, path, needed in rows(EX_APP):
            for version in (1, 2):
                answer = await s.ocs(method, path, version=version, headers={})
                assert (answer.status_code, answer.json()) == (412, {"message": "ExApp required"})
            if needed:
                await lacks(s, method, path, needed, "")


async def test_webhooks_are_for_apps_in_nobodys_name_and_administrators() -> None:
    async with web_stage() as s:
        for method, path, needed in rows(EX_APP_OR_ADMIN):
            assert (await s.refusal(method, path, headers={}))[0] == 997, (method, path)
            assert (await s.refusal(method, path, user_id="user"))[0] == 403, (method, path)
            for user_id in ("", "admin"):
                await lacks(s, method, path, needed, user_id)


@pytest.mark.parametrize("version", [32, 33, 34, 35])
async def test_routes_appear_with_their_nextcloud(version: int) -> None:
    async with web_stage(settings=HostSettings(nextcloud_version=version)) as s:
        for since, table in SINCE.items():
            for method, path, _ in rows(table):
                answer = await s.ocs(method, path, user_id="admin")
                code = meta(answer)[0] if answer.status_code != 204 else 0
                assert (code != 998) is (version >= since), (method, path, version)
        # Dead in 32, gone later.
        for method in ("POST", "GET", "DELETE"):
            code, _ = await s.refusal(method, f"{API}/events_listener")
            assert code == (996 if version == 32 else 998)
        assert (await s.refusal("GET", f"{API}/ai_provider/speech_to_text"))[0] == 998
