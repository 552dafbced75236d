"""Decorators record, and say at once what is wrong with what stands below them."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, assert_type

import pytest
from starlette.requests import Request
from starlette.websockets import WebSocket

from exapp_sdk import Access, ExApp, HandlerError, Progress


async def takes_request(request: Request) -> None: ...


async def takes_nothing() -> None: ...


async def yields(request: Request) -> AsyncIterator[str]:
    yield "x"


def sync_socket(websocket: WebSocket) -> None: ...


def test_decorators_return_the_function_unchanged_with_its_type() -> None:
    app = ExApp()

    @app.init
    async def prepare(progress: Progress) -> None: ...

    @app.enabled
    def switched(enabled: bool) -> str:
        return ""

    @app.heartbeat
    async def ready() -> bool:
        return True

    @app.get("/hello", access=Access.PUBLIC)
    async def hello(request: Request) -> dict[str, int]:
        return {"x": 1}

    @app.websocket("/live")
    async def live(websocket: WebSocket) -> None: ...

    assert_type(switched(enabled=True), str)
    assert switched(enabled=True) == ""
    assert prepare.__name__ == "prepare"
    assert hello.__name__ == "hello"
    assert live.__name__ == "live"


def test_several_apps_live_side_by_side() -> None:
    one, two = ExApp(), ExApp()
    one.init(lambda progress: None)
    two.init(lambda progress: None)
    one.get("/x")(takes_request)
    two.get("/x")(takes_request)


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        (lambda app: app.init(takes_nothing), r"async def takes_nothing\(progress: Progress\)"),
        (lambda app: app.enabled(takes_nothing), r"async def takes_nothing\(enabled: bool\)"),
        (lambda app: app.heartbeat(takes_request), r"async def takes_request\(\)"),
        (lambda app: app.get("/x")(takes_nothing), r"async def takes_nothing\(request: Request\)"),
        (lambda app: app.websocket("/x")(takes_nothing), r"takes_nothing\(websocket: WebSocket\)"),
        (lambda app: app.init(), "without parentheses"),
        (lambda app: app.enabled(), "without parentheses"),
        (lambda app: app.heartbeat(), "without parentheses"),
        (lambda app: app.get(takes_request), r'lacks its path; write @app\.get\("/path"\)'),
        (lambda app: app.websocket(takes_request), r'write @app\.websocket\("/path"\)'),
        (lambda app: app.get("x")(takes_request), "slash"),
        (lambda app: app.mount("x", app), "slash"),
        (lambda app: app.mount("/x", "api"), "no ASGI application"),
        (lambda app: app.get("/init")(takes_request), r"write @app\.init to have a say"),
        (lambda app: app.websocket("/enabled")(takes_request), "belongs to the host"),
        (lambda app: app.mount("/heartbeat", app), "belongs to the host"),
        (lambda app: app.get("/{id:nothing}")(takes_request), "does not work"),
        (lambda app: app.get("/{id}/{id}")(takes_request), "does not work"),
        (lambda app: app.get("/x", access="friends"), r"Access\.PUBLIC"),
        (lambda app: app.route("/x", methods="GET"), r'methods=\["GET", "POST"\]'),
        (lambda app: app.route("/x", methods=[]), r'methods=\["GET", "POST"\]'),
        (lambda app: app.get("/x")("hello"), "no function"),
        (lambda app: app.get("/x")(dict), "no function"),
        (lambda app: app.init(42), "no function"),
        (lambda app: app.get("/x")(yields), "StreamingResponse"),
        (lambda app: app.websocket("/x")(sync_socket), r"async def sync_socket"),
    ],
)
def test_wrong_use_fails_where_it_is_written(wrong: Callable[[ExApp], Any], advice: str) -> None:
    with pytest.raises(HandlerError, match=advice):
        wrong(ExApp())


@pytest.mark.parametrize("name", ["init", "enabled", "heartbeat"])
def test_there_is_one_handler_for_each_lifecycle_call(name: str) -> None:
    app = ExApp()
    handler: Callable[..., Awaitable[None]] = (
        takes_nothing if name == "heartbeat" else takes_request
    )
    getattr(app, name)(handler)
    with pytest.raises(HandlerError, match=rf"second @app\.{name}, after {handler.__name__}"):
        getattr(app, name)(handler)


def test_two_handlers_for_one_request_are_a_mistake() -> None:
    app = ExApp()
    app.get("/x")(takes_request)
    app.post("/x")(takes_request)
    app.websocket("/x")(takes_request)
    app.mount("/x", app)
    for again in (
        lambda: app.route("/x", methods=["delete", "post"])(takes_request),
        lambda: app.websocket("/x")(takes_request),
        lambda: app.mount("/x/", app),
    ):
        with pytest.raises(HandlerError, match="two handlers for"):
            again()


def test_a_handler_may_be_anything_that_can_be_called_so() -> None:
    class Counter:
        async def __call__(self, request: Request) -> int:
            return 1

    app = ExApp()
    app.get("/object")(Counter())
    app.get("/partial")(functools.partial(lambda more, request: more, 1))
    app.get("/default")(lambda request, more=1: more)
    app.get("/all")(lambda *args: None)
    app.get("/builtin")(print)
