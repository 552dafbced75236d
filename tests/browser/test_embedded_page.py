"""A front end made with Nextcloud's own packages, in a real browser, behind the real host."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from appapi_host.events import Exchange
from appapi_host.testing import InstalledApp, TestHost
from tests.browser.chromium import Browser

# npm and the browser take their time when the machine is busy.
pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

PAGE = "/index.php/apps/app_api/embedded/embedded_page/main"
PICTURES = os.environ.get("BROWSER_TEST_PICTURES", "")
"""Folder for pictures that a person wants to look at."""


@pytest.fixture
async def app(host: TestHost, app_folder: Path) -> InstalledApp:
    return await host.install(app_folder)


async def test_menu_entry_opens_a_page_whose_script_runs(
    host: TestHost, app: InstalledApp, browser: Browser, tmp_path: Path
) -> None:
    await browser.open(host.url)
    await browser.click(".person a")
    await browser.sign_in("user")
    assert await browser.text(".person span") == "User"
    assert await browser.count('#header nav a[href$="/admin"]') == 0
    await browser.click("#header nav a")
    await browser.text("#content .greeting")
    assert await browser.text("#answered") == "Hello user: Grüße, </script>"
    found = json.loads(await browser.attribute("#answered", "data-found"))
    assert found == {
        "first": {"hasArea": True, "hasGlobals": True},
        "state": {"words": ["Grüße", "</script>"], "title": "Greeting"},
        "theme": "Nextcloud",
        "area": "34px",
        "current": {"uid": "user", "displayName": "User", "isAdmin": False},
        "greeting": {"user": "user", "given": {}, "cookies": []},
        "posted": {"user": "user", "given": {"words": ["Grüße", "</script>"]}, "cookies": []},
        "ocs": "user",
        "again": "user",
        "loaded": "later",
        "language": ["en", "en"],
        "translated": "Hallo Jane",
        "nonce": True,
        "path": PAGE,
    }
    assert await browser.style("#answered", "border-left-color") == "rgba(0, 128, 0, 1)"
    assert await browser.text("#header a[aria-current]") == "Greeting"
    picture = await browser.screenshot(Path(PICTURES or tmp_path) / "embedded.png")
    assert picture.startswith(b"\x89PNG")
    # The token that was stale on purpose, and nothing else.
    complaints = await browser.complaints()
    assert all("412" in text or "CSRF mismatch" in text for text in complaints), complaints
    asked = [e for e in host.events if isinstance(e, Exchange) and "/api/greeting" in e.target]
    assert [(e.method, e.status, e.user_id) for e in asked] == [
        ("GET", 200, "user"),
        ("POST", 200, "user"),
    ]


async def test_somebody_anonymous_signs_in_on_the_way_to_a_page(
    host: TestHost, app: InstalledApp, browser: Browser
) -> None:
    deep = f"{host.url}{PAGE.replace('main', 'admin')}/deep?x=1"
    await browser.open(deep)
    assert "/index.php/login?redirect_url=" in await browser.address()
    await browser.sign_in("nobody")
    assert await browser.text('[role="alert"]') == "Wrong user or password."
    await browser.sign_in("admin")
    found = json.loads(await browser.attribute("#answered", "data-found"))
    assert await browser.address() == deep
    assert found["current"] == {"uid": "admin", "displayName": "Administrator", "isAdmin": True}
    assert found["state"]["title"] == "For admins"

    await browser.click(".person button")
    assert await browser.text('.person a[href$="/login"]') == "Sign in"
    await browser.open(deep)
    assert "/index.php/login?redirect_url=" in await browser.address()


BLOCKED = """
const [kind, done] = arguments
document.addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective))
const script = document.createElement('script')
if (kind === 'inline') {
    script.textContent = 'window.hasRun = true'
} else {
    script.src = 'http://localhost:1/elsewhere.js'
}
document.head.append(script)
"""


async def test_page_runs_neither_inline_scripts_nor_those_of_other_hosts(
    host: TestHost, app: InstalledApp, browser: Browser
) -> None:
    await browser.open(f"{host.url}{PAGE}")
    await browser.sign_in("user")
    await browser.text("#answered")
    for kind in ("inline", "elsewhere"):
        assert await browser.run(BLOCKED, kind) == "script-src-elem"
    assert await browser.run("arguments[0](window.hasRun ?? false)") is False


@contextmanager
def other_server() -> Iterator[str]:
    """A server on another port of this machine; every page of it is the same."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<!DOCTYPE html><title>Elsewhere</title>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


async def test_pages_of_other_origins_cannot_use_the_session(
    host: TestHost, app: InstalledApp, browser: Browser
) -> None:
    """The same machine with another port is the same site, so cookies go along; see identity.py."""
    await browser.open(f"{host.url}{PAGE}")
    await browser.sign_in("user")
    await browser.text("#answered")
    host.events.clear()
    target = f"{host.url}/index.php/apps/app_api/proxy/embedded_page/api/greeting"
    with other_server() as url:
        await browser.open(url)
        await browser.run(
            "fetch(arguments[0], {method: 'POST', mode: 'no-cors', credentials: 'include'})"
            ".finally(arguments[1])",
            target,
        )
    [asked] = [e for e in host.events if isinstance(e, Exchange) and "/api/greeting" in e.target]
    assert ("cookie", "***") in asked.request_headers, "the browser sent it along"
    assert (asked.status, asked.user_id) == (404, "")
