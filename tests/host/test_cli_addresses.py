"""What a person can open, told from the routes of an app."""

import pytest

from appapi_host.cli.addresses import addresses, page_addresses, sign_in
from appapi_host.records import AccessLevel, Route
from tests.host.web_stage import web_stage

BASE = "http://127.0.0.1:8080"
PROXY = f"{BASE}/index.php/apps/app_api/proxy/notes/"


@pytest.mark.parametrize(
    ("pattern", "path", "shown_pattern"),
    [
        ("^/ui/.*", "ui/", ""),
        (r"^\/?ui\/.*", "ui/", ""),
        ("^/?$", "", ""),
        ("ui", "ui", ""),
        (".*", "", ""),
        (r"^/api/v1\.0/(.*)", "api/v1.0/", ""),
        (r"^\/?(js|css)\/.*", "", r"^\/?(js|css)\/.*"),
        (r"^/item/\d+$", "item/", r"^/item/\d+$"),
        ("^/a b$", "a%20b", ""),
    ],
)
def test_address_ends_where_the_expression_is_no_fixed_text(
    pattern: str, path: str, shown_pattern: str
) -> None:
    (address,) = addresses(BASE, "notes", [Route(pattern, "GET", AccessLevel.USER)])
    assert address.url == PROXY + path
    assert address.pattern == shown_pattern


def test_only_routes_for_get_are_shown_with_who_may_once_each() -> None:
    routes = [
        Route("^/a$", "GET,POST", AccessLevel.PUBLIC),
        Route("^/b$", "post", AccessLevel.PUBLIC),
        Route("^/c$", "get", AccessLevel.USER),
        Route("^/d$", "GET", AccessLevel.ADMIN),
        Route("^/a", "GET", AccessLevel.ADMIN),
    ]
    assert [(found.url, found.who) for found in addresses(BASE, "notes", routes)] == [
        (PROXY + "a", "anyone"),
        (PROXY + "c", "user, admin"),
        (PROXY + "d", "admin"),
    ]


async def test_pages_of_menu_entries_are_shown_with_who_may() -> None:
    async with web_stage() as s:
        assert await page_addresses(s.host, BASE, "nc_py_api") == []
        path = "/apps/app_api/api/v1/ui/top-menu"
        await s.data("POST", path, json={"name": "a b", "displayName": "All"})
        await s.data("POST", path, json={"name": "few", "displayName": "Few", "adminRequired": 1})
        await s.data("POST", path, json={"name": "hidden", "displayName": ""})
        found = await page_addresses(s.host, BASE, "nc_py_api")
        embedded = f"{BASE}/index.php/apps/app_api/embedded/nc_py_api"
        assert [(address.url, address.who) for address in found] == [
            (f"{embedded}/a%20b", "user, admin: All"),
            (f"{embedded}/few", "admin: Few"),
        ]


def test_passwords_are_shown_with_where_a_browser_asks_for_them() -> None:
    address = sign_in(BASE, {"admin": "secret", "user": "x"})
    assert address is not None
    assert address.url == f"{BASE}/login"
    assert address.who == "admin, password secret; user, password x"
    assert sign_in(BASE, {}) is None
