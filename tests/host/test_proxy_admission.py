"""User traffic: which route decides, who may, and what no route opens."""

import base64
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appapi_host.events import Direction
from appapi_host.proxy.profiles import PHP, PROFILES
from appapi_host.proxy.routes import has_dot_segment, is_lifecycle_path, match_route
from appapi_host.records import AccessLevel, Route
from exapp_sdk.protocol.lifecycle import State
from tests.host.proxy_stage import (
    ADMIN,
    BASE,
    PUBLIC,
    RECORD,
    SHORT,
    USER,
    basic,
    get,
    note,
)
from tests.host.web_stage import (
    APP,
    EchoApp,
    raw_request,
    web_stage,
)

# Which route


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("^/api/", "api/x", True),
        ("^api/", "api/x", True),
        (r"^\/?api\/.*", "api/x", True),
        ("public", "notpublic/x", False),
        ("^/API", "api/x", True),
        ("^/api$", "api/x", False),
        ("^/api", "apix", True),
        ("(", "(", False),
        ("a{9999999999}", "a", False),
        ("[[a]", "a", True),
        (".*", "", True),
    ],
)
def test_pattern_is_matched_at_the_start_with_and_without_its_slash(
    pattern: str, path: str, matches: bool
) -> None:
    found = match_route([Route(pattern, "GET", PUBLIC)], "GET", path, PHP.matching)
    assert (found is not None) is matches


@pytest.mark.parametrize(
    ("verb", "method", "matches"),
    [("GET", "GET", True), ("get, post", "POST", True), ("GET", "HEAD", False), ("", "GET", False)],
)
def test_verbs_are_searched_in_the_text_of_the_route(verb: str, method: str, matches: bool) -> None:
    assert (
        match_route([Route("^/x", verb, PUBLIC)], method, "x", PHP.matching) is not None
    ) is matches


def test_first_route_with_path_and_verb_decides() -> None:
    routes = [Route("^/x", "POST", PUBLIC), Route("^/x", "GET", ADMIN), Route("^/x", "GET", PUBLIC)]
    assert match_route(routes, "GET", "x", PHP.matching) == (1, routes[1])


@given(st.text(), st.text())
def test_no_pattern_and_no_path_is_too_strange(pattern: str, path: str) -> None:
    found = match_route(
        [Route(re.escape(pattern), "GET", PUBLIC)], "GET", pattern + path, PHP.matching
    )
    assert found is not None
    for profile in PROFILES:
        match_route([Route(pattern, "GET", PUBLIC)], "GET", path, profile.matching)


@pytest.mark.parametrize("base", [BASE, "/exapps/nc_py_api"])
async def test_path_for_which_a_pattern_takes_for_ever_is_refused(base: str) -> None:
    # Not left to the next route, which is open to everybody.
    record = replace(APP, routes=(Route("^/(a+)+$", "GET", ADMIN), Route("^/", "GET", PUBLIC)))
    app = EchoApp()
    async with web_stage(app, record=record) as s:
        answer = await raw_request(s.host, "GET", f"{base}/{'a' * 5000}!")
        assert (answer.status, app.received) == (404, [])
        assert note(s).startswith("route 1 of 2, ^/(a+)+$ (GET, ADMIN), takes too long for this")
        assert (await raw_request(s.host, "GET", f"{base}/b")).status == 200


# Who may

ALLOWED = [
    ("public/x", None, PUBLIC),
    ("public/x", "user", USER),
    ("user/x", "user", USER),
    ("user/x", "admin", ADMIN),
    ("admin/x", "admin", ADMIN),
]


@pytest.mark.parametrize(("path", "user_id", "level"), ALLOWED)
@pytest.mark.parametrize("base", [BASE, SHORT])
async def test_whoever_may_gets_through_in_their_own_name(
    path: str, user_id: str | None, level: AccessLevel, base: str
) -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        headers = [basic(user_id)] if user_id else []
        answer = await raw_request(s.host, "GET", f"{base}/{path}", headers)
        assert (answer.status, answer.body) == (200, b"hello")
        [signature] = app.header("authorization-app-api")
        assert base64.b64decode(signature).decode() == f"{user_id or ''}:12345"
        exchange = s.exchanges()[-1]
        assert (exchange.direction, exchange.status) == (Direction.USER_TO_APP, 200)
        assert (exchange.app_id, exchange.user_id) == ("nc_py_api", user_id or "")
        assert re.match(r"route \d of 8, .* decides: " + level.name, exchange.note)
        assert "12345" not in repr(exchange)


@pytest.mark.parametrize(
    ("path", "user_id", "reason"),
    [
        (
            "user/x",
            None,
            "route 7 of 8, ^/?user/ (GET, USER), decides: the caller is anonymous and has only ",
        ),
        (
            "admin/x",
            "user",
            "route 2 of 8, ^/?admin/ (GET, ADMIN), decides: the user 'user' has only access level ",
        ),
        ("nowhere", "admin", "no declared route matches GET /nowhere (declared routes: "),
        ("init", "admin", "lifecycle paths are for the host itself, no route opens them"),
    ],
)
async def test_refused_request_is_a_bare_404_and_the_host_says_why(
    path: str, user_id: str | None, reason: str
) -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        answer = await get(s, f"/{path}", *([basic(user_id)] if user_id else []))
        assert answer.status == 404
        assert answer.values("content-type") == ["text/html; charset=utf-8"]
        assert b"404 Not Found" in answer.body
        assert app.received == []
        assert note(s).startswith(reason)
        assert s.exchanges()[-1].app_id == "nc_py_api"


async def test_invalid_pattern_is_named_where_nothing_matches() -> None:
    async with web_stage(EchoApp(), record=RECORD) as s:
        await get(s, "/nowhere")
        assert "^/(broken (GET, PUBLIC, not a valid regular expression)" in note(s)
    async with web_stage(EchoApp()) as s:
        await get(s, "/nowhere")
        assert note(s).endswith("(declared routes: none)")


async def test_unknown_and_disabled_apps_are_not_found() -> None:
    async with web_stage(EchoApp(), record=RECORD) as s:
        answer = await raw_request(s.host, "GET", "/index.php/apps/app_api/proxy/nobody/public")
        assert answer.status == 404
        assert (s.exchanges()[-1].app_id, note(s)) == ("", "no app 'nobody' is registered")
        await s.change_app(enabled=False, state=State.DISABLED)
        assert (await get(s, "/public")).status == 404
        assert note(s) == "the app is disabled (state: disabled)"


@pytest.mark.parametrize(
    "header",
    [
        basic("user", "wrong"),
        basic("nobody"),
        basic("gone"),
        ("authorization", "Basic !"),
        ("authorization", "basic"),
    ],
)
async def test_wrong_credentials_are_asked_for_again(header: tuple[str, str]) -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        answer = await get(s, "/public", header)
        if header[1] == "basic":  # no credentials, so nobody said who they are
            assert answer.status == 200
            return
        assert answer.status == 401
        assert answer.values("www-authenticate") == ['Basic realm="Authorisation Required"']
        assert app.received == []


async def test_other_authorization_is_between_client_and_app() -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        assert (await get(s, "/public", ("authorization", "Bearer x"))).status == 200
        assert app.header("authorization") == ["Bearer x"]
        assert s.exchanges()[-1].user_id == ""


@pytest.mark.parametrize(
    "path",
    [
        "/public/../admin/x",
        "/public/..",
        "/public/%2e%2E/admin/x",
        "/public/..%2fadmin",
        "/public/%252e%252e/x",
        "/public/..%5cadmin",
        "/public/./x",
        "/public/..;/admin/x",
        "/public/%2e%2e;a=b/admin/x",
        "/public/%2525252525252e",
    ],
)
async def test_path_that_leads_elsewhere_is_refused(path: str) -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        assert (await get(s, path, basic("admin"))).status == 404
        assert app.received == []
        assert note(s) == "the path has a segment '.' or '..', plain or encoded"


@pytest.mark.parametrize(
    "path",
    [
        "/init",
        "/heartbeat",
        "/enabled?enabled=0",
        "//init",
        "/init/",
        "/%69nit",
        "/%2569nit",
        "/INIT",
        "/%2Finit",
        "/%5Cenabled",
        "/init;a=b",
        "/;/init",
        "/init%3Ba",
        "/enabled;/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_browser_never_reaches_a_lifecycle_path(path: str, method: str) -> None:
    app = EchoApp()
    record = replace(APP, routes=(Route(".*", "GET,POST,PUT,DELETE", PUBLIC),))
    async with web_stage(app, record=record) as s:
        answer = await raw_request(s.host, method, BASE + path, [basic("admin")])
        assert answer.status == 404
        assert app.received == []


def test_honest_paths_are_not_refused() -> None:
    for path in ("", "a/b", "a;b/c;..", "a..b", "...", "initial", "x/init", "%", "a%2Fb", "100%25"):
        assert not has_dot_segment(path)
        assert not is_lifecycle_path(path)


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "TRACE", "BREW"])
async def test_other_verbs_are_405_without_a_body(method: str) -> None:
    async with web_stage(EchoApp(), record=RECORD) as s:
        answer = await raw_request(s.host, method, f"{BASE}/public")
        assert (answer.status, answer.body) == (405, b"")
        assert answer.values("allow") == ["DELETE, GET, HEAD, POST, PUT"]
        assert method in note(s)


@pytest.mark.parametrize(
    ("method", "tail", "status"),
    [("GET", "", 200), ("GET", "/", 200), ("POST", "", 200), ("POST", "/", 405), ("PUT", "", 404)],
)
async def test_root_of_the_app_has_its_own_rules(method: str, tail: str, status: int) -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        assert (await raw_request(s.host, method, BASE + tail)).status == status
        assert [request["path"] for request in app.received] == ["/"] * (status == 200)


async def test_head_needs_a_route_that_lists_it_and_becomes_get() -> None:
    app = EchoApp(headers=[(b"content-length", b"5"), (b"x-app", b"1")])
    async with web_stage(app, record=RECORD) as s:
        answer = await raw_request(s.host, "HEAD", f"{BASE}/head")
        assert (answer.status, answer.body) == (200, b"")
        assert (answer.values("content-length"), answer.values("x-app")) == (["5"], ["1"])
        assert app.received[-1]["method"] == "GET"
        answer = await raw_request(s.host, "HEAD", f"{BASE}/user/x")
        assert (answer.status, answer.body) == (404, b"")
