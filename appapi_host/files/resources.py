"""What can stand behind a path: the part that all kinds of resources share, and the files.

The library knows a resource as something with content or members; what Nextcloud adds to that (its
properties, MOVE and DELETE that mean more than moving and deleting) are methods here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, BinaryIO, ClassVar, Final
from urllib.parse import quote

from wsgidav.dav_error import DAVError
from wsgidav.dav_provider import DAVCollection, DAVNonCollection

from appapi_host.files import happenings
from appapi_host.files.disk import Part
from appapi_host.files.nodes import Node
from appapi_host.files.properties import DEFAULT, FILE_PROPERTIES, Owner, file_id
from appapi_host.files.refusals import Refusal
from appapi_host.files.store import Store
from appapi_host.files.xml import DAV, NC, OC, Element, Fragment, Value, content_of, text_of

__all__ = [
    "Collection",
    "FileResource",
    "FolderResource",
    "NodeResource",
    "Resource",
    "Stored",
    "Target",
    "Upload",
    "Work",
    "file_target",
    "free_target",
    "is_number",
    "node_resource",
    "own_resource",
    "quoted",
]

Environ = dict[str, Any]

_FALSE: Final = frozenset({"", "0", "false"})


def quoted(path: str) -> str:
    """A path in a URL, as the real server quotes it: in lower case."""
    pieces = quote(path, safe="/~()").split("%")
    return "%".join([pieces[0], *(f"{piece[:2].lower()}{piece[2:]}" for piece in pieces[1:])])


def is_number(text: str) -> bool:
    """Whether a part of a path is a number that the index can hold."""
    return text.isascii() and text.isdecimal() and len(text) < 19


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


class Resource:
    """What all kinds have in common.

    Attributes:
        work: the request.
        names: path below the root of all resources.
        is_collection: whether it has members.
    """

    work: Work
    names: tuple[str, ...]
    is_collection: bool
    defaults: ClassVar[tuple[str, ...]] = DEFAULT

    def get_href(self) -> str:
        """Its path in answers."""
        return self.work.href(self.names, is_folder=self.is_collection)

    def get_ref_url(self) -> str:
        """The same for the library, which compares conditions with it."""
        return self.get_href()

    def value(self, name: str) -> Value | None:
        """A property, None if it has none of that name."""
        if name == f"{DAV}resourcetype":
            return Fragment("<d:collection/>") if self.is_collection else ""
        return None

    def property_names(self) -> list[str]:
        """The names of all its properties."""
        return [name for name in self.defaults if self.value(name) is not None]

    def members(self) -> "Iterator[Resource]":
        """What is directly in it."""
        return iter(())

    def get_member_names(self) -> list[str]:
        """The names of its members."""
        return [member.names[-1] for member in self.members()]

    def descendants(self, depth: str) -> "Iterator[Resource]":
        """The resource, with depth `1` its members, with `infinity` all that is in it."""
        left: list[Iterator[Resource]] = [iter((self,))]
        while left:
            found = next(left[-1], None)
            if found is None:
                left.pop()
                continue
            yield found
            if depth == "infinity" or (depth == "1" and found is self):
                left.append(found.members())

    def remove(self) -> None:
        """Delete it."""
        raise Refusal(403, "This cannot be deleted")

    def move_to(self, target: Target) -> bool:
        """Move it; says whether something new was made."""
        raise Refusal(403, "This cannot be moved there")

    def copy_to(self, target: Target) -> bool:
        """Copy it; says whether something new was made."""
        raise Refusal(403, "This cannot be copied")

    def post(self, body: bytes, content_type: str) -> int:
        """Take what is posted to it; returns the status."""
        raise Refusal(
            501, "There was no plugin in the system that was willing to handle this POST method."
        )

    def put_relation(self) -> int:
        """Take an upload of nothing, which stands for a relation; returns the status."""
        raise Refusal(405, "This takes no content")


def own_resource(environ: Environ) -> Work:
    """The request that a resource of the library belongs to."""
    work = environ["appapi_host.work"]
    assert isinstance(work, Work)
    return work


class Collection(Resource, DAVCollection):
    """Something with members, which may have been given as functions.

    Args:
        environ: the request.
        names: its path.
        members: makes them.
    """

    def __init__(
        self,
        environ: Environ,
        names: tuple[str, ...],
        members: Callable[[], Iterator[Resource]] = lambda: iter(()),
    ) -> None:
        super().__init__("/" + "/".join(names), environ)
        self.work = own_resource(environ)
        self.names = names
        self._members = members

    def members(self) -> Iterator[Resource]:
        """What is directly in it."""
        return self._members()


class Stored:
    """Content that arrives: what the library calls for a `PUT`."""

    work: Work

    def begin_write(self, *, content_type: str | None = None) -> Part:
        """A place for the content."""
        self._part = self.work.part()
        return self._part

    def end_write(self, *, with_errors: bool) -> None:
        """All is there, or something went wrong."""
        if with_errors:
            return  # the part is removed with the request
        expected = self.work.upload.length
        if expected is not None and expected != self._part.size:
            raise Refusal(
                400,
                f"Expected filesize of {expected} bytes but read (from Nextcloud client) and wrote "
                f"(to Nextcloud storage) {self._part.size} bytes.",
            )
        self.store_part(self._part)

    def store_part(self, part: Part) -> None:
        """Make it what it is to be."""
        raise NotImplementedError


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
        self.work = own_resource(environ)
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

    def get_etag(self) -> str:
        """Changes with the content."""
        return self.node.etag

    def get_last_modified(self) -> float:
        """Unix seconds."""
        return self.node.mtime

    def support_etag(self) -> bool:
        """Yes."""
        return True

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
        self.work = own_resource(environ)
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

    def get_etag(self) -> str:
        """Changes with anything in it."""
        return self.node.etag

    def get_last_modified(self) -> float:
        """Unix seconds."""
        return self.node.mtime

    def support_etag(self) -> bool:
        """Yes."""
        return True


def node_resource(environ: Environ, names: tuple[str, ...], node: Node) -> NodeResource:
    """The resource of a file or folder."""
    kind = FolderResource if node.is_folder else FileResource
    return kind(environ, names, node)
