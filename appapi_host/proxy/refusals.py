"""A request that does not reach the app: why, for the host's output, and what its client reads."""

import html
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from starlette.types import Scope, Send

from appapi_host.pages import html_page
from appapi_host.proxy.profiles import Profile, Reason, Verdict

__all__ = ["Refusal", "answer_whole", "send_refusal"]

HeaderList = list[tuple[bytes, bytes]]

_HINT: Final = "The output of the host says which rule decided so."
_TEXTS: Final = {
    Reason.PASSWORD: "Wrong user or password.",
    Reason.THROTTLED: "Too many requests that were refused; try again later.",
}


class Refusal(Exception):  # noqa: N818  # a decision, not something gone wrong
    """The request does not reach the app.

    Args:
        reason: which rule, for the table of the profile.
        note: the reason in words, for the host's own output.
        text: what the client reads, if it is more than the status.
        headers: additional headers.
    """

    def __init__(
        self,
        reason: Reason,
        note: str,
        *,
        text: str = "",
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.reason = reason
        self.note = note
        self.text = text
        self.headers = tuple(headers)
        self.app_id = ""
        self.user_id = ""
        super().__init__(note)


async def send_refusal(
    scope: Scope, send: Send, refusal: Refusal, profile: Profile, verdict: Verdict
) -> None:
    """Answer a refused request, as a page or as plain text."""
    title = f"{verdict.status} {HTTPStatus(verdict.status).phrase}"
    text = refusal.text or _TEXTS.get(refusal.reason, _HINT)
    if not verdict.has_body:
        body = b""
    elif profile.is_html:
        body = html_page(title, f"<p>{html.escape(text)}</p>\n")
    else:
        body = f"{title}\n{text}\n".encode()
    kind = "html" if profile.is_html else "plain"
    headers = [
        *refusal.headers,
        *([("Connection", "close")] if verdict.closes else []),
        ("Cache-Control", "no-store"),
        ("Content-Type", f"text/{kind}; charset=utf-8"),
        ("Content-Length", str(len(body))),
    ]
    raw = [(name.encode(), value.encode()) for name, value in headers]
    await answer_whole(scope, send, verdict.status, raw, body)


async def answer_whole(
    scope: Scope, send: Send, status: int, headers: HeaderList, body: bytes
) -> None:
    """Answer a request, or the handshake of a websocket, with a whole body."""
    kind = "http"
    if scope["type"] == "websocket":
        kind = "websocket.http"
        if "websocket.http.response" not in (scope.get("extensions") or ()):
            await send({"type": "websocket.close"})  # before accepting: the server answers 403
            return
    await send({"type": f"{kind}.response.start", "status": status, "headers": headers})
    is_head = scope.get("method") == "HEAD"
    await send({"type": f"{kind}.response.body", "body": b"" if is_head else body})
