"""Thousands of requests whose authentication is broken in some way: none gets anywhere.

Applications are called as a server calls them, without an HTTP client in between that would
refuse to send such headers.
"""

import base64
import io
import logging
import runpy
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from starlette.responses import Response
from starlette.types import Message

from exapp_sdk import Access, AppAPIAuthMiddleware, ExApp
from exapp_sdk.protocol.auth import MAX_HEADER_BYTES
from exapp_sdk.testing import running
from tests.sdk.stage import AS_ALICE, SECRET, SETTINGS, SIGNED, RecordingHost

EXAMPLES = 720
"""Times the parameters of the test below, 7 ways of breaking and 2 loops: 10,080 requests to each
of three applications, the skeleton among them."""

SKELETON = Path(__file__).parents[2] / "examples" / "skeleton"

MANY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Headers = list[tuple[bytes, bytes]]
NEEDED = ("EX-APP-ID", "EX-APP-VERSION", "AUTHORIZATION-APP-API")
RIGHT = base64.b64encode(f":{SECRET}".encode()).decode()

ANY_VALUE = st.binary(max_size=80).filter(lambda value: b"\r" not in value and b"\n" not in value)
NAME = st.sampled_from(NEEDED)
BASE = st.sampled_from([SIGNED, AS_ALICE])


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


WAYS: dict[str, st.SearchStrategy[Headers]] = {
    "missing": st.builds(
        lambda base, gone: [h for h in raw(base) if h[0] not in {n.lower().encode() for n in gone}],
        BASE,
        st.sets(NAME, min_size=1),
    ),
    "empty or oversized": st.builds(
        replaced, BASE, NAME, st.sampled_from([b"", b"a" * (MAX_HEADER_BYTES + 1), b"a" * 70_000])
    ),
    "doubled": st.builds(
        lambda base, name, value, first: (
            [(name.lower().encode(), value), *raw(base)]
            if first
            else [*raw(base), (name.lower().encode(), value)]
        ),
        BASE,
        NAME,
        ANY_VALUE | st.just(RIGHT.encode()),
        st.booleans(),
    ),
    "not UTF-8": st.builds(replaced, BASE, NAME, ANY_VALUE.map(lambda value: value + b"\xff\xfe"))
    | st.builds(
        lambda base, user: replaced(
            base, "AUTHORIZATION-APP-API", pair(user + b"\xff", SECRET.encode())
        ),
        BASE,
        ANY_VALUE,
    ),
    "bad base64": st.builds(
        lambda base, value: replaced(base, "AUTHORIZATION-APP-API", value),
        BASE,
        ANY_VALUE
        | st.sampled_from([RIGHT[:-1], f" {RIGHT}", f"{RIGHT[:5]}\t{RIGHT[5:]}", f"{RIGHT}="]).map(
            str.encode
        ),
    ),
    "wrong secret": st.builds(
        lambda base, user, secret: replaced(base, "AUTHORIZATION-APP-API", pair(user, secret)),
        BASE,
        st.sampled_from([b"", b"alice", b"admin"]),
        st.text(max_size=40).map(str.encode)
        | st.sampled_from([SECRET[:-1], f"{SECRET}x", SECRET.upper(), f":{SECRET}"]).map(
            str.encode
        ),
    ),
    "wrong app": st.builds(
        lambda base, value: replaced(base, "EX-APP-ID", value),
        BASE,
        st.text(min_size=1, max_size=40).map(str.encode) | st.just(b"NOTES_AI"),
    ),
}
METHOD = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
PATH = st.sampled_from(
    [
        "/",
        "/init",
        "/enabled",
        "/public",
        "/user",
        "/mount/x",
        "/live",
        "/heartbeat/",
        "//heartbeat",
    ]
) | st.text(max_size=20).map(lambda text: f"/{text}")


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
def test_broken_authentication_gets_nowhere(way: str, anyio_backend: str) -> None:
    touched: list[str] = []
    app, wrapped = guarded(touched)
    skeleton = guarded_skeleton(touched)

    @MANY
    @given(
        headers=WAYS[way],
        method=METHOD,
        path=PATH,
        socket=st.booleans(),
        denial=st.booleans(),
        more=st.lists(st.tuples(st.sampled_from([b"cookie", b"authorization"]), ANY_VALUE)),
    )
    def check(
        headers: Headers,
        method: str,
        path: str,
        socket: bool,
        denial: bool,
        more: Headers,
    ) -> None:
        assume(path != "/heartbeat")
        if way in ("bad base64", "wrong secret"):
            assume(not any(is_right(v) for n, v in headers if n == b"authorization-app-api"))
        if way == "wrong app":
            assume((b"ex-app-id", b"notes_ai") not in headers)
        scope = {
            "type": "websocket" if socket else "http",
            "method": method,
            "path": path,
            "root_path": "",
            "query_string": b"enabled=1",
            "headers": [*headers, *more],
            "extensions": {"websocket.http.response": {}} if denial else {},
        }
        for one in (app, wrapped, skeleton):
            requests.append(dict(scope))
            sent = answers_to(one, dict(scope))
            if socket and not denial:
                assert sent == [{"type": "websocket.close", "code": 1008}]
            else:
                assert [message["type"].rpartition(".")[2] for message in sent] == ["start", "body"]
                assert sent[0]["status"] == 401
                assert sent[1]["body"] == b'{"error":"AppAPI authentication failed"}'
        assert touched == []

    requests: list[dict[str, Any]] = []

    def answers_to(one: Any, scope: dict[str, Any]) -> list[Message]:
        sent: list[Message] = portal.call(answer_of, one, scope)
        return sent

    context = running(app, settings=SETTINGS, transport=RecordingHost().transport)
    second = running(skeleton, settings=SETTINGS, transport=RecordingHost().transport)
    with (
        everything_said() as said,
        anyio.from_thread.start_blocking_portal(anyio_backend) as portal,
        portal.wrap_async_context_manager(context),
        portal.wrap_async_context_manager(second),
    ):
        check()
    assert len(requests) >= 3 * EXAMPLES
    for shown in (SECRET, RIGHT, "s3cr3t", base64.b64encode(f"alice:{SECRET}".encode()).decode()):
        assert shown not in said.getvalue()
    assert "Traceback" not in said.getvalue()
