"""Configuration of apps and preferences of their users, the sensitive ones encrypted at rest.

The key lies in a file beside the registry, so that a copy of the registry alone shows none of them.
"""

import base64
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread

from appapi_host.documents import Document, Documents, DocumentStore
from appapi_host.errors import HostError

__all__ = ["KEY_FILE", "Value", "Values"]

_FEW: Final = 20
"""Values that are looked up without a thread."""

KEY_FILE: Final = "values.key"
"""Name of the key's file in the data directory."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value, in clear.

    Args:
        id: its number in the table of its kind.
        app_id: whose it is.
        user_id: whose preference it is; empty for configuration of the app.
        key: unique for app and user.
        text: the value.
        is_sensitive: whether it is encrypted where it is stored.
    """

    id: int
    app_id: str
    user_id: str
    key: str
    text: str
    is_sensitive: bool

    def __repr__(self) -> str:
        shown = "***" if self.is_sensitive else repr(self.text)
        return f"Value({self.id}, {self.app_id!r}, {self.user_id!r}, {self.key!r}, {shown})"


class Values:
    """Reads and writes values. With a `user_id` everywhere, they are that user's preferences.

    Args:
        documents: where they are stored.
        key_file: where the key is kept, made when it is first needed; None keeps it in memory.
    """

    def __init__(self, documents: DocumentStore, key_file: Path | None = None) -> None:
        self._documents = documents
        self._key_file = key_file
        self._key = b""

    async def get(
        self, app_id: str, keys: Iterable[str] | None = None, *, user_id: str = ""
    ) -> list[Value]:
        """Those of the values that exist, sorted by key.

        Args:
            app_id: whose they are.
            keys: which ones, None for all.
            user_id: whose preferences, empty for the app's configuration.

        Raises:
            HostError: a sensitive one cannot be decrypted.
        """
        kind = _kind(user_id)
        wanted = None if keys is None else list(dict.fromkeys(keys))

        def read(documents: Documents) -> list[Document]:
            if wanted is None:
                return documents.find(kind, app_id=app_id, user_id=user_id)
            found = (documents.get(kind, app_id, key, user_id=user_id) for key in wanted)
            return [document for document in found if document is not None]

        def clear() -> list[Value]:
            return [self._value(document) for document in found]

        if wanted is None or len(wanted) > _FEW:
            found = await self._documents.read(read)
        else:
            found = await self._documents.look(read)
        found.sort(key=lambda document: document.name)
        if any(document.content["is_sensitive"] for document in found):
            return await anyio.to_thread.run_sync(clear)
        return clear()

    async def set(
        self,
        app_id: str,
        key: str,
        text: str,
        *,
        is_sensitive: bool | None = None,
        user_id: str = "",
    ) -> Value:
        """Store a value.

        Args:
            app_id: whose it is.
            key: its name.
            text: the value.
            is_sensitive: None leaves that as it is; a new value is not.
            user_id: whose preference, empty for the app's configuration.
        """

        def write(documents: Documents) -> Value:
            kind = _kind(user_id)
            sensitive = is_sensitive
            if sensitive is None:
                present = documents.get(kind, app_id, key, user_id=user_id)
                sensitive = bool(present and present.content["is_sensitive"])
            stored = self.encrypted(text) if sensitive else text
            document = documents.put(
                kind,
                app_id,
                key,
                {"text": stored, "is_sensitive": sensitive},
                user_id=user_id,
            )
            return Value(document.id, app_id, user_id, key, text, sensitive)

        return await self._documents.write(write)

    async def delete(self, app_id: str, keys: Iterable[str], *, user_id: str = "") -> int:
        """Delete values; returns how many there were."""
        names = list(keys)
        return await self._documents.write(
            lambda documents: documents.delete(_kind(user_id), app_id, names, user_id=user_id)
        )

    def _value(self, document: Document) -> Value:
        text, is_sensitive = document.content["text"], document.content["is_sensitive"]
        return Value(
            document.id,
            document.app_id,
            document.user_id,
            document.name,
            self.decrypted(text, document.name) if is_sensitive else text,
            is_sensitive,
        )

    def encrypted(self, text: str) -> str:
        """The text as it may be stored; in a worker thread, within a transaction that writes."""
        from cryptography.fernet import Fernet  # takes 50 ms, and most apps hide nothing

        return Fernet(self._known_key(is_made=True)).encrypt(text.encode()).decode("ascii")

    def decrypted(self, text: str, key: str) -> str:
        """A stored text in clear; in a worker thread.

        Args:
            text: what `encrypted()` made.
            key: what it is called in the error.

        Raises:
            HostError: it cannot be decrypted.
        """
        from cryptography.fernet import Fernet, InvalidToken

        try:
            return Fernet(self._known_key(is_made=False)).decrypt(text).decode()
        except InvalidToken as error:
            raise HostError(
                f"the sensitive value {key!r} cannot be decrypted",
                remedy=f"put back the {KEY_FILE} that it was written with, or set it again",
            ) from error

    def _known_key(self, *, is_made: bool) -> bytes:
        if not self._key:
            if self._key_file is None:
                self._key = base64.urlsafe_b64encode(os.urandom(32))
            else:
                self._key = _kept_key(self._key_file, is_made=is_made)
        return self._key


def _kind(user_id: str) -> str:
    return "preference" if user_id else "config"


def _kept_key(path: Path, *, is_made: bool) -> bytes:
    """The key of that file.

    It is made by who writes a value, and holds the write lock of the registry: two processes never
    make two.
    """
    from cryptography.fernet import Fernet

    try:
        if is_made and not path.exists():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                file.write(Fernet.generate_key())
        key = path.read_bytes().strip()
        Fernet(key)
    except (OSError, ValueError) as error:
        raise HostError(
            f"the key of sensitive values {path} cannot be used: {error}",
            remedy="put the right file back, or remove it and set the sensitive values again",
        ) from error
    return key
