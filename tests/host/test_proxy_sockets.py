"""Websockets to an app in memory, as the fixtures have it: there is no second connection."""

from dataclasses import replace
from typing import Any

import anyio

from appapi_host.asgi import create_app
from appapi_host.records import AccessLevel, Route
from tests.host.web_stage import APP, web_stage

RECORD = replace(APP, routes=(Route("^/ws", "GET", AccessLevel.PUBLIC),))


def socket_scope(path: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"a=1",
        "headers": [
            (b"sec-websocket-key", b"k"),
            (b"aa-version", b"forged"),
            (b"upgrade", b"websocket"),
            (b"x-kept", b"1"),
        ],
        "subprotocols": ["one"],
        "client": ("127.0.0.1", 1),
        **more,
    }


async def nothing() -> Any:
    await anyio.sleep_forever()


async def test_app_in_memory_is_called_directly() -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async with web_stage(app, record=RECORD) as s:
        await create_app(s.host)(socket_scope("/exapps/nc_py_api/ws/x"), receive, send)
        assert sent == ["websocket.accept"]
        [exchange] = s.exchanges()
        assert (exchange.status, exchange.method) == (101, "GET")
    [scope] = scopes
    assert (scope["path"], scope["raw_path"]) == ("/ws/x", b"/ws/x")
    assert (scope["query_string"], scope["subprotocols"]) == (b"a=1", ["one"])
    assert [name for name, _ in scope["headers"]] == [
        b"x-kept",
        b"aa-version",
        b"ex-app-id",
        b"ex-app-version",
        b"authorization-app-api",
        b"sec-websocket-key",
    ]


async def test_server_that_knows_no_other_refusal_gets_a_close() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with web_stage(record=RECORD) as s:
        application = create_app(s.host)
        await application(socket_scope("/exapps/nc_py_api/nowhere"), nothing, send)
        assert sent == [{"type": "websocket.close"}]
        sent.clear()
        extensions = {"websocket.http.response": {}}
        scope = socket_scope("/exapps/nc_py_api/nowhere", extensions=extensions)
        await application(scope, nothing, send)
        assert [message["type"] for message in sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert sent[0]["status"] == 404
