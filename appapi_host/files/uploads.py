"""Uploads in pieces: a folder for the pieces, and a `MOVE` that puts them together.

Source: Nextcloud developer manual, Chunked file upload; both versions.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wsgidav.dav_provider import DAVNonCollection

from appapi_host.files.disk import Part
from appapi_host.files.node_resources import file_target, free_target
from appapi_host.files.refusals import Refusal, translated
from appapi_host.files.resources import Collection, Resource, Stored
from appapi_host.files.work import Environ, Target, work_of
from appapi_host.files.xml import DAV, Value

__all__ = ["ASSEMBLED", "Assembled", "Piece", "Upload", "Uploads", "find_upload"]

ASSEMBLED: Final = ".file"
"""The name under which all pieces of an upload together are moved."""

LIFETIME: Final = 24 * 3600
"""Seconds after which an upload that nobody goes on with is forgotten."""

_DIGITS: Final = re.compile(r"[0-9]+")


class Uploads(Collection):
    """All uploads of the user that are under way."""

    @property
    def place(self) -> Path:
        """Where they are on the disk."""
        return self.work.store.home(self.work.owner.user_id, "uploads")

    def members(self) -> Iterator[Resource]:
        """The uploads."""
        for place in sorted(self.place.iterdir()):
            if found := _upload(self.environ, self, place.name):
                yield found

    def create_collection(self, name: str) -> None:
        """Begin an upload."""
        if name.startswith("."):
            raise Refusal(400, "The name of an upload may not begin with a dot")
        self._forget_old()
        with translated():
            (self.place / name).mkdir()

    def _forget_old(self) -> None:
        limit = time.time() - LIFETIME
        for item in list(os.scandir(self.place)):
            if item.stat(follow_symlinks=False).st_mtime < limit:
                if item.is_dir(follow_symlinks=False):
                    shutil.rmtree(item.path, ignore_errors=True)
                else:
                    Path(item.path).unlink(missing_ok=True)


class Upload(Collection):
    """One upload: its pieces are its members."""

    place: Path

    def members(self) -> Iterator[Resource]:
        """The pieces, in the order in which they are put together."""
        for name in _pieces(self.place):
            yield Piece(self.environ, (*self.names, name), self.place / name)
        yield Assembled(self.environ, (*self.names, ASSEMBLED), self.place)

    def create_empty_resource(self, name: str) -> "Piece":
        """A piece that is about to come."""
        return Piece(self.environ, (*self.names, name), self.place / name)

    def remove(self) -> None:
        """Give up."""
        with translated():
            shutil.rmtree(self.place)


class Piece(Stored, Resource, DAVNonCollection):
    """One piece.

    Args:
        environ: the request.
        names: its path.
        place: where it is on the disk.
    """

    def __init__(self, environ: Environ, names: tuple[str, ...], place: Path) -> None:
        super().__init__("/" + "/".join(names), environ)
        self.work = work_of(environ)
        self.names = names
        self.place = place

    def value(self, name: str) -> Value | None:
        """Its size, so that a client can see what is there already."""
        if name in (f"{DAV}getcontentlength", "{http://owncloud.org/ns}size"):
            return str(self.get_content_length())
        return super().value(name)

    def store_part(self, part: Part) -> None:
        """Keep it."""
        part.close()
        with translated():
            part.place.replace(self.place)

    def remove(self) -> None:
        """Forget it."""
        with translated():
            self.place.unlink()

    def get_content_length(self) -> int:
        """Bytes."""
        with translated():
            return self.place.stat().st_size

    def support_etag(self) -> bool:
        """No: nobody overwrites a piece on condition."""
        return False

    def get_etag(self) -> None:
        """None, see `support_etag()`."""

    def get_content(self) -> None:
        """Pieces are not handed out again."""
        raise Refusal(403, "Chunks cannot be downloaded from the upload directory")


class Assembled(Resource, DAVNonCollection):
    """All pieces together, to be moved where the file is wanted.

    Args:
        environ: the request.
        names: its path.
        place: the folder of the pieces.
    """

    def __init__(self, environ: Environ, names: tuple[str, ...], place: Path) -> None:
        super().__init__("/" + "/".join(names), environ)
        self.work = work_of(environ)
        self.names = names
        self.place = place

    def move_to(self, target: Target) -> bool:
        """Put the pieces together and make them the content of a file.

        The pieces stay until that is done: on a full disk, the client can try again.
        """
        work = self.work
        names = file_target(work, target)
        present = free_target(work, names, target)
        if present is not None and present.is_folder:
            raise Refusal(409, "a folder has that name")
        pieces = [self.place / name for name in _pieces(self.place)]
        with translated():
            total = sum(piece.stat().st_size for piece in pieces)
        if work.upload.total is not None and work.upload.total != total:
            raise Refusal(
                400,
                f"Chunks on server do not sum up to {work.upload.total} but to {total} bytes",
            )
        part = work.part()
        for piece in pieces:
            part.append(piece)
        node = work.store.commit(
            part,
            work.owner.user_id,
            names,
            mtime=work.upload.mtime,
            created=work.upload.created,
            checksum=work.upload.checksum,
        )
        shutil.rmtree(self.place, ignore_errors=True)
        work.announce(node)
        work.accept_times()
        return present is None

    def get_content_length(self) -> int:
        """Bytes."""
        with translated():
            return sum((self.place / name).stat().st_size for name in _pieces(self.place))

    def support_etag(self) -> bool:
        """No."""
        return False

    def get_etag(self) -> None:
        """None, see `support_etag()`."""

    def get_content(self) -> None:
        """Nobody reads what is not yet a file."""
        raise Refusal(403, "Chunks cannot be downloaded from the upload directory")


def _pieces(place: Path) -> list[str]:
    """Names of the pieces in their order: by number, whatever the number of digits."""

    def key(name: str) -> tuple[int, str]:
        found = _DIGITS.match(name)
        return (int(found[0]) if found else -1, name)

    with translated():
        names = [piece.name for piece in place.iterdir() if not piece.name.startswith(".")]
        return sorted(names, key=key)


def _upload(environ: Environ, uploads: Uploads, name: str) -> Upload | None:
    place = uploads.place / name
    if name.startswith(".") or place.is_symlink() or not place.is_dir():
        return None
    upload = Upload(environ, (*uploads.names, name))
    upload.place = place
    return upload


def find_upload(environ: Environ, names: tuple[str, ...]) -> Resource | None:
    """What is at a path below `/uploads/{user}`, None if nothing is."""
    uploads = Uploads(environ, names[:2])
    if len(names) == 2:
        return uploads
    upload = _upload(environ, uploads, names[2])
    if upload is None or len(names) == 3:
        return upload
    if len(names) > 4:
        return None
    if names[3] == ASSEMBLED:
        return Assembled(environ, names, upload.place)
    place = upload.place / names[3]
    if names[3].startswith(".") or place.is_symlink() or not place.is_file():
        return None
    return Piece(environ, names, place)
