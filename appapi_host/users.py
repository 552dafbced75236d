"""Who can sign in at the host: a small stand-in for the users of a Nextcloud."""

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final

import anyio.to_thread

from appapi_host.errors import AlreadyExistsError, NotFoundError
from appapi_host.records import User
from appapi_host.registry import Registry
from appapi_host.throttling import LOGIN, Throttle

__all__ = [
    "ADMIN_GROUP",
    "DEFAULT_USERS",
    "USER_ID_RULE",
    "Users",
    "hash_password",
    "is_user_id",
    "verify_password",
]

DEFAULT_USERS: Final = (
    User("admin", "Administrator", is_admin=True),
    User("user", "User"),
)
"""Who is there without anybody adding them."""

_USER_ID: Final = re.compile(r"[A-Za-z0-9 _.@'-]{1,64}")

USER_ID_RULE: Final = (
    "Only the following characters are allowed in an Login:"
    ' "a-z", "A-Z", "0-9", spaces and "_.@-\'"'
)
"""What ids of users are made of, in Nextcloud's words."""

ADMIN_GROUP: Final = "admin"
"""The group that is always there."""

_COST: Final = 2**14
"""Rounds of scrypt for passwords that a person may have chosen: about 50 ms and 16 MiB."""

_COST_OF_PUBLIC: Final = 2
"""For passwords that equal the user's name: what everybody knows needs no protection, and a test
should not pay for it."""

_MADE_UP_SETTING: Final = "made_up_passwords"
_DELETED_SETTING: Final = "deleted_default_user:"
_MAX_PASSWORD: Final = 1024
_CACHE_SIZE: Final = 256


def is_user_id(text: str) -> bool:
    """Whether a user may have that id."""
    return _USER_ID.fullmatch(text) is not None and bool(text.strip(". "))


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
        throttle: makes those wait who fail; nobody waits without one.
    """

    def __init__(self, registry: Registry, throttle: Throttle | None = None) -> None:
        self._registry = registry
        self._throttle = throttle or Throttle(is_on=False)
        # Pairs that were right are remembered, so that only the first of a person's requests pays
        # for scrypt; as keyed hashes, so that no password can be read from memory.
        self._cache_key = os.urandom(32)
        self._cache: dict[bytes, None] = {}
        self._hash_of_nobody = ""
        self.when_removed: Callable[[str], Awaitable[None]] | None = None
        """Called with the id of a user who is no longer there."""

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
            if await self._registry.setting(_DELETED_SETTING + default.user_id):
                continue
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

    # Groups. Who is in `admin` says the user's own row, which the proxy reads with each request.

    async def groups(self) -> dict[str, list[str]]:
        """The ids of all groups and of their members, both sorted."""

        def read(connection: sqlite3.Connection) -> dict[str, list[str]]:
            found: dict[str, list[str]] = {ADMIN_GROUP: []}
            for row in connection.execute("SELECT group_id FROM groups"):
                found[row["group_id"]] = []
            for row in connection.execute("SELECT group_id, user_id FROM memberships"):
                found[row["group_id"]].append(row["user_id"])
            for row in connection.execute("SELECT user_id FROM users WHERE is_admin"):
                found[ADMIN_GROUP].append(row["user_id"])
            return {group_id: sorted(found[group_id]) for group_id in sorted(found)}

        return await self._registry.read(read)

    async def group_names(self) -> dict[str, str]:
        """How each group is called, by its id."""

        def read(connection: sqlite3.Connection) -> dict[str, str]:
            rows = connection.execute("SELECT group_id, display_name FROM groups").fetchall()
            return {ADMIN_GROUP: ADMIN_GROUP} | {row[0]: row[1] for row in rows}

        return await self._registry.read(read)

    async def rename_group(self, group_id: str, display_name: str) -> None:
        """Call a group something else; its id stays.

        Raises:
            NotFoundError: there is none of that id that could be renamed.
        """

        def rename(connection: sqlite3.Connection) -> None:
            found = connection.execute(
                "UPDATE groups SET display_name = ? WHERE group_id = ?", (display_name, group_id)
            )
            if not found.rowcount:
                raise NotFoundError(f"there is no group {group_id!r}")

        await self._registry.write(rename)

    async def groups_of(self, user_id: str) -> list[str]:
        """The groups that a user is in, sorted."""
        groups = await self.groups()
        return [group_id for group_id, members in groups.items() if user_id in members]

    async def add_group(self, group_id: str, *, display_name: str = "") -> None:
        """Make a group.

        Raises:
            AlreadyExistsError: there is one of that id.
        """

        def add(connection: sqlite3.Connection) -> None:
            try:
                connection.execute(
                    "INSERT INTO groups VALUES (?, ?)", (group_id, display_name or group_id)
                )
            except sqlite3.IntegrityError:
                raise AlreadyExistsError(f"a group {group_id!r} exists already") from None

        if group_id == ADMIN_GROUP:
            raise AlreadyExistsError(f"a group {group_id!r} exists already")
        await self._registry.write(add)

    async def add_member(self, group_id: str, user_id: str) -> None:
        """Put a user into a group; nothing happens to one who is in it.

        Raises:
            NotFoundError: there is no such group, or no such user.
        """

        def add(connection: sqlite3.Connection) -> None:
            known = "SELECT 1 FROM groups WHERE group_id = ?"
            if group_id != ADMIN_GROUP and not connection.execute(known, (group_id,)).fetchone():
                raise NotFoundError(f"there is no group {group_id!r}")
            known = "SELECT 1 FROM users WHERE user_id = ?"
            if not connection.execute(known, (user_id,)).fetchone():
                raise NotFoundError(f"there is no user {user_id!r}")
            if group_id == ADMIN_GROUP:
                connection.execute("UPDATE users SET is_admin = 1 WHERE user_id = ?", (user_id,))
            else:
                connection.execute(
                    "INSERT OR IGNORE INTO memberships VALUES (?, ?)", (group_id, user_id)
                )

        await self._registry.write(add)

    async def remove_member(self, group_id: str, user_id: str) -> None:
        """Take a user out of a group; nothing happens to one who is not in it."""

        def remove(connection: sqlite3.Connection) -> None:
            if group_id == ADMIN_GROUP:
                connection.execute("UPDATE users SET is_admin = 0 WHERE user_id = ?", (user_id,))
            connection.execute(
                "DELETE FROM memberships WHERE group_id = ? AND user_id = ?", (group_id, user_id)
            )

        await self._registry.write(remove)

    async def remove_group(self, group_id: str) -> None:
        """Delete a group; its members stay.

        Raises:
            NotFoundError: there is none of that id that could be deleted.
        """

        def remove(connection: sqlite3.Connection) -> None:
            found = connection.execute("DELETE FROM groups WHERE group_id = ?", (group_id,))
            if not found.rowcount:
                raise NotFoundError(f"there is no group {group_id!r}")
            connection.execute("DELETE FROM memberships WHERE group_id = ?", (group_id,))

        await self._registry.write(remove)

    async def all(self) -> list[User]:
        """All users, sorted by id."""
        return await self._registry.users()

    async def find(self, user_id: str) -> User | None:
        """The user of that id."""
        return await self._registry.user(user_id)

    async def add(self, user_id: str, password: str, *, display_name: str = "") -> None:
        """Create a user who can sign in.

        Raises:
            AlreadyExistsError: the id is taken.
        """
        hashed = await anyio.to_thread.run_sync(hash_password, password)
        await self._registry.add_user(User(user_id, display_name or user_id, hashed))

    async def rename(self, user_id: str, display_name: str) -> None:
        """Give a user another name to be shown.

        Raises:
            NotFoundError: there is none of that id.
        """
        await self._change(user_id, display_name=display_name)

    async def set_password(self, user_id: str, password: str) -> None:
        """Give a user another password, which ends their sessions.

        Raises:
            NotFoundError: there is none of that id.
        """
        hashed = await anyio.to_thread.run_sync(hash_password, password)
        await self._change(user_id, password_hash=hashed)

    async def switch(self, user_id: str, *, enabled: bool) -> None:
        """Let a user sign in, or not any more.

        Raises:
            NotFoundError: there is none of that id.
        """
        await self._change(user_id, is_enabled=enabled)

    async def _change(self, user_id: str, **changes: str | bool) -> None:
        user = await self._registry.user(user_id)
        if user is None:
            raise NotFoundError(f"there is no user {user_id!r}")
        await self._registry.replace_user(replace(user, **changes))  # type: ignore[arg-type]

    async def remove(self, user_id: str) -> None:
        """Delete a user, with all files.

        Raises:
            NotFoundError: there is none of that id.
        """

        def remove(connection: sqlite3.Connection) -> None:
            if not connection.execute("DELETE FROM users WHERE user_id = ?", (user_id,)).rowcount:
                raise NotFoundError(f"there is no user {user_id!r}")
            connection.execute("DELETE FROM memberships WHERE user_id = ?", (user_id,))
            if user_id in {user.user_id for user in DEFAULT_USERS}:
                name = _DELETED_SETTING + user_id
                connection.execute("REPLACE INTO settings VALUES (?, '1')", (name,))

        await self._registry.write(remove)
        if self.when_removed is not None:
            await self.when_removed(user_id)

    async def sign_in(self, user_id: str, password: str, *, address: str) -> User | None:
        """The user, as `authenticate()` finds it, for somebody who may be guessing.

        Args:
            user_id: who they say they are.
            password: their password.
            address: where they are, see `appapi_host.throttling.client_address()`.

        Raises:
            Throttled: too many attempts from there failed; to be answered with 429.
        """
        await self._throttle.pause(LOGIN, address)
        user = await self.authenticate(user_id, password)
        if user is None:
            self._throttle.failed(LOGIN, address)
        else:
            self._throttle.succeeded(LOGIN, address)
        return user

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
