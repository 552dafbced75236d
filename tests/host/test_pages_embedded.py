"""Pages of apps inside the host's own, as scripts of Nextcloud's packages find them."""

import base64
import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from appapi_host.events import Direction
from appapi_host.identity import cookie_name
from appapi_host.records import AccessLevel, Route, User
from appapi_host.sessions import is_valid_token
from exapp_sdk.protocol.lifecycle import State
from tests.host.browsing import cookie_attributes, sign_in
from tests.host.web_stage import APP, EchoApp, WebStage, raw_request, web_stage

UI = "/apps/app_api/api/v1/ui"
PAGE = "/index.php/apps/app_api/embedded/nc_py_api/main"
PROXY = "/index.php/apps/app_api/proxy/nc_py_api"
OF_MAIN = {"type": "top_menu", "name": "main"}
HTML = {"accept": "text/html"}


async def register(s: WebStage, *, name: str = "main", **changed: Any) -> None:
    entry = {"name": name, "displayName": "Main <page>", "icon": "/img/app.svg"} | changed
    await s.data("POST", f"{UI}/top-menu", json=entry)


async def page_of(s: WebStage, path: str = PAGE, user: str = "user") -> httpx.Response:
    return await s.client.get(path, auth=(user, user), headers=HTML)


def sources(page: str, tag: str, attribute: str) -> list[str]:
    return re.findall(rf'<{tag} [^>]*{attribute}="([^"]*)"', page)


@pytest.mark.parametrize(
    "path", [PAGE, PAGE.removeprefix("/index.php"), f"{PAGE}/", f"{PAGE}/deep/er?x=1"]
)
async def test_page_is_an_empty_area_for_the_app(path: str) -> None:
    async with web_stage() as s:
        await register(s)
        response = await page_of(s, path)
        assert response.status_code == 200
        text = response.text
        assert "<title>Main &lt;page&gt;</title>" in text
        assert 'data-user="user" data-user-displayname="User">' in text
        assert re.search(
            r'<main id="content" class="app-app_api">\s*<h1 class="hidden-visually">[^<]*</h1>\s*'
            r'<div id="content"></div>\s*</main>',
            text,
        )
        assert '<body id="body-user">' in text
        assert f'<a href="{PAGE}" aria-current="page">' in text


async def test_scripts_and_styles_come_in_order_of_registration_through_the_proxy() -> None:
    async with web_stage() as s:
        await register(s)
        for path in ("js/z", "/js/a b", "js/m"):
            await s.data("POST", f"{UI}/script", json={**OF_MAIN, "path": path})
        await s.data("POST", f"{UI}/script", json={**OF_MAIN, "path": "js/z"})
        for path in ("css/z", "css/a"):
            await s.data("POST", f"{UI}/style", json={**OF_MAIN, "path": path})
        other = {"type": "top_menu", "name": "other"}
        await s.data("POST", f"{UI}/script", json={**other, "path": "js/other"})
        await s.data("POST", f"{UI}/style", json={"type": "x", "name": "main", "path": "css/x"})
        text = (await page_of(s)).text
        scripts = [urlsplit(url) for url in sources(text, "script", "src")]
        assert [url.path for url in scripts] == [
            "/index.php/core/js/oc.js",
            f"{PROXY}/js/z.js",
            f"{PROXY}/js/a%20b.js",
            f"{PROXY}/js/m.js",
        ]
        assert all(re.fullmatch("v=[0-9a-f]{8}", url.query) for url in scripts[1:])
        assert text.count(" defer ") == 4
        styles = [urlsplit(url).path for url in sources(text, "link", "href")]
        assert styles == ["/core/css/host.css", f"{PROXY}/css/z.css", f"{PROXY}/css/a.css"]


async def test_addresses_of_scripts_change_when_the_app_is_deployed_anew() -> None:
    async with web_stage() as s:
        await register(s)
        await s.data("POST", f"{UI}/script", json={**OF_MAIN, "path": "js/main"})

        async def script() -> str:
            return sources((await page_of(s)).text, "script", "src")[1]

        first = await script()
        assert await script() == first
        await s.change_app(deployment={"pid": 2})
        assert await script() != first


async def test_initial_states_are_json_twice_in_base64() -> None:
    value = {"a": [1, "ü</script>\U0001f600"], "b": None}
    async with web_stage() as s:
        await register(s)
        for key, content in (("boot", value), ("<k>", [])):
            given = {**OF_MAIN, "key": key, "value": content}
            await s.data("POST", f"{UI}/initial-state", json=given)
        text = (await page_of(s)).text
        found = dict(
            re.findall(r'<input type="hidden" id="initial-state-([^"]*)" value="([^"]*)">', text)
        )
        assert list(found) == ["core-capabilities", "app_api-boot", "app_api-&lt;k&gt;"]
        announced = json.loads(base64.b64decode(found["core-capabilities"]))
        assert announced["theming"]["name"] == "Nextcloud"
        once = json.loads(base64.b64decode(found["app_api-boot"]).decode("ascii"))
        assert json.loads(once) == value


async def test_page_says_which_scripts_may_run() -> None:
    async with web_stage() as s:
        await register(s)
        response = await page_of(s)
        token = sources(response.text, "head", "data-requesttoken")[0]
        nonce = base64.b64encode(token.encode()).decode()
        assert set(sources(response.text, "script", "nonce")) == {nonce}
        assert f'<meta name="csp-nonce" nonce="{nonce}">' in response.text
        rules = dict(
            rule.partition(" ")[::2]
            for rule in response.headers["content-security-policy"].split(";")
        )
        assert rules["script-src"] == f"'nonce-{nonce}' 'self' 'unsafe-eval'"
        assert rules["style-src"] == "'self' 'unsafe-inline'"
        assert rules["default-src"] == "'none'"
        assert rules["connect-src"] == "'self'"
        assert nonce not in (await page_of(s)).text, "a nonce is used once"


async def test_request_token_of_the_page_is_the_sessions() -> None:
    async with web_stage() as s:
        await register(s)
        session = cookie_attributes(await sign_in(s), cookie_name(s.host))["value"]
        page = (await s.client.get(PAGE, headers=HTML)).text
        token = sources(page, "head", "data-requesttoken")[0]
        assert is_valid_token(session, token)
        response = await s.client.get(
            "/ocs/v2.php/cloud/user?format=json", headers={"requesttoken": token}
        )
        assert response.json()["ocs"]["data"]["id"] == "user"


async def test_somebody_anonymous_signs_in_and_comes_back() -> None:
    async with web_stage() as s:
        await register(s)
        response = await s.client.get(f"{PAGE}/a%20b?x=1&y=2", headers=HTML)
        assert response.status_code == 303
        where = urlsplit(response.headers["location"])
        assert where.path == "/index.php/login"
        form = await s.client.get(response.headers["location"])
        assert f'value="{PAGE}/a%20b?x=1&amp;y=2"' in form.text
        response = await s.client.get(PAGE, headers={"accept": "application/json"})
        assert response.status_code == 401
        assert response.json() == {"message": "Current user is not logged in"}
        response = await s.client.get(PAGE, auth=("user", "no"), headers=HTML)
        assert response.status_code == 401
        assert "www-authenticate" in response.headers


MISSING = {
    "unknown app": (PAGE.replace("nc_py_api", "nobody"), "No app 'nobody' is registered."),
    "unknown entry": (
        PAGE.replace("main", "x%2Fy"),
        "The app 'nc_py_api' has registered no menu entry 'x/y'.",
    ),
    "no entry": (PAGE.removesuffix("/main"), "has registered no menu entry ''."),
    "encoded path": (PAGE.replace("embedded", "%65mbedded"), "No app '' is registered."),
    "for administrators": (
        PAGE.replace("main", "few"),
        "The entry 'few' of 'nc_py_api' is for administrators only.",
    ),
}


@pytest.mark.parametrize("case", MISSING)
async def test_what_is_not_there_for_a_user_is_not_found_and_explained(case: str) -> None:
    path, reason = MISSING[case]
    async with web_stage() as s:
        await register(s)
        await register(s, name="few", adminRequired=1)
        s.events.clear()
        response = await page_of(s, path)
        assert response.status_code == 404
        assert reason.replace("'", "&#x27;") in response.text
        [exchange] = s.exchanges()
        assert exchange.direction is Direction.USER_TO_APP
        assert (exchange.status, exchange.user_id) == (404, "user")
        assert reason in exchange.note


async def test_entry_for_administrators_is_there_for_them() -> None:
    async with web_stage() as s:
        await register(s, adminRequired=1)
        assert (await page_of(s, user="user")).status_code == 404
        assert (await page_of(s, user="admin")).status_code == 200


async def test_disabled_app_has_no_pages() -> None:
    async with web_stage() as s:
        await register(s)
        await s.change_app(enabled=False, state=State.DISABLED)
        response = await page_of(s)
        assert response.status_code == 404
        assert "is disabled" in response.text


async def test_more_scripts_than_the_real_one_takes_are_a_failure() -> None:
    async with web_stage() as s:
        await register(s)
        for number in range(11):
            await s.data("POST", f"{UI}/script", json={**OF_MAIN, "path": f"js/{number}"})
        response = await page_of(s)
        assert response.status_code == 500
        assert "has 11 scripts; AppAPI allows 10" in response.text
        last = {**OF_MAIN, "path": "js/10"}
        await s.data("DELETE", f"{UI}/script", params=last)
        assert (await page_of(s)).status_code == 200


async def test_files_of_the_page_go_by_the_apps_own_routes() -> None:
    async with web_stage(EchoApp()) as s:
        await register(s)
        await s.change_app(routes=(Route("^js/", "GET", AccessLevel.USER),))
        await s.data("POST", f"{UI}/script", json={**OF_MAIN, "path": "js/main"})
        await s.data("POST", f"{UI}/style", json={**OF_MAIN, "path": "css/main"})
        text = (await page_of(s)).text
        script, style = sources(text, "script", "src")[1], sources(text, "link", "href")[1]
        auth = ("user", "user")
        assert (await s.client.get(script, auth=auth)).status_code == 200
        assert (await s.client.get(script)).status_code == 404
        assert (await s.client.get(style, auth=auth)).status_code == 404


async def test_global_names_are_told_to_users() -> None:
    async with web_stage() as s:
        path = "/index.php/core/js/oc.js"
        assert (await s.client.get(path)).status_code == 401
        response = await s.client.get(path, auth=("admin", "admin"))
        assert response.headers["content-type"] == "text/javascript; charset=utf-8"
        assert "no-store" in response.headers["cache-control"]
        found = re.search(r"\}\)\((\{.*\})\);", response.text)
        assert found
        facts = json.loads(found[1])
        assert facts["_oc_webroot"] == ""
        assert facts["_oc_isadmin"] is True
        assert facts["_oc_appswebroots"]["nc_py_api"] == PROXY
        assert facts["_oc_config"]["modRewriteWorking"] is False


async def test_head_is_answered_like_get() -> None:
    async with web_stage() as s:
        await register(s)
        credentials = base64.b64encode(b"user:user").decode()
        answer = await raw_request(
            s.host, "HEAD", PAGE, [("Authorization", f"Basic {credentials}")]
        )
        assert (answer.status, answer.body) == (200, b"")


async def test_no_name_and_no_state_becomes_part_of_the_page() -> None:
    evil = "\"><script>alert(1)</script>'onload=x"
    async with web_stage(record=replace(APP, name=evil)) as s:
        await register(s, displayName=evil, icon=evil)
        await s.host.registry.add_user(User("x<b>\"'", display_name=evil))
        state = OF_MAIN | {"key": evil[:60], "value": {evil: evil}}
        await s.data("POST", f"{UI}/initial-state", json=state)
        for kind in ("script", "style"):
            await s.data("POST", f"{UI}/{kind}", json=OF_MAIN | {"path": f"x/{evil}"})
        field = {"id": evil, "title": evil, "type": "text", "default": evil, "placeholder": evil}
        form = {"id": "f", "priority": 1, "section_type": "personal", "section_id": "s"}
        form |= {"title": evil, "description": evil, "fields": [field]}
        await s.data("POST", f"{UI}/settings", json={"formScheme": form})
        targets = (PAGE, "/", "/settings", f"{PAGE}{quote(evil)}", f"/{quote(evil)}")
        for path in (*targets, f"{PROXY}{quote(evil)}/x", f"/exapps/{quote(evil)}"):
            text = (await page_of(s, path)).text
            assert "<script>" not in text, path
            assert '">alert' not in text, path
            assert "'onload" not in text, path
        login = await s.client.get("/login", params={"redirect_url": f"/{evil}"})
        assert "<script>" not in login.text
