"""Engines that cannot be reached, in ways that a real one shows for a moment only."""

import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest

from appapi_host.deploy.docker import link
from appapi_host.deploy.docker.address import Address
from appapi_host.deploy.docker.connection import Attempt, Connection
from appapi_host.deploy.docker.engine import Engine, EngineError
from appapi_host.deploy.docker.faults import explain

PING = (
    b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 2\r\n\r\nOK"
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def listening(folder: Path, answer: bytes) -> Iterator[Path]:
    """Something on a unix socket that gives every request one answer, or none."""
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve(client: socket.socket) -> None:
            with client, suppress(OSError):
                while client.recv(65536):
                    client.sendall(answer)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=serve, args=(client,), daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield path
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@asynccontextmanager
async def engine_at(path: Path, told: list[str] | None = None) -> AsyncIterator[Engine]:
    engine = Engine(
        Address(f"unix://{path}", str(path)),
        patience=5.0,
        tell=([] if told is None else told).append,
    )
    try:
        yield engine
    finally:
        await engine.close()


async def test_engine_whose_library_never_comes_back_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(link, "_CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(Attempt, "make", lambda attempt: release.wait(30))
    async with engine_at(tmp_path / "s") as engine:
        assert await engine.is_there() is False
        with pytest.raises(EngineError, match="did not answer in time") as raised:
            await engine.connect()
    release.set()
    assert raised.value.is_unreachable


async def test_end_of_an_old_connection_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, release = threading.Event(), threading.Event()
    close = Connection.close

    def slow(connection: Connection) -> None:
        closing.set()
        release.wait(30)
        close(connection)

    with listening(tmp_path, PING) as path:
        async with engine_at(path) as engine:
            await engine.connect()
            monkeypatch.setattr(Connection, "close", slow)
            assert await engine.is_there()
            assert await anyio.to_thread.run_sync(closing.wait, 30)
            assert not release.is_set()
            release.set()
            monkeypatch.setattr(Connection, "close", close)


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "504 Timeout"])
async def test_proxy_without_an_engine_is_an_engine_that_is_away(
    tmp_path: Path, status: str
) -> None:
    answer = f"HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nGone".encode()
    with listening(tmp_path, answer) as path:
        async with engine_at(path) as engine:
            assert await engine.is_there() is False
            with pytest.raises(EngineError) as raised:
                await engine.connect()
    assert raised.value.cause == f"the proxy at {path} answers, the engine behind it does not"


async def test_what_an_engine_that_starts_says_for_a_moment_is_not_taken_for_its_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    said = iter(["Connection refused", "Permission denied", "alert bad certificate", ""])
    with listening(tmp_path, PING) as path:
        async with engine_at(path, told) as engine:
            connect = engine._new_connection

            async def stepwise() -> Connection:
                if text := next(said):
                    raise explain(str(path), text)
                return await connect()

            monkeypatch.setattr(engine, "_new_connection", stepwise)
            assert await engine.is_back()
    assert told == [
        f"the engine at {path} has gone; waiting for it",
        f"the engine at {path} is back",
    ]


async def test_engine_that_may_not_be_used_has_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine_at(tmp_path / "s") as engine:

        async def refused() -> Connection:
            raise explain("/s", "Permission denied")

        monkeypatch.setattr(engine, "_new_connection", refused)
        with pytest.raises(EngineError, match="no permission"):
            await engine.is_back()


@pytest.mark.parametrize("asks_for_events", [False, True])
async def test_return_is_told_though_whoever_noticed_the_end_waits_no_more(
    tmp_path: Path, asks_for_events: bool
) -> None:
    told: list[str] = []
    async with engine_at(tmp_path / "s", told) as engine:
        async with anyio.create_task_group() as group:
            group.start_soon(engine.is_back)
            with anyio.fail_after(20):
                while not told:
                    await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        with listening(tmp_path, PING):
            if asks_for_events:
                stream, _ = await engine.events({})
                stream.close()
            else:
                assert await engine.is_there()
            assert await engine.is_there()
    gone, back = told
    assert gone.endswith("has gone; waiting for it")
    assert back.endswith("is back")


async def test_whoever_gives_up_does_not_speak_for_those_who_wait_on(tmp_path: Path) -> None:
    told: list[str] = []
    async with engine_at(tmp_path / "s", told) as engine, anyio.create_task_group() as group:
        group.start_soon(partial(engine.is_back, for_ever=True))
        with anyio.fail_after(20):
            while not told:
                await anyio.lowlevel.checkpoint()
        engine._patience = 0.1
        assert not await engine.is_back()
        with listening(tmp_path, PING), anyio.fail_after(20):
            while len(told) < 2:
                await anyio.lowlevel.checkpoint()
    assert [text.rpartition(" ")[2] for text in told] == ["it", "back"]


async def test_end_is_told_again_after_it_was_given_up(tmp_path: Path) -> None:
    told: list[str] = []
    async with engine_at(tmp_path / "s", told) as engine:
        engine._patience = 0.1
        assert not await engine.is_back()
        assert not await engine.is_back()
    assert len(told) == 2
