"""One request for files while it is being answered: who asks, what they send, what they are told.

It knows nothing of what stands behind a path, and everything that does knows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from appapi_host.files.disk import Part
from appapi_host.files.nodes import Node
from appapi_host.files.properties import Owner, file_id
from appapi_host.files.store import Store

__all__ = ["Environ", "Target", "Upload", "Work", "quoted", "work_of"]

Environ = dict[str, Any]


def quoted(path: str) -> str:
    """A path in a URL, as the real server quotes it: in lower case."""
    pieces = quote(path, safe="/~()").split("%")
    return "%".join([pieces[0], *(f"{piece[:2].lower()}{piece[2:]}" for piece in pieces[1:])])


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client wants something to be moved or copied.

    Args:
        names: path below the root of all resources, for instance `("files", "admin", "a.txt")`.
        overwrite: whether what is there may be replaced.
        is_shallow: a folder without what is in it.
    """

    names: tuple[str, ...]
    overwrite: bool
    is_shallow: bool = False


@dataclass(frozen=True, slots=True)
class Upload:
    """What the headers of an upload say.

    Args:
        mtime: when the content was changed, unix seconds.
        created: when it was made, unix seconds.
        checksum: of the content; kept, not checked.
        length: bytes that will come, None if the client does not know.
        total: bytes of all pieces together.
    """

    mtime: float | None = None
    created: int | None = None
    checksum: str = ""
    length: int | None = None
    total: int | None = None


@dataclass(slots=True)
class Work:
    """One request while it is being answered.

    Args:
        store: all files.
        owner: who asks; nobody reaches the files of others.
        is_admin: whether they administrate this host.
        base: the part of the URL in front of the path.
        upload: what the headers say of the content.
        is_legacy: the path has no user in it, because there is only one root.
        skip_trash: what is deleted is gone.
        headers: additional headers of the answer.
        parts: content that is on its way; what did not become a file is removed in the end.
    """

    store: Store
    owner: Owner
    is_admin: bool
    base: str
    upload: Upload = field(default_factory=Upload)
    is_legacy: bool = False
    skip_trash: bool = False
    headers: list[tuple[str, str]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    def href(self, names: Sequence[str], *, is_folder: bool) -> str:
        """The quoted path of a resource in answers."""
        shown = names[2:] if self.is_legacy else names
        path = "/".join((self.base, *shown))
        return quoted(f"{path}/" if is_folder else path)

    def part(self) -> Part:
        """A place for content of this user."""
        part = self.store.part(self.owner.user_id)
        self.parts.append(part)
        return part

    def announce(self, node: Node) -> None:
        """Tell the client the id and the etag of what it made."""
        self.headers.append(("OC-FileId", file_id(node, self.store)))
        self.headers.append(("OC-ETag", f'"{node.etag}"'))

    def accept_times(self) -> None:
        """Tell the client that its times were taken."""
        if self.upload.mtime is not None:
            self.headers.append(("X-OC-MTime", "accepted"))
        if self.upload.created is not None:
            self.headers.append(("X-OC-CTime", "accepted"))


def work_of(environ: Environ) -> Work:
    """What the library hands around, as our own part of it."""
    work = environ["appapi_host.work"]
    assert isinstance(work, Work)
    return work
