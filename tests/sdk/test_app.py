"""Routes, websockets and mounts: who gets in, what is answered, what happens to exceptions."""

import json
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from exapp_sdk import Access, ExApp, HandlerError, LocalProtocolError
from exapp_sdk.testing import running
from tests.sdk.stage import AS_ALICE, SETTINGS, SIGNED, asking, started, websocket


class Note(BaseModel):
    text: str


RESULTS: list[tuple[Any, int, bytes, str]] = [
    ({"a": "ä"}, 200, '{"a":"ä"}'.encode(), "application/json"),
    ([1, None], 200, b"[1,null]", "application/json"),
    (True, 200, b"true", "application/json"),
    ("Grüße", 200, "Grüße".encode(), "text/plain; charset=utf-8"),
    (b"\x00\xff", 200, b"\x00\xff", "application/octet-stream"),
    (Note(text="x"), 200, b'{"text":"x"}', "application/json"),
    ([Note(text="x")], 200, b'[{"text":"x"}]', "application/json"),
    (Response("made", status_code=201, media_type="text/html"), 201, b"made", "text/html"),
]


@pytest.mark.parametrize(("result", "status", "body", "kind"), RESULTS)
async def test_what_a_handler_returns_is_sent(
    result: Any, status: int, body: bytes, kind: str
) -> None:
    app = ExApp()

    @app.get("/x")
    async def handler(request: Request) -> Any:
        return result

    async with started(app) as client:
        answer = await client.get("/x", headers=AS_ALICE)
    assert (answer.status_code, answer.content) == (status, body)
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["content-length"] == str(len(body))


async def test_nothing_is_204_without_a_body() -> None:
    app = ExApp()
    app.delete("/x")(lambda request: None)
    async with started(app) as client:
        answer = await client.delete("/x", headers=AS_ALICE)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-type" not in answer.headers


async def test_sync_handlers_run_in_a_worker_thread() -> None:
    app = ExApp()
    app.get("/x")(lambda request: threading.get_ident())
    async with started(app) as client:
        answer = await client.get("/x", headers=AS_ALICE)
    assert answer.json() != threading.get_ident()


async def test_every_verb_has_its_decorator() -> None:
    app = ExApp()
    for verb in ("get", "post", "put", "delete", "patch"):
        getattr(app, verb)("/x")(lambda request: request.method)
    app.route("/any", methods=["options", "brew"])(lambda request: request.method)
    async with started(app) as client:
        for verb in ("GET", "POST", "PUT", "DELETE", "PATCH"):
            assert (await client.request(verb, "/x", headers=AS_ALICE)).text == verb
        assert (await client.request("BREW", "/any", headers=AS_ALICE)).text == "BREW"
        refused = await client.get("/any", headers=AS_ALICE)
        assert (refused.status_code, refused.json()) == (405, {"error": "Method Not Allowed"})
        assert set(refused.headers["allow"].split(", ")) == {"OPTIONS", "BREW"}
        assert (await client.head("/x", headers=AS_ALICE)).status_code == 200


async def test_request_knows_path_user_app_and_addresses() -> None:
    app = ExApp()

    @app.get("/notes/{number:int}")
    async def note(request: Request) -> dict[str, Any]:
        assert request.app is app
        return {
            "number": request.path_params["number"],
            "url": str(request.url_for("note", number=2)),
            "user": request.user.identity,
            "shown": request.user.display_name,
            "logged in": request.user.is_authenticated,
            "scopes": request.auth.scopes,
            "repr": repr(request.user),
        }

    async with started(app) as client:
        answer = await client.get("/notes/7", headers=AS_ALICE)
    assert answer.json() == {
        "number": 7,
        "url": "http://exapp.test/notes/2",
        "user": "alice",
        "shown": "alice",
        "logged in": True,
        "scopes": ["app", "user"],
        "repr": "User('alice')",
    }


PROXIED = {"x-origin-ip": "203.0.113.7"}


@pytest.mark.parametrize(
    ("access", "nobody", "user", "proxied"),
    [
        (Access.PUBLIC, 204, 204, 204),
        (Access.USER, 403, 204, 403),
        (Access.ADMIN, 403, 204, 403),
        (Access.HOST, 204, 403, 403),
    ],
)
async def test_access_levels(access: Access, nobody: int, user: int, proxied: int) -> None:
    app = ExApp()
    app.get("/route", access=access)(lambda request: None)
    app.mount("/mount", Response(status_code=204), access=access)
    async with started(app) as client:
        for path in ("/route", "/mount/x"):
            assert (await client.get(path)).status_code == 401
            for headers, status in (
                (SIGNED, nobody),
                (AS_ALICE, user),
                (SIGNED | PROXIED, proxied),
            ):
                answer = await client.get(path, headers=headers)
                assert answer.status_code == status
                if status == 403:
                    assert answer.json()["error"].endswith("may use this.")


async def test_user_is_the_default_level() -> None:
    app = ExApp()
    app.get("/route")(lambda request: None)
    app.mount("/mount", Response(status_code=204))

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None: ...

    async with started(app) as client:
        assert (await client.get("/route", headers=SIGNED)).status_code == 403
        assert (await client.get("/mount/", headers=SIGNED)).status_code == 403
        assert (await client.get("/mount", headers=SIGNED)).status_code == 403
        assert (await websocket(app, "/live", headers=SIGNED))[0]["status"] == 403


async def test_unknown_paths_are_404_in_json_but_only_for_the_host() -> None:
    app = ExApp()
    async with started(app) as client:
        unknown = await client.get("/nope", headers=AS_ALICE)
        assert (unknown.status_code, unknown.json()) == (404, {"error": "Not Found"})
        assert (await client.get("/nope")).status_code == 401


async def test_exceptions_are_500_without_details_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = ExApp()

    @app.get("/x")
    async def fails(request: Request) -> None:
        raise RuntimeError(f"database password, and {SETTINGS.app_secret.reveal()}")

    app.get("/odd")(lambda request: object())
    async with started(app) as client:
        answer = await client.get("/x", headers=AS_ALICE)
        odd = await client.get("/odd", headers=AS_ALICE)
    assert (answer.status_code, answer.json()) == (500, {"error": "Internal Server Error"})
    assert odd.status_code == 500
    assert "GET '/x' failed" in caplog.text
    assert "RuntimeError: database password, and ***" in caplog.text
    assert SETTINGS.app_secret.reveal() not in caplog.text
    assert "a object cannot be sent as JSON" in caplog.text


async def test_http_exceptions_are_the_answer_they_describe() -> None:
    app = ExApp()

    @app.get("/x")
    async def fails(request: Request) -> None:
        raise HTTPException(418, 'a "teapot"', headers={"X-Pot": "1"})

    @app.get("/empty")
    async def unchanged(request: Request) -> None:
        raise HTTPException(304)

    async with started(app) as client:
        answer = await client.get("/x", headers=AS_ALICE)
        empty = await client.get("/empty", headers=AS_ALICE)
    assert (answer.status_code, answer.json()) == (418, {"error": 'a "teapot"'})
    assert answer.headers["x-pot"] == "1"
    assert (empty.status_code, empty.content) == (304, b"")


async def test_an_answer_that_breaks_off_is_left_to_the_server() -> None:
    app = ExApp()

    async def half() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError("the rest is missing")

    @app.get("/x")
    async def stream(request: Request) -> Response:
        return StreamingResponse(half())

    @app.get("/late")
    async def late(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"half"
            raise HTTPException(500)

        return StreamingResponse(chunks())

    async with started(app) as client:
        with pytest.raises(RuntimeError, match="the rest is missing"):
            await client.get("/x", headers=AS_ALICE)
        with pytest.raises(HTTPException):
            await client.get("/late", headers=AS_ALICE)


async def test_a_client_that_leaves_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    app = ExApp()
    caplog.set_level(logging.DEBUG, "exapp_sdk")
    sent: list[object] = []

    @app.post("/x")
    async def upload(request: Request) -> int:
        return len(await request.body())

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        sent.append(message)

    headers = [(name.lower().encode(), value.encode()) for name, value in AS_ALICE.items()]
    scope = {"type": "http", "method": "POST", "path": "/x", "query_string": b""}
    async with started(app):
        await app(scope | {"headers": headers}, receive, send)  # type: ignore[arg-type]
    assert sent == []
    assert "went away" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# Websockets


async def test_websocket_serves_whom_it_accepts() -> None:
    app = ExApp()

    @app.websocket("/live")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(f"{socket.user.identity}: {text}")

    async with started(app):
        sent = await websocket(app, "/live", headers=AS_ALICE, texts=("a", "b"))
    assert [message.get("text") for message in sent] == [None, "alice: a", "alice: b"]


async def test_websocket_that_hangs_up_in_receive_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = ExApp()

    @app.websocket("/live")
    async def listen(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()

    async with started(app):
        sent = await websocket(app, "/live", headers=AS_ALICE)
    assert [message["type"] for message in sent] == ["websocket.accept"]
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("fails", "types", "code"),
    [
        (None, ["websocket.accept", "websocket.close"], 1000),
        (RuntimeError("x"), ["websocket.accept", "websocket.close"], 1011),
        (HTTPException(404), ["websocket.accept", "websocket.close"], 1011),
        (WebSocketException(4000), ["websocket.accept", "websocket.close"], 4000),
    ],
)
async def test_websocket_is_closed_when_its_handler_ends(
    fails: Exception | None, types: list[str], code: int
) -> None:
    app = ExApp()

    @app.websocket("/live")
    async def handler(socket: WebSocket) -> None:
        await socket.accept()
        if fails:
            raise fails

    async with started(app):
        sent = await websocket(app, "/live", headers=AS_ALICE)
    assert [message["type"] for message in sent] == types
    assert sent[-1]["code"] == code


@pytest.mark.parametrize(("fails", "status"), [(RuntimeError("x"), 500), (HTTPException(404), 404)])
async def test_websocket_that_fails_before_it_is_accepted_gets_an_answer(
    fails: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = ExApp()

    @app.websocket("/live")
    async def handler(socket: WebSocket) -> None:
        raise fails

    async with started(app):
        sent = await websocket(app, "/live", headers=AS_ALICE)
    assert [message["type"] for message in sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert sent[0]["status"] == status
    assert ("websocket '/live' failed" in caplog.text) is (status == 500)


async def test_websocket_that_is_never_accepted_is_refused() -> None:
    app = ExApp()

    @app.websocket("/live")
    async def handler(socket: WebSocket) -> None: ...

    async with started(app):
        sent = await websocket(app, "/live", headers=AS_ALICE)
        unknown = await websocket(app, "/nope", headers=AS_ALICE)
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert [message["type"] for message in unknown] == ["websocket.close"]


async def test_websocket_closed_on_a_gone_peer_is_no_error() -> None:
    app = ExApp()

    @app.websocket("/live")
    async def handler(socket: WebSocket) -> None:
        await socket.accept()

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        if message["type"] == "websocket.close":
            raise OSError("the connection is gone")

    headers = [(name.lower().encode(), value.encode()) for name, value in AS_ALICE.items()]
    async with started(app):
        await app({"type": "websocket", "path": "/live", "headers": headers}, receive, send)


# Mounts


def other_framework() -> Starlette:
    async def where(request: Request) -> JSONResponse:
        return JSONResponse(
            {
                "path": request.url.path,
                "root": request.scope["root_path"],
                "user": request.user.identity,
                "state": getattr(request.state, "opened", None),
            }
        )

    return Starlette(routes=[Route("/{path:path}", where), Route("/", where)])


async def test_any_application_can_be_mounted() -> None:
    app = ExApp()
    app.mount("/api", other_framework())
    async with started(app) as client:
        answer = await client.get("/api/deep/er", headers=AS_ALICE)
    assert answer.json() == {
        "path": "/api/deep/er",
        "root": "/api",
        "user": "alice",
        "state": None,
    }


async def test_the_bare_path_of_a_mount_redirects_relatively() -> None:
    app = ExApp()
    app.mount("/a/b", other_framework())
    async with started(app) as client:
        plain = await client.get("/a/b", headers=AS_ALICE)
        query = await client.post("/a/b?x=1", headers=AS_ALICE)
    assert (plain.status_code, plain.headers["location"]) == (307, "./b/")
    assert query.headers["location"] == "./b/?x=1"


async def test_files_are_served_by_a_mount(tmp_path: Any) -> None:
    await anyio.Path(tmp_path, "page.html").write_text("<p>hello")
    app = ExApp()
    app.mount("/static", StaticFiles(directory=tmp_path))
    async with started(app) as client:
        assert (await client.get("/static/page.html", headers=AS_ALICE)).text == "<p>hello"
        assert (await client.get("/static/other.html", headers=AS_ALICE)).status_code == 404
        assert (await client.get("/static/page.html")).status_code == 401


async def test_exceptions_of_a_mounted_application_are_500() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("in the mounted app")

    app = ExApp()
    app.mount("/api", broken)
    async with started(app) as client:
        assert (await client.get("/api/", headers=AS_ALICE)).status_code == 500


async def test_nothing_shadows_the_lifecycle_paths() -> None:
    touched: list[str] = []

    async def catch_all(scope: Scope, receive: Receive, send: Send) -> None:
        touched.append(scope["path"])
        await Response("caught")(scope, receive, send)

    app = ExApp()
    app.route("/{path:path}", methods=["PATCH"], access=Access.PUBLIC)(
        lambda request: touched.append(request.url.path)
    )
    app.mount("/", catch_all, access=Access.PUBLIC)
    async with started(app) as client:
        assert (await client.get("/heartbeat")).json() == {"status": "ok"}
        assert (await client.post("/init", headers=SIGNED)).status_code == 404
        enabled = await client.put("/enabled?enabled=1", headers=SIGNED)
        assert enabled.json() == {"error": ""}
        for path in ("/heartbeat", "/init", "/enabled"):
            assert (await client.patch(path, headers=SIGNED)).status_code == 405
            assert (await websocket(app, path, headers=SIGNED))[0]["status"] == 404
        assert touched == []
        assert (await client.get("/else", headers=SIGNED)).text == "caught"
        assert (await client.get("/init/x", headers=SIGNED)).text == "caught"
    assert touched == ["/else", "/init/x"]


async def test_an_app_can_be_mounted_itself() -> None:
    app = ExApp()
    app.get("/hello")(lambda request: request.url.path)
    outer = Starlette()
    outer.mount("/sub", app)
    async with running(app, settings=SETTINGS), asking(outer) as client:
        assert (await client.get("/sub/heartbeat")).json() == {"status": "ok"}
        assert (await client.get("/sub/hello", headers=AS_ALICE)).text == "/sub/hello"
        assert (await client.get("/sub/hello")).status_code == 401


# The app itself


async def test_without_its_lifespan_only_the_heartbeat_is_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = ExApp(settings=SETTINGS)
    app.get("/x")(lambda request: None)
    async with asking(app) as client:
        assert (await client.get("/heartbeat")).json() == {"status": "ok"}
        for answer in (
            await client.get("/x", headers=AS_ALICE),
            await client.put("/enabled?enabled=1", headers=SIGNED),
        ):
            assert answer.status_code == 503
            assert json.loads(answer.text) == {"error": "The app has not been started."}
    assert "has not run the app's lifespan" in caplog.text


def test_settings_are_there_from_the_start_or_from_the_beginning() -> None:
    assert ExApp(settings=SETTINGS).settings is SETTINGS
    with pytest.raises(LocalProtocolError, match="read when the app starts"):
        ExApp().settings  # noqa: B018  # the property raises
    with pytest.raises(LocalProtocolError, match="only while the app runs"):
        ExApp(settings=SETTINGS).nextcloud  # noqa: B018


def test_mounts_are_no_decorators() -> None:
    with pytest.raises(HandlerError, match=r"app\.mount"):
        ExApp().mount(None, Response())  # type: ignore[arg-type]
