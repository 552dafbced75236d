"""User traffic: what reaches an app, in whose name, and what comes back."""

import base64
import re
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appapi_host.events import Direction
from appapi_host.proxy.nonces import MAX_PAGE_BYTES
from appapi_host.proxy.profiles import PHP, PROFILES
from appapi_host.proxy.routes import has_dot_segment, is_lifecycle_path, match_route
from appapi_host.records import AccessLevel, Daemon, Route
from exapp_sdk.protocol.lifecycle import State
from tests.host.web_stage import (
    APP,
    EchoApp,
    RawAnswer,
    WebStage,
    raw_request,
    signed,
    web_stage,
    wire_rows,
)

PUBLIC, USER, ADMIN = AccessLevel.PUBLIC, AccessLevel.USER, AccessLevel.ADMIN
ROUTES = (
    Route(r"^\/?public", "GET,POST,PUT,DELETE", PUBLIC),
    Route(r"^/?admin/", "GET", ADMIN),
    Route(r"^action_handler", "post", USER),
    Route(r"^/picky", "GET", PUBLIC, headers_to_exclude=("X-Secret", "COOKIE")),
    Route(r"^/head", "GET, HEAD", PUBLIC),
    Route(r"^/(broken", "GET", PUBLIC),
    Route(r"^/?user/", "GET", USER),
    Route(r"^/?$", "GET,POST", PUBLIC),
)
RECORD = replace(APP, routes=ROUTES)
BASE = "/index.php/apps/app_api/proxy/nc_py_api"
SHORT = "/apps/app_api/proxy/nc_py_api"


def basic(user_id: str, password: str | None = None) -> tuple[str, str]:
    pair = f"{user_id}:{user_id if password is None else password}"
    return ("authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")


async def get(s: WebStage, path: str, *headers: tuple[str, str], **scope: Any) -> RawAnswer:
    return await raw_request(s.host, "GET", BASE + path, headers, **scope)


def note(s: WebStage) -> str:
    return s.exchanges()[-1].note


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


# What the app gets


@pytest.mark.parametrize(
    "row",
    [row for row in wire_rows("host-to-exapp.jsonl") if "x-origin-ip" in str(row)],
    ids=lambda row: f"{row['method']} {row['target']} {row['at_s']}",
)
async def test_app_gets_the_recorded_headers_in_the_recorded_order(row: dict[str, Any]) -> None:
    names = [name.lower() for name, _ in row["request_headers"]]
    ours = names.index("x-origin-ip")
    sent = row["request_headers"][:ours]
    if row["request_body"]:
        sent = [*sent, ("content-length", str(len(row["request_body"])))]
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        answer = await raw_request(
            s.host, row["method"], BASE + row["target"], sent, row["request_body"].encode()
        )
    assert answer.status == 200
    [request] = app.received
    assert request["path"] == row["target"]
    assert request["body"] == row["request_body"].encode()
    # Accept-Encoding: the real proxy unpacks what it gets, ours passes it on (see the module).
    recorded = [(k.lower(), v) for k, v in row["request_headers"] if k != "Accept-Encoding"]
    got = request["headers"]
    assert [name for name, _ in got] == [name for name, _ in recorded]
    [request_id] = app.header("aa-request-id")
    assert re.fullmatch("[A-Za-z0-9]{20}", request_id)
    assert [pair for pair in got if pair[0] != "aa-request-id"] == [
        pair for pair in recorded if pair[0] != "aa-request-id"
    ]


async def test_headers_that_only_a_host_may_send_are_replaced() -> None:
    smuggled = [
        *signed("admin").items(),
        ("AUTHORIZATION_APP_API", "YWRtaW46MTIzNDU="),
        ("Ex-App-Port", "1"),
        ("EX_APP_ID", "x"),
        ("AA-VERSION", "1"),
        ("AA-Request-Id", "CLI"),
        ("aa-anything", "1"),
        ("harp-shared-key", "1"),
        ("Harp-More", "1"),
        ("x-origin-ip", "10.0.0.1"),
        ("X-Origin-IP", "10.0.0.2"),
    ]
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        await get(s, "/public", *smuggled, client=("192.0.2.7", 1))
        names = [name for name, _ in app.received[-1]["headers"]]
        assert sorted(name for name in names if name.startswith(("ex", "aa", "harp", "auth"))) == [
            "aa-request-id",
            "aa-version",
            "authorization-app-api",
            "ex-app-id",
            "ex-app-version",
        ]
        assert app.header("x-origin-ip") == ["192.0.2.7"]
        assert app.header("authorization-app-api") == ["OjEyMzQ1"]
        assert app.header("aa-version") == ["32.0.0"]
        await get(s, "/public", client=None)
        assert app.header("x-origin-ip") == [""]


async def test_headers_between_neighbours_and_excluded_ones_end_here() -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        await get(
            s,
            "/picky",
            ("Connection", "keep-alive, X-Hop"),
            ("X-Hop", "1"),
            ("Keep-Alive", "1"),
            ("TE", "trailers"),
            ("Upgrade", "websocket"),
            ("Proxy-Authorization", "x"),
            ("Expect", "100-continue"),
            ("x-secret", "1"),
            ("Cookie", "a=1"),
            ("X-Kept", "1"),
            ("X-Kept", "2"),
            ("X-Latin", "é"),
        )
        names = {name for name, _ in app.received[-1]["headers"]}
        assert not names & {
            "connection", "x-hop", "keep-alive", "te", "upgrade", "proxy-authorization",
            "expect", "x-secret", "cookie",
        }  # fmt: skip
        assert app.header("x-kept") == ["1", "2"]
        assert app.header("x-latin") == ["é"]


async def test_missing_language_and_agent_are_made_up_and_given_ones_kept() -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        await get(s, "/public")
        assert app.header("accept-language") == ["en"]
        assert app.header("user-agent") == ["Nextcloud Server Crawler"]
        assert app.header("accept-encoding") == []
        given = [("Accept-Language", "de"), ("User-Agent", "me"), ("Accept-Encoding", "br")]
        await get(s, "/public", *given, ("Host", "cloud.example"), ("Cookie", "a=1"))
        assert app.header("accept-language") == ["de"]
        assert app.header("user-agent") == ["me"]
        assert app.header("accept-encoding") == ["br"]
        assert app.header("host") == ["cloud.example"]
        assert app.header("cookie") == ["a=1"]


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/public/a%2Fb%3Fc?x=1&x=2&z[]=1", "/public/a%2Fb%3Fc", "x=1&x=2&z[]=1"),
        ("/public//x", "/public//x", ""),
        ("/public/é|x", "/public/%E9|x", ""),
        ("/public/a#b?c=#d", "/public/a%23b", "c=%23d"),
        ("/public/x?a=%zz+b%20c", "/public/x", "a=%zz+b%20c"),
        ("/public/x?next=/../etc", "/public/x", "next=/../etc"),
    ],
)
async def test_path_and_query_arrive_as_they_were_sent(target: str, path: str, query: str) -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        assert (await get(s, target)).status == 200
        assert (app.received[-1]["path"], app.received[-1]["query"]) == (path, query)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "GET"])
async def test_body_arrives_whole(method: str) -> None:
    app = EchoApp()
    body = bytes(range(256)) * 1000
    async with web_stage(app, record=RECORD) as s:
        length = ("content-length", str(len(body)))
        answer = await raw_request(s.host, method, f"{BASE}/public", [length], body)
        assert (answer.status, app.received[-1]["body"]) == (200, body)
        assert app.header("content-length") == [str(len(body))]
        chunked = ("transfer-encoding", "chunked")
        await raw_request(s.host, method, f"{BASE}/public", [chunked, length], body)
        assert app.received[-1]["body"] == body
        assert app.header("content-length") == []
        await raw_request(s.host, method, f"{BASE}/public", [("content-length", "0")])
        assert app.received[-1]["body"] == b""


# What the browser gets


async def test_answer_is_passed_on_with_repeated_headers() -> None:
    app = EchoApp(
        status=418,
        headers=[
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"x-latin", "é".encode("latin-1")),
            (b"connection", b"close, x-hop"),
            (b"x-hop", b"1"),
            (b"keep-alive", b"1"),
            (b"date", b"Thu, 01 Jan 1970 00:00:00 GMT"),
            (b"aa-version", b"1"),
            (b"ex-app-id", b"1"),
            (b"ex-app-version", b"1"),
            (b"authorization-app-api", b"1"),
            (b"aa-request-id", b"1"),
            (b"content-encoding", b"gzip"),
            (b"content-length", b"5"),
            (b"cache-control", b"no-store"),
        ],
    )
    async with web_stage(app, record=RECORD) as s:
        answer = await get(s, "/public")
        assert (answer.status, answer.body) == (418, b"hello")
        assert answer.headers[:7] == [
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("x-latin", "é"),
            ("content-encoding", "gzip"),
            ("content-length", "5"),
            ("cache-control", "no-store"),
            ("content-type", "text/html;charset=UTF-8"),
        ]


@pytest.mark.parametrize(
    ("path", "headers", "is_cached"),
    [
        ("/public/x", [(b"content-type", b"text/html")], True),
        ("/public/x", [], True),
        ("/public/x.html", [(b"content-type", b"text/html")], False),
        ("/public/x", [(b"content-type", b"application/json")], False),
        ("/public/x", [(b"content-type", b"application/x-tar")], False),
        ("/public/x", [(b"content-type", b"application/json; charset=utf-8")], True),
        ("/public/x", [(b"cache-control", b"max-age=5")], False),
    ],
)
@pytest.mark.parametrize("status", [200, 404, 500])
async def test_answer_without_cache_control_gets_the_default(
    path: str, headers: list[tuple[bytes, bytes]], is_cached: bool, status: int
) -> None:
    async with web_stage(EchoApp(status=status, headers=headers), record=RECORD) as s:
        answer = await get(s, path)
    default = ["private, max-age=3600, must-revalidate"]
    assert (answer.values("cache-control") == default) is is_cached
    assert (len(answer.values("expires")) == 1) is is_cached
    for expires in answer.values("expires"):
        assert parsedate_to_datetime(expires).tzinfo is not None


async def test_expires_of_the_app_is_kept() -> None:
    async with web_stage(EchoApp(headers=[(b"expires", b"0")]), record=RECORD) as s:
        assert (await get(s, "/public")).values("expires") == ["0"]


async def test_browser_gets_what_nextcloud_adds_to_its_own_answers() -> None:
    given = [(b"x-frame-options", b"DENY"), (b"content-type", b"text/css")]
    async with web_stage(EchoApp(headers=given), record=RECORD) as s:
        answer = await get(s, "/public", basic("user"))
        assert answer.values("x-frame-options") == ["DENY"]
        assert answer.values("x-content-type-options") == ["nosniff"]
        assert answer.values("content-security-policy")[0].startswith("default-src 'none'")
        assert answer.values("content-type") == ["text/css;charset=UTF-8"]
        assert answer.values("x-user-id") == ["user"]
        assert (await get(s, "/public")).values("x-user-id") == []


async def test_scripts_of_a_page_get_the_nonce_of_its_policy() -> None:
    page = b"<script src=x></script><SCRIPT>1</SCRIPT><scripted>"
    app = EchoApp(headers=[(b"content-length", b"%d" % len(page))], body=page)
    async with web_stage(app, record=RECORD) as s:
        answer = await get(s, "/public/x.html")
        [policy] = answer.values("content-security-policy")
        found = re.search("script-src 'nonce-([^']+)'", policy)
        assert found
        nonce = b'<script nonce="' + found[1].encode() + b'"'
        assert answer.body == nonce + b" src=x></script>" + nonce + b">1</SCRIPT><scripted>"
        assert answer.values("content-length") == [str(len(answer.body))]
        assert answer.values("cache-control") == []
        other = await get(s, "/public/x.html")
        assert other.values("content-security-policy") != [policy]
        # Without the ending it is data, and with the other way nothing is changed.
        assert (await get(s, "/public/x")).body == page
        assert (await raw_request(s.host, "GET", "/exapps/nc_py_api/public/x.html")).body == page


@pytest.mark.parametrize("name", [b"Content-Security-Policy", b"Content-Encoding"])
async def test_page_with_a_policy_or_an_encoding_of_its_own_stays_as_it_is(name: bytes) -> None:
    app = EchoApp(headers=[(name, b"own")], body=b"<script>")
    async with web_stage(app, record=RECORD) as s:
        answer = await get(s, "/public/x.html")
        assert (answer.body, answer.values(name.decode().lower())) == (b"<script>", ["own"])


async def test_page_of_any_length_arrives() -> None:
    body = b"<script>" + b"x" * MAX_PAGE_BYTES
    async with web_stage(EchoApp(body=body), record=RECORD) as s:
        assert (await get(s, "/public/x.html")).body == body


@pytest.mark.parametrize(
    ("path", "status", "seen"),
    [
        ("/public/x", 200, ["text/html;charset=UTF-8"]),
        ("/public/x.svg", 404, ["image/svg+xml"]),
        ("/public/x.wasm", 200, ["application/wasm"]),
        ("/public/x", 204, []),
        ("/public/x", 304, []),
    ],
)
async def test_missing_content_type_is_guessed(path: str, status: int, seen: list[str]) -> None:
    async with web_stage(EchoApp(status=status), record=RECORD) as s:
        assert (await get(s, path)).values("content-type") == seen


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("base", [BASE, "/exapps/nc_py_api"])
async def test_answer_without_a_body_has_no_length(status: int, base: str) -> None:
    app = EchoApp(status=status, headers=[(b"content-length", b"200"), (b"etag", b"x")], body=b"")
    async with web_stage(app, record=RECORD) as s:
        answer = await raw_request(s.host, "GET", f"{base}/public")
        assert (answer.values("content-length"), answer.values("etag")) == ([], ["x"])


async def test_unreachable_app_is_500_with_its_cause() -> None:
    record = replace(RECORD, port=1)
    async with web_stage(record=record) as s:
        answer = await get(s, "/public", basic("user"))
        assert answer.status == 500
        assert b"no connection" in answer.body
        exchange = s.exchanges()[-1]
        assert (exchange.status, exchange.user_id) == (500, "user")
        assert "route 1 of 8" in exchange.note
        assert "no connection" in exchange.note


async def test_app_whose_daemon_is_unknown_is_500() -> None:
    async with web_stage(
        record=replace(RECORD, app_id="lost", daemon=Daemon("x", "", "", "", ""))
    ) as s:
        answer = await raw_request(s.host, "GET", "/index.php/apps/app_api/proxy/lost/public")
        assert answer.status == 500
        assert s.exchanges()[-1].app_id == "lost"
