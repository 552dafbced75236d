"""What an app prints: the file that it goes to, and reading it."""

from collections import deque
from contextlib import closing, suppress
from io import FileIO
from pathlib import Path
from typing import Final

__all__ = ["CHUNK", "LOG", "LogReader", "last_lines", "start_of_last", "text_of"]

LOG: Final = "output.log"
CHUNK: Final = 64 * 1024


class LogReader:
    """Reads a log on and on; what was printed stays readable when the app is removed meanwhile.

    Args:
        log: the file; it is opened with the first read that finds it.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._file: FileIO | None = None

    def read(self, offset: int) -> bytes:
        """What is there from a place on, at most one chunk; nothing if there is no log."""
        try:
            if self._file is None:
                self._file = FileIO(self._log)
            self._file.seek(offset)
            return self._file.read(CHUNK)
        except OSError:
            return b""

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()


def last_lines(log: Path, start: int, lines: int) -> list[str]:
    """The last lines after `start`, oldest first, as far as they are in one chunk."""
    try:
        offset = max(start, log.stat().st_size - CHUNK)
    except OSError:
        return []
    with closing(LogReader(log)) as reader:
        content = reader.read(offset)
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
