"""`logs APPID`: what an installed app prints, whoever installed it."""

from functools import partial
from pathlib import Path
from typing import TextIO

import anyio

from appapi_host.cli.console import Console, Failure, open_console
from appapi_host.cli.places import place_of_app
from appapi_host.cli.session import opened
from exapp_sdk.errors import ExAppError

__all__ = ["logs"]


def logs(
    app_id: str,
    *,
    data_dir: Path,
    follow: bool,
    tail: int | None,
    out: TextIO,
    err: TextIO,
) -> int:
    """Show the output of an app.

    Args:
        app_id: the app.
        data_dir: of `serve`; what `run` has installed is below `run/<appid>` there.
        follow: go on until the app has ended.
        tail: begin with so many of the last lines; None shows all since the app was started.
        out: for the lines.
        err: for failures.

    Returns:
        0; 1 when there is no such app, or its output cannot be had.
    """
    console = open_console(out, err)
    try:
        anyio.run(partial(_show, app_id, data_dir, console, follow=follow, tail=tail))
    except ExAppError as error:
        console.failure(Failure.of(error))
        return 1
    finally:
        console.close()
    return 0


async def _show(
    app_id: str, data_dir: Path, console: Console, *, follow: bool, tail: int | None
) -> None:
    async with opened(await place_of_app(data_dir, app_id)) as host:
        app = await host.app(app_id)
        console.hide(app.secret.reveal())
        async for line in host.backend(app).output(app, tail=tail, follow=follow):
            console.say(line)
            if console.is_gone:
                return
