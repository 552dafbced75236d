"""The properties of files: name → how it is found out.

Source: Nextcloud developer manual, WebDAV, Supported properties.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Final
from xml.sax.saxutils import escape

from appapi_host.files.nodes import Node
from appapi_host.files.store import Store
from appapi_host.files.xml import DAV, NC, OC, Fragment, Value

__all__ = ["DEFAULT", "FILE_PROPERTIES", "Owner", "file_id", "http_date"]

OCS: Final = "{http://open-collaboration-services.org/ns}"
OCM: Final = "{http://open-cloud-mesh.org/ns}"

PERMISSIONS_OF_FILE: Final = "RGDNVW"
PERMISSIONS_OF_FOLDER: Final = "RGDNVCK"
"""Shareable, readable, deletable, renameable, movable; writable, or files and folders can be made.
Users own all their files here."""

UNLIMITED: Final = "-3"
"""Free space without a quota."""

DEFAULT: Final = (
    f"{DAV}getlastmodified",
    f"{DAV}getcontentlength",
    f"{DAV}resourcetype",
    f"{DAV}quota-used-bytes",
    f"{DAV}quota-available-bytes",
    f"{DAV}getetag",
    f"{DAV}getcontenttype",
)
"""What is answered to a client that does not say what it wants."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose files are shown.

    Args:
        user_id: their id.
        display_name: how people call them.
    """

    user_id: str
    display_name: str


Find = Callable[[Node, Store, Owner], "Value | None"]


def http_date(seconds: float) -> str:
    """A time as headers have it."""
    return formatdate(seconds, usegmt=True)


def file_id(node: Node, store: Store) -> str:
    """The id of a file that no other server has: `00000123ocabcdefghij`."""
    return f"{node.fileid:08d}{store.instance_id}"


def _of_file(value: Callable[[Node], Value]) -> Find:
    return lambda node, _store, _owner: None if node.is_folder else value(node)


def _of_folder(value: Callable[[Node, Store], Value]) -> Find:
    return lambda node, store, _owner: value(node, store) if node.is_folder else None


def _of_all(value: Callable[[Node], Value]) -> Find:
    return lambda node, _store, _owner: value(node)


def _constant(value: Value) -> Find:
    return lambda _node, _store, _owner: value


def _tags(node: Node, store: Store, owner: Owner) -> Value:
    """Tags that the user gave, as the client stored them."""
    return Fragment(store.index.properties(node.fileid).get(f"{OC}tags", ""))


def _system_tags(node: Node, store: Store, owner: Owner) -> Value:
    return Fragment(
        "".join(
            f'<nc:system-tag oc:id="{tag.tag_id}" oc:can-assign="{str(tag.is_assignable).lower()}" '
            f'oc:user-assignable="{str(tag.is_assignable).lower()}" '
            f'oc:user-visible="{str(tag.is_visible).lower()}">{escape(tag.name)}</nc:system-tag>'
            for tag in store.index.tags_of(node.fileid)
            if tag.is_visible
        )
    )


def _checksums(node: Node, store: Store, owner: Owner) -> Value | None:
    if node.is_folder or not node.entry.checksum:
        return None
    return Fragment(f"<oc:checksum>{escape(node.entry.checksum)}</oc:checksum>")


def _count(node: Node, store: Store, *, folders: bool) -> str:
    return str(sum(child.is_folder is folders for child in store.children(node)))


def _lock_entry(scope: str) -> str:
    return (
        f"<d:lockentry><d:lockscope><d:{scope}/></d:lockscope>"
        "<d:locktype><d:write/></d:locktype></d:lockentry>"
    )


FILE_PROPERTIES: Final[Mapping[str, Find]] = {
    f"{DAV}creationdate": _of_all(
        lambda node: datetime.fromtimestamp(node.entry.created, UTC).isoformat()
    ),
    f"{DAV}displayname": lambda node, _store, owner: node.name or owner.user_id,
    f"{DAV}getcontentlength": _of_file(lambda node: str(node.size)),
    f"{DAV}getcontenttype": _of_file(lambda node: node.mime),
    f"{DAV}getetag": _of_all(lambda node: f'"{node.etag}"'),
    f"{DAV}getlastmodified": _of_all(lambda node: http_date(node.mtime)),
    f"{DAV}lockdiscovery": _constant(""),
    f"{DAV}quota-available-bytes": _of_folder(lambda _node, _store: UNLIMITED),
    f"{DAV}quota-used-bytes": _of_folder(lambda node, _store: str(node.size)),
    f"{DAV}resourcetype": _of_all(
        lambda node: Fragment("<d:collection/>") if node.is_folder else ""
    ),
    f"{DAV}supportedlock": _constant(Fragment(_lock_entry("exclusive") + _lock_entry("shared"))),
    f"{OC}checksums": _checksums,
    f"{OC}comments-count": _constant("0"),
    f"{OC}comments-href": _of_all(lambda node: f"/remote.php/dav/comments/files/{node.fileid}"),
    f"{OC}comments-unread": _constant("0"),
    f"{OC}data-fingerprint": _constant(""),
    f"{OC}downloadURL": _of_file(lambda _node: ""),
    f"{OC}favorite": _of_all(lambda node: str(int(node.entry.favorite))),
    f"{OC}fileid": _of_all(lambda node: str(node.fileid)),
    f"{OC}id": lambda node, store, _owner: file_id(node, store),
    f"{OC}owner-display-name": lambda _node, _store, owner: owner.display_name,
    f"{OC}owner-id": lambda _node, _store, owner: owner.user_id,
    f"{OC}permissions": _of_all(
        lambda node: PERMISSIONS_OF_FOLDER if node.is_folder else PERMISSIONS_OF_FILE
    ),
    f"{OC}share-types": _constant(""),
    f"{OC}size": _of_all(lambda node: str(node.size)),
    f"{OC}tags": _tags,
    f"{NC}contained-file-count": _of_folder(lambda node, store: _count(node, store, folders=False)),
    f"{NC}contained-folder-count": _of_folder(
        lambda node, store: _count(node, store, folders=True)
    ),
    f"{NC}creation_time": _of_all(lambda node: str(node.entry.created)),
    f"{NC}data-fingerprint": _constant(""),
    f"{NC}has-preview": _constant("false"),
    f"{NC}hidden": _constant("false"),
    f"{NC}hide-download": _constant("false"),
    f"{NC}is-encrypted": _of_folder(lambda _node, _store: "0"),
    f"{NC}is-mount-root": _of_all(lambda node: "false" if node.names else "true"),
    f"{NC}mount-type": _constant(""),
    f"{NC}note": _constant(""),
    f"{NC}share-attributes": _constant("[]"),
    f"{NC}sharees": _constant(""),
    f"{NC}system-tags": _system_tags,
    f"{NC}upload_time": _of_all(lambda node: str(node.entry.uploaded)),
    f"{OCS}share-permissions": _of_all(lambda node: "31" if node.is_folder else "19"),
    f"{OCM}share-permissions": _constant('["share","read","write"]'),
}
"""Name in Clark notation → function that finds its value, None for what a node does not have."""
