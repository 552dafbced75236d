"""What an occ command works with: the host over the shared state, and where to print."""

import codecs
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from appapi_host.cli.common import SERVE_LOCK, holder
from appapi_host.events import Event, Notice
from appapi_host.settings import HostSettings

if TYPE_CHECKING:
    from appapi_host.host import Host

__all__ = ["Session", "opened"]


class Session:
    """One run of one command.

    Args:
        settings: how the host behaves; its data directory is shared with `serve`.
        out: for what the real occ prints too.
        err: for what only we say.
        quiet: print nothing but errors of usage.
        warnings: say what is not part of the answer, for instance that `serve` does not run.
    """

    def __init__(
        self,
        settings: HostSettings,
        out: TextIO,
        err: TextIO,
        *,
        quiet: bool = False,
        warnings: bool = True,
    ) -> None:
        self.settings = settings
        self.out = out
        self.err = err
        self._quiet = quiet
        self._warnings = warnings
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def hushed(self, silent: bool) -> "Session":  # noqa: FBT001  # the option --silent as it is
        """The same for a command that was told to be silent."""
        if not silent:
            return self
        return Session(self.settings, self.out, self.err, quiet=True, warnings=False)

    def at(self, directory: Path) -> "Session":
        """The same with the state of another directory."""
        return Session(
            replace(self.settings, data_dir=directory),
            self.out,
            self.err,
            quiet=self._quiet,
            warnings=self._warnings,
        )

    @property
    def data_dir(self) -> Path:
        """Where the state is."""
        directory = self.settings.data_dir
        assert directory is not None
        return directory

    @property
    def is_served(self) -> bool:
        """Whether a `serve` runs on this state, so that apps can call the host."""
        return holder(self.data_dir / SERVE_LOCK) is not None

    @property
    def shows_progress(self) -> bool:
        """Whether somebody is looking."""
        return self.out.isatty() and not self._quiet

    def line(self, text: str) -> None:
        """A line of the real occ."""
        if not self._quiet:
            print(text, file=self.out, flush=True)

    def raw(self, piece: bytes) -> None:
        """What an app prints, as it is and at once."""
        if self._quiet:
            return
        if hasattr(self.out, "buffer"):
            self.out.flush()
            self.out.buffer.write(piece)
        else:  # what a test passes
            self.out.write(self._decoder.decode(piece))
        self.out.flush()

    def cause(self, text: str) -> None:
        """Why something failed, where the real occ leaves that to the server log."""
        if not self._quiet and text:
            print(text, file=self.err, flush=True)

    def note(self, text: str) -> None:
        """Something to know that is no failure."""
        if not self._quiet and self._warnings:
            print(text, file=self.err, flush=True)

    def _see(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.note(f"ExApp {event.app_id}: {event.text}" if event.app_id else event.text)

    @asynccontextmanager
    async def host(self) -> AsyncIterator["Host"]:
        """The host over the shared state; errors raised inside the block come out as they are."""
        async with opened(self.settings) as host:
            with host.bus.subscribed(self._see):
                await host.recover()
                yield host


@asynccontextmanager
async def opened(settings: HostSettings) -> AsyncIterator["Host"]:
    """A host; errors raised inside the block come out as they are."""
    from appapi_host.cli.places import as_served
    from appapi_host.host import Host

    try:
        async with Host.open(await as_served(settings)) as host:
            yield host
    except BaseExceptionGroup as group:
        # The host's own task group wraps what passes through it.
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__
