"""What apps show to people: menu entries, actions, pages, forms; and their commands."""

from typing import Any

import pytest

from appapi_host.settings import HostSettings
from tests.host.web_stage import WebStage, web_stage

UI = "/apps/app_api/api/v1/ui"
OCC = "/apps/app_api/api/v1/occ_command"
FORMS = "/settings/api/declarative"
PAGE = {"type": "top_menu", "name": "main"}


async def test_menu_entry_takes_its_page_with_it() -> None:
    async with web_stage() as s:
        await s.data("POST", f"{UI}/top-menu", json={"name": "main", "displayName": "Main"})
        for name in ("main", "other"):
            page = {**PAGE, "name": name}
            await s.data("POST", f"{UI}/script", json={**page, "path": "js/main"})
            await s.data("POST", f"{UI}/style", json={**page, "path": "css/main"})
            await s.data("POST", f"{UI}/initial-state", json={**page, "key": "k", "value": {}})
        await s.data("DELETE", f"{UI}/top-menu", params={"name": "main"})
        for path, rest, message in (
            ("script", {"path": "js/main"}, "No such Script"),
            ("style", {"path": "css/main"}, "No such Style"),
            ("initial-state", {"key": "k"}, "No such InitialState"),
        ):
            gone = await s.refusal("GET", f"{UI}/{path}", params={**PAGE, **rest})
            assert gone == (404, message)
            kept = await s.data("GET", f"{UI}/{path}", params={**PAGE, "name": "other", **rest})
            assert kept["name"] == "other"


async def test_entry_that_is_overwritten_goes_back_to_the_defaults() -> None:
    async with web_stage() as s:
        full = {"name": "m", "displayName": "M", "icon": "/i.svg", "adminRequired": True}
        await s.data("POST", f"{UI}/top-menu", json=full)
        found = await s.data("GET", f"{UI}/top-menu", params={"name": "m"})
        assert (found["icon"], found["admin_required"]) == ("i.svg", 1)
        await s.data("POST", f"{UI}/top-menu", json={"name": "m", "displayName": "M"})
        found = await s.data("GET", f"{UI}/top-menu", params={"name": "m"})
        assert found == {
            "id": 1,
            "appid": "nc_py_api",
            "name": "m",
            "display_name": "M",
            "icon": "",
            "admin_required": 0,
        }
        assert (await s.refusal("POST", f"{UI}/top-menu", json={"name": "m"}))[0] == 996


@pytest.mark.parametrize("value", ["text", 5, None, True])
async def test_initial_state_is_a_list_or_an_object(value: Any) -> None:
    async with web_stage() as s:
        given = {**PAGE, "key": "k", "value": value}
        assert (await s.refusal("POST", f"{UI}/initial-state", json=given))[0] == 996


async def test_empty_objects_become_lists_at_any_depth() -> None:
    async with web_stage() as s:
        given = {**PAGE, "key": "k", "value": {"a": {"b": {}}, "c": [{}]}}
        await s.data("POST", f"{UI}/initial-state", json=given)
        found = await s.data("GET", f"{UI}/initial-state", params={**PAGE, "key": "k"})
        assert found["value"] == {"a": {"b": []}, "c": [[]]}


ACTION = {"name": "a", "displayName": "A", "actionHandler": "/convert"}


async def test_default_action_is_known_to_newer_versions_only() -> None:
    path, new_path = f"{UI}/files-actions-menu", "/apps/app_api/api/v2/ui/files-actions-menu"
    async with web_stage() as s:
        await s.data("POST", new_path, json={**ACTION, "defaultAction": "nonsense"})
        assert "default_action" not in await s.data("GET", path, params={"name": "a"})
    async with web_stage(settings=HostSettings(nextcloud_version=35)) as s:
        given = {**ACTION, "defaultAction": "nonsense"}
        assert await s.refusal("POST", new_path, json=given) == (400, "")
        for sent, shown in (("hidden", "hidden"), ("default", "default"), ("", None)):
            await s.data("POST", new_path, json={**ACTION, "defaultAction": sent})
            found = await s.data("GET", path, params={"name": "a"})
            assert found["default_action"] == shown


def form(section_type: str = "admin") -> dict[str, Any]:
    return {
        "id": f"form_{section_type}",
        "storage_type": "internal",
        "section_type": section_type,
        "fields": [
            {"id": "model", "type": "text", "default": "small"},
            {"id": "token", "type": "password", "default": "", "sensitive": True},
        ],
    }


async def register(s: WebStage, *section_types: str) -> None:
    for section_type in section_types:
        await s.data("POST", f"{UI}/settings", json={"formScheme": form(section_type)})


async def test_form_without_an_id_is_refused() -> None:
    async with web_stage() as s:
        assert (await s.refusal("POST", f"{UI}/settings", json={"formScheme": {}}))[0] == 996


async def test_values_that_people_enter_are_what_the_app_reads() -> None:
    async with web_stage() as s:
        await register(s, "admin", "personal")

        async def enter(form_id: str, field: str, value: Any, user_id: str) -> None:
            path = "value-sensitive" if field == "token" else "value"
            given = {"app": "nc_py_api", "formId": form_id, "fieldId": field, "value": value}
            await s.data("POST", f"{FORMS}/{path}", json=given, user_id=user_id)

        assert await s.host.values.get("nc_py_api") == []  # defaults are not stored
        await enter("form_admin", "model", ["a", "b"], "admin")
        await enter("form_admin", "token", "s3cr3t", "admin")
        await enter("form_personal", "model", "large", "user")
        stored = await s.host.values.get("nc_py_api")
        assert [(one.key, one.text, one.is_sensitive) for one in stored] == [
            ("model", '["a","b"]', False),
            ("token", "s3cr3t", True),
        ]
        [mine] = await s.host.values.get("nc_py_api", user_id="user")
        assert mine.text == "large"
        shown = await s.data("GET", f"{FORMS}/forms", user_id="admin")
        assert [one["id"] for one in shown] == ["form_admin", "form_personal"]
        assert [field["value"] for field in shown[0]["fields"]] == [["a", "b"], "dummySecret"]
        [personal] = await s.data("GET", f"{FORMS}/forms", user_id="user")
        assert [field["value"] for field in personal["fields"]] == ["large", ""]
        assert personal["storage_type"] == "external"


@pytest.mark.parametrize(
    ("changed", "code"),
    [({"formId": "none"}, 404), ({"fieldId": "none"}, 400), ({"app": "none"}, 404), ({}, 403)],
)
async def test_values_for_unknown_fields_and_from_others_are_refused(
    changed: dict[str, Any], code: int
) -> None:
    async with web_stage() as s:
        await register(s, "admin")
        given = {"app": "nc_py_api", "formId": "form_admin", "fieldId": "model", "value": 1}
        refused = await s.refusal("POST", f"{FORMS}/value", json=given | changed, user_id="user")
        assert refused[0] == code
        assert await s.host.values.get("nc_py_api") == []


async def test_forms_of_disabled_apps_are_hidden() -> None:
    async with web_stage() as s:
        await register(s, "personal")
        await s.change_app(enabled=False)
        response = await s.client.get(
            f"/ocs/v1.php{FORMS}/forms?format=json", auth=("user", "user")
        )
        assert response.json()["ocs"]["data"] == []


async def test_command_needs_a_description_which_may_be_empty() -> None:
    async with web_stage() as s:
        given: dict[str, Any] = {"name": "x:y", "execute_handler": "/run", "hidden": True}
        assert (await s.refusal("POST", OCC, json=given))[0] == 996
        await s.data("POST", OCC, json={**given, "description": "", "options": None})
        assert await s.data("GET", OCC, params={"name": "x:y"}) == {
            "id": 1,
            "appid": "nc_py_api",
            "name": "x:y",
            "description": "",
            "hidden": 1,
            "arguments": [],
            "options": [],
            "usages": [],
            "execute_handler": "run",
        }


async def test_listener_of_events_is_dead_as_it_is_there() -> None:
    path = "/apps/app_api/api/v1/events_listener"
    for version, code in ((32, 996), (33, 998)):
        async with web_stage(settings=HostSettings(nextcloud_version=version)) as s:
            for verb in ("POST", "GET", "DELETE"):
                assert (await s.refusal(verb, path))[0] == code


async def test_setup_checks_exist_from_35_on() -> None:
    path = "/apps/app_api/api/v1/setup_check"
    async with web_stage() as s:
        assert (await s.refusal("POST", path))[0] == 998
    async with web_stage(settings=HostSettings(nextcloud_version=35)) as s:
        for verb in ("POST", "POST", "DELETE", "DELETE"):
            assert await s.data(verb, path) == []


async def test_addresses_are_told_to_those_who_may_know() -> None:
    settings = HostSettings(public_url="https://cloud.example/")
    base = "/apps/app_api/api/v1/info/nextcloud_url"
    async with web_stage(settings=settings) as s:
        found = await s.data("GET", f"{base}/absolute", params={"url": "//apps/x"})
        assert found == {"absolute_url": "https://cloud.example/apps/x"}
        assert (await s.refusal("GET", f"{base}/absolute"))[0] == 996
        assert await s.data("GET", base, user_id="admin") == {"base_url": "https://cloud.example"}
        assert (await s.refusal("GET", base))[0] == 997
        assert (await s.refusal("GET", base, user_id="user"))[0] == 403
