"""Changes of the files of an app's folder, for those that build it anew with each."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import anyio
import watchfiles

from appapi_host.errors import HostError

__all__ = ["watch"]

_QUIET_MILLISECONDS: Final = 300
"""How long nothing may change before a series of changes counts as complete: an editor saves a file
in several steps, a checkout many files one by one."""

_LONGEST_MILLISECONDS: Final = 5000
"""A series that does not end is passed on all the same."""


async def watch(
    folder: Path,
    changed: Callable[[list[str]], None],
    *,
    is_input: Callable[[str], bool],
    besides: Iterable[Path] = (),
) -> None:
    """Tell of changes until cancelled.

    What version control, editors and Python keep for themselves (`.git`, `.venv`, `__pycache__`,
    `*.swp`, …) does not count.

    Args:
        folder: with everything below it.
        changed: gets each series of changes, as paths from the folder, sorted.
        is_input: whether a path from the folder counts.
        besides: folders that do not count.

    Raises:
        HostError: the system cannot watch it.
    """
    root = Path(await anyio.Path(folder).resolve())
    ignored = [Path(await anyio.Path(path).resolve()) for path in besides]
    usual = watchfiles.DefaultFilter(ignore_paths=ignored)

    def counts(change: watchfiles.Change, path: str) -> bool:
        return usual(change, path) and is_input(Path(path).relative_to(root).as_posix())

    cancelled = anyio.Event()
    series = watchfiles.awatch(
        root,
        watch_filter=counts,
        step=_QUIET_MILLISECONDS,
        debounce=_LONGEST_MILLISECONDS,
        stop_event=cancelled,
    )
    try:
        async with anyio.create_task_group() as group:
            # The library's thread goes on for seconds unless it is told to end.
            group.start_soon(_set_when_cancelled, cancelled)
            async for found in series:
                changed(sorted({Path(path).relative_to(root).as_posix() for _, path in found}))
            await anyio.lowlevel.checkpoint()  # the series ends only because we were cancelled
    except* OSError as errors:
        raise HostError(
            f"changes of {folder} cannot be watched: {errors.exceptions[0]}",
            remedy="set WATCHFILES_FORCE_POLLING=1, or raise fs.inotify.max_user_watches",
        ) from errors


async def _set_when_cancelled(event: anyio.Event) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        event.set()
