"""The forms of apps as a page."""

import html
import re
from typing import Any

import httpx
import pytest

from exapp_sdk.protocol.lifecycle import State
from tests.host.browsing import fields, sign_in
from tests.host.web_stage import WebStage, web_stage

FORMS = "/apps/app_api/api/v1/ui/settings"
SETTINGS = "/index.php/settings"
OPTIONS = [{"name": "Small one", "value": "small"}, {"name": "<Large>", "value": "large"}]
FIELDS: list[dict[str, Any]] = [
    {"id": "name", "title": "<Name>", "type": "text", "default": "x", "description": "Who <b>"},
    {"id": "many", "title": "Many", "type": "number", "default": 3},
    {"id": "token", "title": "Token", "type": "password", "default": "", "sensitive": True},
    {"id": "loud", "title": "Loud", "type": "checkbox", "label": "Be loud", "default": True},
    {"id": "size", "title": "Size", "type": "select", "options": ["small", "large"]},
    {"id": "kind", "title": "Kind", "type": "radio", "options": OPTIONS, "default": "small"},
    {"id": "list", "title": "List", "type": "multi-select", "options": ["a", "b"], "default": []},
    {
        "id": "marks",
        "title": "Marks",
        "type": "multi-checkbox",
        "options": OPTIONS,
        "default": {"small": True},
    },
]
AS_ADMIN = ("admin", "admin")


async def register(s: WebStage, form_id: str = "main", **changed: Any) -> None:
    scheme = {
        "id": form_id,
        "section_type": "admin",
        "section_id": "ai_integration_team",
        "title": "<Limits>",
        "description": "What it may",
        "doc_url": "https://example.com/?a=1&b=2",
        "fields": FIELDS,
    }
    await s.data("POST", FORMS, json={"formScheme": scheme | changed})


async def page(s: WebStage, user: str = "admin") -> str:
    return (await s.client.get(SETTINGS, auth=(user, user))).text


def filled_in(text: str) -> dict[str, str]:
    """What a browser would send for the only form of a page, if nothing is changed."""
    text = text.partition('<main id="content">')[2]
    given = fields(text)
    for tag in re.findall("<input [^>]*>", text):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        is_box = attributes["type"] in ("checkbox", "radio")
        if is_box and not tag.endswith(" checked>"):
            continue
        given[attributes["name"]] = html.unescape(attributes["value"])
    for name, options in re.findall(r'<select id="[^"]*" name="([^"]*)">(.*?)</select>', text):
        chosen = re.search(r'<option value="([^"]*)" selected>', options)
        assert chosen
        given[name] = chosen[1]
    return given


async def save(s: WebStage, given: dict[str, str], user: str = "admin") -> httpx.Response:
    return await s.client.post(SETTINGS, data=given, auth=(user, user))


async def stored(s: WebStage, user_id: str = "") -> dict[str, str]:
    found = await s.host.values.get("nc_py_api", user_id=user_id)
    return {value.key: value.text for value in found}


async def test_form_is_shown_with_its_defaults() -> None:
    async with web_stage() as s:
        await register(s)
        text = await page(s)
        assert "<h2>&lt;Limits&gt;</h2>" in text
        assert "<small>nc_py_api, for administrators</small>" in text
        assert 'href="https://example.com/?a=1&amp;b=2"' in text
        assert '<label for="field-0">&lt;Name&gt;</label><small>Who &lt;b&gt;</small>' in text
        given = filled_in(text)
        del given["requesttoken"]
        assert given == {
            "form": "nc_py_api/main",
            "field-0": "x",
            "field-1": "3",
            "field-2": "",
            "field-3": "1",
            "field-4": "",
            "field-5": "small",
            "field-7-0": "1",
        }


async def test_what_was_not_changed_is_not_stored() -> None:
    async with web_stage() as s:
        await register(s)
        response = await save(s, filled_in(await page(s)))
        assert response.status_code == 303
        assert await stored(s) == {}
        shown = await s.client.get(response.headers["location"], auth=AS_ADMIN)
        assert '<p class="saved" role="status">Saved.</p>' in shown.text


async def test_what_was_entered_is_what_the_app_reads() -> None:
    async with web_stage() as s:
        await register(s)
        given = filled_in(await page(s)) | {
            "field-0": "Jürgen",
            "field-1": "7",
            "field-2": "s3cr3t",
            "field-4": "large",
            "field-5": "large",
            "field-6-1": "1",
            "field-7-1": "1",
        }
        del given["field-3"]
        await save(s, given)
        expected = {
            "name": "Jürgen",
            "many": "7",
            "token": "s3cr3t",
            "loud": "false",
            "size": "large",
            "kind": "large",
            "list": '["b"]',
            "marks": '{"small":true,"large":true}',
        }
        assert await stored(s) == expected
        # And the page shows it, but for what is sensitive, which stays if it is left empty.
        text = await page(s)
        assert "s3cr3t" not in text
        assert 'placeholder="unchanged"' in text
        again = filled_in(text)
        assert again["field-0"] == "Jürgen"
        assert again["field-5"] == "large"
        assert {"field-6-1", "field-7-0", "field-7-1"} <= set(again)
        assert "field-3" not in again
        await save(s, again)
        assert await stored(s) == expected
        forms = await s.client.get(
            "/ocs/v2.php/settings/api/declarative/forms?format=json", auth=AS_ADMIN
        )
        values = {field["id"]: field["value"] for field in forms.json()["ocs"]["data"][0]["fields"]}
        assert (values["token"], values["marks"]) == (
            "dummySecret",
            {"small": True, "large": True},
        )


async def test_personal_forms_are_for_each_user() -> None:
    async with web_stage() as s:
        await register(s, "mine", section_type="personal", fields=FIELDS[:1])
        await register(s, "theirs")
        text = await page(s, "user")
        assert "nc_py_api, personal" in text
        assert "for administrators" not in text
        await save(s, filled_in(text) | {"field-0": "mine"}, "user")
        assert await stored(s, "user") == {"name": "mine"}
        assert await stored(s, "admin") == {}
        assert await stored(s) == {}
        given = filled_in(text) | {"form": "nc_py_api/theirs", "field-0": "stolen"}
        assert (await save(s, given, "user")).status_code == 404
        assert await stored(s) == {}


async def test_only_the_hosts_own_page_saves() -> None:
    async with web_stage() as s:
        await register(s)
        given = filled_in(await page(s)) | {"field-0": "stolen"}
        without = {name: value for name, value in given.items() if name != "requesttoken"}
        assert (await save(s, without)).status_code == 412
        response = await s.client.post(
            SETTINGS, data=given, auth=AS_ADMIN, headers={"origin": "http://evil.example"}
        )
        assert response.status_code == 412
        assert await stored(s) == {}


async def test_page_works_with_a_session() -> None:
    async with web_stage() as s:
        await register(s)
        await sign_in(s, "admin")
        given = filled_in((await s.client.get(SETTINGS)).text) | {"field-0": "by session"}
        assert (await s.client.post(SETTINGS, data=given)).status_code == 303
        assert await stored(s) == {"name": "by session"}


async def test_nobody_and_users_without_forms() -> None:
    async with web_stage() as s:
        response = await s.client.get(SETTINGS, headers={"accept": "text/html"})
        assert response.headers["location"] == f"/index.php/login?redirect_url={SETTINGS}"
        assert "No app has a form for you." in await page(s, "user")
        await register(s)
        await s.change_app(enabled=False, state=State.DISABLED)
        assert "No app has a form for you." in await page(s)


STRANGE: list[Any] = [
    5,
    {},
    {"id": 7, "type": "text"},
    {"id": "a"},
    {"id": "a", "type": "color"},
    {"id": "a", "type": ["text"]},
    {"id": "a", "type": "select", "options": "abc"},
    {"id": "a", "type": "radio", "options": [None, 5, {"value": 1}, {"name": "n"}, []]},
    {"id": "a", "type": "multi-select", "options": [{}], "default": 5},
    {"id": "a", "type": "text", "default": {"deep": []}, "title": ["t"], "placeholder": 5},
    {"id": "a", "type": "checkbox", "default": "yes"},
]


@pytest.mark.parametrize("field", STRANGE, ids=str)
async def test_no_field_is_too_strange(field: Any) -> None:
    async with web_stage() as s:
        changed = {"title": 5, "doc_url": "javascript:alert(1)", "description": {"a": 1}}
        await register(s, fields=[field], **changed)
        response = await s.client.get(SETTINGS, auth=AS_ADMIN)
        assert response.status_code == 200
        assert "javascript" not in response.text
        assert (await save(s, fields(response.text))).status_code == 303
    async with web_stage() as s:
        await register(s, fields="none")
        assert "<h2>&lt;Limits&gt;</h2>" in await page(s)
