"""Every method of the files API of nc_py_api, with both of its clients, over real sockets."""

import io
import re
import zipfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from nc_py_api import (
    AsyncNextcloud,
    Nextcloud,
    NextcloudException,
    NextcloudExceptionNotFound,
    NextcloudMissingCapabilities,
)
from nc_py_api.files import FsNode
from nc_py_api.files.files import FilesAPI

from appapi_host.testing import TestHost, live_host

pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore:Sync Nextcloud:DeprecationWarning"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # what the ASGI server and the client run on


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[TestHost]:
    async with live_host(tmp_path / "data") as host:
        yield host


class Client:
    """Either client of nc_py_api, with methods to await."""

    def __init__(self, nc: Any) -> None:
        self._nc = nc

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._nc.files, name)

        async def called(*args: Any, **options: Any) -> Any:
            if isinstance(self._nc, AsyncNextcloud):
                return await method(*args, **options)
            return await anyio.to_thread.run_sync(partial(method, *args, **options))

        return called


@pytest.fixture(params=[Nextcloud, AsyncNextcloud])
async def files(host: TestHost, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    options = {"nextcloud_url": host.url, "nc_auth_user": "admin", "nc_auth_pass": "admin"}
    nc = await anyio.to_thread.run_sync(partial(request.param, **options))
    yield Client(nc)
    if isinstance(nc, AsyncNextcloud):
        await nc._session.adapter.close()
        await nc._session.adapter_dav.close()
    else:
        nc._session.adapter.close()
        nc._session.adapter_dav.close()


def paths(nodes: list[FsNode]) -> list[str]:
    return sorted(node.user_path for node in nodes)


async def test_files_and_folders(host: TestHost, files: Client, tmp_path: Path) -> None:
    made = await files.mkdir("Fotos & Ähnliches")
    assert made.is_dir
    assert made.file_id.endswith(f"oc{host.host.instance[:10]}")
    with pytest.raises(NextcloudException, match="405"):
        await files.mkdir("Fotos & Ähnliches")
    assert (await files.makedirs("Fotos & Ähnliches/a/b%20c", exist_ok=True)).name == "b%20c"
    assert await files.makedirs("Fotos & Ähnliches/a", exist_ok=True) is None

    name = "Fotos & Ähnliches/what?; #1 'x'.txt"
    stored = await files.upload(name, "Grüße")
    assert await files.download(name) == "Grüße".encode()
    assert await host.files.get("admin", name) == "Grüße".encode()
    found = await files.by_id(stored)
    assert found is not None
    assert found == stored
    assert (found.user_path, found.user, found.is_dir) == (name, "admin", False)
    assert (found.info.size, found.info.content_length) == (7, 7)
    assert found.info.mimetype == "text/plain"
    assert found.etag == stored.etag
    assert found.info.permissions == "RGDNVW"
    assert found.is_readable
    assert found.is_updatable
    assert found.is_deletable
    assert not found.is_shared
    assert abs(found.info.last_modified - datetime.now(UTC)) < timedelta(minutes=5)
    assert await files.by_path(name) == found
    assert await files.by_id(123456) is None

    root = await files.by_path("")
    assert (root.user_path, root.info.size, root.is_creatable) == ("", 7, True)
    assert paths(await files.listdir()) == ["Fotos & Ähnliches/"]
    assert paths(await files.listdir("Fotos & Ähnliches", exclude_self=False)) == [
        "Fotos & Ähnliches/",
        "Fotos & Ähnliches/a/",
        name,
    ]
    assert paths(await files.listdir(depth=-1)) == [
        "Fotos & Ähnliches/",
        "Fotos & Ähnliches/a/",
        "Fotos & Ähnliches/a/b%20c/",
        name,
    ]
    with pytest.raises(NextcloudException, match="404"):
        await files.listdir("nowhere")

    moved = await files.move(name, "Fotos & Ähnliches/a/moved;?.txt")
    assert moved.file_id == found.file_id
    with pytest.raises(NextcloudException, match="404"):
        await files.download(name)
    copied = await files.copy(moved, "copy.txt")
    assert copied.file_id != moved.file_id
    with pytest.raises(NextcloudException, match="412"):
        await files.copy(moved, "copy.txt")
    await files.upload("copy.txt", b"other")
    replaced = await files.copy(moved, "copy.txt", overwrite=True)
    assert await files.download(replaced) == "Grüße".encode()
    whole = await files.copy("Fotos & Ähnliches", "Twin")
    assert whole.is_dir
    assert await files.download("Twin/a/moved;?.txt") == "Grüße".encode()

    archive = await files.download_directory_as_zip("Twin", tmp_path / "twin.zip")
    with zipfile.ZipFile(archive) as opened:
        assert sorted(opened.namelist()) == [
            "Twin/a/",
            "Twin/a/b%20c/",
            "Twin/a/moved;?.txt",
        ]
        assert opened.read("Twin/a/moved;?.txt") == "Grüße".encode()

    await files.delete("Twin")
    with pytest.raises(NextcloudException, match="404"):
        await files.delete("Twin")
    await files.delete("Twin", not_fail=True)
    for method in ("lock", "unlock"):  # of an app that is not part of Nextcloud either
        with pytest.raises(NextcloudMissingCapabilities):
            await getattr(files, method)("copy.txt")


async def test_streams(host: TestHost, files: Client, tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    for size in (50_000, 5 * 1024 * 1024):  # pieces of the first and of the second version
        stored = await files.upload_stream("big.bin", io.BytesIO(content), chunk_size=size)
        assert await host.files.get("admin", "big.bin") == content
        assert stored == await files.by_path("big.bin")
        to = io.BytesIO()
        await files.download2stream("big.bin", to)
        assert to.getvalue() == content
    uploads = await host.files.folder("admin")
    assert list((uploads.parent / "uploads").iterdir()) == []


async def test_search(host: TestHost, files: Client) -> None:
    await host.files.put("admin", "notes/one.md", "1")
    await host.files.put("admin", "notes/two.txt", "22")
    await host.files.put("admin", "three.txt", "333")
    await host.files.put("user", "foreign.txt", "4")
    assert paths(await files.find(["like", "name", "%.TXT"])) == ["notes/two.txt", "three.txt"]
    assert paths(await files.find(["like", "name", "t__.txt"], "notes")) == ["notes/two.txt"]
    assert paths(await files.find(["eq", "mime", "text/markdown"])) == ["notes/one.md"]
    assert paths(await files.find(["like", "mime", "text/%"])) == [
        "notes/one.md",
        "notes/two.txt",
        "three.txt",
    ]
    either = ["or", "eq", "name", "three.txt", "and", "gt", "size", 0, "lt", "size", 2]
    assert paths(await files.find(either)) == ["notes/one.md", "three.txt"]
    recent = datetime.now(UTC) - timedelta(hours=1)
    assert len(await files.find(["gt", "last_modified", recent])) == 5
    assert await files.find(["lt", "last_modified", recent]) == []
    await files.setfav("notes", True)
    assert paths(await files.find(["eq", "favorite", 1])) == ["notes/"]
    assert paths(await files.list_by_criteria(["favorite"])) == ["notes/"]
    assert (await files.by_path("notes")).info.favorite
    await files.setfav("notes", False)
    assert await files.list_by_criteria(["favorite"]) == []


async def test_trash(host: TestHost, files: Client) -> None:
    stored = await host.files.put("admin", "deep/a.txt", "kept")
    await host.files.put("admin", "b.txt", "lost")
    assert await files.trashbin_list() == []
    await files.delete("deep/a.txt")
    await files.delete("b.txt")
    trash = {node.info.trashbin_filename: node for node in await files.trashbin_list()}
    assert set(trash) == {"a.txt", "b.txt"}
    assert trash["a.txt"].info.in_trash
    assert trash["a.txt"].info.trashbin_original_location == "deep/a.txt"
    assert trash["a.txt"].info.fileid == stored.fileid
    assert trash["a.txt"].info.trashbin_deletion_time > 1_000_000_000
    await files.trashbin_restore(trash["a.txt"])
    assert await files.download("deep/a.txt") == b"kept"
    assert (await files.by_path("deep/a.txt")).info.fileid == stored.fileid
    await files.trashbin_delete(trash["b.txt"])
    with pytest.raises(NextcloudException, match="404"):
        await files.trashbin_delete(trash["b.txt"])
    await files.trashbin_delete(trash["b.txt"], not_fail=True)
    await files.delete("deep")
    await files.trashbin_cleanup()
    assert await files.trashbin_list() == []


async def test_versions(host: TestHost, files: Client) -> None:
    for round_ in (0, 1):
        await files.upload("a.txt", content="22")
        new = await files.upload("a.txt", content=b"333")
        if round_:
            new = await files.by_id(new)
        versions = await files.get_versions(new)
        assert versions
        assert "File version" in str(versions[0])
        assert versions[0].info.is_version
        await files.restore_version(versions[0])
        assert await files.download("a.txt") == b"22"


async def test_tags(host: TestHost, files: Client) -> None:
    await files.create_tag("draft")
    with pytest.raises(NextcloudException, match="409"):
        await files.create_tag("draft")
    await files.create_tag("hidden", user_visible=False, user_assignable=False)
    assert [tag.display_name for tag in await files.list_tags()] == ["draft", "hidden"]
    tag = await files.tag_by_name("draft")
    assert (tag.user_visible, tag.user_assignable) == (True, True)
    await files.update_tag(tag, "final", user_assignable=False)
    tag = await files.tag_by_name("final")
    assert (tag.user_visible, tag.user_assignable) == (True, False)
    with pytest.raises(NextcloudExceptionNotFound):
        await files.tag_by_name("draft")

    stored = await host.files.put("admin", "a.txt", "1")
    node = await files.by_path("a.txt")
    assert await files.get_tags(node) == []
    await files.assign_tag(node, tag)
    assert [found.tag_id for found in await files.get_tags(stored.fileid)] == [tag.tag_id]
    assert paths(await files.list_by_criteria(tags=[tag])) == ["a.txt"]
    await files.unassign_tag(node, tag)
    assert await files.get_tags(node) == []
    await files.assign_tag(node, tag)
    await files.delete_tag(tag)
    assert await files.get_tags(node) == []
    with pytest.raises(NextcloudException, match="404"):
        await files.delete_tag(tag)


def test_this_file_calls_every_method_there_is() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    called = set(re.findall(r"\bfiles\.([a-z_0-9]+)\(", text)) | {"lock", "unlock"}
    public = {
        name
        for name, value in vars(FilesAPI).items()
        if not name.startswith("_") and callable(value)
    }
    assert len(public) == 32
    assert public <= called
