"""Files and folders as values, and the names that they may have."""

import hashlib
import mimetypes
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from appapi_host.files.index import FILES, Entry
from appapi_host.files.refusals import Refusal

__all__ = ["FOLDER_TYPE", "MAX_NAME", "Node", "check_new", "not_found", "split_path"]

FOLDER_TYPE: Final = "httpd/unix-directory"
"""The media type that the real server gives to folders."""

_MAX_DEPTH: Final = 250
MAX_NAME: Final = 250
_MAX_NAME_BYTES: Final = 255
_FORBIDDEN_NAMES: Final = frozenset({".htaccess"})
_FORBIDDEN_ENDINGS: Final = (".part", ".filepart")


Sums = dict[str, tuple[int, int, int]]
"""Path of a folder → bytes, number and sum of the times (in nanoseconds) of all that is in it."""


def split_path(path: str) -> tuple[str, ...]:
    """The names of a path, as clients and tests write it.

    Raises:
        Refusal: a name that no file can have, or one that leads elsewhere.
    """
    names = tuple(name for name in path.split("/") if name)
    if len(names) > _MAX_DEPTH:
        raise _invalid("The path has too many folders in it")
    for name in names:
        if name in (".", "..") or "\0" in name:
            raise _invalid(f"{name!r} is no name of a file")
        try:
            encoded = name.encode()
        except UnicodeEncodeError:
            raise _invalid("the name is no valid text") from None
        if len(encoded) > _MAX_NAME_BYTES or len(name) > MAX_NAME:
            raise _invalid("File name is too long")
    return names


def check_new(name: str) -> None:
    """Refuse names that the real server gives to no new file, whatever the disk could hold."""
    if name.strip() in ("", ".", ".."):
        raise _invalid("Filename can not be blank or dots")
    lowered = name.lower()
    if lowered in _FORBIDDEN_NAMES:
        raise _invalid(f"{name!r} is a forbidden file or folder name.")
    if lowered.endswith(_FORBIDDEN_ENDINGS):
        raise _invalid(f"{name!r} has a forbidden file type, see the list of them.")
    if "\\" in name:
        raise _invalid('"\\" is not allowed inside a file or folder name.')
    if any(ord(character) < 32 for character in name):
        raise _invalid("control characters are not allowed inside a file or folder name.")


def _invalid(message: str) -> Refusal:
    return Refusal(400, message, exception="OCA\\DAV\\Connector\\Sabre\\Exception\\InvalidPath")


def not_found(names: Sequence[str]) -> Refusal:
    """There is nothing at a path."""
    return Refusal(404, f"File with name {'/'.join(('', *names))} could not be located")


@dataclass(frozen=True)
class Node:
    """A file or folder of a user.

    Args:
        user_id: whose it is.
        names: its path, empty for the user's folder itself.
        place: where it is on the disk.
        stat: what the disk knows.
        entry: what the index knows.
        area: `files` or `trash`.
        sums: what lies below folders that were looked at for the same request. Shared by a node and
            its children, so that a listing of a deep tree looks at each folder once.
    """

    user_id: str
    names: tuple[str, ...]
    place: Path
    stat: os.stat_result
    entry: Entry
    area: str = FILES
    sums: "Sums" = field(default_factory=dict, compare=False, repr=False)

    @property
    def path(self) -> str:
        """Relative to the user's files, without slashes at its ends."""
        return "/".join(self.names)

    @property
    def name(self) -> str:
        """The last part of the path; empty for the user's folder itself."""
        return self.names[-1] if self.names else ""

    @property
    def fileid(self) -> int:
        """Its number, which it keeps when it is moved."""
        return self.entry.fileid

    @property
    def is_folder(self) -> bool:
        """Folder or file."""
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def mtime(self) -> int:
        """When it was changed, in unix seconds."""
        return int(self.stat.st_mtime)

    @property
    def mime(self) -> str:
        """Its media type, by its name."""
        if self.is_folder:
            return FOLDER_TYPE
        return mimetypes.guess_type(self.name)[0] or "application/octet-stream"

    @cached_property
    def size(self) -> int:
        """Bytes, of a folder those of all files in it."""
        return self._content[0]

    @cached_property
    def etag(self) -> str:
        """Changes with the content, of a folder with anything in it; without quotes."""
        length = 13 if self.is_folder else 32
        return hashlib.md5(self._content[1].encode(), usedforsecurity=False).hexdigest()[:length]

    @cached_property
    def _content(self) -> tuple[int, str]:
        """Size, and what tells this content from any other."""
        if not self.is_folder:
            found = self.stat
            size = found.st_size
            return size, f"{self.fileid} {size} {found.st_mtime_ns} {found.st_ino}"
        size, count, times = _sums(str(self.place), self.sums)
        return size, f"{self.fileid} {size} {count} {times + self.stat.st_mtime_ns}"


def _sums(place: str, known: Sums) -> tuple[int, int, int]:
    """The sums of a folder, after those of folders in it; what vanishes meanwhile is left out."""
    if place in known:
        return known[place]
    # Without recursion: folders may be nested deeper than Python's functions.
    folders: list[tuple[str, list[int], list[str]]] = []
    left = [place]
    while left:
        folder = left.pop()
        own, inner = [0, 0, 0], []
        for path, status in _listed(folder):
            own[1] += 1
            own[2] += status.st_mtime_ns
            if stat.S_ISREG(status.st_mode):
                own[0] += status.st_size
            else:
                inner.append(path)
                if path not in known:
                    left.append(path)
        folders.append((folder, own, inner))
    for folder, own, inner in reversed(folders):  # the inner ones were looked at later
        size, count, times = own
        for path in inner:
            size, count, times = (
                mine + its for mine, its in zip((size, count, times), known[path], strict=True)
            )
        known[folder] = size, count, times
    return known[place]


def _listed(folder: str) -> list[tuple[str, os.stat_result]]:
    """The files and folders in a folder."""
    try:
        items = list(os.scandir(folder))
    except OSError:
        return []
    found = []
    for item in items:
        try:
            status = item.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode):
            found.append((item.path, status))
    return found
