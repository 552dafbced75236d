"""Overwritten contents of files, and their way back.

Source: Nextcloud developer manual, Versions.
"""

import mimetypes
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wsgidav.dav_provider import DAVNonCollection

from appapi_host.files.nodes import Node
from appapi_host.files.properties import http_date
from appapi_host.files.refusals import Refusal, translated
from appapi_host.files.resources import Collection, Resource, is_number
from appapi_host.files.work import Environ, Target, work_of
from appapi_host.files.xml import DAV, NC, OC, Value

__all__ = ["Version", "VersionsOf", "find_version"]


class VersionsOf(Collection):
    """All versions of one file."""

    node: Node

    def members(self) -> Iterator[Resource]:
        """The latest first."""
        for number, place in self.work.store.versions(self.node):
            yield Version(self.environ, (*self.names, str(number)), self.node, place)


class Version(Resource, DAVNonCollection):
    """One overwritten content.

    Args:
        environ: the request.
        names: its path; the last name is when it was changed last.
        node: the file.
        place: where it is on the disk.
    """

    def __init__(self, environ: Environ, names: tuple[str, ...], node: Node, place: Path) -> None:
        super().__init__("/" + "/".join(names), environ)
        self.work, self.names, self.node, self.place = work_of(environ), names, node, place

    def value(self, name: str) -> Value | None:
        """A property."""
        found = {
            f"{DAV}getcontentlength": str(self.get_content_length()),
            f"{DAV}getcontenttype": self.get_content_type(),
            f"{DAV}getetag": f'"{self.names[-1]}"',
            f"{DAV}getlastmodified": http_date(self.get_last_modified()),
            f"{OC}size": str(self.get_content_length()),
            f"{NC}version-author": self.work.owner.user_id,
            f"{NC}version-label": "",
            f"{NC}has-preview": "false",
        }
        return found[name] if name in found else super().value(name)

    def move_to(self, target: Target) -> bool:
        """Restore it: where it is moved says only that."""
        if target.names[:3] != ("versions", self.work.owner.user_id, "restore"):
            raise Refusal(403, "A version can only be restored")
        self.work.store.restore_version(self.node, self.place)
        return True

    def remove(self) -> None:
        """Delete it for good."""
        with translated():
            self.place.unlink()

    def get_content_length(self) -> int:
        """Bytes."""
        with translated():
            return self.place.stat().st_size

    def get_content_type(self) -> str:
        """By the name of the file."""
        return mimetypes.guess_type(self.node.name)[0] or "application/octet-stream"

    def get_last_modified(self) -> float:
        """Unix seconds."""
        return float(self.names[-1])

    def get_etag(self) -> str:
        """A version never changes."""
        return self.names[-1]

    def support_etag(self) -> bool:
        """Yes."""
        return True

    def support_ranges(self) -> bool:
        """Yes."""
        return True

    def get_content(self) -> BinaryIO:
        """The content."""
        with translated():
            return self.place.open("rb", buffering=0)


def find_version(environ: Environ, names: tuple[str, ...]) -> Resource | None:
    """What is at a path below `/versions/{user}`, None if nothing is."""
    if len(names) == 2:
        kinds = ("versions", "restore")
        return Collection(
            environ, names, lambda: (Collection(environ, (*names, kind)) for kind in kinds)
        )
    if len(names) == 3:
        return Collection(environ, names) if names[2] in ("versions", "restore") else None
    work = work_of(environ)
    # Clients also write the whole id, as `oc:id` has it.
    number = names[3].removesuffix(work.store.instance_id)
    if names[2] != "versions" or len(names) > 5 or not is_number(number):
        return None
    node = work.store.by_id(work.owner.user_id, int(number))
    if node is None or node.is_folder:
        return None
    if len(names) == 4:
        found = VersionsOf(environ, names)
        found.node = node
        return found
    for changed, place in work.store.versions(node):
        if names[4] == str(changed):
            return Version(environ, names, node, place)
    return None
