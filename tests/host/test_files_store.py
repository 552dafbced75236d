"""Files on a disk that is not always as one would have it, and without HTTP."""

import errno
import inspect
import os
import resource
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from appapi_host.errors import HostError, NotFoundError
from appapi_host.files import instance_id
from appapi_host.files.index import Index, Tag
from appapi_host.files.nodes import Node, split_path
from appapi_host.files.refusals import Refusal, translated
from appapi_host.files.store import KEPT_VERSIONS, Store
from appapi_host.host import Host
from appapi_host.records import User
from appapi_host.settings import HostSettings
from appapi_host.testing import memory_host
from tests.host.dav_stage import dav_stage


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "files", instance_id="ocabcdefghij")
    yield store
    store.close()


def put(store: Store, path: str, content: bytes = b"1", user_id: str = "u") -> Node:
    part = store.part(user_id)
    part.write(content)
    try:
        return store.commit(part, user_id, tuple(path.split("/")))
    finally:
        part.discard()


def names(store: Store, *path: str) -> list[str]:
    return [node.name for node in store.children(store.get("u", path))]


# Without HTTP


async def test_files_without_http() -> None:
    async with memory_host() as host:
        files = host.files
        stored = await files.put("user", "a/b.txt", "grün")
        assert (stored.path, stored.name, stored.size) == ("a/b.txt", "b.txt", 5)
        assert await files.get("user", "/a/b.txt") == "grün".encode()
        assert await files.names("user", "a") == ["b.txt"]
        assert (await files.by_id("user", stored.fileid)).path == "a/b.txt"
        assert (await files.make_folder("user", "a/c/d")).is_folder
        assert await files.names("user", "a") == ["b.txt", "c/"]
        folder = await files.folder("user")
        await anyio.Path(folder, "by hand.md").write_text("x")
        assert (await files.node("user", "by hand.md")).mime == "text/markdown"
        await files.delete("user", "a")
        assert await files.names("user") == ["by hand.md"]
    assert not await anyio.Path(folder).exists()


async def test_what_is_wrong_is_said() -> None:
    async with memory_host() as host:
        files = host.files
        await files.put("user", "a.txt", "1")
        with pytest.raises(NotFoundError, match="no user 'nobody'"):
            await files.put("nobody", "a.txt", "1")
        with pytest.raises(NotFoundError, match="File with name /b could not be located"):
            await files.get("user", "b")
        with pytest.raises(NotFoundError):
            await files.by_id("user", 99)
        with pytest.raises(HostError, match="it is a folder"):
            await files.get("user", "")
        with pytest.raises(HostError, match="it is no folder"):
            await files.names("user", "a.txt")
        with pytest.raises(HostError, match=r"a\.txt is no folder"):
            await files.put("user", "a.txt/b", "1")
        with pytest.raises(HostError, match="a folder has that name"):
            await files.put("user", "", "1")
        with pytest.raises(HostError, match="no name of a file"):
            await files.put("user", "../b", "1")
        with pytest.raises(HostError, match="cannot be deleted"):
            await files.delete("user", "")


async def test_files_outlive_the_host(tmp_path: Path) -> None:
    settings = HostSettings(data_dir=tmp_path)
    async with Host.open(settings) as host:
        await host.users.create_defaults(loopback=True)
        stored = await host.files.put("user", "a.txt", "1")
    async with Host.open(settings) as host:
        found = await host.files.node("user", "a.txt")
        assert (found.fileid, found.etag) == (stored.fileid, stored.etag)
    assert (tmp_path / "files" / "user" / "files" / "a.txt").read_text() == "1"


async def test_files_of_a_user_who_is_deleted_are_gone(tmp_path: Path) -> None:
    settings = HostSettings(data_dir=tmp_path)
    async with Host.open(settings) as host:
        await host.registry.add_user(User("eve"))
        await host.registry.add_user(User("bob"))
        await host.users.remove("bob")
        assert not (tmp_path / "files").exists()  # nobody has any
        stored = await host.files.put("eve", "a.txt", "1")
        await host.files.put("eve", "b.txt", "2")
        await host.files.delete("eve", "b.txt")
        await host.users.remove("eve")
        assert not (tmp_path / "files" / "eve").exists()
        await host.registry.add_user(User("eve"))
        assert await host.files.names("eve") == []
        assert (await host.files.put("eve", "a.txt", "1")).fileid != stored.fileid
        store = await host.files.store()
        assert await anyio.to_thread.run_sync(store.trashed, "eve") == []


async def test_disk_that_does_not_allow_it(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    async with dav_stage(settings=HostSettings(data_dir=tmp_path)) as dav:
        assert (await dav.refusal("PROPFIND", ""))[0] == 405
        with pytest.raises(HostError):
            await dav.files.names("admin")


# What lies on the disk


def test_links_and_odd_files_are_left_alone(store: Store, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret")
    home = store.home("u")
    (home / "folder").symlink_to(tmp_path / "outside")
    (home / "file.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (home / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(home / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(home / "socket"))
    put(store, "real.txt")
    assert names(store) == ["real.txt"]
    assert store.get("u", ()).size == 1
    for path in (("folder",), ("folder", "secret.txt"), ("file.txt",), ("fifo",), ("socket",)):
        assert store.find("u", path) is None
        if len(path) == 1:
            for make in (put, lambda store, path: store.make_folder("u", (path,))):
                with pytest.raises(Refusal, match="neither file nor folder"):
                    make(store, path[0])
    with pytest.raises(Refusal, match="Parent node does not exist"):
        put(store, "folder/new.txt")
    copied = store.copy(store.get("u", ("real.txt",)), "u", ("copy.txt",))
    assert copied.size == 1
    (home / "f").mkdir()
    (home / "f" / "link").symlink_to(tmp_path / "outside")
    copy = store.copy(store.get("u", ("f",)), "u", ("g",))
    assert list(copy.place.iterdir()) == []
    store.erase(store.get("u", ("f",)))
    assert (tmp_path / "outside" / "secret.txt").read_text() == "secret"


def test_file_that_becomes_a_link_or_a_fifo_is_not_opened(store: Store, tmp_path: Path) -> None:
    node = put(store, "a.txt")
    node.place.unlink()
    node.place.symlink_to("/etc/hostname")
    with pytest.raises(Refusal) as refused:
        store.open(node)
    assert refused.value.status == 403
    node.place.unlink()
    os.mkfifo(node.place)
    with pytest.raises(Refusal) as refused:
        store.open(node)
    assert refused.value.status == 404
    node.place.unlink()
    with pytest.raises(Refusal) as refused:
        store.open(node)
    assert refused.value.status == 404


def test_names_that_are_no_text_are_not_shown(store: Store) -> None:
    Path(os.fsdecode(os.fsencode(store.home("u")) + b"/\xff\xfe")).mkdir()
    assert names(store) == []


def test_users_with_odd_ids_have_folders_of_their_own(store: Store) -> None:
    ids = ["..", ".", "a/b", "a", "A", "%2E%2E", "ü", "x@y.z"]
    homes = {store.home(user_id) for user_id in ids}
    assert len(homes) == len(ids)
    assert {home.parent.parent for home in homes} == {store.folder}


def test_file_that_vanishes_while_it_is_listed(store: Store) -> None:
    node = store.make_folder("u", ("f",))
    node.place.rmdir()
    assert node.size == 0
    with pytest.raises(Refusal) as refused:
        store.children(node)
    assert refused.value.status == 404


def test_folders_may_be_nested_deeper_than_functions(store: Store) -> None:
    place = store.home("u")
    for depth in range(1, 201):
        place.joinpath(*["d"] * depth).mkdir()
    top, limit = store.get("u", ()), sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert sum(1 for _ in store.walk(top)) == 201
        assert top.size == 0
    finally:
        sys.setrecursionlimit(limit)


def test_listing_looks_at_each_folder_once_and_finds_the_same(store: Store) -> None:
    for path in ("a/b/c/d/1", "a/b/c/2", "a/b/3", "a/4", "e/5"):
        place = store.home("u") / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x" * int(place.name))
    top = store.get("u", ())
    together = {node.path: (node.size, node.etag) for node in store.walk(top)}
    assert {path: size for path, (size, _) in together.items() if not path[-1:].isdigit()} == {
        "": 15,
        "a": 10,
        "a/b": 6,
        "a/b/c": 3,
        "a/b/c/d": 1,
        "e": 5,
    }
    assert len(top.sums) == 6
    alone = (store.get("u", split_path(path)) for path in together)
    assert together == {node.path: (node.size, node.etag) for node in alone}


async def test_paths_have_a_deepest_folder() -> None:
    async with dav_stage() as dav:
        status, _, message = await dav.refusal("MKCOL", "/".join(["e"] * 300))
        assert (status, message) == (400, "The path has too many folders in it")


ERRORS = {
    errno.ENOSPC: 507,
    errno.EDQUOT: 507,
    errno.EFBIG: 507,
    errno.EACCES: 403,
    errno.EROFS: 403,
    errno.ENAMETOOLONG: 400,
    errno.EMFILE: 503,
    errno.ENOTEMPTY: 409,
    errno.EIO: 500,
}


@pytest.mark.parametrize(("number", "status"), ERRORS.items())
def test_what_the_disk_says(number: int, status: int) -> None:
    with pytest.raises(Refusal) as refused, translated():
        raise OSError(number, os.strerror(number), "/secret/path")
    assert refused.value.status == status
    assert "/secret/path" not in refused.value.message
    assert "/secret/path" in refused.value.note


def test_what_the_index_says(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused, translated():
        sqlite3.connect(tmp_path)
    assert refused.value.status == 403
    with pytest.raises(Refusal) as refused, translated():
        raise sqlite3.DatabaseError("broken")
    assert refused.value.status == 500
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "index.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(Refusal):
        Store(tmp_path / "files", instance_id="x")


@contextmanager
def small_files() -> Iterator[None]:
    """A disk that gets full: no file of this process may get longer than 1 MiB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


async def test_full_disk_is_507_and_leaves_the_old_file() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "a.bin", "old")
        await dav.ask("MKCOL", "/uploads/admin/up")
        for number in (1, 2):
            await dav.ask("PUT", f"/uploads/admin/up/{number}", content=bytes(600_000))
        with small_files():
            answer = await dav.refusal("PUT", "a.bin", content=bytes(1_200_000))
            headers = {"Destination": "/remote.php/dav/files/admin/a.bin"}
            moved = await dav.refusal("MOVE", "/uploads/admin/up/.file", headers=headers)
        for status, exception, message in (answer, moved):
            assert (status, exception) == (507, "Sabre\\DAV\\Exception\\InsufficientStorage")
            assert "too large for the disk" in message
        assert await dav.files.get("admin", "a.bin") == b"old"
        home = (await dav.files.folder("admin")).parent
        assert [place.name for place in (home / "uploads").iterdir()] == ["up"]
        again = {"Destination": "/remote.php/dav/files/admin/b.bin"}
        assert await dav.status("MOVE", "/uploads/admin/up/.file", headers=again) == 201
        assert len(await dav.files.get("admin", "b.bin")) == 1_200_000


# Moving, trash, versions


def test_restore_finds_a_free_name(store: Store) -> None:
    for content in (b"1", b"2", b"3"):
        put(store, "a.tar.gz", content)
        store.trash(store.get("u", ("a.tar.gz",)))
    put(store, "a.tar.gz", b"now")
    for _, trashed in store.trashed("u"):
        store.restore("u", trashed)
    assert names(store) == [
        "a.tar (restored 2).gz",
        "a.tar (restored 3).gz",
        "a.tar (restored).gz",
        "a.tar.gz",
    ]
    store.make_folder("u", ("f",))
    put(store, "f/b", b"1")
    trashed = store.trash(store.get("u", ("f", "b")))
    store.erase(store.get("u", ("f",)))
    assert store.restore("u", trashed).path == "b"
    with pytest.raises(Refusal):
        store.restore("u", trashed)


def test_what_somebody_put_into_the_trash_has_an_origin(store: Store) -> None:
    root = store.home("u", "files_trashbin")
    (root / "a.txt.d1700000000").write_text("1")
    (root / "b.txt").write_text("2")
    found = {trashed.name: trashed for _, trashed in store.trashed("u")}
    assert (found["a.txt.d1700000000"].location, found["a.txt.d1700000000"].deleted) == (
        "a.txt",
        1700000000,
    )
    assert found["b.txt"].location == "b.txt"


def test_move_that_fails_puts_back_what_was_overwritten(store: Store) -> None:
    put(store, "a", b"old")
    node = put(store, "b", b"new")
    node.place.unlink()
    with pytest.raises(Refusal):
        store.move(node, "u", ("a",))
    assert names(store) == ["a"]
    assert store.trashed("u") == []
    with pytest.raises(Refusal):
        store.copy(node, "u", ("c",))
    assert list(store.home("u", "uploads").iterdir()) == []


def test_versions_are_kept_up_to_a_number(store: Store) -> None:
    node = put(store, "a", b"0")
    for number in range(1, KEPT_VERSIONS + 5):
        store.set_times(store.get("u", ("a",)), 1_000_000 + number)
        put(store, "a", str(number).encode())
    found = store.versions(node)
    assert len(found) == KEPT_VERSIONS
    assert found[0][1].read_bytes() == str(KEPT_VERSIONS + 3).encode()
    store.erase(store.get("u", ("a",)))
    assert store.versions(node) == []
    empty = put(store, "empty", b"")
    put(store, "empty", b"1")
    assert store.versions(empty) == []


def test_ids_are_never_given_out_again(store: Store) -> None:
    first = put(store, "a")
    store.erase(first)
    assert put(store, "a").fileid > first.fileid


def test_two_processes_agree_about_ids(tmp_path: Path) -> None:
    indexes = [Index(tmp_path / "index") for _ in range(2)]
    found: list[set[int]] = [set(), set()]

    def use(number: int) -> None:
        for count in range(50):
            found[number].add(indexes[number].entry("u", f"f{count}").fileid)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert len(found[0]) == 50
    with suppress(KeyError), indexes[0].transaction():
        indexes[0].add_tag("t", is_visible=True, is_assignable=True)
        raise KeyError
    assert indexes[1].tags() == []
    assert indexes[1].add_tag("t", is_visible=True, is_assignable=False) == indexes[0].tag(1)
    assert indexes[0].tags() == [Tag(1, "t", is_visible=True, is_assignable=False)]
    for index in indexes:
        index.close()


def test_id_of_the_host_has_the_form_of_nextclouds() -> None:
    assert instance_id("0123456789abcdef") == "oc0123456789"
