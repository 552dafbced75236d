"""Who asks: apps that sign their requests, and users, for everything that apps call.

Source: AppAPI documentation, Authentication; order of checks measured on AppAPI 32.0.0.
"""

import base64
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from appapi_host.events import Notice
from appapi_host.host import Host
from appapi_host.identity import identify
from appapi_host.records import AppRecord, User
from appapi_host.throttling import APPS, Throttled
from appapi_host.versions import is_newer
from exapp_sdk.protocol.auth import MAX_HEADER_BYTES

__all__ = [
    "Caller",
    "WhileDisabled",
    "claimed_app",
    "identify_caller",
    "signer",
    "tell_unserved",
]

_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/]")
_UPDATING: Final = frozenset({"install", "update"})


class WhileDisabled(Enum):
    """Whether the app itself may call an endpoint while it is disabled."""

    REFUSED = auto()
    WHILE_INSTALLING = auto()
    """Only while it is being installed or updated.

    AppAPI allows this since 33.0.1. The AppAPI 32 that this host announces refuses, which only
    makes a report get lost, so the newer rule is followed for every version.
    """
    ALLOWED = auto()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is behind a request.

    Args:
        app: the app whose signature was right.
        user: the acting user, or the one who signed in.
        refusal: why authentication failed, empty if it did not.
        has_wrong_password: it failed because of basic auth.
        has_proof: False for a request by session that some other page may have caused.
        is_attempt: it failed in a way that counts against the address.
    """

    app: AppRecord | None = None
    user: User | None = None
    refusal: str = ""
    has_wrong_password: bool = False
    has_proof: bool = True
    is_attempt: bool = False


async def claimed_app(host: Host, headers: Mapping[str, str]) -> str:
    """The id of the registered app that a request says it comes from, empty if it names none.

    Nothing is proven by that: it is for the host's own output only.
    """
    claimed = headers.get("ex-app-id", "")
    return claimed if claimed and await host.registry.app(claimed) else ""


def tell_unserved(host: Host, app_id: str, method: str, path: str) -> None:
    """Say that what somebody asked for is no part of this host: that is no mistake of the app."""
    who = f"the app {app_id}" if app_id else "somebody"
    text = f"{who} asked for {method} {path}, which this host does not serve"
    host.bus.emit(Notice(app_id, text))


async def signer(
    host: Host, headers: Iterable[tuple[bytes, bytes]], *, address: str = ""
) -> Caller:
    """Who signed a request, before anything else of it is looked at.

    A disabled app counts: which endpoints it may use is decided where they are served. Passwords
    are not even compared.

    Returns:
        The caller, or why there is none.
    """
    headers = list(headers)
    if not any(name == b"authorization-app-api" for name, _ in headers):
        return Caller(refusal="the request is not signed by an app")
    try:
        return await identify_caller(host, headers, WhileDisabled.ALLOWED, address=address)
    except Throttled as error:
        return Caller(refusal=str(error))


async def identify_caller(
    host: Host,
    headers: Iterable[tuple[bytes, bytes]],
    while_disabled: WhileDisabled = WhileDisabled.REFUSED,
    *,
    address: str = "",
) -> Caller:
    """Find out who asks: an app that signs, or a user by password or session.

    Args:
        host: knows apps and users.
        headers: as ASGI gives them.
        while_disabled: whether a disabled app counts.
        address: from where they ask.

    Raises:
        Throttled: too many attempts from there failed.
    """
    headers = list(headers)
    values: dict[bytes, bytes] = {}
    doubled = False
    for name, value in headers:
        if name in (b"authorization-app-api", b"ex-app-id", b"ex-app-version", b"authorization"):
            doubled = doubled or name in values
            values[name] = value
    # The signature comes before any other login, and nothing else is tried when it fails.
    signature = values.get(b"authorization-app-api")
    if signature is not None:
        if doubled:
            return Caller(refusal="an authentication header is there twice")
        host.throttle.check(APPS, address)
        caller = await _signed(
            host,
            values.get(b"ex-app-id", b""),
            values.get(b"ex-app-version", b""),
            signature,
            while_disabled,
        )
        if caller.is_attempt:
            host.throttle.failed(APPS, address)
        elif caller.app is not None:
            host.throttle.succeeded(APPS, address)
        return caller
    identity = await identify(host, headers, address=address)
    return Caller(
        user=identity.user,
        refusal=identity.refusal,
        has_wrong_password=bool(identity.refusal),
        has_proof=identity.has_proof,
    )


async def _signed(
    host: Host,
    app_header: bytes,
    version_header: bytes,
    signature: bytes,
    while_disabled: WhileDisabled,
) -> Caller:
    """The checks in the order of the real AppAPI, which decides which cause gets noted."""
    if max(len(app_header), len(version_header), len(signature)) > MAX_HEADER_BYTES:
        return Caller(refusal="an authentication header is too long")
    app_id = app_header.decode("utf-8", "replace")
    if not app_id:
        return Caller(refusal="EX-APP-ID is missing")
    app = await host.registry.app(app_id)
    if app is None:
        return Caller(refusal=f"no app {app_id!r} is registered", is_attempt=True)
    user_id, colon, secret = _lenient_base64(signature).partition(b":")
    if not hmac.compare_digest(secret, app.secret.reveal().encode()) or not colon:
        refusal = "AUTHORIZATION-APP-API does not hold the secret of the app"
        return Caller(refusal=refusal, is_attempt=True)
    if not app.enabled and not _is_exempt(app, while_disabled):
        return Caller(refusal=f"the app is disabled (state: {app.state.value})")
    version = version_header.decode("utf-8", "replace")
    if not version:
        return Caller(refusal="EX-APP-VERSION is missing")
    user = None
    if user_id:
        user = await host.registry.user(user_id.decode("utf-8", "replace"))
        if user is None:
            return Caller(refusal=f"no user {user_id.decode('utf-8', 'replace')!r}")
        if not user.is_enabled:
            return Caller(refusal=f"the user {user.user_id!r} is disabled")
    # Plain ASCII, because it will stand in headers to the app.
    if version != app.version and version.isascii() and is_newer(version, app.version):
        await host.app_version_seen(app_id, version)
    return Caller(app, user)


def _is_exempt(app: AppRecord, while_disabled: WhileDisabled) -> bool:
    if while_disabled is WhileDisabled.WHILE_INSTALLING:
        return app.status.type in _UPDATING
    return while_disabled is WhileDisabled.ALLOWED


def _lenient_base64(text: bytes) -> bytes:
    """Decode as PHP does: what is not in the alphabet is skipped, padding does not matter."""
    kept = _NOT_BASE64.sub(b"", text)
    if len(kept) % 4 == 1:
        kept = kept[:-1]
    return base64.b64decode(kept + b"=" * (-len(kept) % 4))
