"""The headers of user traffic: what an app gets to see, and what a browser does.

Source: AppAPI documentation, Authentication and Routes; requests recorded from AppAPI 32.0.0.
"""

import secrets
import string
import time
from collections.abc import Iterable
from email.utils import formatdate
from typing import Final
from urllib.parse import urlsplit

from appapi_host.app_client import USER_AGENT
from appapi_host.identity import is_session_cookie, without_session
from exapp_sdk.protocol.auth import AA_REQUEST_ID, ORIGIN_IP, Credentials

__all__ = ["CACHE_SECONDS", "answer_headers", "request_headers"]

CACHE_SECONDS: Final = 3600
"""How long browsers keep an answer for which the app did not say it."""

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers between two neighbours, which end here in both directions. Source: RFC 9110, 7.6.1."""

_OURS: Final = ("ex-app-", "aa-", "harp-")
_OURS_WHOLE: Final = frozenset({"authorization-app-api", ORIGIN_IP})
_REBUILT: Final = frozenset({"content-length", "expect"})
_NOT_ANSWERED: Final = frozenset(
    {
        "aa-version",
        "aa-request-id",
        "ex-app-id",
        "ex-app-version",
        "authorization-app-api",
        # Our own server dates every answer; two dates are one too many.
        "date",
    }
)
_NOT_CACHED: Final = frozenset({"application/json", "application/x-tar"})
_REQUEST_ID_ALPHABET: Final = string.ascii_letters + string.digits

HeaderList = list[tuple[str, str]]


def request_headers(
    given: Iterable[tuple[str, str]],
    *,
    excluded: Iterable[str],
    client_address: str,
    credentials: Credentials,
    aa_version: str,
    content_length: str,
) -> HeaderList:
    """What the app gets, in the order of the recordings.

    Cookies are passed on, but for the session at the host: with it an app could act as the user
    everywhere. AppAPI passes that on too.

    Args:
        given: what the client sent, with lower-case names.
        excluded: names that the app does not want (`headers_to_exclude`). `Cookie` too; AppAPI
            sends it all the same, which cannot be meant.
        client_address: IP address of the client.
        credentials: the app's, in the name of who asks.
        aa_version: the AppAPI version to announce.
        content_length: empty if the body has no known length.
    """
    given = list(given)
    dropped = _HOP_BY_HOP | _REBUILT | _named_by_connection(given)
    dropped |= {name.lower() for name in excluded}
    headers = [
        (name, kept)
        for name, value in given
        if name not in dropped and not _is_ours(name)
        # A header of which nothing is left goes as a whole; one that was sent empty stays.
        if (kept := without_session(value) if name == "cookie" else value) or not value
    ]
    names = {name for name, _ in headers}
    headers.append((ORIGIN_IP, client_address))
    headers += credentials.headers(aa_version=aa_version)
    request_id = "".join(secrets.choice(_REQUEST_ID_ALPHABET) for _ in range(20))
    headers.append((AA_REQUEST_ID, request_id))
    if "accept-language" not in names:
        headers.append(("Accept-Language", "en"))
    if "user-agent" not in names:
        headers.append(("User-Agent", USER_AGENT))
    # No Accept-Encoding of ours: the body is passed on as it comes, so the app may only compress
    # for a client that asked for it. AppAPI adds gzip, and unpacks.
    if content_length:
        headers.append(("Content-Length", content_length))
    return headers


def answer_headers(
    given: HeaderList, *, path: str, prefix: str, own_host: str
) -> list[tuple[str, str]]:
    """What the browser gets. Repeated headers all stay; AppAPI keeps the first of each.

    Args:
        given: what the app answered.
        path: the decoded path of the request, as the app saw it.
        prefix: the proxy path of the app, without a trailing slash.
        own_host: the `Host` that the client sent.
    """
    dropped = _HOP_BY_HOP | _NOT_ANSWERED | _named_by_connection(given)
    headers = [
        (name, _relocated(value, prefix, own_host) if name.lower() == "location" else value)
        for name, value in given
        if name.lower() not in dropped
        # An app must not sign a browser in at the host as somebody of its choice.
        and not (name.lower() == "set-cookie" and is_session_cookie(value))
    ]
    values = {name.lower(): value for name, value in headers}
    if (
        "cache-control" not in values
        and not path.endswith(".html")
        # "application/json; charset=utf-8" is another text, so it is cached: a surprise that is
        # better met here than in production.
        and values.get("content-type", "") not in _NOT_CACHED
    ):
        headers.append(("Cache-Control", f"private, max-age={CACHE_SECONDS}, must-revalidate"))
        if "expires" not in values:
            headers.append(("Expires", formatdate(time.time() + CACHE_SECONDS, usegmt=True)))
    return headers


def _is_ours(name: str) -> bool:
    # CGI-like servers take "_" for "-", so both spellings could become the header that we sign.
    name = name.replace("_", "-")
    return name.startswith(_OURS) or name in _OURS_WHOLE


def _named_by_connection(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    return frozenset(
        token.strip().lower()
        for name, value in headers
        if name.lower() == "connection"
        for token in value.split(",")
    )


def _relocated(location: str, prefix: str, own_host: str) -> str:
    """Make a redirect that means the app's root point below the proxy path.

    AppAPI would follow the redirect itself, and the browser would never see it. Here it does, and a
    path like `/login` would lead it out of the app. The app is asked under the host's name, so many
    frameworks write that name in front of the path; both forms mean the app. What points at a page
    of the host on purpose (`/index.php/...`) and everything else stays as it is.
    """
    try:
        parts = urlsplit(location)
    except ValueError:
        return location
    is_own = not parts.netloc or (parts.scheme in ("http", "https") and parts.netloc == own_host)
    is_root = parts.path.startswith("/") and not parts.path.startswith(("//", "/index.php/"))
    if not is_own or not is_root or parts.path.startswith(prefix + "/"):
        return location
    return prefix + parts._replace(scheme="", netloc="").geturl()
