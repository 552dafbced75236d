"""The middleware alone, around applications that are not ours."""

import logging
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from exapp_sdk import AppAPIAuthMiddleware, AuthError
from exapp_sdk.auth import Access, User, authenticate, is_from_host, route_path
from exapp_sdk.testing import running, signed_headers
from tests.sdk.stage import AS_ALICE, ENVIRON, SETTINGS, SIGNED, asking, websocket

REFUSED = {"error": "AppAPI authentication failed"}


def plain_application(calls: list[str]) -> Starlette:
    async def who(request: Request) -> JSONResponse:
        calls.append(request.url.path)
        return JSONResponse({"user": request.user.identity, "scopes": request.auth.scopes})

    async def heartbeat(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def live(socket: WebSocket) -> None:
        calls.append("live")
        await socket.accept()
        await socket.send_text(socket.user.identity)
        await socket.close()

    return Starlette(
        routes=[
            Route("/heartbeat", heartbeat, methods=["GET", "POST"]),
            Route("/who", who),
            WebSocketRoute("/live", live),
        ]
    )


async def test_middleware_lets_the_host_in_and_nobody_else() -> None:
    calls: list[str] = []
    app = AppAPIAuthMiddleware(plain_application(calls), settings=SETTINGS)
    async with asking(app) as client:
        refused = await client.get("/who")
        assert (refused.status_code, refused.json()) == (401, REFUSED)
        assert refused.headers["content-type"] == "application/json"
        assert calls == []
        for headers, user, scopes in (
            (SIGNED, "", ["app"]),
            (AS_ALICE, "alice", ["app", "user"]),
        ):
            answer = await client.get("/who", headers=headers)
            assert answer.json() == {"user": user, "scopes": scopes}


async def test_middleware_exempts_the_heartbeat_only() -> None:
    app = AppAPIAuthMiddleware(plain_application([]), settings=SETTINGS)
    async with asking(app) as client:
        assert (await client.get("/heartbeat")).json() == {"status": "ok"}
        assert (await client.head("/heartbeat")).status_code == 200
        assert (await client.post("/heartbeat")).status_code == 401


async def test_middleware_refuses_websockets_before_they_are_accepted() -> None:
    calls: list[str] = []
    app = AppAPIAuthMiddleware(plain_application(calls), settings=SETTINGS)
    denied = await websocket(app, "/live")
    assert [message["type"] for message in denied] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert denied[0]["status"] == 401
    closed = await websocket(app, "/live", denial=False)
    assert closed == [{"type": "websocket.close", "code": 1008}]
    assert calls == []
    accepted = await websocket(app, "/live", headers=AS_ALICE)
    assert accepted[1]["text"] == "alice"


async def test_middleware_fits_other_frameworks() -> None:
    api = FastAPI()

    @api.get("/who")
    async def who(request: Request) -> str:
        return str(request.user.identity)

    api.add_middleware(AppAPIAuthMiddleware, settings=SETTINGS)
    async with running(api), asking(api) as client:
        assert (await client.get("/who", headers=AS_ALICE)).json() == "alice"
        assert (await client.get("/who")).status_code == 401


async def test_middleware_reads_the_environment_once_when_it_is_first_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = AppAPIAuthMiddleware(plain_application([]))
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    async with asking(app) as client:
        assert (await client.get("/who", headers=SIGNED)).status_code == 200
        monkeypatch.setenv("APP_SECRET", "another")
        assert (await client.get("/who", headers=SIGNED)).status_code == 200


async def test_middleware_without_configuration_refuses_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ENVIRON:
        monkeypatch.delenv(name, raising=False)
    calls: list[str] = []
    async with asking(AppAPIAuthMiddleware(plain_application(calls))) as client:
        answer = await client.get("/who", headers=SIGNED)
    assert (answer.status_code, calls) == (503, [])
    assert "APP_SECRET is not set" in caplog.text


async def test_middleware_passes_the_lifespan() -> None:
    seen: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async with running(AppAPIAuthMiddleware(inner, settings=SETTINGS)):
        assert seen == ["lifespan"]


def scope_with(headers: dict[str, str], **more: Any) -> dict[str, Any]:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "GET", "path": "/", "headers": raw} | more


def test_wrong_credentials_leave_the_scope_alone() -> None:
    scope = scope_with(SIGNED | {"EX-APP-ID": "other"})
    with pytest.raises(AuthError):
        authenticate(scope, SETTINGS.credentials)
    assert "user" not in scope
    assert "auth" not in scope


def test_version_is_not_compared() -> None:
    scope = scope_with(SIGNED | {"EX-APP-VERSION": "0.0.1", "AA-VERSION": "32"})
    authenticate(scope, SETTINGS.credentials)
    assert not scope["user"].is_authenticated


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/heartbeat", "", "/heartbeat"),
        ("/sub/heartbeat", "/sub", "/heartbeat"),
        ("/subheartbeat", "/sub", "/subheartbeat"),
        ("/sub", "/sub", ""),
        ("/other", "/sub", "/other"),
    ],
)
def test_path_is_taken_below_the_root(path: str, root: str, expected: str) -> None:
    assert route_path({"path": path, "root_path": root}) == expected


def test_host_is_known_by_having_no_user_and_no_browser() -> None:
    assert is_from_host("", [(b"host", b"x")])
    assert not is_from_host("alice", [])
    assert not is_from_host("", [(b"x-origin-ip", b"")])


def test_access_levels_are_words() -> None:
    assert Access("public") is Access.PUBLIC
    assert Access.PUBLIC.refusal({"user": User("")}) == ""


async def test_refusals_are_logged_without_what_was_received(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    app = AppAPIAuthMiddleware(plain_application([]), settings=SETTINGS)
    wrong = signed_headers(SETTINGS) | {"AUTHORIZATION-APP-API": "OnJlY2VpdmVk"}
    async with asking(app) as client:
        await client.get("/who", headers=wrong)
    assert "refused '/who'" in caplog.text
    assert "OnJlY2VpdmVk" not in caplog.text
    assert "received" not in caplog.text
