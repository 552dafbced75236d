"""Files that are larger than one would want to have in memory, and clients that misbehave."""

import base64
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

import anyio
import httpx
import psutil
import pytest
from anyio.abc import SocketStream

from appapi_host.events import Event, Exchange
from appapi_host.testing import TestHost, live_host

pytestmark = pytest.mark.live
MIB = 1024 * 1024
AUTH = httpx.BasicAuth("user", "user")
DAV = "/remote.php/dav/files/user"
BLOCK = hashlib.sha512(b"block").digest() * (MIB // 64)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # what the ASGI server runs on


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[TestHost]:
    async with live_host(tmp_path / "data") as host:
        yield host


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[psutil.Process, str]]:
    """A host in a process of its own, and its URL."""
    command = [sys.executable, "-m", "appapi_host", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--data-dir", str(tmp_path / "data")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    line = ""
    while "http://" not in line:
        line = process.stdout.readline()
        assert line, "the host ended"
    url = "http://" + line.partition("http://")[2].split()[0].strip("/,")
    yield psutil.Process(process.pid), url
    process.terminate()
    process.wait()
    process.stdout.close()


async def test_memory_stays_the_same(server: tuple[psutil.Process, str]) -> None:
    process, url = server
    async with httpx.AsyncClient(base_url=url, auth=AUTH, timeout=50) as client:
        await client.put(f"{DAV}/small", content=b"1")
        await client.get(f"{DAV}/small")
        before = process.memory_info().rss

        async def upload() -> AsyncIterator[bytes]:
            for _ in range(128):
                yield BLOCK

        put = await client.put(f"{DAV}/big", content=upload())
        assert put.status_code == 201
        after_upload = process.memory_info().rss
        length = 0
        async with client.stream("GET", f"{DAV}/big") as answer:
            assert answer.headers["content-length"] == str(128 * MIB)
            async for piece in answer.aiter_raw():
                length += len(piece)
        assert length == 128 * MIB
        archive = 0
        async with client.stream("GET", DAV, headers={"Accept": "application/x-tar"}) as answer:
            async for piece in answer.aiter_raw():
                archive += len(piece)
        assert archive > length
        grown = max(after_upload, process.memory_info().rss) - before
        assert grown < 30 * MIB


def head(method: str, path: str, **headers: object) -> bytes:
    pair = base64.b64encode(b"user:user").decode()
    lines = [f"{method} {DAV}/{path} HTTP/1.1", "Host: host", f"Authorization: Basic {pair}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def connected(host: TestHost) -> SocketStream:
    return await anyio.connect_tcp("127.0.0.1", int(host.url.rpartition(":")[2]))


class Seen:
    """Waits for the end of a request."""

    def __init__(self, host: TestHost, method: str) -> None:
        self._subscription = host.host.bus.subscribed(self._happened)
        self._method = method
        self._is_over = anyio.Event()
        self.exchange: Exchange | None = None

    def _happened(self, event: Event) -> None:
        if isinstance(event, Exchange) and event.method == self._method:
            self.exchange = event
            self._is_over.set()

    async def __aenter__(self) -> Self:
        self._subscription.__enter__()
        return self

    async def __aexit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            with anyio.fail_after(10):
                await self._is_over.wait()
        self._subscription.__exit__(None, None, None)


async def test_upload_that_breaks_off_leaves_nothing(host: TestHost) -> None:
    await host.files.put("user", "a.txt", "old")
    async with Seen(host, "PUT") as seen:
        stream = await connected(host)
        await stream.send(head("PUT", "a.txt", Content_Length=1000) + b"new")
        await stream.aclose()
    assert seen.exchange
    assert "went away" in seen.exchange.note
    assert seen.exchange.status == 0
    assert await host.files.get("user", "a.txt") == b"old"
    home = (await host.files.folder("user")).parent
    assert list((home / "uploads").iterdir()) == []


async def test_download_that_breaks_off_closes_the_file(host: TestHost) -> None:
    await host.files.put("user", "big", BLOCK * 20)
    async with Seen(host, "GET"):
        stream = await connected(host)
        await stream.send(head("GET", "big"))
        await stream.receive(100)
        assert any("/files/user/" in file.path for file in psutil.Process().open_files())
        await stream.aclose()
    assert not any("/files/user/" in file.path for file in psutil.Process().open_files())


async def test_slow_readers_keep_nobody_else_waiting(host: TestHost) -> None:
    await host.files.put("user", "big", BLOCK * 20)
    slow = [await connected(host) for _ in range(10)]
    for stream in slow:
        await stream.send(head("GET", "big"))
        await stream.receive(10)
    async with httpx.AsyncClient(base_url=host.url, auth=AUTH) as client:
        with anyio.fail_after(10):
            assert (await client.get(f"{DAV}/big", headers={"Range": "bytes=0-1"})).content
            assert (await client.get("/status.php")).status_code == 200
    for stream in slow:
        await stream.aclose()


async def test_upload_of_unknown_length_and_one_that_is_refused(host: TestHost) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(5):
            yield str(number).encode()

    async with httpx.AsyncClient(base_url=host.url, auth=AUTH) as client:
        assert (await client.put(f"{DAV}/a.txt", content=pieces())).status_code == 201
        assert await host.files.get("user", "a.txt") == b"01234"
        refused = await client.put(f"{DAV}/none/a.txt", content=b"x" * 5 * MIB)
        assert refused.status_code == 409
        assert (await client.get(f"{DAV}/a.txt")).text == "01234"


async def test_host_ends_while_files_are_sent(tmp_path: Path) -> None:
    async with live_host(tmp_path / "data") as host:
        await host.files.put("user", "big", BLOCK * 20)
        down, up = await connected(host), await connected(host)
        await down.send(head("GET", "big"))
        await down.receive(10)
        await up.send(head("PUT", "new", Content_Length=1000) + b"new")
        await anyio.wait_all_tasks_blocked()
        home = (await host.files.folder("user")).parent
    await down.aclose()
    await up.aclose()
    assert sorted(place.name for place in home.rglob("*") if place.is_file()) == ["big"]
