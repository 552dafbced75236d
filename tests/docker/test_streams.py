"""Answers that go on: how they are taken apart, refused and ended, without an engine."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException

import pytest

from appapi_host.deploy.docker.streams import (
    Request,
    Stream,
    StreamRefused,
    frames,
    messages,
)

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def answering(*pieces: bytes) -> Iterator[str]:
    """Something that sends these pieces to whoever asks, and then nothing; yields its URL."""
    done = threading.Event()

    def answer() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(65536)
            for piece in pieces:
                client.sendall(piece)
            done.wait()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


def stream_of(url: str, silence: float | None = None) -> Stream:
    return Stream(url, None, {}, lambda: Request("GET", "/x", {"a": "b c"}, silence=silence))


def frame(data: bytes) -> bytes:
    return b"\x01\x00\x00\x00" + len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_frames_are_the_same_however_they_come(size: int) -> None:
    sent = frame(b"first\n") + frame(b"") + frame(b"second\n")
    pieces = (sent[at : at + size] for at in range(0, len(sent), size))
    assert b"".join(frames(pieces)) == b"first\nsecond\n"


@pytest.mark.parametrize("size", [1, 7, 100])
def test_messages_are_the_same_however_they_come(size: int) -> None:
    sent = b'{"a": 1}\r\n\r\n{"b": 2}\n{"c": 3}'
    pieces = (sent[at : at + size] for at in range(0, len(sent), size))
    assert list(messages(pieces)) == [{"a": 1}, {"b": 2}, {"c": 3}]


def test_refusal_carries_status_and_body() -> None:
    head = b"HTTP/1.1 409 Conflict\r\nContent-Length: 4\r\n\r\nbusy"
    with answering(head) as url:
        stream = stream_of(url)
        with pytest.raises(StreamRefused) as refused:
            stream.open()
        stream.close()
    assert (refused.value.status, refused.value.body) == (409, b"busy")


def test_silence_longer_than_allowed_ends_the_reading() -> None:
    with answering(HEAD + b"1\r\nx\r\n") as url:
        stream = stream_of(url, silence=0.05)
        pieces = stream.open()
        assert stream.next(pieces) == b"x"
        with pytest.raises(TimeoutError):
            stream.next(pieces)
        stream.close()


def test_reader_is_woken_by_who_closes() -> None:
    with answering(HEAD + b"1\r\nx\r\n") as url:
        stream = stream_of(url)
        pieces = stream.open()
        assert stream.next(pieces) == b"x"
        ends: list[object] = []
        reader = threading.Thread(target=_read, args=(stream.next, pieces, ends))
        reader.start()
        stream.close()
        stream.close()  # once more does no harm
        reader.join()
    assert len(ends) == 1


def _read(
    read: Callable[[Iterator[bytes]], bytes | None], pieces: Iterator[bytes], ends: list[object]
) -> None:
    try:
        ends.append(read(pieces))
    except (OSError, HTTPException) as error:
        ends.append(error)


def test_stream_that_was_closed_before_is_not_opened() -> None:
    with answering() as url:
        stream = stream_of(url)
        stream.close()
        with pytest.raises(ConnectionAbortedError):
            stream.open()
