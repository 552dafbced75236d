"""What a folder on a disk does not know of its files: ids, favorites, tags, properties.

A database of its own beside the folders, made when the first file is asked for, so that a host that
serves no file pays nothing. Files that somebody puts into a folder by hand get their id when they
are first seen.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from appapi_host.files.refusals import Refusal

__all__ = ["FILES", "TRASH", "Entry", "Index", "Tag", "Trashed"]

FILES: Final = "files"
TRASH: Final = "trash"

_BUSY_SECONDS: Final = 10.0
_VERSION: Final = 1

_SCHEMA: Final = (
    """
    CREATE TABLE nodes (
        fileid INTEGER PRIMARY KEY AUTOINCREMENT,
        user_id TEXT NOT NULL,
        area TEXT NOT NULL,
        path TEXT NOT NULL,
        favorite INTEGER NOT NULL DEFAULT 0,
        created INTEGER NOT NULL DEFAULT 0,
        uploaded INTEGER NOT NULL DEFAULT 0,
        checksum TEXT NOT NULL DEFAULT '',
        UNIQUE (user_id, area, path)
    )
    """,
    """
    CREATE TABLE properties (
        fileid INTEGER NOT NULL REFERENCES nodes ON DELETE CASCADE,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (fileid, name)
    )
    """,
    """
    CREATE TABLE trash (
        user_id TEXT NOT NULL,
        name TEXT NOT NULL,
        location TEXT NOT NULL,
        deleted INTEGER NOT NULL,
        PRIMARY KEY (user_id, name)
    )
    """,
    """
    CREATE TABLE tags (
        tag_id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        is_visible INTEGER NOT NULL,
        is_assignable INTEGER NOT NULL,
        UNIQUE (name, is_visible, is_assignable)
    )
    """,
    """
    CREATE TABLE tagged (
        tag_id INTEGER NOT NULL REFERENCES tags ON DELETE CASCADE,
        fileid INTEGER NOT NULL REFERENCES nodes ON DELETE CASCADE,
        PRIMARY KEY (tag_id, fileid)
    )
    """,
    f"PRAGMA user_version = {_VERSION}",
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is stored about a file or folder.

    Args:
        fileid: its number; kept when it is moved, never given out again.
        favorite: whether its owner marked it.
        created: unix seconds that the uploader gave, 0 if none did.
        uploaded: unix seconds of the last upload, 0 for what was put there by hand.
        checksum: as the uploader gave it, for instance `MD5:0123`; never checked.
    """

    fileid: int
    favorite: bool
    created: int
    uploaded: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Trashed:
    """Where something in the trash came from.

    Args:
        name: its name in the trash.
        location: its path before, relative to the user's files.
        deleted: unix seconds.
    """

    name: str
    location: str
    deleted: int

    @property
    def filename(self) -> str:
        """Its name before."""
        return self.location.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag that all users share.

    Args:
        tag_id: its number.
        name: what is shown.
        is_visible: whether users see it; administrators always do.
        is_assignable: whether users may give it to files; administrators always may.
    """

    tag_id: int
    name: str
    is_visible: bool
    is_assignable: bool


class Index:
    """The database. Its methods block and may be called from any thread.

    Args:
        path: the file, made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._connection = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        with self.transaction():
            if self._connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in _SCHEMA:
                    self._connection.execute(statement)

    def close(self) -> None:
        """Close it."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; may be nested, then the outer one counts."""
        with self._lock:
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                if self._depth == 1:
                    self._connection.execute("ROLLBACK")
                raise
            else:
                if self._depth == 1:
                    self._connection.execute("COMMIT")
            finally:
                self._depth -= 1

    def _rows(self, statement: str, *values: object) -> list[sqlite3.Row]:
        with self._lock:
            cursor = self._connection.cursor()
            cursor.row_factory = sqlite3.Row
            return cursor.execute(statement, values).fetchall()

    # Entries

    def entry(self, user_id: str, path: str, *, area: str = FILES) -> Entry:
        """What is known of a path; it gets an id if it has none."""
        found = self._find(user_id, area, path)
        if found is not None:
            return found
        with self.transaction():
            self._rows(
                "INSERT OR IGNORE INTO nodes (user_id, area, path) VALUES (?, ?, ?)",
                user_id,
                area,
                path,
            )
            made = self._find(user_id, area, path)
        assert made is not None
        return made

    def entries(self, user_id: str, paths: Sequence[str], *, area: str = FILES) -> list[Entry]:
        """The same for many paths at once."""
        known = {
            path: entry for path in paths if (entry := self._find(user_id, area, path)) is not None
        }
        if len(known) < len(paths):
            with self.transaction():
                for path in paths:
                    if path not in known:
                        known[path] = self.entry(user_id, path, area=area)
        return [known[path] for path in paths]

    def _find(self, user_id: str, area: str, path: str) -> Entry | None:
        rows = self._rows(
            "SELECT * FROM nodes WHERE user_id = ? AND area = ? AND path = ?", user_id, area, path
        )
        return _entry(rows[0]) if rows else None

    def path_of(self, user_id: str, fileid: int) -> str | None:
        """The path of an id among the user's files, None if it is not there."""
        rows = self._rows(
            "SELECT path FROM nodes WHERE fileid = ? AND user_id = ? AND area = ?",
            fileid,
            user_id,
            FILES,
        )
        return str(rows[0]["path"]) if rows else None

    def change(self, fileid: int, **values: object) -> None:
        """Set columns of an entry, for instance `favorite=True`."""
        columns = ", ".join(f"{name} = ?" for name in values)
        self._rows(f"UPDATE nodes SET {columns} WHERE fileid = ?", *values.values(), fileid)

    def favorites(self, user_id: str) -> list[str]:
        """Paths of the user's favorites, sorted."""
        rows = self._rows(
            "SELECT path FROM nodes WHERE user_id = ? AND area = ? AND favorite ORDER BY path",
            user_id,
            FILES,
        )
        return [row["path"] for row in rows]

    def move(
        self, user_id: str, path: str, target: str, *, area: str = FILES, to_area: str = FILES
    ) -> None:
        """Follow a file or folder, with all that is in it, to another path."""
        with self.transaction():
            self.forget(user_id, target, area=to_area)
            self._rows(
                "UPDATE nodes SET area = ?, path = ? || substr(path, ?) "
                "WHERE user_id = ? AND area = ? AND (path = ? OR (path > ? AND path < ?))",
                to_area,
                target,
                len(path) + 1,
                user_id,
                area,
                *_subtree(path),
            )

    def forget(self, user_id: str, path: str, *, area: str = FILES) -> list[int]:
        """Drop what is known of a file or folder, and of all that is in it.

        Returns:
            Their ids.
        """
        condition = "user_id = ? AND area = ? AND (path = ? OR (path > ? AND path < ?))"
        values = (user_id, area, *_subtree(path))
        with self.transaction():
            rows = self._rows(f"SELECT fileid FROM nodes WHERE {condition}", *values)
            self._rows(f"DELETE FROM nodes WHERE {condition}", *values)
        return [row["fileid"] for row in rows]

    # Properties that clients set

    def properties(self, fileid: int) -> dict[str, str]:
        """Name in Clark notation → XML of the content."""
        rows = self._rows("SELECT name, value FROM properties WHERE fileid = ?", fileid)
        return {row["name"]: row["value"] for row in rows}

    def set_property(self, fileid: int, name: str, value: str | None) -> None:
        """Store one, or remove it."""
        if value is None:
            self._rows("DELETE FROM properties WHERE fileid = ? AND name = ?", fileid, name)
        else:
            self._rows("REPLACE INTO properties VALUES (?, ?, ?)", fileid, name, value)

    # Trash

    def add_trashed(self, user_id: str, trashed: Trashed) -> None:
        """Note where something in the trash came from."""
        self._rows(
            "REPLACE INTO trash VALUES (?, ?, ?, ?)",
            user_id,
            trashed.name,
            trashed.location,
            trashed.deleted,
        )

    def trashed(self, user_id: str, name: str) -> Trashed | None:
        """Where something in the trash came from, None if nobody noted it."""
        rows = self._rows("SELECT * FROM trash WHERE user_id = ? AND name = ?", user_id, name)
        return Trashed(rows[0]["name"], rows[0]["location"], rows[0]["deleted"]) if rows else None

    def forget_trashed(self, user_id: str, name: str) -> None:
        """It left the trash."""
        self._rows("DELETE FROM trash WHERE user_id = ? AND name = ?", user_id, name)

    def forget_trash(self, user_id: str) -> None:
        """Nothing of the user's is in the trash any more."""
        self._rows("DELETE FROM trash WHERE user_id = ?", user_id)

    # Tags

    def tags(self) -> list[Tag]:
        """All tags, in the order of their numbers."""
        return [_tag(row) for row in self._rows("SELECT * FROM tags ORDER BY tag_id")]

    def tag(self, tag_id: int) -> Tag | None:
        """The tag of that number."""
        rows = self._rows("SELECT * FROM tags WHERE tag_id = ?", tag_id)
        return _tag(rows[0]) if rows else None

    def add_tag(self, name: str, *, is_visible: bool, is_assignable: bool) -> Tag:
        """Make a tag.

        Raises:
            Refusal: there is one like that.
        """

        def add() -> int:
            self._rows(
                "INSERT INTO tags (name, is_visible, is_assignable) VALUES (?, ?, ?)",
                name,
                is_visible,
                is_assignable,
            )
            return int(self._rows("SELECT last_insert_rowid() AS tag_id")[0]["tag_id"])

        return Tag(self._unique(add), name, is_visible, is_assignable)

    def change_tag(self, tag: Tag) -> None:
        """Store a tag that is there already.

        Raises:
            Refusal: there is another one like that.
        """
        self._unique(
            lambda: self._rows(
                "UPDATE tags SET name = ?, is_visible = ?, is_assignable = ? WHERE tag_id = ?",
                tag.name,
                tag.is_visible,
                tag.is_assignable,
                tag.tag_id,
            )
        )

    def _unique(self, write: Callable[[], T]) -> T:
        try:
            with self.transaction():
                return write()
        except sqlite3.IntegrityError:
            raise Refusal(409, "Tag already exists") from None

    def remove_tag(self, tag_id: int) -> None:
        """Delete a tag; no file has it any more."""
        self._rows("DELETE FROM tags WHERE tag_id = ?", tag_id)

    def tags_of(self, fileid: int) -> list[Tag]:
        """The tags of a file."""
        return [
            _tag(row)
            for row in self._rows(
                "SELECT tags.* FROM tags JOIN tagged USING (tag_id) WHERE fileid = ? "
                "ORDER BY tag_id",
                fileid,
            )
        ]

    def paths_tagged(self, user_id: str, tag_id: int) -> list[str]:
        """Paths of the user's files that have a tag, sorted."""
        rows = self._rows(
            "SELECT path FROM nodes JOIN tagged USING (fileid) "
            "WHERE tag_id = ? AND user_id = ? AND area = ? ORDER BY path",
            tag_id,
            user_id,
            FILES,
        )
        return [row["path"] for row in rows]

    def set_tagged(self, tag_id: int, fileid: int, *, is_tagged: bool) -> bool:
        """Give a tag to a file or take it away; False if nothing was to be done."""
        with self.transaction():
            before = any(tag.tag_id == tag_id for tag in self.tags_of(fileid))
            if is_tagged and not before:
                self._rows("INSERT INTO tagged VALUES (?, ?)", tag_id, fileid)
            elif before and not is_tagged:
                self._rows("DELETE FROM tagged WHERE tag_id = ? AND fileid = ?", tag_id, fileid)
        return before is not is_tagged


def _subtree(path: str) -> tuple[str, str, str]:
    """Bounds of a path and what is below it: `/` sorts right in front of `0`."""
    return (path, f"{path}/" if path else "", f"{path}0" if path else "\U0010ffff")


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(
        row["fileid"], bool(row["favorite"]), row["created"], row["uploaded"], row["checksum"]
    )


def _tag(row: sqlite3.Row) -> Tag:
    return Tag(row["tag_id"], row["name"], bool(row["is_visible"]), bool(row["is_assignable"]))
