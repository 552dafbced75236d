"""Content on the disk: collected, opened, copied and removed."""

import io
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from appapi_host.files.nodes import Node
from appapi_host.files.refusals import translated

__all__ = ["COPY_BYTES", "Part", "copy_tree", "open_plain", "remove"]

COPY_BYTES: Final = 1024 * 1024
"""How much is copied at once."""

_OPEN_FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")
)
"""Links are not followed, and a named pipe that took the place of a file keeps nobody waiting; as
far as the system has these."""


def open_plain(place: Path) -> io.FileIO:
    """Open a file to read it, and no link.

    Raises:
        OSError: it is not there, or a link.
    """
    return io.FileIO(os.open(place, _OPEN_FLAGS), "rb")


class Part:
    """Content on its way to become a file; as long as it is not, nobody sees it.

    Args:
        place: where it is collected.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        with translated():
            # Buffered, although pieces are large: a raw file may take less than it was given.
            self.file: BinaryIO = place.open("xb")
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append."""
        with translated():
            self.file.write(data)
        self.size += len(data)

    def append(self, place: Path) -> None:
        """Append another file."""
        with translated(), place.open("rb", buffering=0) as source:
            shutil.copyfileobj(source, self.file, COPY_BYTES)
            self.size += source.tell()

    def close(self) -> None:
        """Nothing more comes."""
        with translated():
            self.file.close()

    def discard(self) -> None:
        """Remove it, if it did not become a file."""
        with suppress(OSError):  # what is still to be written, on a full disk
            self.file.close()
        self.place.unlink(missing_ok=True)


def copy_tree(node: Node, target: Path, *, shallow: bool) -> None:
    """Copy files and folders, and nothing else."""
    if not node.is_folder:
        _copy_file(node.place, target)
        return
    target.mkdir()
    if shallow:
        return
    folders = [(node.place, target)]
    while folders:
        source, to = folders.pop()
        for item in list(os.scandir(source)):
            if item.is_dir(follow_symlinks=False):
                (to / item.name).mkdir()
                folders.append((Path(item.path), to / item.name))
            elif item.is_file(follow_symlinks=False):
                _copy_file(Path(item.path), to / item.name)


def _copy_file(source: Path, target: Path) -> None:
    with open_plain(source) as file, target.open("xb") as to:
        shutil.copyfileobj(file, to, COPY_BYTES)


def remove(place: Path, *, is_strict: bool = False) -> None:
    """Remove a file or a folder with all that is in it; never what a link in it points to."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=not is_strict)
    else:
        place.unlink(missing_ok=True)
