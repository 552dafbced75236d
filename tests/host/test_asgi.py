"""The host's HTTP side as a whole, and its server."""

import logging
import socket
from typing import Any

import pytest

from appapi_host.asgi import bind, create_app
from appapi_host.errors import HostError
from tests.host.web_stage import raw_request, web_stage


async def test_status_is_what_clients_of_nextcloud_look_for() -> None:
    async with web_stage() as s:
        response = await s.client.get("/status.php")
        assert response.text == (
            '{"installed":true,"maintenance":false,"needsDbUpgrade":false,"version":"32.0.1.2",'
            '"versionstring":"32.0.1","edition":"","productname":"Nextcloud",'
            '"extendedSupport":false}'
        )


@pytest.mark.parametrize("path", ["/nowhere", "/apps/app_api/proxy", "/%69ndex.php/apps/x"])
async def test_other_pages_are_not_found(path: str) -> None:
    async with web_stage() as s:
        assert (await raw_request(s.host, "GET", path)).status == 404


async def test_lifespan_is_answered_and_websockets_are_refused() -> None:
    async with web_stage() as s:
        app = create_app(s.host)
        sent: list[Any] = []
        messages = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]

        async def receive() -> Any:
            return messages.pop()

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await app({"type": "lifespan"}, receive, send)
        await app({"type": "websocket", "path": "/"}, receive, send)
        assert sent == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
            "websocket.close",
        ]


async def test_bug_is_logged_and_left_to_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    async with web_stage() as s:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError):
            await create_app(s.host)(scope, broken, broken)
    assert "GET / failed" in caplog.text


def test_port_in_use_is_an_error_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match=f"port {port}: address already in use") as caught:
            bind("127.0.0.1", port)
    assert "choose another port" in caught.value.remedy


@pytest.mark.parametrize(
    ("host", "port"), [("192.0.2.1", 0), ("no.such.invalid", 0), ("127.0.0.1", 70000)]
)
def test_address_that_is_not_ours_is_an_error_with_a_remedy(host: str, port: int) -> None:
    with pytest.raises(HostError) as caught:
        bind(host, port)
    assert caught.value.remedy


def test_bound_socket_listens_at_once() -> None:
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname(), 5):
        assert listener.getsockname()[1] > 0
