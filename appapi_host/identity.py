"""Who asks: the one place that says which user a request comes from.

A user name and password in the request itself (basic auth) come first, because somebody wrote them
into that very request; then the cookie of a session. Anonymous is anonymous: a cookie that is not
valid any more is no failure, a wrong password is one.

A browser sends the cookie along with whatever it asks, whoever's page made it ask. So a session
does not count in requests of pages from elsewhere (their `Origin` is another one), and what changes
something on the host itself also wants a proof: `has_proof`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from appapi_host.basic_auth import basic_credentials
from appapi_host.host import Host
from appapi_host.records import User
from appapi_host.sessions import COOKIE_PREFIX, cookies, is_valid_token

__all__ = [
    "Identity",
    "cookie_name",
    "identify",
    "is_own_origin",
    "is_secure",
    "is_session_cookie",
    "without_session",
]

_READ: Final = {
    name.encode(): name
    for name in (
        "authorization",
        "cookie",
        "host",
        "ocs-apirequest",
        "origin",
        "requesttoken",
        "sec-fetch-site",
    )
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is behind a request, as far as users go.

    Args:
        user: who signed in, None for an anonymous caller.
        refusal: why somebody who said who they are is not believed; empty if that is not so.
        session: token of the session; empty for basic auth and for anonymous callers.
        has_proof: a request by session shows that it was meant: by the header `OCS-APIRequest`,
            which other origins cannot send, or a valid `requesttoken`. True without a session.
    """

    user: User | None = None
    refusal: str = ""
    session: str = field(default="", repr=False)
    has_proof: bool = True


async def identify(
    host: Host, headers: Iterable[tuple[bytes, bytes]], *, address: str = ""
) -> Identity:
    """Find out which user asks, over HTTP or a websocket.

    Args:
        host: knows users and sessions.
        headers: as ASGI gives them.
        address: from where they ask; see `appapi_host.throttling`.

    Raises:
        Throttled: too many attempts from there failed.
    """
    values: dict[str, str] = {}
    for raw_name, raw_value in headers:
        if name := _READ.get(raw_name):
            text = raw_value.decode("latin-1")
            # HTTP/2 may split cookies over several headers. Source: RFC 9113, 8.2.3.
            is_more = name == "cookie" and name in values
            values[name] = f"{values[name]}; {text}" if is_more else text
    authorization = values.get("authorization", "")
    if authorization.lower().startswith("basic "):
        credentials = basic_credentials(authorization)
        user = await host.users.sign_in(*credentials, address=address) if credentials else None
        return Identity(user) if user else Identity(refusal="wrong user or password")
    # Everything else in that header, for instance a bearer token, is between client and app.
    if "cookie" not in values or not is_own_origin(host, values):
        return Identity()
    own_cookie = cookie_name(host)
    for cookie, token in cookies(values["cookie"]):
        if cookie == own_cookie and (user := await host.sessions.user(token)):
            has_proof = bool(values.get("ocs-apirequest")) or is_valid_token(
                token, values.get("requesttoken", "")
            )
            return Identity(user, session=token, has_proof=has_proof)
    return Identity()


def cookie_name(host: Host) -> str:
    """The name of the session cookie."""
    return COOKIE_PREFIX + host.instance


def is_own_origin(host: Host, headers: Mapping[str, str]) -> bool:
    """Whether a page of this host made the request, as far as the browser tells.

    True where it does not tell: for what people open themselves, and for other clients.

    Args:
        host: whose public address counts too, for the case that a reverse proxy stands in front.
        headers: of the request, with lower-case names.
    """
    origin = headers.get("origin")
    if origin is None:
        return True
    if origin == "null":
        # A form on a page that tells nobody where it is (`Referrer-Policy: no-referrer`).
        return headers.get("sec-fetch-site") == "same-origin"
    own_name = headers.get("host", "").lower()
    name = _netloc(origin)
    return bool(name) and name in (own_name, _netloc(host.settings.public_url))


def is_secure(host: Host, own_name: str) -> bool:
    """Whether the browser reached us through https: at the public address, if that one is so."""
    public = host.settings.public_url
    return public.startswith("https://") and _netloc(public) == own_name.lower()


def without_session(header: str) -> str:
    """A `Cookie` header without the sessions of hosts: those are nothing for apps."""
    kept = [pair for pair in header.split(";") if not is_session_cookie(pair)]
    return ";".join(kept).strip()


def is_session_cookie(pair: str) -> bool:
    """Whether `name=value`, with or without attributes behind it, is a session of some host."""
    return pair.partition("=")[0].strip().startswith(COOKIE_PREFIX)


def _netloc(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""
