"""The command `trigger`, as click describes it."""

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from appapi_host.cli.common import DATA_DIR_VARIABLE, default_data_dir

__all__ = ["trigger_group"]

_TASK_SECONDS: Final = 60.0
_TALK_SECONDS: Final = 5.0


@click.group("trigger", short_help="Set off what people do with an app: click, write, ask.")
def trigger_group() -> None:
    """Set off what Nextcloud would ask an installed app, and show what it answers.

    Everything has sample data by default. Exit code 0 when the app took it, 1 when not.
    """


def _json(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    try:
        found = json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"this is no JSON: {error}", context, parameter) from None
    if not isinstance(found, dict):
        raise click.BadParameter("this is no JSON object", context, parameter)
    return found


def _pairs(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> dict[str, str]:
    found = {}
    for pair in value:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", context, parameter)
        found[key] = text
    return found


def _files(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> dict[str, bytes]:
    found = {}
    for key, path in _pairs(context, parameter, value).items():
        try:
            found[key] = Path(path).read_bytes()
        except OSError as error:
            raise click.BadParameter(f"{path}: {error.strerror}", context, parameter) from None
    return found


def _option(*names: str, help: str, **more: Any) -> click.Option:  # noqa: A002  # as click has it
    return click.Option(names, help=help, **more)


def _wait(seconds: float, what: str) -> click.Option:
    return _option(
        "--wait",
        "seconds",
        type=click.FloatRange(min=0),
        default=seconds,
        show_default=True,
        metavar="SECONDS",
        help=f"How long to wait for {what}.",
    )


@click.pass_obj
def _set_off(command: tuple[str, ...] | None, /, *, what: str, **options: Any) -> int:
    if command is not None:
        raise click.UsageError("trigger starts no command; `--` belongs to run.")
    from appapi_host.cli.trigger import TriggerOptions, trigger

    if "files" in options:
        options["values"] |= options.pop("files")
    data_dir: Path | None = options.pop("data_dir")
    app_id: str = options.pop("app_id")
    place = data_dir.expanduser().absolute() if data_dir else default_data_dir(os.environ)
    return trigger(TriggerOptions(what, app_id, place, options), sys.stdout, sys.stderr)


def _verb(what: str, short: str, long: str, *own: click.Option) -> click.Command:
    """One of the things that can be set off.

    Args:
        what: its name.
        short: for the list of all.
        long: for its own help.
        own: options besides the app, who acts, and where the state is.
    """
    shared = (
        click.Argument(["app_id"], metavar="APPID"),
        _option("--user", "user_id", metavar="USER", help="Who does it."),
        _option(
            "--data-dir",
            type=click.Path(path_type=Path, file_okay=False),
            envvar=DATA_DIR_VARIABLE,
            help=f"Where the state is kept; also {DATA_DIR_VARIABLE}.",
        ),
    )
    return click.Command(
        what,
        params=[*shared, *own],
        callback=partial(_set_off, what=what),
        short_help=short,
        help=long,
    )


_VERBS: Final = (
    _verb(
        "file-action",
        "Click an action in the menu of a file.",
        "Click an action of the app APPID on a file, by default on a sample of its type.",
        _option("--name", help="Which action, if the app has several."),
        _option(
            "--file", "paths", multiple=True, metavar="PATH", help="On which file; may be repeated."
        ),
        _option("--mime", help="Type of the files, instead of what their names say."),
    ),
    _verb(
        "task",
        "Have the app do a task.",
        "Schedule a task for the app APPID and wait for its result.",
        _option("--provider", metavar="ID", help="Which provider, if the app has several."),
        _option(
            "--input",
            "values",
            multiple=True,
            metavar="KEY=VALUE",
            callback=_pairs,
            help="An input; may be repeated.",
        ),
        _option(
            "--input-file",
            "files",
            multiple=True,
            metavar="KEY=PATH",
            callback=_files,
            help="An input that is a file; may be repeated.",
        ),
        _wait(_TASK_SECONDS, "the result"),
    ),
    _verb(
        "talk",
        "Say something to a bot.",
        "Say something to a bot of the app APPID, and show what it says.",
        _option("--bot", "route", metavar="ROUTE", help="Which bot, if the app has several."),
        _option("--message", default="Hello", show_default=True, help="What is said."),
        _option("--conversation", default="n3xtc10ud", show_default=True, help="Its token."),
        _wait(_TALK_SECONDS, "what the bot says"),
    ),
    _verb(
        "webhook",
        "Have something happen that the app listens to.",
        "Tell the webhooks of the app APPID that something happened; `--user ''` is nobody.",
        _option(
            "--event",
            metavar="CLASS",
            help="What, if the app listens to several; the last part of the name will do.",
        ),
        _option("--data", callback=_json, metavar="JSON", help="Members of the event."),
    ),
    _verb(
        "setting",
        "Enter a value in a form of the app.",
        "Enter a value in a form of the app APPID, as a person does among the settings.",
        _option("--form", metavar="ID", help="Which form, if the app has several."),
        _option("--field", metavar="ID", help="Which field.  [default: the first]"),
        _option("--value", help="What is entered."),
    ),
)
for _each in _VERBS:
    trigger_group.add_command(_each)
