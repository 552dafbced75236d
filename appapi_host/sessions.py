"""People who signed in on the login page, and the cookie that they are known by.

Sessions are kept with the registry, so they outlive a restart of the host. One ends when its user
signs out, is deleted or disabled or gets another password, and after `LIFETIME` in any case.
"""

import base64
import hashlib
import hmac
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from typing import Final

from appapi_host.records import User
from appapi_host.registry import Registry
from appapi_host.registry.rows import user_of

__all__ = ["COOKIE_PREFIX", "LIFETIME", "Sessions", "cookies", "is_valid_token", "request_token"]

COOKIE_PREFIX: Final = "exapp_host_"
"""Beginning of the name of each host's cookie: browsers send the cookies of one host to the others
on the same machine, whatever their ports, so each host needs a name of its own."""

LIFETIME: Final = 15 * 24 * 3600
"""Seconds until somebody has to sign in again; as long as Nextcloud remembers a login."""

_MAX_TOKEN: Final = 100


class Sessions:
    """Who signed in.

    Args:
        registry: where sessions are stored.
        now: unix seconds.
    """

    def __init__(self, registry: Registry, *, now: Callable[[], float] = time.time) -> None:
        self._registry = registry
        self._now = now

    async def begin(self, user: User) -> str:
        """Start a session; returns its token, which is the value of the cookie and kept nowhere."""
        token = secrets.token_urlsafe(32)
        now = self._now()
        row = (_digest(token), user.user_id, _digest(user.password_hash), now + LIFETIME)

        def begin(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM sessions WHERE expires <= ?", (now,))
            connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?)", row)

        await self._registry.write(begin)
        return token

    async def user(self, token: str) -> User | None:
        """Whose session it is; None if there is no such session, or not any more."""
        if not token or len(token) > _MAX_TOKEN:
            return None
        digest = _digest(token)

        def find(connection: sqlite3.Connection) -> tuple[User, str] | None:
            row = connection.execute(
                "SELECT users.*, sessions.password AS signed_in_with FROM sessions "
                "JOIN users USING (user_id) WHERE token = ? AND expires > ?",
                (digest, self._now()),
            ).fetchone()
            return (user_of(row), row["signed_in_with"]) if row else None

        found = await self._registry.look(find)
        if found is None:
            return None
        user, signed_in_with = found
        if not user.is_enabled or _digest(user.password_hash) != signed_in_with:
            return None
        return user

    async def end(self, token: str) -> None:
        """End a session; nothing happens if there is none."""
        digest = _digest(token)
        await self._registry.write(
            lambda connection: connection.execute("DELETE FROM sessions WHERE token = ?", (digest,))
        )


def request_token(secret: str) -> str:
    """What a page shows to prove that a request was meant: Nextcloud's `requesttoken`.

    Another text each time, so that it can serve as a nonce too and nobody can guess it from the
    length of compressed pages; all of them are valid as long as the secret is.

    Args:
        secret: the token of the session, or whatever else only the browser's cookie holds.
    """
    mask = os.urandom(32)
    parts = (_xor(_proof(secret), mask), mask)
    return ":".join(base64.b64encode(part).decode("ascii") for part in parts)


def is_valid_token(secret: str, given: str) -> bool:
    """Whether a page that belongs to this secret showed one of its `request_token()`s."""
    masked, _, mask = given.partition(":")
    try:
        parts = [base64.b64decode(part, validate=True) for part in (masked, mask)]
    except ValueError:
        return False
    if not secret or len(parts[0]) != len(parts[1]):
        return False
    return hmac.compare_digest(_xor(*parts), _proof(secret))


def _proof(secret: str) -> bytes:
    return hmac.digest(secret.encode("utf-8", "surrogatepass"), b"requesttoken", "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(one, other, strict=True))


def cookies(header: str) -> list[tuple[str, str]]:
    """Names and values of a `Cookie` header, in order. Source: RFC 6265, 5.4."""
    pairs = (pair.partition("=") for pair in header.split(";"))
    return [(name.strip(), value.strip().strip('"')) for name, _, value in pairs]


def _digest(text: str) -> str:
    # A fast hash: what is hashed is random, or a slow hash already.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
