"""What a person can open, told from the routes of an app."""

import pytest

from appapi_host.cli.addresses import addresses, sign_in
from appapi_host.records import AccessLevel, Route

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


def test_passwords_are_shown_with_where_a_browser_asks_for_them() -> None:
    address = sign_in(BASE, {"admin": "secret", "user": "x"})
    assert address is not None
    assert address.url == f"{BASE}/login"
    assert address.who == "admin, password secret; user, password x"
    assert sign_in(BASE, {}) is None
