"""What apps register with the host and store there: small JSON values under a name.

Menu entries, settings forms, notifications, configuration: each family of the OCS API keeps a kind
of documents of its own, numbered from 1 as the rows of a table of its own would be.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

__all__ = ["FIRST_FILE", "OUTLIVING", "SCHEMA", "Document", "DocumentStore", "Documents"]

SCHEMA: Final = (
    """
    CREATE TABLE documents (
        kind TEXT NOT NULL,
        id INTEGER NOT NULL,
        app_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        name TEXT NOT NULL,
        label TEXT NOT NULL,
        content TEXT NOT NULL,
        PRIMARY KEY (kind, id)
    )
    """,
    "CREATE UNIQUE INDEX documents_name ON documents (kind, app_id, user_id, name)",
    "CREATE INDEX documents_label ON documents (kind, label, id)",
    "CREATE TABLE counters (kind TEXT PRIMARY KEY, last INTEGER NOT NULL)",
    "CREATE TABLE files (id INTEGER PRIMARY KEY AUTOINCREMENT, content BLOB NOT NULL)",
)
"""The step of the registry's schema that this module works on."""

OUTLIVING: Final = frozenset({"config", "preference", "user-preference", "notification", "task"})
"""Kinds that stay when their app is unregistered, and are there again for its next installation."""

FIRST_FILE: Final = 1_000_000_000
"""Below are the numbers of files that users have: where either may be meant, the number tells."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Document:
    """One stored value.

    Args:
        kind: which table it would be in.
        id: its number there; kept when it is overwritten, never given out again.
        app_id: whose it is.
        user_id: for whom; empty where users do not matter.
        name: unique for kind, app and user.
        label: by what it is looked up, where names do not do; for instance the state of a task.
        content: JSON object.
    """

    kind: str
    id: int
    app_id: str
    user_id: str
    name: str
    label: str
    content: Mapping[str, Any]


class Documents:
    """The documents, inside a transaction; see `DocumentStore`.

    Args:
        connection: within the transaction.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def put(
        self,
        kind: str,
        app_id: str,
        name: str,
        content: Mapping[str, Any],
        *,
        user_id: str = "",
        label: str = "",
    ) -> Document:
        """Store a document, in place of the one of that name if there is one."""
        present = self.get(kind, app_id, name, user_id=user_id)
        if present is None:
            return self.add(kind, app_id, content, name=name, user_id=user_id, label=label)
        return self.replace(present, content, label=label)

    def add(
        self,
        kind: str,
        app_id: str,
        content: Mapping[str, Any],
        *,
        name: str | None = None,
        user_id: str = "",
        label: str = "",
    ) -> Document:
        """Store a new document.

        Args:
            kind: which table it would be in.
            app_id: whose it is.
            content: JSON object.
            name: a free one; None for those that only have a number.
            user_id: for whom.
            label: by what it is to be looked up.
        """
        self._connection.execute(
            "INSERT INTO counters VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET last = last + 1",
            (kind,),
        )
        number = int(
            self._connection.execute(
                "SELECT last FROM counters WHERE kind = ?", (kind,)
            ).fetchone()[0]
        )
        stored_name = f"#{number}" if name is None else name
        self._connection.execute(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)",
            (kind, number, app_id, user_id, stored_name, label, json.dumps(dict(content))),
        )
        return Document(kind, number, app_id, user_id, stored_name, label, content)

    def replace(
        self, document: Document, content: Mapping[str, Any], *, label: str = ""
    ) -> Document:
        """Give a stored document another content and label."""
        self._connection.execute(
            "UPDATE documents SET content = ?, label = ? WHERE kind = ? AND id = ?",
            (json.dumps(dict(content)), label, document.kind, document.id),
        )
        return Document(
            document.kind,
            document.id,
            document.app_id,
            document.user_id,
            document.name,
            label,
            content,
        )

    def get(self, kind: str, app_id: str, name: str, *, user_id: str = "") -> Document | None:
        """The document of that name."""
        row = self._connection.execute(
            "SELECT * FROM documents WHERE kind = ? AND app_id = ? AND user_id = ? AND name = ?",
            (kind, app_id, user_id, name),
        ).fetchone()
        return None if row is None else _document(row)

    def numbered(self, kind: str, number: int) -> Document | None:
        """The document of that number."""
        row = self._connection.execute(
            "SELECT * FROM documents WHERE kind = ? AND id = ?", (kind, number)
        ).fetchone()
        return None if row is None else _document(row)

    def find(
        self,
        kind: str,
        *,
        app_id: str | None = None,
        user_id: str | None = None,
        label: str | None = None,
        of_enabled: bool = False,
    ) -> list[Document]:
        """Documents of a kind in the order of their numbers.

        Args:
            kind: which table they would be in.
            app_id: whose they are, None for everybody's.
            user_id: for whom, None for everybody.
            label: by what they are looked up, None for any.
            of_enabled: only those of apps that are enabled.
        """
        wanted = {"kind": kind, "app_id": app_id, "user_id": user_id, "label": label}
        wanted = {column: value for column, value in wanted.items() if value is not None}
        conditions = " AND ".join(f"{column} = :{column}" for column in wanted)
        if of_enabled:
            conditions += " AND app_id IN (SELECT app_id FROM apps WHERE enabled)"
        rows = self._connection.execute(
            f"SELECT * FROM documents WHERE {conditions} ORDER BY id", wanted
        )
        return [_document(row) for row in rows]

    def has(self, kind: str, *, label: str) -> bool:
        """Whether there is any document of a kind with that label."""
        query = "SELECT 1 FROM documents WHERE kind = ? AND label = ? LIMIT 1"
        return self._connection.execute(query, (kind, label)).fetchone() is not None

    def delete(self, kind: str, app_id: str, names: Iterable[str], *, user_id: str = "") -> int:
        """Delete by name; returns how many there were."""
        return sum(
            self._connection.execute(
                "DELETE FROM documents WHERE kind = ? AND app_id = ? AND user_id = ? AND name = ?",
                (kind, app_id, user_id, name),
            ).rowcount
            for name in dict.fromkeys(names)
        )

    def remove(self, document: Document) -> None:
        """Delete a stored document."""
        self._connection.execute(
            "DELETE FROM documents WHERE kind = ? AND id = ?", (document.kind, document.id)
        )

    def forget_app(self, app_id: str) -> None:
        """Delete what an app registered; what it stored stays, see `OUTLIVING`."""
        kinds = self._connection.execute(
            "SELECT DISTINCT kind FROM documents WHERE app_id = ?", (app_id,)
        ).fetchall()
        for row in kinds:
            if row["kind"] not in OUTLIVING:
                self._connection.execute(
                    "DELETE FROM documents WHERE kind = ? AND app_id = ?", (row["kind"], app_id)
                )

    def forget_user(self, user_id: str) -> None:
        """Delete what is kept for a user who is no longer there: preferences, notifications, tasks.

        Whoever gets the same id later is somebody else.
        """
        self._connection.execute(
            "DELETE FROM documents WHERE user_id = ? AND user_id != ''", (user_id,)
        )

    def add_file(self, content: bytes) -> int:
        """Store bytes; returns their number, which is at least `FIRST_FILE`."""
        cursor = self._connection.execute("INSERT INTO files (content) VALUES (?)", (content,))
        return FIRST_FILE + int(cursor.lastrowid or 0)

    def file(self, number: int) -> bytes | None:
        """The bytes of that number."""
        row = self._connection.execute(
            "SELECT content FROM files WHERE id = ?", (number - FIRST_FILE,)
        ).fetchone()
        return None if row is None else bytes(row["content"])


class _Registry(Protocol):
    """What is needed of the registry, which stands above this module."""

    async def look(self, work: Callable[[sqlite3.Connection], T]) -> T: ...

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T: ...

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T: ...


class DocumentStore:
    """Runs work on the documents of a registry.

    Args:
        registry: whose documents.
    """

    def __init__(self, registry: _Registry) -> None:
        self._registry = registry

    async def look(self, work: Callable[[Documents], T]) -> T:
        """Find a few documents by name or number at once, without a thread."""
        return await self._registry.look(lambda connection: work(Documents(connection)))

    async def read(self, work: Callable[[Documents], T]) -> T:
        """Read documents in a worker thread; `work` must not write."""
        return await self._registry.read(lambda connection: work(Documents(connection)))

    async def write(self, work: Callable[[Documents], T]) -> T:
        """Change documents in one transaction, in a worker thread.

        Args:
            work: quick, because all writers of all processes wait for it. What it raises is raised
                here, and then nothing is written.
        """
        return await self._registry.write(lambda connection: work(Documents(connection)))


def _document(row: sqlite3.Row) -> Document:
    return Document(
        row["kind"],
        row["id"],
        row["app_id"],
        row["user_id"],
        row["name"],
        row["label"],
        json.loads(row["content"]),
    )
