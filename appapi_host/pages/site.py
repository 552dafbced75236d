"""Which path is which page of the host."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import anyio
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from appapi_host.callers import claimed_app, tell_unserved
from appapi_host.host import Host
from appapi_host.identity import Identity, identify
from appapi_host.ocs.capabilities import PRODUCT, VERSIONS
from appapi_host.pages import STYLE_PATH
from appapi_host.pages.embedded import PREFIX, embedded
from appapi_host.pages.globals import GLOBALS_PATH, globals_script
from appapi_host.pages.index import index
from appapi_host.pages.login import csrf_token, login, logout
from appapi_host.pages.menu import entries, header
from appapi_host.pages.settings import SETTINGS_PATH, settings
from appapi_host.pages.visit import PageRefusal, Visit
from appapi_host.throttling import Throttled, client_address

__all__ = ["Site"]

Page = Callable[[Visit], Awaitable[Response]]

_FRONT: Final = "/index.php"
_READING: Final = ("GET", "HEAD")
_FORMS: Final = (*_READING, "POST")
_TOO_MANY: Final = "Too many attempts to sign in failed from your address. Please wait."


class Site:
    """The ASGI application of everything that is neither API nor proxy.

    Args:
        host: whose pages.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever it is."""
        try:
            response = await self._answer(scope, receive)
        except ClientDisconnect:
            return
        if scope["method"] == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        path = scope["path"].removeprefix(_FRONT) or "/"
        visit = Visit(self._host, scope, receive, path, Identity())
        try:
            address = client_address(scope)
            identity = await identify(self._host, scope["headers"], address=address)
            visit = replace(visit, identity=identity)
            return await _answered(visit)
        except PageRefusal as refusal:
            app_id = await claimed_app(self._host, Headers(scope=scope))
            if app_id and refusal.status == 404:
                tell_unserved(self._host, app_id, scope["method"], scope["path"])
            listed = await entries(self._host, visit.user)
            return visit.refused(refusal, header=header(visit, listed))
        except Throttled:
            return visit.refused(PageRefusal(429, "Too many requests", _TOO_MANY))


async def _answered(visit: Visit) -> Response:
    page, verbs = _page_at(visit.path)
    if visit.scope["method"] not in verbs:
        allowed = [("Allow", ", ".join(verbs))]
        raise PageRefusal(405, "Method Not Allowed", "This page is not asked so.", allowed)
    return await page(visit)


def _page_at(path: str) -> tuple[Page, tuple[str, ...]]:
    """The page of a path, and the verbs that it takes."""
    if path.startswith(PREFIX):
        return embedded, _READING
    if path not in _PAGES:
        raise PageRefusal(404, "Not Found", "This host serves no such page.")
    return _PAGES[path]


async def _status(visit: Visit) -> Response:
    """What clients of Nextcloud look at first."""
    version = ".".join(map(str, VERSIONS[visit.host.settings.nextcloud_version]))
    return visit.json(
        {
            "installed": True,
            "maintenance": False,
            "needsDbUpgrade": False,
            "version": f"{version}.2",
            "versionstring": version,
            "edition": "",
            "productname": PRODUCT,
            "extendedSupport": False,
        }
    )


async def _style(visit: Visit) -> Response:
    text = await anyio.to_thread.run_sync(_STYLE.read_bytes)
    response = visit.answer(text, media="text/css")
    response.headers["Cache-Control"] = "public, max-age=300"
    return response


async def _icon(visit: Visit) -> Response:
    """None; browsers ask for one on their own."""
    return visit.answer(b"", status=204)


_STYLE: Final = Path(__file__).with_name("style.css")

_PAGES: Final[Mapping[str, tuple[Page, tuple[str, ...]]]] = {
    "/": (index, _READING),
    "/login": (login, _FORMS),
    "/logout": (logout, _FORMS),
    "/csrftoken": (csrf_token, _READING),
    "/status.php": (_status, _READING),
    "/favicon.ico": (_icon, _READING),
    SETTINGS_PATH.removeprefix(_FRONT): (settings, _FORMS),
    STYLE_PATH: (_style, _READING),
    GLOBALS_PATH.removeprefix(_FRONT): (globals_script, _READING),
}
"""With and without `/index.php` in front, as by a Nextcloud with pretty addresses."""
