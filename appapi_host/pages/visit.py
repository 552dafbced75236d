"""One request for a page, and the answers that pages give."""

import html
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope

from appapi_host.host import Host
from appapi_host.identity import Identity
from appapi_host.pages import html_page
from appapi_host.records import User

__all__ = ["PageRefusal", "Visit", "is_own_path", "redirect"]

MAX_FORM_BYTES: Final = 256 * 1024
_MAX_FIELDS: Final = 1000

_HEADERS: Final = {
    "Cache-Control": "no-cache, no-store, must-revalidate",
    # With "no-referrer", which Nextcloud sends, browsers do not say which page a form is from.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Robots-Tag": "noindex, nofollow",
}
_POLICY: Final = (
    "default-src 'none';base-uri 'none';style-src 'self';img-src 'self';"
    "frame-ancestors 'self';form-action 'self'"
)
"""The host's own pages have no scripts at all."""


class PageRefusal(Exception):  # noqa: N818  # a decision, not something gone wrong
    """There is no such page, or not for who asks.

    Args:
        status: HTTP status.
        title: of the page that says so.
        text: what it says.
        headers: additional headers.
    """

    def __init__(
        self, status: int, title: str, text: str, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.status = status
        self.title = title
        self.text = text
        self.headers = tuple(headers)
        super().__init__(f"{status} {title}")


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page.

    Args:
        host: whose page.
        scope: the request.
        receive: gives its body.
        path: decoded, without `/index.php`.
        identity: who asks.
    """

    host: Host
    scope: Scope
    receive: Receive
    path: str
    identity: Identity

    @property
    def user(self) -> User | None:
        """Who signed in."""
        return self.identity.user

    @property
    def secret(self) -> str:
        """What request tokens of a user belong to, empty for nobody.

        The session; or, with basic auth, something else that only the host knows.
        """
        return self.identity.session or (self.user.password_hash if self.user else "")

    @property
    def headers(self) -> Headers:
        """Of the request."""
        return Headers(scope=self.scope)

    @property
    def own_name(self) -> str:
        """Under which name the host was asked: name and port."""
        return self.headers.get("host", "")

    @property
    def target(self) -> str:
        """Path and query as they were asked for."""
        raw = self.scope.get("raw_path") or quote(self.scope["path"]).encode()
        query = self.scope.get("query_string", b"")
        return (raw + b"?" + query if query else raw).decode("latin-1")

    @property
    def wants_html(self) -> bool:
        """Whether a person looks at the answer, as Nextcloud tells it."""
        return "html" in self.headers.get("accept", "").lower()

    def query(self, name: str) -> str:
        """A value of the query, empty if it is not there; the last of several."""
        return _fields(self.scope.get("query_string", b"")).get(name, "")

    async def form(self) -> dict[str, str]:
        """What was sent by a form; of several values of one name the last.

        Raises:
            PageRefusal: it is too long.
            ClientDisconnect: the browser went away.
        """
        body = bytearray()
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_FORM_BYTES:
                raise PageRefusal(
                    413, "Too long", "The form is too long.", [("Connection", "close")]
                )
        return _fields(bytes(body))

    def page(self, title: str, body: str, *, status: int = 200, header: str = "") -> Response:
        """A page of the host itself."""
        return self.answer(html_page(title, body, header=header), status=status)

    def answer(
        self, body: bytes, *, status: int = 200, policy: str = _POLICY, media: str = "text/html"
    ) -> Response:
        """Any answer, with the headers that all of them have."""
        response = Response(body, status, _HEADERS, f"{media}; charset=utf-8")
        response.headers["Content-Security-Policy"] = policy
        return response

    def json(self, data: object, *, status: int = 200) -> Response:
        """A value for scripts."""
        text = json.dumps(data, separators=(",", ":"))
        return self.answer(text.encode(), status=status, media="application/json")

    def refused(self, refusal: PageRefusal, *, header: str = "") -> Response:
        """The page that says why there is none."""
        text = f"<p>{html.escape(refusal.text)}</p>\n"
        title = f"{refusal.status} {refusal.title}"
        response = self.page(title, text, status=refusal.status, header=header)
        response.headers.update(dict(refusal.headers))
        return response


def redirect(visit: Visit, path: str) -> Response:
    """Send the browser to another page of the host, which it asks for with GET."""
    response = visit.answer(b"", status=303)
    response.headers["Location"] = quote(path, safe="/:%#?=@[]!$&'()*+,;~")
    return response


def is_own_path(path: str) -> bool:
    """Whether browsers take this for a page of the host they are at, and for nothing else.

    They read a backslash as a slash, skip line ends and tabs, and take `//name` for another host.
    """
    is_clean = all("!" <= character != "\\" for character in path)
    return is_clean and path.startswith("/") and not path.startswith("//")


def _fields(text: bytes) -> dict[str, str]:
    try:
        return dict(
            parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        )
    except ValueError:
        return {}
