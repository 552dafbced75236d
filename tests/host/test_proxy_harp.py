"""User traffic by the way of HaRP: `/exapps/{appid}/{path}`, where it differs from AppAPI's own."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from appapi_host.proxy.profiles import HARP, PHP, PROFILES, Reason, profile_of
from appapi_host.proxy.routes import match_route
from appapi_host.records import AccessLevel, Route
from tests.host.proxy_stage import basic, note
from tests.host.web_stage import APP, EchoApp, RawAnswer, WebStage, raw_request, web_stage

PUBLIC, USER, ADMIN = AccessLevel.PUBLIC, AccessLevel.USER, AccessLevel.ADMIN
ROUTES = (
    Route(r"^\/?public", "GET", PUBLIC, headers_to_exclude=("X-Secret", "Cookie")),
    Route(r"^/admin/", "GET", ADMIN),
    Route(r"^/user/", "GET", USER),
    Route(r"^/(broken", "GET", PUBLIC),
    Route(r"^/open", "GET", PUBLIC),
    Route(r"^/.*\.css", "GET", PUBLIC),
)
RECORD = replace(APP, routes=ROUTES)
BASE = "/exapps/nc_py_api"


async def ask(
    s: WebStage, path: str, *headers: tuple[str, str], method: str = "GET", **scope: Any
) -> RawAnswer:
    return await raw_request(s.host, method, BASE + path, headers, **scope)


def test_every_profile_says_what_happens_for_every_reason() -> None:
    assert set(PHP.verdicts) == set(Reason)
    # All verbs are forwarded, and so are websockets.
    assert set(HARP.verdicts) == set(Reason) - {Reason.METHOD, Reason.WEBSOCKET}
    assert [profile_of(f"{p.prefixes[-1]}x")[1] for p in PROFILES] == [PHP, HARP]  # type: ignore[index]
    assert profile_of("/exapps") is None


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("^/api/", "api/x", True),
        (r"^\/?api\/.*", "api/x", True),
        ("^api/", "api/x", False),  # the subject begins with a slash, and nothing else is tried
        ("^/API", "api/x", False),
        ("/api", "api/x", True),
        ("api", "notapi/x", False),
        ("^/(", "(", False),
    ],
)
def test_pattern_is_matched_at_the_start_and_case_counts(
    pattern: str, path: str, matches: bool
) -> None:
    found = match_route([Route(pattern, "GET", PUBLIC)], "DELETE", path, HARP.matching)
    assert (found is not None) is matches


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "OPTIONS", "DELETE", "HEAD", "BREW"])
async def test_every_verb_is_forwarded_whatever_the_route_says(method: str) -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        answer = await ask(s, "/public/x", method=method)
        assert answer.status == 200
        assert app.received[-1]["method"] == method
        assert answer.body == (b"" if method == "HEAD" else b"hello")


@pytest.mark.parametrize(
    ("path", "user_id", "status", "reason"),
    [
        ("/user/x", None, 403, "route 3 of 6, ^/user/ (GET, USER), decides: the caller is anonym"),
        ("/admin/x", "user", 403, "route 2 of 6, ^/admin/ (GET, ADMIN), decides: the user 'user'"),
        ("/nowhere", "admin", 404, "no declared route matches GET /nowhere (declared routes: "),
        ("/Public", "admin", 404, "no declared route matches GET /Public "),
        ("", "admin", 404, "no declared route matches GET / "),
        ("/init", "admin", 403, "lifecycle paths are for the host itself, no route opens them"),
        ("/%2569nit", "admin", 403, "lifecycle paths are for the host itself"),
        ("/public/../x", "admin", 403, "the path has a segment '.' or '..', plain or encoded"),
        ("/public/%252e%252e/x", "admin", 403, "the path has a segment"),
    ],
)
async def test_refused_request_gets_plain_text_and_the_host_says_why(
    path: str, user_id: str | None, status: int, reason: str
) -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        answer = await ask(s, path, *([basic(user_id)] if user_id else []))
        assert answer.status == status
        assert answer.values("content-type") == ["text/plain; charset=utf-8"]
        assert answer.body.startswith(str(status).encode())
        assert (answer.values("connection") == ["close"]) is ("path" in reason and status == 403)
        assert app.received == []
        assert note(s).startswith(reason)
        assert s.exchanges()[-1].app_id == "nc_py_api"


async def test_unknown_and_disabled_apps_are_not_found() -> None:
    async with web_stage(EchoApp(), record=replace(RECORD, enabled=False)) as s:
        assert (await ask(s, "/public")).status == 404
        assert note(s) == "the app is disabled (state: enabled)"
        for path in ("/exapps/nobody/x", "/exapps/app_api/info", "/exapps/", "/exapps//x"):
            assert (await raw_request(s.host, "GET", path)).status == 404
            assert note(s).endswith("is registered")


async def test_case_of_the_id_does_not_count_but_the_app_sees_it() -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        answer = await raw_request(s.host, "GET", "/exapps/NC_py_API/public")
        assert (answer.status, app.header("ex-app-id")) == (200, ["NC_py_API"])
        # Nothing is decoded.
        assert (await raw_request(s.host, "GET", "/exapps/%6ec_py_api/public")).status == 404


async def test_encoded_spelling_opens_no_more_than_the_plain_one() -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        # As it is spelled a style sheet for everybody; the app decodes it to a path for admins.
        assert (await ask(s, "/%61dmin/x.css")).status == 403
        assert "^/admin/ (GET, ADMIN), decides about the decoded path: the caller is" in note(s)
        assert app.received == []
        assert (await ask(s, "/%61dmin/x.css", basic("admin"))).status == 200
        assert (await ask(s, "/open%2Fx%20y?a=%2F")).status == 200
        assert (app.received[-1]["path"], app.received[-1]["query"]) == ("/open%2Fx%20y", "a=%2F")


async def test_wrong_password_counts_as_nobody() -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        assert (await ask(s, "/public", basic("user", "wrong"))).status == 200
        assert app.header("authorization-app-api") == ["OjEyMzQ1"]
        assert note(s).endswith("decides: PUBLIC, for wrong user or password may")
        answer = await ask(s, "/user/x", basic("user", "wrong"))
        assert (answer.status, answer.values("www-authenticate")) == (403, [])
        assert "the caller is anonymous, for wrong user or password" in note(s)


async def test_app_gets_the_reduced_set_of_headers_and_all_of_the_client() -> None:
    app = EchoApp()
    async with web_stage(app, record=RECORD) as s:
        await ask(
            s,
            "/public",
            ("Host", "cloud.example"),
            ("x-secret", "1"),
            ("cookie", "a=1"),
            ("x-origin-ip", "203.0.113.9"),
            ("AA-Request-Id", "forged"),
            ("Ex-App-Host", "elsewhere"),
            ("harp-shared-key", "k"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            basic("admin"),
        )
        [request] = app.received
    names = [name for name, _ in request["headers"]]
    assert names == [
        "host",
        "x-secret",
        "cookie",
        "authorization",
        "aa-version",
        "ex-app-id",
        "ex-app-version",
        "authorization-app-api",
    ]
    assert app.header("aa-version") == ["32"]
    [signature] = app.header("authorization-app-api")
    assert base64.b64decode(signature) == b"admin:12345"


async def test_answer_is_passed_on_as_it_is() -> None:
    given = [(b"content-type", b"text/plain"), (b"aa-version", b"1"), (b"Set-Cookie", b"a=1")]
    async with web_stage(EchoApp(headers=given), record=RECORD) as s:
        answer = await ask(s, "/public")
        assert answer.headers == [
            ("content-type", "text/plain"),
            ("aa-version", "1"),
            ("set-cookie", "a=1"),
        ]


async def test_unreachable_app_is_503_with_its_cause() -> None:
    async with web_stage(record=replace(RECORD, port=1)) as s:
        answer = await ask(s, "/public")
        assert answer.status == 503
        assert b"no connection" in answer.body
        assert "route 1 of 6" in note(s)
