"""Pages of apps inside the host's own: `/apps/app_api/embedded/{appid}/{name}[/{other}]`.

The page loads what the app registered for its menu entry, in the form and order of Nextcloud, so
that front ends made with Nextcloud's JavaScript packages run in it: those read the attributes of
`<head>`, hidden inputs with initial states, and a few global names, which `globals.js` sets.

Source: AppAPI documentation, Top Menu Entry and Other UI; the packages' own documentation.
"""

import base64
import hashlib
import html
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from starlette.responses import Response

from appapi_host.documents import Document, Documents
from appapi_host.events import Direction, Exchange, masked_headers
from appapi_host.ocs.capabilities import capabilities
from appapi_host.ocs.page_parts import INITIAL_STATE, SCRIPT, STYLE
from appapi_host.ocs.top_menu import KIND
from appapi_host.pages import STYLE_PATH
from appapi_host.pages.globals import GLOBALS_PATH
from appapi_host.pages.login import request_sign_in
from appapi_host.pages.menu import Entry, app_url, entries, header
from appapi_host.pages.visit import PageRefusal, Visit
from appapi_host.records import AppRecord
from appapi_host.sessions import request_token
from appapi_host.throttling import client_address

__all__ = ["MAX_SCRIPTS", "PREFIX", "embedded"]

PREFIX: Final = "/apps/app_api/embedded/"

MAX_SCRIPTS: Final = 10
"""More of them on one page make AppAPI fail."""

_TYPE: Final = "top_menu"

_POLICY: Final = (
    "default-src 'none';base-uri 'none';manifest-src 'self';"
    "script-src 'nonce-{nonce}' 'self' 'unsafe-eval';style-src 'self' 'unsafe-inline';"
    "img-src 'self' data: blob:;font-src 'self' data:;connect-src 'self';media-src 'self';"
    "frame-src 'self';frame-ancestors 'self';form-action 'self'"
)
"""As AppAPI widens Nextcloud's: no inline scripts, and nothing from other hosts."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What belongs to an entry, each in order of registration."""

    entry: Entry
    states: list[Document]
    scripts: list[Document]
    styles: list[Document]


async def embedded(visit: Visit) -> Response:
    """Show the page of a menu entry."""
    if visit.user is None:
        return request_sign_in(visit)
    started = time.perf_counter()
    app_id, name = _address(visit)
    note, status = "", 500
    try:
        response = await _page(visit, app_id, name)
        status = response.status_code
    except PageRefusal as refusal:
        note, status = refusal.text, refusal.status
        raise
    finally:
        visit.host.bus.emit(
            Exchange(
                Direction.USER_TO_APP,
                app_id if await visit.host.registry.app(app_id) else "",
                visit.scope["method"],
                visit.target,
                status,
                time.perf_counter() - started,
                user_id=visit.user.user_id,
                request_headers=masked_headers(visit.headers.items()),
                note=note,
            )
        )
    return response


def _address(visit: Visit) -> tuple[str, str]:
    """App id and name of the entry; what follows them is for the app's own script."""
    raw = visit.target.partition("?")[0]
    parts = raw.partition(PREFIX)[2].split("/")
    return unquote(parts[0]), unquote(parts[1]) if len(parts) > 1 else ""


async def _page(visit: Visit, app_id: str, name: str) -> Response:
    app = await visit.host.registry.app(app_id)
    if app is None:
        raise _not_found(f"No app {app_id!r} is registered.")
    if not app.enabled:
        raise _not_found(f"The app {app_id!r} is disabled (state: {app.state.value}).")
    parts = await visit.host.documents.read(lambda documents: _found(documents, app_id, name))
    if parts is None:
        raise _not_found(f"The app {app_id!r} has registered no menu entry {name!r}.")
    assert visit.user is not None
    if not parts.entry.is_for(visit.user):
        raise _not_found(f"The entry {name!r} of {app_id!r} is for administrators only.")
    if len(parts.scripts) > MAX_SCRIPTS:
        text = f"The entry has {len(parts.scripts)} scripts; AppAPI allows {MAX_SCRIPTS}."
        raise PageRefusal(500, "Internal Server Error", text)
    return await _rendered(visit, app, parts)


def _not_found(text: str) -> PageRefusal:
    return PageRefusal(404, "Not Found", text)


def _found(documents: Documents, app_id: str, name: str) -> _Parts | None:
    entry = documents.get(KIND, app_id, name)
    if entry is None:
        return None

    def parts(kind: str) -> list[Document]:
        found = documents.find(kind, app_id=app_id)
        wanted = (_TYPE, name)
        return [part for part in found if (part.content["type"], part.content["name"]) == wanted]

    return _Parts(Entry.of(entry), parts(INITIAL_STATE), parts(SCRIPT), parts(STYLE))


async def _rendered(visit: Visit, app: AppRecord, parts: _Parts) -> Response:
    listed = await entries(visit.host, visit.user)
    token = request_token(visit.secret)
    # What front ends give to the scripts that they add themselves, see @nextcloud/auth.
    nonce = base64.b64encode(token.encode()).decode()
    suffix = f"?v={_cache_key(app)}"
    title = html.escape(parts.entry.title or app.name)
    styles = "".join(
        f'<link rel="stylesheet" href="{html.escape(url)}">\n'
        for url in [STYLE_PATH, *_urls(parts.styles, ".css", suffix)]
    )
    scripts = "".join(
        f'<script nonce="{nonce}" defer src="{html.escape(url)}"></script>\n'
        for url in [GLOBALS_PATH, *_urls(parts.scripts, ".js", suffix)]
    )
    body = (
        "<!DOCTYPE html>\n"
        '<html lang="en" data-locale="en">\n'
        f"{_head(visit, token)}\n"
        '<meta charset="utf-8">\n'
        f"<title>{title}</title>\n"
        f'<meta name="csp-nonce" nonce="{nonce}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"{styles}{scripts}</head>\n"
        '<body id="body-user">\n'
        f'<div id="initial-state-container" hidden>\n{_states(visit, parts.states)}</div>\n'
        f"{header(visit, listed, active=parts.entry)}"
        # Two elements of one id, as in AppAPI: scripts look for `#content` or for `#content > *`.
        f'<main id="content" class="app-app_api">\n<h1 class="hidden-visually">{title}</h1>\n'
        '<div id="content"></div>\n</main>\n</body>\n</html>\n'
    )
    return visit.answer(body.encode(), policy=_POLICY.format(nonce=nonce))


def _head(visit: Visit, token: str) -> str:
    assert visit.user is not None
    name = visit.user.display_name or visit.user.user_id
    return (
        f'<head data-requesttoken="{token}" data-user="{html.escape(visit.user.user_id)}" '
        f'data-user-displayname="{html.escape(name)}">'
    )


def _urls(parts: Iterable[Document], extension: str, suffix: str) -> list[str]:
    return [app_url(part.app_id, f"{part.content['path']}{extension}") + suffix for part in parts]


def _states(visit: Visit, states: Iterable[Document]) -> str:
    """The hidden inputs.

    Those of the app are JSON twice, so that scripts find a text and parse it again: AppAPI encodes
    what the server then encodes once more. The server's own is JSON once.
    """
    announced = capabilities(visit.host, user=visit.user, address=client_address(visit.scope))
    found: list[tuple[str, object]] = [("core-capabilities", announced)]
    found += [
        (f"app_api-{state.content['key']}", json.dumps(state.content["value"])) for state in states
    ]
    return "".join(
        f'<input type="hidden" id="initial-state-{html.escape(name)}" value="{_encoded(value)}">\n'
        for name, value in found
    )


def _encoded(value: object) -> str:
    # Plain ASCII inside, because scripts decode the base64 byte by byte.
    return base64.b64encode(json.dumps(value).encode("ascii")).decode("ascii")


def _cache_key(app: AppRecord) -> str:
    """Another text for each version of the app, and whenever it is deployed anew.

    Browsers keep what comes through the proxy for an hour, and would show the older script.
    """
    text = json.dumps([app.version, app.created_time, dict(app.deployment)], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
