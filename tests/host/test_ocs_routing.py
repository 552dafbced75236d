"""The way from a request to an answer."""

import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from appapi_host.events import Direction
from appapi_host.ocs import FAMILIES
from appapi_host.ocs._endpoints import MAX_BODY_BYTES, Answer, Auth, Call, Family, OCSRefusal
from appapi_host.ocs._routing import OCSApplication
from exapp_sdk.errors import LocalProtocolError, OCSError, RemoteProtocolError
from tests.host.web_stage import WebStage, meta, raw_request, signed, web_stage

UNKNOWN = (
    998,
    (
        "Invalid query, please check the syntax. API specifications are here: "
        "http://www.freedesktop.org/wiki/Specifications/open-collaboration-services.\n"
    ),
)
CAPABILITIES = "/cloud/capabilities"

family = Family()


@family.get("/echo/{appId}/x", auth=Auth.PUBLIC)
@family.post("/echo/{appId}/x", auth=Auth.PUBLIC)
async def echo(call: Call, app_id: str, level: int, note: str = "none") -> dict[str, Any]:
    return {"app_id": app_id, "level": level, "note": note}


@family.delete("/answers", auth=Auth.PUBLIC)
async def answers(call: Call, code: int, headers: bool = False) -> Answer:
    return Answer({"a": 1}, code, (("X-More", "1"),) if headers else ())


@family.put("/raises", auth=Auth.PUBLIC)
async def raises(call: Call, what: str) -> None:
    raise {
        "refusal": OCSRefusal(404, "not there", data={"message": "Not found"}),
        "ocs": OCSError(409, "later"),
        "protocol": RemoteProtocolError("Invalid value"),
        "bug": ZeroDivisionError("division by zero"),
    }[what]


@family.get("/not-signed", auth=Auth.PUBLIC)
async def not_signed(call: Call) -> str:
    with pytest.raises(LocalProtocolError):
        assert call.app
    return "so it is"


@asynccontextmanager
async def family_stage() -> AsyncIterator[WebStage]:
    async with web_stage() as s:
        transport = httpx.ASGITransport(OCSApplication(s.host, [family]))
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as s.client:
            yield s


async def raw_call(s: WebStage, path: str, messages: list[dict[str, Any]]) -> list[Any]:
    """POST these messages, and see which ones come back."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/ocs/v1.php{path}",
        "headers": [(name.encode(), value.encode()) for name, value in signed().items()],
    }
    await OCSApplication(s.host, FAMILIES)(scope, receive, send)
    return sent


def data(response: httpx.Response) -> Any:
    return response.json()["ocs"]["data"]


async def test_parameters_are_taken_by_name_from_everywhere() -> None:
    async with family_stage() as s:
        assert data(await s.ocs("GET", "/echo/a%20b/x", params={"level": "7x"})) == {
            "app_id": "a b",
            "level": 7,
            "note": "none",
        }
        body = {"level": True, "note": None, "unknown": 1, "appId": "other"}
        assert data(await s.ocs("POST", "/echo/a/x", json=body)) == {
            "app_id": "other",
            "level": 1,
            "note": "none",
        }
        assert data(await s.ocs("POST", "/echo/a/x", data={"level": "2", "note": "form"})) == {
            "app_id": "a",
            "level": 2,
            "note": "form",
        }


@pytest.mark.parametrize("body", [{}, {"level": None}])
async def test_missing_parameter_is_996_and_named(body: dict[str, Any]) -> None:
    async with family_stage() as s:
        text = "Internal Server Error\nthe required parameter 'level' is missing"
        v1 = await s.ocs("POST", "/echo/a/x", json=body)
        assert (v1.status_code, meta(v1)) == (200, (996, text))
        v2 = await s.ocs("POST", "/echo/a/x", json=body, version=2)
        assert (v2.status_code, meta(v2)) == (500, (996, text))
        assert s.exchanges()[-1].note == "the required parameter 'level' is missing"


async def test_answers_carry_code_and_headers() -> None:
    async with family_stage() as s:
        response = await s.ocs("DELETE", "/answers", params={"code": 201}, version=2)
        assert (response.status_code, meta(response), data(response)) == (
            201,
            (201, "OK"),
            {"a": 1},
        )
        response = await s.ocs("DELETE", "/answers", params={"code": 204}, version=2)
        assert (response.status_code, response.content) == (204, b"")
        assert response.headers["content-type"] == "application/json; charset=utf-8"
        assert "content-length" not in response.headers
        response = await s.ocs("DELETE", "/answers", params={"code": 200, "headers": 1})
        assert response.headers["x-more"] == "1"


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("refusal", (404, "not there")),
        ("ocs", (409, "later")),
        ("protocol", (996, "Internal Server Error\nInvalid value")),
    ],
)
async def test_what_an_endpoint_raises_is_answered(what: str, expected: tuple[int, str]) -> None:
    async with family_stage() as s:
        assert meta(await s.ocs("PUT", "/raises", json={"what": what})) == expected


async def test_bug_in_an_endpoint_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with family_stage() as s:
        with caplog.at_level(logging.ERROR):
            response = await s.ocs("PUT", "/raises", json={"what": "bug"})
        assert meta(response) == (996, "Internal Server Error\nZeroDivisionError: division by zero")
        assert "PUT /ocs/v1.php/raises failed" in caplog.text
        assert "Traceback" in caplog.text


async def test_call_that_no_app_signed_has_no_app() -> None:
    async with family_stage() as s:
        assert data(await s.ocs("GET", "/not-signed", headers={})) == "so it is"


@pytest.mark.parametrize("version", [1, 2])
async def test_unknown_path_is_998_and_the_host_says_who_asked(version: int) -> None:
    async with web_stage() as s:
        response = await s.ocs("GET", "/apps/spreed/api/v4/room", version=version)
        assert (response.status_code, meta(response)) == ((200, 404)[version - 1], UNKNOWN)
        [notice] = s.notices()
        assert notice == (
            f"the app nc_py_api asked for GET /ocs/v{version}.php/apps/spreed/api/v4/room, "
            "which this host does not serve"
        )
        await s.ocs("GET", "/nowhere", version=version, headers={})
        assert s.notices()[-1].startswith("somebody asked for GET")


@pytest.mark.parametrize(
    "path",
    ["/ocs/v1.php", "/ocs/v1.php/", "/ocs/v3.php/cloud/capabilities", "/ocs/", "/ocs/v1.php/x%0A"],
)
async def test_other_paths_below_ocs_are_unknown(path: str) -> None:
    async with web_stage() as s:
        response = await s.client.get(path)
        assert "<statuscode>998</statuscode>" in response.text
        assert response.headers["content-type"] == "text/xml; charset=UTF-8"


@pytest.mark.parametrize("method", ["POST", "PATCH", "OPTIONS", "BREW"])
async def test_wrong_verb_is_405_without_a_body(method: str) -> None:
    async with web_stage() as s:
        response = await s.ocs(method, CAPABILITIES)
        assert (response.status_code, response.content) == (405, b"")
        assert response.headers["allow"] == "GET"


async def test_head_has_the_head_of_get() -> None:
    async with web_stage() as s:
        got, head = await s.ocs("GET", CAPABILITIES), await s.ocs("HEAD", CAPABILITIES)
        assert head.content == b""
        assert dict(head.headers) == dict(got.headers)


@pytest.mark.parametrize(("path", "placed"), [("query", True), ("header", False)])
async def test_unknown_format_is_996_in_xml(path: str, placed: bool) -> None:
    async with web_stage() as s:
        response = await s.client.get(
            f"/ocs/v2.php{CAPABILITIES}",
            params={"format": "foo"} if placed else {},
            headers={"accept": "application/foo"},
        )
        assert response.status_code == 500
        assert "No responder registered for format foo!" in response.text
        assert response.text.startswith('<?xml version="1.0"?>')


async def test_format_may_come_in_the_body() -> None:
    async with web_stage() as s:
        response = await s.client.post(
            "/ocs/v1.php/apps/app_api/api/v1/log",
            json={"level": 1, "message": "", "format": "json"},
            headers=signed(),
        )
        assert meta(response) == (100, "OK")


async def test_body_has_a_limit() -> None:
    async with web_stage() as s:
        body = b'{"level": 1, "message": "%s"}'
        path = "/apps/app_api/api/v1/log"
        headers = signed() | {"content-type": "application/json"}
        fits = body % (b"x" * (MAX_BODY_BYTES - len(body) + 2))
        assert meta(await s.ocs("POST", path, content=fits, headers=headers)) == (100, "OK")
        # Not through the client, which does not like that its body is not read to the end.
        messages = [{"type": "http.request", "body": fits, "more_body": True}] * 2
        start, body = await raw_call(s, path, messages)
        assert b"<statuscode>413</statuscode>" in body["body"]
        assert (b"Connection", b"close") in start["headers"]
        assert len(messages) == 0


async def test_exchange_tells_what_was_asked_and_answered_without_secrets() -> None:
    async with web_stage() as s:
        await s.ocs("POST", "/apps/app_api/api/v1/log", json={"level": 1, "message": "hi"})
        [exchange] = s.exchanges()
        assert exchange.direction is Direction.APP_TO_HOST
        assert (exchange.app_id, exchange.method, exchange.status) == ("nc_py_api", "POST", 200)
        assert exchange.target == "/ocs/v1.php/apps/app_api/api/v1/log?format=json"
        assert exchange.request_body == b'{"level":1,"message":"hi"}'
        assert exchange.response_body.endswith(b'"data":[]}}')
        assert ("authorization-app-api", "***") in exchange.request_headers
        assert "12345" not in repr(exchange)
        assert "OjEyMzQ1" not in repr(exchange)


async def test_client_that_leaves_in_the_middle_gets_no_answer() -> None:
    async with web_stage() as s:
        messages = [
            {"type": "http.request", "body": b"{", "more_body": True},
            {"type": "http.disconnect"},
        ]
        assert await raw_call(s, "/apps/app_api/api/v1/log", messages) == []
        assert s.exchanges()[0].status == 0
        assert "went away" in s.exchanges()[0].note


def test_families_are_collected_from_their_files() -> None:
    paths = {endpoint.path for family in FAMILIES for endpoint in family.endpoints}
    assert {CAPABILITIES, "/apps/app_api/ex-app/status", "/apps/app_api/api/v1/log"} <= paths


async def test_two_endpoints_for_one_request_are_a_mistake() -> None:
    async with web_stage() as s:
        with pytest.raises(ValueError, match=r"/echo/\{appId\}/x is declared twice"):
            OCSApplication(s.host, [family, family])


async def test_nothing_that_a_client_sends_is_a_server_error_of_ours() -> None:
    chance = random.Random(20261121)

    def some(*values: Any) -> Any:
        return chance.choice(values)

    def junk() -> bytes:
        return chance.randbytes(chance.randrange(12))

    paths = [endpoint.path for family in FAMILIES for endpoint in family.endpoints]
    async with web_stage() as s:
        for _ in range(600):
            path = some(*paths, quote(junk())).replace("{appId}", some("nc_py_api", "%00", "x"))
            query = some(
                "format=json", "format=xml&progress=5", "level[]=1", quote(junk(), safe="&=")
            )
            headers = [
                *signed(some("", "admin", "gone", "nobody")).items(),
                (
                    "content-type",
                    some("application/json", "application/x-www-form-urlencoded", "x"),
                ),
                (some("accept", "authorization", "ex-app-id"), junk().decode("latin-1")),
            ]
            body = some(
                b'{"progress": 1e999, "level": [], "message": 1}', b"level=1&message=", junk()
            )
            version = some(1, 2)
            answer = await raw_request(
                s.host,
                some("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"),
                f"/ocs/v{version}.php{path if path.startswith('/') else '/' + path}?{query}",
                headers,
                body,
            )
            assert answer.status < 500 or (version == 2 and answer.status == 500)
            if answer.status == 500 and answer.body:
                assert b"996" in answer.body
                assert b"Error:" not in answer.body  # a bug of ours would be named here
