"""The headers of user traffic: what an app gets to see, and what a browser does.

Names are lower-case bytes throughout, as ASGI has them; those that we add are in the spelling and
in the order of the recordings.

Source: AppAPI documentation, Authentication and Routes; requests recorded from AppAPI 32.0.0.
"""

import mimetypes
import secrets
import time
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from typing import Final

from appapi_host.app_client import USER_AGENT
from appapi_host.identity import is_session_cookie, without_session
from appapi_host.proxy.profiles import Profile
from exapp_sdk.protocol.auth import AA_REQUEST_ID, ORIGIN_IP, Credentials

__all__ = ["CACHE_SECONDS", "answer_headers", "request_headers"]

CACHE_SECONDS: Final = 3600
"""How long browsers keep an answer for which the app did not say it."""

HeaderList = list[tuple[bytes, bytes]]

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers between two neighbours, which end here in both directions. Source: RFC 9110, 7.6.1."""

_OURS: Final = (b"ex-app-", b"aa-", b"harp-")
_OURS_WHOLE: Final = frozenset({b"authorization-app-api", ORIGIN_IP.encode()})
_NOT_SENT: Final = _HOP_BY_HOP | {b"content-length", b"expect"}
# Our own server dates every answer; two dates are one too many.
_NOT_PASSED_ON: Final = _HOP_BY_HOP | {b"date"}
_NOT_ANSWERED: Final = frozenset(
    {b"aa-version", b"aa-request-id", b"ex-app-id", b"ex-app-version", b"authorization-app-api"}
)

_BODILESS: Final = frozenset({204, 304})
_OF_BODY: Final = frozenset({b"content-length"})

_NOT_CACHED: Final = frozenset({b"application/json", b"application/x-tar"})
_CACHED: Final = f"private, max-age={CACHE_SECONDS}, must-revalidate".encode()
_DEFAULTS: Final = (
    (
        b"content-security-policy",
        b"default-src 'none';base-uri 'none';manifest-src 'self';frame-ancestors 'none'",
    ),
    (
        b"feature-policy",
        b"autoplay 'none';camera 'none';fullscreen 'none';geolocation 'none';microphone 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"x-permitted-cross-domain-policies", b"none"),
    (b"x-robots-tag", b"noindex, nofollow"),
)
"""What Nextcloud says with every answer that is data, in place of which an app may say its own.
The first one keeps pages from running scripts, which is better met here than in production."""

_REQUEST_ID_LENGTH: Final = 20


def request_headers(
    given: Iterable[tuple[bytes, bytes]],
    profile: Profile,
    *,
    excluded: Iterable[str],
    client_address: str,
    credentials: Credentials,
    aa_version: str,
    content_length: bytes,
) -> HeaderList:
    """What the app gets, in the order of the recordings.

    Cookies are passed on, but for the session at the host: with it an app could act as the user
    everywhere. AppAPI passes that on too.

    Args:
        given: what the client sent, with lower-case names.
        profile: which way it came.
        excluded: names that the app does not want (`headers_to_exclude`), where the profile heeds
            them. `Cookie` too; AppAPI sends it all the same, which cannot be meant.
        client_address: IP address of the client.
        credentials: the app's, in the name of who asks.
        aa_version: the AppAPI version to announce, unless the profile has one.
        content_length: empty if the body has no known length.
    """
    given = list(given)
    # The host's name is between both ends, whatever a client says. Source: RFC 9110, 7.6.1.
    dropped = (_NOT_SENT | _named_by_connection(given)) - {b"host"}
    if profile.excludes_headers:
        dropped |= {name.lower().encode("utf-8", "replace") for name in excluded}
    headers = [
        (name, kept)
        for name, value in given
        if name not in dropped and not _is_ours(name)
        # A header of which nothing is left goes as a whole; one that was sent empty stays.
        if (kept := _without_session(value) if name == b"cookie" else value) or not value
    ]
    names = {name for name, _ in headers}
    if profile.adds_origin:
        headers.append((ORIGIN_IP.encode(), client_address.encode()))
    headers += [
        (name.encode(), value.encode("latin-1", "replace"))
        for name, value in credentials.headers(aa_version=profile.aa_version or aa_version)
    ]
    if profile.adds_origin:
        headers.append((AA_REQUEST_ID.encode(), _new_request_id()))
        if b"accept-language" not in names:
            headers.append((b"Accept-Language", b"en"))
        if b"user-agent" not in names:
            headers.append((b"User-Agent", USER_AGENT.encode()))
    # No Accept-Encoding of ours: the body is passed on as it comes, so the app may only compress
    # for a client that asked for it. AppAPI adds gzip, and unpacks.
    if content_length:
        headers.append((b"Content-Length", content_length))
    return headers


def answer_headers(
    given: Sequence[tuple[bytes, bytes]],
    profile: Profile,
    *,
    status: int,
    path: str,
    user_id: str,
) -> HeaderList:
    """What the browser gets. Repeated headers all stay; AppAPI keeps the first of each.

    Args:
        given: what the app answered, with names in any case.
        profile: which way it goes.
        status: of the answer.
        path: the decoded path of the request, as the app saw it.
        user_id: who asked, empty for nobody.
    """
    named = [(name.lower(), value) for name, value in given]
    dropped = _NOT_PASSED_ON | _named_by_connection(named)
    has_body = status not in _BODILESS
    if not has_body:
        dropped |= _OF_BODY  # a server believes it, and waits for what never comes
    if profile.adds_defaults:
        dropped |= _NOT_ANSWERED
    headers = [
        (name, value)
        for name, value in named
        if name not in dropped
        # An app must not sign a browser in at the host as somebody of its choice.
        and not (name == b"set-cookie" and is_session_cookie(value.decode("latin-1")))
    ]
    if not profile.adds_defaults:
        return headers
    return _with_defaults(headers, path, user_id, has_body=has_body)


def _with_defaults(headers: HeaderList, path: str, user_id: str, *, has_body: bool) -> HeaderList:
    values = dict(headers)
    given_type = values.get(b"content-type", b"")
    kind = _content_type(given_type, path)
    if not given_type and has_body:
        headers.append((b"content-type", kind))
    elif kind != given_type:
        headers = [(k, kind if k == b"content-type" else v) for k, v in headers]
    if (
        b"cache-control" not in values
        and not path.endswith(".html")
        # "application/json; charset=utf-8" is another text, so it is cached: a surprise that is
        # better met here than in production.
        and given_type not in _NOT_CACHED
    ):
        headers.append((b"cache-control", _CACHED))
        if b"expires" not in values:
            expires = formatdate(time.time() + CACHE_SECONDS, usegmt=True)
            headers.append((b"expires", expires.encode()))
    headers += [pair for pair in _DEFAULTS if pair[0] not in values]
    if user_id:
        headers.append((b"x-user-id", user_id.encode("utf-8")))
    return headers


def _content_type(given: bytes, path: str) -> bytes:
    """The type that a browser is told; what the file's name says where the app says nothing."""
    kind = given or (mimetypes.guess_type(path)[0] or "text/html").encode()
    if kind.startswith(b"text/") and b"charset" not in kind.lower():
        kind += b";charset=UTF-8"
    return kind


def _new_request_id() -> bytes:
    """20 letters and digits, as Nextcloud makes one for each request."""
    # Of URL-safe base64 the two characters that are neither are replaced: it names a request in
    # two logs and guards nothing.
    return (
        secrets.token_urlsafe(_REQUEST_ID_LENGTH)[:_REQUEST_ID_LENGTH]
        .replace("-", "x")
        .replace("_", "X")
        .encode()
    )


def _without_session(cookies: bytes) -> bytes:
    return without_session(cookies.decode("latin-1")).encode("latin-1")


def _is_ours(name: bytes) -> bool:
    # CGI-like servers take "_" for "-", so both spellings could become the header that we sign.
    if b"_" in name:
        name = name.replace(b"_", b"-")
    return name.startswith(_OURS) or name in _OURS_WHOLE


def _named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    return frozenset(
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    )
