"""Who can sign in at the host: a small stand-in for the users of a Nextcloud."""

import base64
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import replace
from functools import partial
from typing import Final

import anyio.to_thread

from appapi_host.records import User
from appapi_host.registry import Registry

__all__ = ["DEFAULT_USERS", "Users", "hash_password", "verify_password"]

DEFAULT_USERS: Final = (
    User("admin", "Administrator", is_admin=True),
    User("user", "User"),
)
"""Who is there without anybody adding them."""

_COST: Final = 2**14
"""Rounds of scrypt for passwords that a person may have chosen: about 50 ms and 16 MiB."""

_COST_OF_PUBLIC: Final = 2
"""For passwords that equal the user's name: what everybody knows needs no protection, and a test
should not pay for it."""

_MADE_UP_SETTING: Final = "made_up_passwords"
_MAX_PASSWORD: Final = 1024
_CACHE_SIZE: Final = 256


def hash_password(text: str, *, cost: int = _COST) -> str:
    """What is stored instead of a password.

    Args:
        text: the password.
        cost: a power of two; doubling it doubles the time and the memory of one attempt.

    Returns:
        `scrypt$n=…,r=8,p=1$salt$hash`, the last two in base64.
    """
    salt = os.urandom(16)
    digest = _scrypt(text, salt, cost, 8, 1)
    parts = (base64.b64encode(part).decode("ascii") for part in (salt, digest))
    return "$".join(("scrypt", f"n={cost},r=8,p=1", *parts))


def verify_password(text: str, password_hash: str) -> bool:
    """Whether a password is the one that was stored; False for anything that cannot be read."""
    try:
        algorithm, parameters, salt, digest = password_hash.split("$")
        cost, block, parallel = (int(pair.partition("=")[2]) for pair in parameters.split(","))
        expected = base64.b64decode(digest, validate=True)
        given = _scrypt(text, base64.b64decode(salt, validate=True), cost, block, parallel)
    except ValueError:
        return False
    return algorithm == "scrypt" and hmac.compare_digest(given, expected)


def _scrypt(text: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        text.encode("utf-8", "surrogatepass"),
        salt=salt,
        n=cost,
        r=block,
        p=parallel,
        maxmem=64 * 1024 * 1024,
    )


class Users:
    """Signs people in.

    Args:
        registry: where users are stored.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        # Pairs that were right are remembered, so that only the first of a person's requests pays
        # for scrypt; as keyed hashes, so that no password can be read from memory.
        self._cache_key = os.urandom(32)
        self._cache: dict[bytes, None] = {}
        self._hash_of_nobody = ""

    async def create_defaults(self, *, loopback: bool) -> dict[str, str]:
        """Make sure that the default users are there, with passwords fit for who reaches the host.

        On loopback the password of each equals the id. Elsewhere it is made up anew at each start,
        since the host keeps none that it could show again. A password that a person has set stays.

        Args:
            loopback: only this machine reaches the host.

        Returns:
            User id → password, of those that were made up and must be shown to the person.
        """
        made_up: dict[str, str] = json.loads(await self._registry.setting(_MADE_UP_SETTING) or "{}")
        shown: dict[str, str] = {}
        for default in DEFAULT_USERS:
            stored = await self._registry.user(default.user_id)
            present = "" if stored is None else stored.password_hash
            is_made_up = bool(present) and made_up.get(default.user_id) == present
            is_public = _is_public(present)
            if stored and not is_public and not is_made_up:
                continue  # a person's choice
            if stored and is_public and loopback:
                continue
            if loopback:
                password, cost = default.user_id, _COST_OF_PUBLIC
            else:
                password, cost = secrets.token_urlsafe(12), _COST
                shown[default.user_id] = password
            fresh = await anyio.to_thread.run_sync(partial(hash_password, password, cost=cost))
            await self._registry.replace_user(replace(stored or default, password_hash=fresh))
            made_up[default.user_id] = fresh
        if shown:
            await self._registry.set_setting(_MADE_UP_SETTING, json.dumps(made_up))
        return shown

    async def authenticate(self, user_id: str, password: str) -> User | None:
        """The user, if the password is right and the user may sign in.

        Takes as long for somebody unknown as for a wrong password.
        """
        if len(password) > _MAX_PASSWORD:
            return None
        user = await self._registry.user(user_id)
        # The stored hash is part of the key: a changed password is not right for a moment longer.
        stored = user.password_hash if user else ""
        text = "\0".join((user_id, stored, password)).encode("utf-8", "surrogatepass")
        key = hmac.digest(self._cache_key, text, "sha256")
        is_right = user is not None and key in self._cache
        if not is_right:
            if not stored:
                stored = await self._nobody()
            is_right = await anyio.to_thread.run_sync(verify_password, password, stored)
            if is_right and user is not None:
                self._remember(key)
        return user if user is not None and is_right and user.is_enabled else None

    async def _nobody(self) -> str:
        if not self._hash_of_nobody:
            text = secrets.token_urlsafe()
            self._hash_of_nobody = await anyio.to_thread.run_sync(hash_password, text)
        return self._hash_of_nobody

    def _remember(self, key: bytes) -> None:
        if len(self._cache) >= _CACHE_SIZE:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = None


def _is_public(password_hash: str) -> bool:
    """Whether the password is the user's own id: only such ones are hashed at that cost."""
    return password_hash.startswith(f"scrypt$n={_COST_OF_PUBLIC},")
