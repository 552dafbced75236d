"""The files of all users: a folder each on the disk, and the index beside them.

```
<data folder>/files/index.sqlite3
<data folder>/files/<user>/files/            what the user sees
<data folder>/files/<user>/files_trashbin/   what was deleted
<data folder>/files/<user>/files_versions/   what was overwritten, by id
<data folder>/files/<user>/uploads/          what is being uploaded
```

The folders may be looked at and changed by hand at any time. Symbolic links and whatever is neither
file nor folder are left alone: they are neither followed nor shown, so nothing outside is reached.

Everything here blocks, and is called from worker threads.
"""

import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

from appapi_host.files import happenings
from appapi_host.files.disk import COPY_BYTES, Part, copy_tree, open_plain, remove
from appapi_host.files.index import FILES, TRASH, Index, Trashed
from appapi_host.files.nodes import MAX_NAME, Node, check_new, not_found, split_path
from appapi_host.files.refusals import Refusal, translated
from appapi_host.happenings import Happening

__all__ = ["KEPT_VERSIONS", "Store"]

KEPT_VERSIONS: Final = 10
"""Overwritten contents of one file that are kept; the real server thins them out by age."""


class Store:
    """The files of all users.

    Args:
        folder: where they lie; made if it is not there.
        instance_id: the id that the real server appends to ids of files.
        listener: told what was done to files; nobody if None.
    """

    def __init__(
        self,
        folder: Path,
        *,
        instance_id: str,
        listener: Callable[[list[Happening]], object] | None = None,
    ) -> None:
        self.folder = folder
        self.instance_id = instance_id
        self.tell = listener or (lambda _: None)
        with translated():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.index = Index(folder / "index.sqlite3")

    def close(self) -> None:
        """Close the index; the files stay."""
        self.index.close()

    # Places

    def home(self, user_id: str, area: str = "files") -> Path:
        """The folder of a user for one purpose, made if it is not there."""
        # Quoted as in a URL, and a dot in front too: ids are chosen by people.
        name = quote(user_id, safe=" @+")
        if name.startswith("."):
            name = f"%2E{name[1:]}"
        place = self.folder / name / area
        if not place.is_dir():
            with translated():
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return place

    def _root(self, user_id: str, area: str) -> Path:
        return self.home(user_id, "files" if area == FILES else "files_trashbin")

    def _place(self, user_id: str, names: Sequence[str], area: str = FILES) -> Path | None:
        """Where a path leads without following any link, None if nowhere."""
        place = self._root(user_id, area)
        for name in names[:-1]:
            place /= name
            if not _is_plain(place, stat.S_ISDIR):
                return None
        return place / names[-1] if names else place

    def forget(self, user_id: str) -> None:
        """Delete all files of a user, for good and untold."""
        with translated():
            remove(self.home(user_id).parent, is_strict=True)
            with self.index.transaction():
                for area in (FILES, TRASH):
                    self.index.forget(user_id, "", area=area)
                self.index.forget_trash(user_id)

    # Looking

    def find(self, user_id: str, names: Sequence[str], *, area: str = FILES) -> Node | None:
        """The file or folder at a path, None if there is none."""
        place = self._place(user_id, names, area)
        if place is None:
            return None
        try:
            found = place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            with translated():
                raise error from None
        if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
            return None
        with translated():
            entry = self.index.entry(user_id, "/".join(names), area=area)
        return Node(user_id, tuple(names), place, found, entry, area)

    def get(self, user_id: str, names: Sequence[str]) -> Node:
        """The file or folder at a path.

        Raises:
            Refusal: there is none.
        """
        node = self.find(user_id, names)
        if node is None:
            raise not_found(names)
        return node

    def by_id(self, user_id: str, fileid: int) -> Node | None:
        """The file or folder of an id, None if it is not among the user's."""
        path = self.index.path_of(user_id, fileid)
        if path is None:
            return None
        node = self.find(user_id, split_path(path))
        return node if node is not None and node.fileid == fileid else None

    def children(self, folder: Node) -> list[Node]:
        """What is in a folder, sorted by name."""
        found: list[tuple[str, Path, os.stat_result]] = []
        with translated():
            for item in os.scandir(folder.place):
                try:
                    item.name.encode()
                    status = item.stat(follow_symlinks=False)
                except (UnicodeEncodeError, FileNotFoundError):
                    continue  # no name that a client could write, or gone again
                if stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode):
                    found.append((item.name, Path(item.path), status))
            found.sort(key=lambda item: item[0])
            paths = ["/".join((*folder.names, name)) for name, _, _ in found]
            entries = self.index.entries(folder.user_id, paths, area=folder.area)
        return [
            Node(
                folder.user_id,
                (*folder.names, name),
                place,
                status,
                entry,
                folder.area,
                folder.sums,
            )
            for (name, place, status), entry in zip(found, entries, strict=True)
        ]

    def walk(self, top: Node) -> Iterator[Node]:
        """A node, and all that is below it, folders in front of their content."""
        # Without recursion: folders may be nested deeper than Python's functions.
        left = [iter((top,))]
        while left:
            node = next(left[-1], None)
            if node is None:
                left.pop()
                continue
            yield node
            if node.is_folder:
                left.append(iter(self.children(node)))

    def open(self, node: Node) -> BinaryIO:
        """The content of a file."""
        with translated():
            file = open_plain(node.place)
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                file.close()
                raise not_found(node.names)
            return file

    # Changing

    def part(self, user_id: str) -> Part:
        """A place to collect content for one of the user's files."""
        return Part(self.home(user_id, "uploads") / f".{secrets.token_hex(16)}.part")

    def commit(
        self,
        part: Part,
        user_id: str,
        names: Sequence[str],
        *,
        mtime: float | None = None,
        created: int | None = None,
        checksum: str = "",
    ) -> Node:
        """Make a part the content of a file.

        At any time the file is there, with the old or the new content.

        Raises:
            Refusal: its folder is not there, or a folder has that name.
        """
        present = self.find(user_id, names)
        if present is not None and present.is_folder:
            raise Refusal(409, "a folder has that name")
        place = self._new_place(user_id, names)
        part.close()
        if mtime is not None:
            with translated():
                os.utime(part.place, (mtime, mtime))
        if present is not None:
            self._keep_version(present)
        with translated():
            part.place.replace(place)
            entry = self.index.entry(user_id, "/".join(names))
            changed = {"uploaded": int(time.time()), "checksum": checksum}
            if created is not None:
                changed["created"] = created
            self.index.change(entry.fileid, **changed)
        return self._written(user_id, names, is_new=present is None)

    def _written(self, user_id: str, names: Sequence[str], *, is_new: bool) -> Node:
        node = self.get(user_id, names)
        self.tell(happenings.written(user_id, node.path, node.fileid, is_new=is_new))
        return node

    def make_folder(self, user_id: str, names: Sequence[str]) -> Node:
        """Make a folder.

        Raises:
            Refusal: something is there already, or its parent is not.
        """
        if self.find(user_id, names) is not None:
            raise Refusal(405, "The resource you tried to create already exists")
        place = self._new_place(user_id, names)
        with translated():
            place.mkdir()
        return self._written(user_id, names, is_new=True)

    def _new_place(self, user_id: str, names: Sequence[str]) -> Path:
        """Where something new may be put."""
        place = self._place(user_id, names)
        if place is None or not _is_plain(place.parent, stat.S_ISDIR):
            raise Refusal(409, "Parent node does not exist")
        check_new(names[-1])
        if place.is_symlink() or (place.exists() and self.find(user_id, names) is None):
            raise Refusal(403, "something that is neither file nor folder has that name")
        return place

    def set_times(self, node: Node, mtime: float) -> None:
        """Set when a file or folder was changed."""
        with translated():
            os.utime(node.place, (mtime, mtime), follow_symlinks=False)

    def move(self, node: Node, user_id: str, names: Sequence[str]) -> Node:
        """Give a file or folder another path; what is there goes to the trash."""
        return self._put(node, user_id, names, is_move=True)

    def copy(
        self, node: Node, user_id: str, names: Sequence[str], *, shallow: bool = False
    ) -> Node:
        """Copy a file or folder; what is there goes to the trash.

        Args:
            node: what to copy.
            user_id: whose the copy is.
            names: its path.
            shallow: a folder without what is in it.
        """
        return self._put(node, user_id, names, is_move=False, shallow=shallow)

    def _put(
        self,
        node: Node,
        user_id: str,
        names: Sequence[str],
        *,
        is_move: bool,
        shallow: bool = False,
    ) -> Node:
        target = self._new_place(user_id, names)
        present = self.find(user_id, names)
        path = "/".join(names)
        source_id = node.fileid
        if is_move:
            trashed = self.trash(present) if present is not None else None
            try:
                with translated():
                    node.place.rename(target)
            except Refusal:
                if trashed is not None:
                    self.restore(user_id, trashed)
                raise
            with translated():
                self.index.move(user_id, node.path, path, area=node.area)
            self.tell(happenings.moved(user_id, node.path, path, source_id))
        else:
            copied = self.home(user_id, "uploads") / f".{secrets.token_hex(16)}.part"
            try:
                with translated():
                    copy_tree(node, copied, shallow=shallow)
                if present is not None:
                    self.trash(present)
                with translated():
                    copied.rename(target)
            except BaseException:
                remove(copied)
                raise
            made = self.get(user_id, names)
            is_new = present is None
            self.tell(
                happenings.copied(user_id, node.path, source_id, path, made.fileid, is_new=is_new)
            )
        return self.get(user_id, names)

    def delete(self, node: Node, *, skip_trash: bool = False) -> None:
        """Move a file or folder to the trash, or delete it for good."""
        if not node.names:
            raise Refusal(403, "the folder of a user cannot be deleted")
        fileid = node.fileid
        if skip_trash:
            self.erase(node)
        else:
            self.trash(node)
        self.tell(happenings.deleted(node.user_id, node.path, fileid))

    def erase(self, node: Node) -> None:
        """Delete for good, with older versions."""
        with translated():
            remove(node.place, is_strict=True)
            for fileid in self.index.forget(node.user_id, node.path, area=node.area):
                remove(self._versions_place(node.user_id, fileid))

    # Trash

    def trash(self, node: Node) -> Trashed:
        """Move something to the trash; it keeps its id."""
        root = self._root(node.user_id, TRASH)
        deleted = int(time.time())
        while True:
            # As the real server names them. The limit counts for the longer name too.
            stem = node.name.encode()[: MAX_NAME - 16].decode(errors="ignore")
            name = f"{stem}.d{deleted}"
            if not (root / name).exists():
                break
            deleted += 1
        trashed = Trashed(name, node.path, deleted)
        with translated():
            node.place.rename(root / name)
            with self.index.transaction():
                self.index.move(node.user_id, node.path, name, to_area=TRASH)
                self.index.add_trashed(node.user_id, trashed)
        return trashed

    def trashed(self, user_id: str) -> list[tuple[Node, Trashed]]:
        """What is in the trash, and where it came from; the latest first."""
        root = self.find(user_id, (), area=TRASH)
        assert root is not None
        found = [(node, self.origin(node)) for node in self.children(root)]
        return sorted(found, key=lambda pair: (-pair[1].deleted, pair[1].name))

    def origin(self, node: Node) -> Trashed:
        """Where something in the trash came from; what somebody put there by hand: its name."""
        known = self.index.trashed(node.user_id, node.names[0])
        if known is not None:
            return known
        stem, dot, digits = node.names[0].rpartition(".d")
        if dot and digits.isdecimal():
            return Trashed(node.names[0], stem, int(digits))
        return Trashed(node.names[0], node.names[0], node.mtime)

    def restore(self, user_id: str, trashed: Trashed) -> Node:
        """Put something back where it was, or into the user's folder if that place is gone.

        A name that is taken meanwhile is changed.
        """
        node = self.find(user_id, (trashed.name,), area=TRASH)
        if node is None:
            raise not_found((trashed.name,))
        names = split_path(trashed.location)
        parent = self.find(user_id, names[:-1])
        if parent is None or not parent.is_folder:
            names = names[-1:]
        names = self._free(user_id, names)
        with translated():
            node.place.rename(self._new_place(user_id, names))
            with self.index.transaction():
                self.index.move(user_id, trashed.name, "/".join(names), area=TRASH)
                self.index.forget_trashed(user_id, trashed.name)
        restored = self.get(user_id, names)
        self.tell(happenings.restored(user_id, trashed.name, restored.path, restored.fileid))
        return restored

    def _free(self, user_id: str, names: tuple[str, ...]) -> tuple[str, ...]:
        stem, dot, ending = names[-1].rpartition(".")
        if not stem:
            stem, dot, ending = names[-1], "", ""
        number = 1
        while self.find(user_id, names) is not None:
            number += 1
            suffix = " (restored)" if number == 2 else f" (restored {number - 1})"
            names = (*names[:-1], f"{stem}{suffix}{dot}{ending}")
        return names

    def erase_trashed(self, node: Node) -> None:
        """Delete something in the trash for good."""
        self.erase(node)
        if len(node.names) == 1:
            self.index.forget_trashed(node.user_id, node.name)

    # Versions

    def _versions_place(self, user_id: str, fileid: int) -> Path:
        return self.home(user_id, "files_versions") / str(fileid)

    def _keep_version(self, node: Node) -> None:
        """Keep the present content of a file that is about to be overwritten."""
        if node.stat.st_size == 0:
            return  # as in the real server
        folder = self._versions_place(node.user_id, node.fileid)
        with translated():
            folder.mkdir(exist_ok=True)
            version = folder / str(node.mtime)
            version.unlink(missing_ok=True)
            try:
                os.link(node.place, version, follow_symlinks=False)
            except OSError:  # a disk without hard links
                shutil.copy2(node.place, version, follow_symlinks=False)
            for number in self._versions(folder)[KEPT_VERSIONS:]:
                (folder / str(number)).unlink(missing_ok=True)

    @staticmethod
    def _versions(folder: Path) -> list[int]:
        try:
            numbers = [int(place.name) for place in folder.iterdir() if place.name.isdecimal()]
        except FileNotFoundError:
            return []
        return sorted(numbers, reverse=True)

    def versions(self, node: Node) -> list[tuple[int, Path]]:
        """Overwritten contents of a file, by the time of their last change; the latest first."""
        folder = self._versions_place(node.user_id, node.fileid)
        with translated():
            return [(number, folder / str(number)) for number in self._versions(folder)]

    def restore_version(self, node: Node, place: Path) -> Node:
        """Make an overwritten content the present one; that becomes a version."""
        part = self.part(node.user_id)
        try:
            with translated(), place.open("rb", buffering=0) as source:
                shutil.copyfileobj(source, part.file, COPY_BYTES)
            return self.commit(part, node.user_id, node.names)
        finally:
            part.discard()


def _is_plain(place: Path, is_kind: Callable[[int], bool]) -> bool:
    try:
        return is_kind(place.lstat().st_mode)
    except OSError:
        return False
