"""User traffic: what the app gets of a request."""

import re
from typing import Any

import pytest

from tests.host.proxy_stage import (
    BASE,
    RECORD,
    get,
)
from tests.host.web_stage import (
    EchoApp,
    raw_request,
    signed,
    web_stage,
    wire_rows,
)


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
            ("Connection", "keep-alive, X-Hop, Host, AUTHORIZATION-APP-API, x-origin-ip"),
            ("Host", "cloud.example"),
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
        assert app.header("host") == ["cloud.example"]
        assert app.header("authorization-app-api") == ["OjEyMzQ1"]
        assert app.header("x-origin-ip") == ["127.0.0.1"]
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
