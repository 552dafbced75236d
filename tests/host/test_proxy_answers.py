"""User traffic: what the browser gets of an answer."""

import re
from dataclasses import replace
from email.utils import parsedate_to_datetime

import pytest

from appapi_host.proxy.nonces import MAX_PAGE_BYTES
from appapi_host.records import Daemon
from tests.host.proxy_stage import (
    BASE,
    RECORD,
    basic,
    get,
)
from tests.host.web_stage import (
    EchoApp,
    raw_request,
    web_stage,
)


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
