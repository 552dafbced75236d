"""Redirects of apps: which ones the host follows itself, and what the browser sees of others."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from appapi_host.proxy.upload import REPLAYED_BYTES
from appapi_host.records import AccessLevel, Route
from tests.host.web_stage import APP, RawAnswer, WebStage, raw_request, web_stage

RECORD = replace(APP, routes=(Route("^/public", "GET,HEAD,POST,PUT", AccessLevel.PUBLIC),))
PHP = "/index.php/apps/app_api/proxy/nc_py_api"
HARP = "/exapps/nc_py_api"


@dataclass
class RedirectingApp:
    """Sends `/public` elsewhere, and answers everything else."""

    location: str
    status: int = 302
    received: list[tuple[str, str, bytes, dict[str, str]]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        target = scope["raw_path"].decode()
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode()
        headers = {k.decode(): v.decode("latin-1") for k, v in scope["headers"]}
        self.received.append((scope["method"], target, body, headers))
        redirects = target.startswith("/public")
        headers_out = [(b"Location", self.location.encode("latin-1"))] if redirects else []
        status = self.status if redirects else 200
        await send({"type": "http.response.start", "status": status, "headers": headers_out})
        await send({"type": "http.response.body", "body": b"from " + target.encode()})

    @property
    def asked(self) -> list[tuple[str, str]]:
        return [(method, target) for method, target, _, _ in self.received]


async def ask(
    s: WebStage, target: str = "/public/a", method: str = "GET", body: bytes = b""
) -> RawAnswer:
    headers = [("content-type", "text/plain"), ("content-length", str(len(body)))] if body else []
    return await raw_request(s.host, method, PHP + target, headers, body)


@pytest.mark.parametrize(
    ("location", "followed"),
    [
        ("/login?next=/x#top", "/login?next=/x"),
        ("../other", "/other"),
        ("http://localhost:9009/x", "/x"),
        ("http://localhost:9009", "/"),
        ("//localhost:9009/x", "/x"),
    ],
)
async def test_redirect_within_the_app_is_followed(location: str, followed: str) -> None:
    app = RedirectingApp(location)
    async with web_stage(app, record=RECORD) as s:
        answer = await ask(s)
        assert (answer.status, answer.body) == (200, b"from " + followed.encode())
        assert answer.values("location") == []
        assert app.asked == [("GET", "/public/a"), ("GET", followed)]
        assert app.received[1][3]["authorization-app-api"] == "OjEyMzQ1"
        assert len(s.exchanges()) == 1


@pytest.mark.parametrize(
    "location",
    [
        "https://other.example/x",
        "//other.example/x",
        "http://localhost:9010/x",
        "https://localhost:9009/x",
        # The app is asked under the host's name, so a framework that writes the name leads there.
        "http://127.0.0.1:8080/public/",
        "http://[broken/",
        "mailto:me@example.com",
        "/init",
        "/%2569nit",
        "/x/%2e%2e/init",
    ],
)
async def test_redirect_out_of_the_app_is_for_the_browser(location: str) -> None:
    app = RedirectingApp(location)
    async with web_stage(app, record=RECORD) as s:
        answer = await ask(s)
        assert (answer.status, answer.values("location")) == (302, [location])
        assert app.asked == [("GET", "/public/a")]
        [notice] = s.notices()
        assert f"to {location}, which leads out of the app" in notice


@pytest.mark.parametrize(
    ("status", "method", "followed_with"),
    [(301, "POST", "GET"), (302, "PUT", "GET"), (303, "POST", "GET"), (307, "POST", "POST")],
)
async def test_method_and_body_are_kept_where_the_status_says_so(
    status: int, method: str, followed_with: str
) -> None:
    app = RedirectingApp("/other", status)
    async with web_stage(app, record=RECORD) as s:
        assert (await ask(s, method=method, body=b"hello")).body == b"from /other"
    assert app.received[0][2] == b"hello"
    sent_with, _, body, headers = app.received[1]
    assert sent_with == followed_with
    is_kept = followed_with == method
    assert body == (b"hello" if is_kept else b"")
    assert ("content-type" in headers) is is_kept
    assert headers.get("content-length") == ("5" if is_kept else None)


async def test_body_that_is_too_long_to_keep_is_not_redirected() -> None:
    app = RedirectingApp("/other", 308)
    async with web_stage(app, record=RECORD) as s:
        answer = await ask(s, method="POST", body=b"x" * (REPLAYED_BYTES + 1))
        assert answer.status == 500
        assert b"redirects a body of more than 1048576 bytes" in answer.body
        app.received.clear()
        answer = await ask(s, method="POST", body=b"x" * REPLAYED_BYTES)
        assert answer.status == 200
        assert [len(body) for _, _, body, _ in app.received] == [REPLAYED_BYTES] * 2


async def test_redirects_without_an_end_are_given_up() -> None:
    app = RedirectingApp("/public/a")
    async with web_stage(app, record=RECORD) as s:
        answer = await ask(s)
        assert (answer.status, len(app.received)) == (500, 6)
        assert b"more than 5 redirects" in answer.body


async def test_location_without_a_redirect_becomes_one() -> None:
    for status, seen in ((200, 302), (201, 201)):
        async with web_stage(RedirectingApp("/x", status), record=RECORD) as s:
            answer = await ask(s)
            assert (answer.status, answer.values("location")) == (seen, ["/x"])


@pytest.mark.parametrize("location", ["/x", "https://other.example/x", "x?y"])
async def test_harp_passes_every_redirect_on(location: str) -> None:
    app = RedirectingApp(location, 307)
    async with web_stage(app, record=RECORD) as s:
        answer = await raw_request(s.host, "GET", f"{HARP}/public")
        assert (answer.status, answer.values("location")) == (307, [location])
        assert s.notices() == []
        assert app.asked == [("GET", "/public")]
