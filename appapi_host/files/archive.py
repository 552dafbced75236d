"""A folder as one file to download.

Source: Nextcloud developer manual, Downloading folders.
"""

import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from appapi_host.files.nodes import Node
from appapi_host.files.refusals import Refusal
from appapi_host.files.store import Store

__all__ = ["ARCHIVES", "archive", "chosen"]

ARCHIVES: Final[Mapping[str, str]] = {
    "application/zip": "zip",
    "application/x-tar": "tar",
    "zip": "zip",
    "tar": "tar",
}
"""What a client may accept → ending of the file."""

_BLOCK: Final = 256 * 1024


class _Pipe:
    """A file that is written at one end and handed out at the other, without ever being whole."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._position = 0

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Nothing to do."""

    def taken(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def chosen(store: Store, folder: Node, names: str) -> list[Node]:
    """What of a folder is wanted: all, or what a JSON array of names, or a single name, says.

    Raises:
        Refusal: something is not there.
    """
    children = store.children(folder)
    if not names:
        return children
    try:
        wanted = json.loads(names) if names.startswith("[") else names.split(", ")
    except ValueError:
        raise Refusal(400, "files is no JSON array of names") from None
    by_name = {child.name: child for child in children}
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise Refusal(400, "files is no JSON array of names")
    for name in wanted:
        if name not in by_name:
            raise Refusal(404, f"File with name {name} could not be located")
    return [by_name[name] for name in dict.fromkeys(wanted)]


def archive(kind: str, store: Store, folder: Node, nodes: list[Node]) -> Iterator[bytes]:
    """The pieces of an archive, made as they are sent.

    Args:
        kind: `zip` or `tar`.
        store: where the content is.
        folder: what the archive is of; its name is the folder in the archive.
        nodes: what of it goes in.
    """
    prefix = f"{folder.name}/" if folder.name else ""
    pipe = _Pipe()
    write = {"zip": _zipped, "tar": _tarred}[kind]
    depth = len(folder.names)

    def entries() -> Iterator[tuple[str, Node]]:
        for node in nodes:
            for found in store.walk(node):
                yield prefix + "/".join(found.names[depth:]), found

    yield from write(pipe, store, entries)


Entries = Callable[[], Iterator[tuple[str, Node]]]


def _zipped(pipe: Any, store: Store, entries: Entries) -> Iterator[bytes]:
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED, strict_timestamps=False) as file:
        for name, node in entries():
            if node.is_folder:
                file.writestr(zipfile.ZipInfo(f"{name}/"), b"")
                continue
            info = zipfile.ZipInfo.from_file(node.place, name, strict_timestamps=False)
            with store.open(node) as source, file.open(info, "w", force_zip64=True) as to:
                while data := source.read(_BLOCK):
                    to.write(data)
                    yield pipe.taken()
            yield pipe.taken()
    yield pipe.taken()


def _tarred(pipe: Any, store: Store, entries: Entries) -> Iterator[bytes]:
    with tarfile.open(fileobj=pipe, mode="w|", format=tarfile.PAX_FORMAT) as file:
        for name, node in entries():
            info = tarfile.TarInfo(name)
            info.mtime = node.mtime
            if node.is_folder:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                file.addfile(info)
                continue
            with store.open(node) as source:
                info.size = node.stat.st_size
                file.addfile(info)
                left = info.size
                # By hand instead of with addfile(), which would take in the whole file at once.
                while left and (data := source.read(min(_BLOCK, left))):
                    left -= len(data)
                    file.fileobj.write(data)
                    yield pipe.taken()
                padding = -info.size % tarfile.BLOCKSIZE + left
                file.fileobj.write(b"\0" * padding)
                file.offset += info.size + -info.size % tarfile.BLOCKSIZE
    yield pipe.taken()
