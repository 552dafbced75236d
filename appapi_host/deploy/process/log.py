"""What an app prints: the file that it goes to, and reading it."""

from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["CHUNK", "LOG", "last_lines", "read_chunk", "start_of_last", "text_of"]

LOG: Final = "output.log"
CHUNK: Final = 64 * 1024


def read_chunk(log: Path, offset: int) -> bytes:
    """What is there from a place on, at most one chunk; nothing if there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(offset)
            return file.read(CHUNK)
    except OSError:
        return b""


def last_lines(log: Path, start: int, lines: int) -> list[str]:
    """The last lines after `start`, oldest first, as far as they are in one chunk."""
    try:
        offset = max(start, log.stat().st_size - CHUNK)
    except OSError:
        return []
    content = read_chunk(log, offset)
    if offset > start:
        content = content.partition(b"\n")[2]  # the first line is not whole
    found = [text_of(line) for line in content.removesuffix(b"\n").split(b"\n")] if content else []
    return found[max(0, len(found) - lines) :]


def start_of_last(log: Path, start: int, lines: int) -> int:
    """Where the last lines begin, in bytes."""
    starts: deque[int] = deque(maxlen=lines)
    place = start
    with suppress(OSError), log.open("rb") as file:
        file.seek(start)
        for line in file:
            starts.append(place)
            place += len(line)
    return starts[0] if starts else place


def text_of(line: bytes) -> str:
    """What a terminal would still show of a line."""
    return line.decode("utf-8", errors="replace").rstrip("\r").rpartition("\r")[2]
