"""The files of users without HTTP, for tests and for the rest of the host."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

from appapi_host.errors import AlreadyExistsError, HostError, NotFoundError
from appapi_host.files import instance_id
from appapi_host.files.nodes import Node, not_found, split_path
from appapi_host.files.refusals import Refusal
from appapi_host.files.store import Store
from appapi_host.happenings import Happening
from appapi_host.registry import Registry

__all__ = ["FOLDER", "Files", "Node"]

FOLDER: Final = "files"
"""Name of the folder of all files in the data directory."""

T = TypeVar("T")


class Files:
    """Files of users, without HTTP.

    Args:
        registry: knows the users.
        data_dir: where the files lie; None puts them into a temporary folder, which `close()`
            removes.
        instance: says which host this is.
        listener: told what was done to files, in the thread of the event loop.
    """

    def __init__(
        self,
        registry: Registry,
        data_dir: Path | None,
        *,
        instance: Callable[[], str],
        listener: Callable[..., None],
    ) -> None:
        self._registry = registry
        self._data_dir = data_dir
        self._instance = instance
        self._listener = listener
        self._store: Store | None = None
        self._temporary: Path | None = None
        self._opening = anyio.Lock()

    async def store(self) -> Store:
        """What is below, opened when it is first asked for.

        Raises:
            Refusal: the disk does not allow it.
        """
        async with self._opening:
            if self._store is None:
                self._store = await anyio.to_thread.run_sync(self._opened)
            return self._store

    def _opened(self) -> Store:
        folder = self._data_dir
        if folder is None:
            folder = self._temporary = Path(tempfile.mkdtemp(prefix="appapi_host_files_"))
        return Store(
            folder / FOLDER, instance_id=instance_id(self._instance()), listener=self._tell
        )

    def _tell(self, happened: list[Happening]) -> None:
        anyio.from_thread.run_sync(self._listener, *happened)

    async def close(self) -> None:
        """Close what was opened, and remove a temporary folder."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._closed)

    def _closed(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    async def put(self, user_id: str, path: str, content: bytes | str) -> Node:
        """Store a file, in place of what is there, and make the folders above it.

        Args:
            user_id: whose it is.
            path: for instance `Photos/a.jpg`.
            content: text is stored as UTF-8.

        Raises:
            NotFoundError: there is no such user.
            HostError: it cannot be stored.
        """
        data = content.encode() if isinstance(content, str) else content

        def put(store: Store) -> Node:
            names = split_path(path)
            if not names:
                raise Refusal(409, "a folder has that name")
            _make_folders(store, user_id, names[:-1])
            part = store.part(user_id)
            try:
                part.write(data)
                return store.commit(part, user_id, names)
            finally:
                part.discard()

        return await self._run(user_id, put)

    async def get(self, user_id: str, path: str) -> bytes:
        """The content of a file.

        Raises:
            NotFoundError: there is no such user, or no such file.
            HostError: it is a folder, or cannot be read.
        """

        def get(store: Store) -> bytes:
            node = store.get(user_id, split_path(path))
            if node.is_folder:
                raise Refusal(409, "it is a folder")
            with store.open(node) as file:
                return file.read()

        return await self._run(user_id, get)

    async def node(self, user_id: str, path: str = "") -> Node:
        """What is known of a file or folder: `fileid`, `size`, `mime`, `etag`, `mtime`, ...

        Raises:
            NotFoundError: there is no such user, or no such file.
        """

        def node(store: Store) -> Node:
            found = store.get(user_id, split_path(path))
            _ = found.size, found.etag  # read now, because that takes the disk
            return found

        return await self._run(user_id, node)

    async def by_id(self, user_id: str, fileid: int) -> Node:
        """The same by id.

        Raises:
            NotFoundError: there is no such user, or no such file.
        """

        def by_id(store: Store) -> Node:
            found = store.by_id(user_id, fileid)
            if found is None:
                raise not_found((str(fileid),))
            _ = found.size, found.etag
            return found

        return await self._run(user_id, by_id)

    async def names(self, user_id: str, path: str = "") -> list[str]:
        """The names in a folder, sorted; those of folders end with `/`.

        Raises:
            NotFoundError: there is no such user, or no such folder.
            HostError: it is no folder.
        """

        def names(store: Store) -> list[str]:
            folder = store.get(user_id, split_path(path))
            if not folder.is_folder:
                raise Refusal(409, "it is no folder")
            return [
                f"{node.name}/" if node.is_folder else node.name for node in store.children(folder)
            ]

        return await self._run(user_id, names)

    async def nodes(self, user_id: str, path: str = "") -> list[Node]:
        """A file or folder and all that is in it, folders in front of their content.

        Raises:
            NotFoundError: there is no such user, or no such file.
        """
        return await self._run(
            user_id, lambda store: list(store.walk(store.get(user_id, split_path(path))))
        )

    async def make_folder(self, user_id: str, path: str) -> Node:
        """Make a folder and those above it, as far as they are not there.

        Raises:
            NotFoundError: there is no such user.
            HostError: a file has that name.
        """

        def make(store: Store) -> Node:
            _make_folders(store, user_id, split_path(path))
            return store.get(user_id, split_path(path))

        return await self._run(user_id, make)

    async def delete(self, user_id: str, path: str) -> None:
        """Move a file or folder to the trash.

        Raises:
            NotFoundError: there is no such user, or no such file.
        """
        await self._run(user_id, lambda store: store.delete(store.get(user_id, split_path(path))))

    async def forget(self, user_id: str) -> None:
        """Delete all files of a user who is no longer there, for good.

        Raises:
            HostError: the disk does not allow it.
        """
        if await self._are_there():
            await self._work(user_id, lambda store: store.forget(user_id))

    async def used(self, user_id: str) -> int:
        """Bytes of all files of a user; nothing is made for one who has none.

        Raises:
            NotFoundError: there is no such user.
        """
        return (await self.node(user_id)).size if await self._are_there() else 0

    async def _are_there(self) -> bool:
        """Whether anybody can have files yet."""
        if self._store is not None:
            return True
        return self._data_dir is not None and await anyio.Path(self._data_dir, FOLDER).exists()

    async def folder(self, user_id: str) -> Path:
        """Where the files of a user lie on this machine, to look at or to put files into.

        Raises:
            NotFoundError: there is no such user.
        """
        return await self._run(user_id, lambda store: store.home(user_id))

    async def _run(self, user_id: str, work: Callable[[Store], T]) -> T:
        if await self._registry.user(user_id) is None:
            raise NotFoundError(f"there is no user {user_id!r}")
        return await self._work(user_id, work)

    async def _work(self, user_id: str, work: Callable[[Store], T]) -> T:
        try:
            store = await self.store()
            return await anyio.to_thread.run_sync(work, store)
        except Refusal as refusal:
            kind = {404: NotFoundError, 405: AlreadyExistsError}.get(refusal.status, HostError)
            raise kind(f"files of {user_id}: {refusal.message}") from refusal


def _make_folders(store: Store, user_id: str, names: tuple[str, ...]) -> None:
    for end in range(1, len(names) + 1):
        node = store.find(user_id, names[:end])
        if node is None:
            store.make_folder(user_id, names[:end])
        elif not node.is_folder:
            raise Refusal(409, f"{node.path} is no folder")
