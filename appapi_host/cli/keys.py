"""Keys that somebody presses while a command runs."""

import os
import termios
import tty
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final, Self, TextIO

import anyio

__all__ = ["Keys"]

_BACKGROUND_SECONDS: Final = 0.5
"""How soon a command that was put in the background looks whether it is back."""


class Keys:
    """The keyboard of a terminal, one key at a time; Ctrl-C stays what it is.

    A context manager: inside the block keys arrive without Enter and are not shown, afterwards the
    terminal is as it was. Nothing happens where the stream is no terminal of ours.

    Args:
        stream: standard input.
    """

    def __init__(self, stream: TextIO) -> None:
        self._descriptor: int | None = None
        self._before: list[Any] | None = None
        with suppress(OSError, ValueError):  # closed, or none that the system knows
            if stream.isatty():
                self._descriptor = stream.fileno()

    @property
    def is_read(self) -> bool:
        """Whether keys arrive."""
        return self._before is not None

    def __enter__(self) -> Self:
        """Ask the terminal for single keys."""
        if self._descriptor is not None and self._is_foreground(self._descriptor):
            with suppress(termios.error):
                self._before = termios.tcgetattr(self._descriptor)
                tty.setcbreak(self._descriptor, termios.TCSANOW)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the terminal back."""
        self.restore()

    def restore(self) -> None:
        """Put the terminal back; also for whoever ends the process without leaving the block."""
        before, self._before = self._before, None
        if before is not None and self._descriptor is not None:
            with suppress(termios.error):  # the terminal was closed
                termios.tcsetattr(self._descriptor, termios.TCSANOW, before)

    async def pressed(self) -> AsyncIterator[str]:
        """Each key, until the terminal is closed."""
        while self.is_read and self._descriptor is not None:
            await anyio.wait_readable(self._descriptor)
            if not self._is_foreground(self._descriptor):
                # What is typed now is for the shell; reading it would stop this process.
                await anyio.sleep(_BACKGROUND_SECONDS)
                continue
            try:
                data = os.read(self._descriptor, 1024)
            except OSError:
                return
            if not data:
                return
            for key in data.decode("utf-8", "replace"):
                yield key

    @staticmethod
    def _is_foreground(descriptor: int) -> bool:
        try:
            return os.tcgetpgrp(descriptor) == os.getpgrp()
        except OSError:
            return False  # not the terminal that controls us
