"""Descriptions of apps from the web: what is fetched, and what is not."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from appapi_host.errors import InfoError
from appapi_host.info_source import load_info
from appapi_host.info_xml import MAX_BYTES

pytestmark = pytest.mark.live

GOOD = b"<info><id>words</id><name>Words</name><version>1.0.0</version></info>"


class Pages(BaseHTTPRequestHandler):
    """What somebody's web server may answer."""

    waits = threading.Event()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.waits.wait()
        if self.path.startswith("/to-"):
            self.send_response(302)
            places = {
                "/to-good": "/info.xml",
                "/to-file": "file:///etc/passwd",
                "/to-itself": "/to-itself",
            }
            self.send_header("Location", places[self.path])
            self.end_headers()
            return
        bodies = {
            "/info.xml": GOOD,
            "/large": b"<info>" + b" " * 2 * MAX_BYTES,
            "/page": b"<html/>",
        }
        body = bodies.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")


@contextmanager
def serving() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            Pages.waits.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(Pages, "waits", threading.Event())


@pytest.mark.parametrize("page", ["/info.xml", "/to-good"])
async def test_description_comes_from_an_address(page: str) -> None:
    with serving() as base:
        assert (await load_info(base + page)).name == "Words"


@pytest.mark.parametrize(
    ("page", "headline", "problem"),
    [
        ("/missing", "Failed to read", "the answer is 404 Not Found"),
        ("/to-file", "Failed to read", "the address is neither http nor https"),
        ("/to-itself", "Failed to read", "HTTP failed: Exceeded maximum allowed redirects."),
        ("/large", "Failed to load", f"it is larger than {MAX_BYTES} bytes"),
        ("/page", "Failed to load", "it is a web page"),
        ("/slow", "Failed to read", "it did not come within 0.2 s"),
    ],
)
async def test_what_is_no_description_is_refused(page: str, headline: str, problem: str) -> None:
    with serving() as base, pytest.raises(InfoError) as caught:
        await load_info(base + page, seconds=0.2 if page == "/slow" else 10)
    assert caught.value.headline == f"{headline} info.xml from {base}{page}"
    assert caught.value.problems == (problem,)
    assert caught.value.remedy


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b", "gopher://x", "://"])
async def test_only_addresses_of_the_web_are_asked(url: str) -> None:
    with pytest.raises(InfoError, match="only http and https are asked"):
        await load_info(url)


async def test_an_address_where_nobody_listens_is_told() -> None:
    with pytest.raises(InfoError, match="no connection"):
        await load_info("http://127.0.0.1:1/info.xml")
