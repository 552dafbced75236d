"""Thousands of requests whose authentication is broken in some way: none gets anywhere.

Applications are called as a server calls them, without an HTTP client in between that would
refuse to send such headers. What they are called with is drawn by a plain generator, always the
same: a strategy for each value takes ten times as long as the applications.
"""

import base64
import io
import logging
import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Message

from exapp_sdk import Access, AppAPIAuthMiddleware, ExApp
from exapp_sdk.protocol.auth import MAX_HEADER_BYTES
from exapp_sdk.testing import running
from tests.sdk.stage import AS_ALICE, SECRET, SETTINGS, SIGNED, RecordingHost

REQUESTS = 720
"""Times the parameters of the test below, 7 ways of breaking and 2 loops: 10,080 requests to each
of three applications, the skeleton among them."""

SKELETON = Path(__file__).parents[2] / "examples" / "skeleton"

Headers = list[tuple[bytes, bytes]]
NEEDED = ("EX-APP-ID", "EX-APP-VERSION", "AUTHORIZATION-APP-API")
APP_ID, _, AUTHORIZATION = NEEDED
RIGHT = base64.b64encode(f":{SECRET}".encode()).decode()
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW")
PATHS = (
    "/",
    "/init",
    "/enabled",
    "/public",
    "/user",
    "/mount/x",
    "/live",
    "/heartbeat/",
    "//heartbeat",
)
OCTETS = bytes(set(range(256)) - set(b"\r\n"))
CHARACTERS = (range(0x80), range(0x80, 0x800), range(0x800, 0xD800), range(0x10000, 0x110000))
"""What takes one byte in UTF-8, two, three and four."""


def raw(headers: dict[str, str]) -> Headers:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def replaced(headers: dict[str, str], name: str, value: bytes) -> Headers:
    return [(key, value if key == name.lower().encode() else old) for key, old in raw(headers)]


def pair(user: bytes, secret: bytes) -> bytes:
    return base64.b64encode(user + b":" + secret)


def is_right(value: bytes) -> bool:
    """Whether an authorization carries the secret after all."""
    try:
        text = base64.b64decode(value, validate=True).decode()
    except ValueError:
        return False
    return text.partition(":")[1:] == (":", SECRET)


class Draw(Random):
    """What goes into a broken request."""

    def value(self) -> bytes:
        """Anything that a header can be, up to 80 bytes."""
        return bytes(self.choices(OCTETS, k=self.randint(0, 80)))

    def text(self, fewest: int, most: int) -> str:
        """Characters of all lengths, or, every other time, ASCII."""
        kinds = CHARACTERS if self.random() < 0.5 else CHARACTERS[:1]
        length = self.randint(fewest, most)
        return "".join(chr(self.choice(self.choice(kinds))) for _ in range(length))

    def either(self, usual: bytes, *special: str) -> bytes:
        """What is usual, or one of the special cases."""
        return self.choice([usual, self.choice(special).encode()])

    def base(self) -> dict[str, str]:
        """Headers that are right."""
        return self.choice([SIGNED, AS_ALICE])


def missing(draw: Draw) -> Headers:
    gone = {name.lower().encode() for name in draw.sample(NEEDED, draw.randint(1, len(NEEDED)))}
    return [header for header in raw(draw.base()) if header[0] not in gone]


def empty_or_oversized(draw: Draw) -> Headers:
    size = draw.choice([0, MAX_HEADER_BYTES + 1, 70_000])
    return replaced(draw.base(), draw.choice(NEEDED), b"a" * size)


def doubled(draw: Draw) -> Headers:
    header = (draw.choice(NEEDED).lower().encode(), draw.either(draw.value(), RIGHT))
    headers = raw(draw.base())
    return [header, *headers] if draw.random() < 0.5 else [*headers, header]


def not_utf8(draw: Draw) -> Headers:
    if draw.random() < 0.5:
        return replaced(draw.base(), draw.choice(NEEDED), draw.value() + b"\xff\xfe")
    return replaced(draw.base(), AUTHORIZATION, pair(draw.value() + b"\xff", SECRET.encode()))


def bad_base64(draw: Draw) -> Headers:
    special = (RIGHT[:-1], f" {RIGHT}", f"{RIGHT[:5]}\t{RIGHT[5:]}", f"{RIGHT}=")
    return replaced(draw.base(), AUTHORIZATION, draw.either(draw.value(), *special))


def wrong_secret(draw: Draw) -> Headers:
    special = (SECRET[:-1], f"{SECRET}x", SECRET.upper(), f":{SECRET}")
    secret = draw.either(draw.text(0, 40).encode(), *special)
    return replaced(
        draw.base(), AUTHORIZATION, pair(draw.choice([b"", b"alice", b"admin"]), secret)
    )


def wrong_app(draw: Draw) -> Headers:
    return replaced(draw.base(), APP_ID, draw.either(draw.text(1, 40).encode(), "NOTES_AI"))


WAYS: tuple[Callable[[Draw], Headers], ...] = (
    missing,
    empty_or_oversized,
    doubled,
    not_utf8,
    bad_base64,
    wrong_secret,
    wrong_app,
)


def broken(draw: Draw, way: Callable[[Draw], Headers]) -> dict[str, Any]:
    """A request that must be refused; one that is right by chance is drawn again."""
    headers = way(draw)
    while way in (bad_base64, wrong_secret, wrong_app) and (
        any(is_right(value) for name, value in headers if name == AUTHORIZATION.lower().encode())
        and (APP_ID.lower().encode(), b"notes_ai") in headers
    ):
        headers = way(draw)
    more = [
        (draw.choice([b"cookie", b"authorization"]), draw.value())
        for _ in range(draw.randint(0, 3))
    ]
    path = draw.choice([draw.choice(PATHS), f"/{draw.text(0, 20)}"])
    return {
        "type": draw.choice(["http", "websocket"]),
        "method": draw.choice(METHODS),
        "path": "/" if path == "/heartbeat" else path,
        "root_path": "",
        "query_string": b"enabled=1",
        "headers": [*headers, *more],
        "extensions": draw.choice([{}, {"websocket.http.response": {}}]),
    }


def guarded(touched: list[str]) -> tuple[ExApp, AppAPIAuthMiddleware]:
    """An app whose every corner notes that it was reached, and a wrapped one."""

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            touched.append(scope["path"])
            await Response()(scope, receive, send)

    app = ExApp()
    app.init(lambda progress: touched.append("init"))
    app.enabled(lambda enabled: touched.append("enabled"))
    for path, access in (("/public", Access.PUBLIC), ("/user", Access.USER), ("/", Access.HOST)):
        app.route(path, methods=["GET", "POST"], access=access)(
            lambda request: touched.append(request.url.path)
        )

    @app.websocket("/live", access=Access.PUBLIC)
    async def live(socket: Any) -> None:
        touched.append("live")

    app.mount("/", inner, access=Access.PUBLIC)
    return app, AppAPIAuthMiddleware(inner, settings=SETTINGS)


def guarded_skeleton(touched: list[str]) -> ExApp:
    """The example that everybody copies, with a note wherever a handler of its would run."""
    app: ExApp = runpy.run_path(str(SKELETON / "ex_app" / "lib" / "main.py"))["app"]

    async def routes(scope: Any, receive: Any, send: Any) -> None:
        touched.append(scope["path"])

    app._router = routes  # type: ignore[assignment]
    app._init = lambda progress: touched.append("init")
    return app


@contextmanager
def everything_said() -> Iterator[io.StringIO]:
    """All that is logged or printed meanwhile."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with redirect_stdout(said), redirect_stderr(said):
            yield said
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


async def answer_of(app: Any, scope: dict[str, Any]) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        if scope["type"] == "websocket":
            return {"type": "websocket.connect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("way", WAYS)
async def test_broken_authentication_gets_nowhere(
    way: Callable[[Draw], Headers], anyio_backend: str
) -> None:
    touched: list[str] = []
    app, wrapped = guarded(touched)
    skeleton = guarded_skeleton(touched)
    draw = Draw(f"{way.__name__} on {anyio_backend}")
    with everything_said() as said:
        async with (
            running(app, settings=SETTINGS, transport=RecordingHost().transport),
            running(skeleton, settings=SETTINGS, transport=RecordingHost().transport),
        ):
            for _ in range(REQUESTS):
                scope = broken(draw, way)
                for one in (app, wrapped, skeleton):
                    sent = await answer_of(one, dict(scope))
                    if scope["type"] == "websocket" and not scope["extensions"]:
                        assert sent == [{"type": "websocket.close", "code": 1008}], scope
                    else:
                        kinds = [message["type"].rpartition(".")[2] for message in sent]
                        assert kinds == ["start", "body"], scope
                        assert sent[0]["status"] == 401, scope
                        assert sent[1]["body"] == b'{"error":"AppAPI authentication failed"}', scope
                assert touched == [], scope
    for shown in (SECRET, RIGHT, "s3cr3t", base64.b64encode(f"alice:{SECRET}".encode()).decode()):
        assert shown not in said.getvalue()
    assert "Traceback" not in said.getvalue()
