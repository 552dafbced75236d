"""`trigger WHAT APPID`: set off what Nextcloud would ask an app, and show what comes of it."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import anyio

from appapi_host.cli.console import Console, Failure, open_console
from appapi_host.cli.places import place_of_app
from appapi_host.cli.session import opened
from exapp_sdk.errors import ExAppError

if TYPE_CHECKING:
    from appapi_host.triggers import Outcome

__all__ = ["TriggerOptions", "show_more", "trigger"]

_SHOWN_LINES: Final = 200


@dataclass(frozen=True, slots=True)
class TriggerOptions:
    """What was asked for on the command line.

    Args:
        what: a verb; `file-action` is the function `trigger_file_action`.
        app_id: the app.
        data_dir: of `serve`; what `run` has installed is below it.
        arguments: for the function of `appapi_host.triggers`.
    """

    what: str
    app_id: str
    data_dir: Path
    arguments: dict[str, Any]


def trigger(options: TriggerOptions, out: TextIO, err: TextIO) -> int:
    """Set it off.

    Args:
        options: what and whom.
        out: for the requests and the answers.
        err: for everything else.

    Returns:
        0 when the app took it; 1 when it did not, or could not be asked.
    """
    console = open_console(out, err)
    try:
        outcome = anyio.run(partial(_run, options, console))
        for note in outcome.notes:
            console.labelled("note", note)
    except ExAppError as error:
        console.failure(Failure.of(error))
        return 1
    finally:
        console.close()
    return 0 if outcome.is_success else 1


async def _run(options: TriggerOptions, console: Console) -> "Outcome":
    from appapi_host import triggers

    name = f"trigger_{options.what.replace('-', '_')}"
    work: Callable[..., Awaitable[Outcome]] = getattr(triggers, name)
    async with opened(await place_of_app(options.data_dir, options.app_id)) as host:
        arguments = dict(options.arguments)
        paths, mime = arguments.pop("paths", ()), arguments.pop("mime", None)
        if paths:
            arguments["files"] = [
                triggers.FileNode.at(path, file_id=number, **({"mime": mime} if mime else {}))
                for number, path in enumerate(paths, 1)
            ]
        outcome = await work(host, options.app_id, **arguments)
    for told in outcome.told:
        _show_told(console, told)
    show_more(console, outcome)
    return outcome


def _show_told(console: Console, told: Any) -> None:
    who = f"as {told.user_id}" if told.user_id else "in nobody's name"
    console.say(f"{told.method} {told.target} {who}")
    for name, value in told.headers:
        console.say(f"  {name}: {value}")
    _show_body(console, told.body)
    if told.status:
        console.say(f"answered {told.status} in {told.seconds * 1000:.0f} ms")
        _show_body(console, told.answer)
    if told.note:
        console.say(f"({told.note})")


def _show_body(console: Console, body: bytes) -> None:
    """A body, JSON set out in lines, everything else as text."""
    try:
        text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        text = body.decode("utf-8", "replace")
    lines = text.splitlines()
    for line in lines[:_SHOWN_LINES]:
        console.say(f"  {line}")
    if len(lines) > _SHOWN_LINES:
        console.say(f"  … and {len(lines) - _SHOWN_LINES} lines more")


def show_more(console: Console, outcome: Any) -> None:
    """What there is besides requests: what a bot said, a task, a value."""
    from appapi_host.triggers import SettingOutcome, TalkOutcome, TaskOutcome

    match outcome:
        case TalkOutcome(said=said):
            for text in said:
                console.say(f"the bot says: {text}")
        case TaskOutcome(task=task) if task is not None:
            console.say(f"task {task.id} is {task.status.value}")
            result = task.output if task.error is None else {"error": task.error}
            if result is not None:
                _show_body(console, json.dumps(result).encode())
        case SettingOutcome(key=key, text=text):
            console.say(f"{key} is now {text}")
