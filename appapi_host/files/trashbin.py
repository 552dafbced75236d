"""The trash: what was deleted, and its way back.

Source: Nextcloud developer manual, Trashbin.
"""

from collections.abc import Iterator
from typing import BinaryIO, ClassVar, Final

from wsgidav.dav_provider import DAVCollection, DAVNonCollection

from appapi_host.files.index import TRASH
from appapi_host.files.nodes import Node
from appapi_host.files.properties import DEFAULT, http_date
from appapi_host.files.refusals import Refusal
from appapi_host.files.resources import Collection, Resource
from appapi_host.files.work import Environ, Target, work_of
from appapi_host.files.xml import DAV, NC, OC, Value

__all__ = [
    "Trash",
    "TrashedFile",
    "TrashedFolder",
    "TrashedResource",
    "find_trashed",
    "trashed_resource",
]

PERMISSIONS: Final = "GD"
"""What can be done with something in the trash: read and delete."""

RESTORE: Final = "restore"


class Trash(Collection):
    """All that was deleted."""

    def members(self) -> Iterator[Resource]:
        """The latest first."""
        for node, _ in self.work.store.trashed(self.work.owner.user_id):
            yield trashed_resource(self.environ, (*self.names, node.name), node)

    def remove(self) -> None:
        """Empty the trash."""
        for node, _ in self.work.store.trashed(self.work.owner.user_id):
            self.work.store.erase_trashed(node)


class TrashedResource(Resource):
    """Something that was deleted, or is in a folder that was."""

    node: Node
    defaults: ClassVar[tuple[str, ...]] = (*DEFAULT, f"{NC}trashbin-filename")

    def value(self, name: str) -> Value | None:
        """A property."""
        node = self.node
        if name == f"{DAV}getcontentlength":
            return None if node.is_folder else str(node.size)
        if name == f"{DAV}getcontenttype":
            return None if node.is_folder else node.mime
        if name == f"{DAV}displayname":
            return self.work.store.origin(node).filename if len(node.names) == 1 else node.name
        simple = {
            f"{DAV}getlastmodified": http_date(node.mtime),
            f"{DAV}getetag": str(node.mtime),
            f"{OC}id": str(node.fileid),
            f"{OC}fileid": str(node.fileid),
            f"{OC}permissions": PERMISSIONS,
            f"{NC}has-preview": "false",
        }
        if name in simple:
            return simple[name]
        if name == f"{OC}size":
            return str(node.size)
        if name.startswith(f"{NC}trashbin-"):
            return self._origin(name.removeprefix(f"{NC}trashbin-"))
        return super().value(name)

    def _origin(self, name: str) -> str | None:
        origin = self.work.store.origin(self.node)
        inside = self.node.names[1:]
        return {
            "filename": inside[-1] if inside else origin.filename,
            "title": inside[-1] if inside else origin.filename,
            "original-location": "/".join((origin.location, *inside)),
            "deletion-time": str(origin.deleted),
        }.get(name)

    def remove(self) -> None:
        """Delete it for good."""
        self.work.store.erase_trashed(self.node)

    def move_to(self, target: Target) -> bool:
        """Restore it: where it is moved says only that."""
        user_id = self.work.owner.user_id
        if len(self.node.names) > 1 or target.names[:3] != ("trashbin", user_id, RESTORE):
            raise Refusal(403, "The trash can only be restored, as a whole item")
        self.work.store.restore(user_id, self.work.store.origin(self.node))
        return True


class TrashedFile(TrashedResource, DAVNonCollection):
    """A file in the trash."""

    def __init__(self, environ: Environ, names: tuple[str, ...], node: Node) -> None:
        super().__init__("/" + "/".join(names), environ)
        self.work, self.names, self.node = work_of(environ), names, node

    def get_content_length(self) -> int:
        """Bytes."""
        return self.node.size

    def get_content_type(self) -> str:
        """Always that, whatever it was: it is not to be shown."""
        return "application/octet-stream"

    def get_last_modified(self) -> float:
        """Unix seconds."""
        return self.node.mtime

    def get_etag(self) -> str:
        """Changes with the content."""
        return self.node.etag

    def support_etag(self) -> bool:
        """Yes."""
        return True

    def support_ranges(self) -> bool:
        """Yes."""
        return True

    def get_content(self) -> BinaryIO:
        """The content."""
        return self.work.store.open(self.node)


class TrashedFolder(TrashedResource, DAVCollection):
    """A folder in the trash."""

    def __init__(self, environ: Environ, names: tuple[str, ...], node: Node) -> None:
        super().__init__("/" + "/".join(names), environ)
        self.work, self.names, self.node = work_of(environ), names, node

    def members(self) -> Iterator[Resource]:
        """What was in it."""
        for child in self.work.store.children(self.node):
            yield trashed_resource(self.environ, (*self.names, child.name), child)


def trashed_resource(environ: Environ, names: tuple[str, ...], node: Node) -> TrashedResource:
    """The resource of something in the trash."""
    kind = TrashedFolder if node.is_folder else TrashedFile
    return kind(environ, names, node)


def find_trashed(environ: Environ, names: tuple[str, ...]) -> Resource | None:
    """What is at a path below `/trashbin/{user}`, None if nothing is."""
    if len(names) == 2:
        return Collection(
            environ,
            names,
            lambda: iter(
                (Trash(environ, (*names, "trash")), Collection(environ, (*names, RESTORE)))
            ),
        )
    if names[2] == RESTORE:
        return Collection(environ, names) if len(names) == 3 else None
    if names[2] != "trash":
        return None
    if len(names) == 3:
        return Trash(environ, names)
    work = work_of(environ)
    node = work.store.find(work.owner.user_id, names[3:], area=TRASH)
    return None if node is None else trashed_resource(environ, names, node)
