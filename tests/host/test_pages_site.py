"""The host's own pages: index, style sheet, and what is none of them."""

import pytest

from appapi_host.records import AccessLevel, Route
from exapp_sdk.protocol.lifecycle import State
from tests.host.browsing import sign_in
from tests.host.web_stage import raw_request, signed, web_stage

ENTRY = "/apps/app_api/api/v1/ui/top-menu"


@pytest.mark.parametrize("path", ["/", "/index.php", "/index.php/"])
async def test_index_lists_apps_with_state_and_links(path: str) -> None:
    async with web_stage() as s:
        routes = (
            Route("^/<x>", "GET", AccessLevel.USER),
            Route("^/post", "POST", AccessLevel.PUBLIC),
            Route("^/(a|b)", "GET", AccessLevel.PUBLIC),
        )
        await s.change_app(name="<b>App</b>", routes=routes)
        text = (await s.client.get(path)).text
        assert "<td>&lt;b&gt;App&lt;/b&gt;<br><small>nc_py_api</small></td>" in text
        assert ">enabled</span>" in text
        href = "/index.php/apps/app_api/proxy/nc_py_api/%3Cx%3E"
        assert f'<li><a href="{href}"><code>GET ^/&lt;x&gt;</code></a> USER</li>' in text
        assert "<li><code>POST ^/post</code> PUBLIC</li>" in text
        assert "<li><code>GET ^/(a|b)</code> PUBLIC</li>" in text
        assert '<a href="/index.php/login">Sign in</a>' in text
        await s.host.registry.remove_app("nc_py_api")
        assert "No app is registered" in (await s.client.get(path)).text


async def test_index_shows_the_menu_to_those_who_may_see_it() -> None:
    async with web_stage() as s:
        await s.data("POST", ENTRY, json={"name": "a/b", "displayName": "<All>", "icon": "i.svg"})
        secret = {"name": "admin", "displayName": "Few", "adminRequired": 1}
        await s.data("POST", ENTRY, json=secret)
        await s.data("POST", ENTRY, json={"name": "hidden", "displayName": ""})
        href = "/index.php/apps/app_api/embedded/nc_py_api/"
        assert href not in (await s.client.get("/")).text
        text = (await s.client.get("/", auth=("user", "user"))).text
        assert f'<a href="{href}a%2Fb">' in text
        assert "&lt;All&gt;" in text
        assert '<img src="/index.php/apps/app_api/proxy/nc_py_api/i.svg" alt="">' in text
        assert "Few" not in text
        assert "hidden" not in text.replace("hidden-visually", "")
        assert "Few" in (await s.client.get("/", auth=("admin", "admin"))).text
        await s.change_app(enabled=False, state=State.DISABLED)
        text = (await s.client.get("/", auth=("admin", "admin"))).text
        assert href not in text
        assert "No app has an entry" in text


async def test_failure_of_an_app_is_for_administrators() -> None:
    async with web_stage() as s:
        await s.change_app(state=State.FAILED, failure="<no> model")
        assert "model" not in (await s.client.get("/")).text
        assert "model" not in (await s.client.get("/", auth=("user", "user"))).text
        assert "&lt;no&gt; model" in (await s.client.get("/", auth=("admin", "admin"))).text


async def test_person_without_a_display_name_is_shown_by_id() -> None:
    from dataclasses import replace

    async with web_stage() as s:
        user = await s.host.registry.user("user")
        assert user
        await s.host.registry.replace_user(replace(user, display_name=""))
        await sign_in(s)
        text = (await s.client.get("/")).text
        assert '<span title="user">user</span>' in text


async def test_style_sheet_and_icon_are_served() -> None:
    async with web_stage() as s:
        response = await s.client.get("/core/css/host.css")
        assert response.headers["content-type"] == "text/css; charset=utf-8"
        assert "prefers-color-scheme: dark" in response.text
        assert (await s.client.get("/favicon.ico")).status_code == 204


@pytest.mark.parametrize(
    "path", ["/nowhere", "/index.phpx", "/apps/app_api/proxy", "/%69ndex.php/apps/x", "/login/x"]
)
async def test_other_pages_are_not_found(path: str) -> None:
    async with web_stage() as s:
        answer = await raw_request(s.host, "GET", path)
        assert answer.status == 404
        assert b"This host serves no such page." in answer.body


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/", "GET, HEAD"),
        ("DELETE", "/login", "GET, HEAD, POST"),
        ("PUT", "/apps/app_api/embedded/a/b", "GET, HEAD"),
    ],
)
async def test_other_verbs_are_refused(method: str, path: str, allowed: str) -> None:
    async with web_stage() as s:
        answer = await raw_request(s.host, method, path)
        assert (answer.status, answer.values("allow")) == (405, [allowed])


async def test_head_has_no_body() -> None:
    async with web_stage() as s:
        answer = await raw_request(s.host, "HEAD", "/")
        assert (answer.status, answer.body) == (200, b"")


async def test_app_that_asks_for_what_is_not_served_here_is_told_of() -> None:
    async with web_stage() as s:
        path = "/index.php/apps/notes/api/v1/notes"
        assert (await s.client.get(path)).status_code == 404
        assert s.notices() == []
        assert (await s.client.get(path, headers=signed("user"))).status_code == 404
        assert s.notices() == [
            f"the app nc_py_api asked for GET {path}, which this host does not serve"
        ]
