"""Files and folders of a user as resources: what is read, written, moved and set on them."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import BinaryIO, Final
from urllib.parse import quote

from wsgidav.dav_error import DAVError
from wsgidav.dav_provider import DAVCollection, DAVNonCollection

from appapi_host.files import happenings
from appapi_host.files.disk import Part
from appapi_host.files.nodes import Node
from appapi_host.files.properties import FILE_PROPERTIES
from appapi_host.files.refusals import Refusal
from appapi_host.files.resources import Resource, Stored
from appapi_host.files.work import Environ, Target, Work, work_of
from appapi_host.files.xml import DAV, NC, OC, Element, Fragment, Value, content_of, text_of

__all__ = [
    "FileResource",
    "FolderResource",
    "NodeResource",
    "file_target",
    "free_target",
    "node_resource",
]

_FALSE: Final = frozenset({"", "0", "false"})


class NodeResource(Resource):
    """A file or folder of the user."""

    node: Node

    def value(self, name: str) -> Value | None:
        """A property of the file, or one that a client stored."""
        find = FILE_PROPERTIES.get(name)
        if find is not None:
            return find(self.node, self.work.store, self.work.owner)
        stored = self._stored.get(name)
        return None if stored is None else Fragment(stored)

    @cached_property
    def _stored(self) -> dict[str, str]:
        """What clients stored, read once for all that an answer says of this file."""
        return self.work.store.index.properties(self.node.fileid)

    def property_names(self) -> list[str]:
        """Those that the server knows, and those that clients stored."""
        live = [
            name
            for name, find in FILE_PROPERTIES.items()
            if find(self.node, self.work.store, self.work.owner) is not None
        ]
        return [*live, *(name for name in self._stored if name not in FILE_PROPERTIES)]

    def get_etag(self) -> str:
        """Changes with the content, that of a folder with anything in it."""
        return self.node.etag

    def get_last_modified(self) -> float:
        """Unix seconds."""
        return self.node.mtime

    def support_etag(self) -> bool:
        """Yes."""
        return True

    def remove(self) -> None:
        """Move it to the trash."""
        self.work.store.delete(self.node, skip_trash=self.work.skip_trash)

    def move_to(self, target: Target) -> bool:
        """Give it another path."""
        names, present = self._target(target)
        store, user_id = self.work.store, self.work.owner.user_id
        self.work.announce(store.move(self.node, user_id, names))
        return present is None

    def copy_to(self, target: Target) -> bool:
        """Copy it to another path."""
        names, present = self._target(target)
        store, user_id = self.work.store, self.work.owner.user_id
        self.work.announce(store.copy(self.node, user_id, names, shallow=target.is_shallow))
        return present is None

    def _target(self, target: Target) -> tuple[tuple[str, ...], Node | None]:
        names = file_target(self.work, target)
        own = self.names[2:]
        if names == own:
            raise Refusal(403, "Source and destination uri are identical.")
        if names[: len(own)] == own:
            raise Refusal(
                409,
                "The destination may not be part of the same subtree as the source path.",
            )
        present = free_target(self.work, names, target)
        if own[: len(names)] == names:
            raise Refusal(409, "The destination may not contain the source.")
        return names, present

    def set_property_value(
        self, name: str, value: Element | None, *, dry_run: bool = False
    ) -> None:
        """Store or remove a property; called by the library twice, first to see whether it may."""
        change = _CHANGES.get(name)
        if change is None:
            if name in FILE_PROPERTIES:
                raise DAVError(403, f"{name} is protected")
            change = _store_property
        change(self, name, value, dry_run)


def file_target(work: Work, target: Target) -> tuple[str, ...]:
    """The path among the user's files that a target names.

    Raises:
        Refusal: it is elsewhere.
    """
    if len(target.names) < 3 or target.names[:2] != ("files", work.owner.user_id):
        raise Refusal(403, "The destination is not among the files of the user")
    return target.names[2:]


def free_target(work: Work, names: tuple[str, ...], target: Target) -> Node | None:
    """What is at a target and may be replaced, None if nothing is.

    Raises:
        Refusal: it may not be replaced, or has no place to be.
    """
    store, user_id = work.store, work.owner.user_id
    parent = store.find(user_id, names[:-1])
    if parent is None or not parent.is_folder:
        raise Refusal(409, "The destination node is not found")
    present = store.find(user_id, names)
    if present is not None and not target.overwrite:
        raise Refusal(
            412, "The destination node already exists, and the overwrite header is set to false"
        )
    return present


# The flag is WsgiDAV's `dry_run`: look whether it can be done, and change nothing.
Change = Callable[[NodeResource, str, "Element | None", bool], None]


def _set_favorite(resource: NodeResource, name: str, value: Element | None, dry_run: bool) -> None:  # noqa: FBT001
    if not dry_run:
        favorite = text_of(value).lower() not in _FALSE
        resource.work.store.index.change(resource.node.fileid, favorite=favorite)


def _set_mtime(resource: NodeResource, name: str, value: Element | None, dry_run: bool) -> None:  # noqa: FBT001
    seconds = _seconds(name, value)
    if not dry_run:
        node = resource.node
        resource.work.store.set_times(node, seconds)
        resource.work.store.tell(happenings.touched(node.user_id, node.path, node.fileid))


def _set_created(resource: NodeResource, name: str, value: Element | None, dry_run: bool) -> None:  # noqa: FBT001
    seconds = _seconds(name, value)
    if not dry_run:
        resource.work.store.index.change(resource.node.fileid, created=seconds)


def _seconds(name: str, value: Element | None) -> int:
    text = text_of(value)
    if not text.isdecimal() or len(text) > 11:
        raise DAVError(409, f"{name} takes unix seconds")
    return int(text)


def _store_property(
    resource: NodeResource,
    name: str,
    value: Element | None,
    dry_run: bool,  # noqa: FBT001
) -> None:
    content = None if value is None else content_of(value)
    if content is not None and len(content) > MAX_PROPERTY_CHARACTERS:
        raise DAVError(507, f"{name} is too long")
    if not dry_run:
        resource.work.store.index.set_property(resource.node.fileid, name, content)


MAX_PROPERTY_CHARACTERS: Final = 64 * 1024

_CHANGES: Final[Mapping[str, Change]] = {
    f"{OC}favorite": _set_favorite,
    f"{OC}tags": _store_property,
    f"{DAV}lastmodified": _set_mtime,
    f"{DAV}getlastmodified": _set_mtime,
    f"{DAV}creationdate": _set_created,
    f"{NC}creation_time": _set_created,
}
"""Properties that the server knows and clients may change."""


class FileResource(NodeResource, Stored, DAVNonCollection):
    """A file of the user, or one that is about to be uploaded.

    Args:
        environ: the request.
        names: its path.
        node: None for one that is about to be uploaded.
    """

    def __init__(self, environ: Environ, names: tuple[str, ...], node: Node | None) -> None:
        super().__init__("/" + "/".join(names), environ)
        self.work = work_of(environ)
        self.names = names
        if node is not None:
            self.node = node

    def store_part(self, part: Part) -> None:
        """Make it the content of the file."""
        upload = self.work.upload
        self.node = self.work.store.commit(
            part,
            self.work.owner.user_id,
            self.names[2:],
            mtime=upload.mtime,
            created=upload.created,
            checksum=upload.checksum,
        )
        self.work.announce(self.node)
        self.work.accept_times()

    # What the library asks before and while it sends the content.

    def get_content_length(self) -> int:
        """Bytes."""
        return self.node.size

    def get_content_type(self) -> str:
        """Media type."""
        return self.node.mime

    def support_ranges(self) -> bool:
        """Yes."""
        return True

    def get_content(self) -> BinaryIO:
        """The content."""
        node = self.node
        self.work.store.tell(happenings.read(node.user_id, node.path, node.fileid))
        return self.work.store.open(node)

    def finalize_headers(self, environ: Environ, headers: list[tuple[str, str]]) -> None:
        """Make a browser save what users uploaded: shown, it would run as a page of this host."""
        name = quote(self.node.name, safe="")
        plain = "".join(c if " " <= c < "\x7f" and c not in '"\\' else "_" for c in self.node.name)
        headers.append(
            ("Content-Disposition", f"attachment; filename*=UTF-8''{name}; filename=\"{plain}\"")
        )
        headers.append(("OC-ETag", f'"{self.node.etag}"'))


class FolderResource(NodeResource, DAVCollection):
    """A folder of the user.

    Args:
        environ: the request.
        names: its path.
        node: the folder.
    """

    def __init__(self, environ: Environ, names: tuple[str, ...], node: Node) -> None:
        super().__init__("/" + "/".join(names), environ)
        self.work = work_of(environ)
        self.names = names
        self.node = node

    def members(self) -> Iterator[Resource]:
        """Files and folders in it."""
        for child in self.work.store.children(self.node):
            yield node_resource(self.environ, (*self.names, child.name), child)

    def create_empty_resource(self, name: str) -> FileResource:
        """A file that is about to be uploaded."""
        return FileResource(self.environ, (*self.names, name), None)

    def create_collection(self, name: str) -> None:
        """Make a folder in it."""
        store, user_id = self.work.store, self.work.owner.user_id
        node = store.make_folder(user_id, (*self.names[2:], name))
        if self.work.upload.mtime is not None:
            store.set_times(node, self.work.upload.mtime)
        self.work.announce(node)
        self.work.accept_times()


def node_resource(environ: Environ, names: tuple[str, ...], node: Node) -> NodeResource:
    """The resource of a file or folder."""
    kind = FolderResource if node.is_folder else FileResource
    return kind(environ, names, node)
