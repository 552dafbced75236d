"""The command `trigger`, as click describes it."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from appapi_host.cli.common import DATA_DIR_VARIABLE, default_data_dir

__all__ = ["trigger_group"]

_F = TypeVar("_F", bound=Callable[..., Any])

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


def _shared(function: _F) -> _F:
    """What all of them have: the app, who acts, and where the state is."""
    for decorate in (
        click.argument("app_id", metavar="APPID"),
        click.option("--user", "user_id", metavar="USER", help="Who does it."),
        click.option(
            "--data-dir",
            type=click.Path(path_type=Path, file_okay=False),
            envvar=DATA_DIR_VARIABLE,
            help=f"Where the state is kept; also {DATA_DIR_VARIABLE}.",
        ),
    ):
        function = decorate(function)
    return function


def _set_off(what: str, command: tuple[str, ...] | None, options: dict[str, Any]) -> int:
    if command is not None:
        raise click.UsageError("trigger starts no command; `--` belongs to run.")
    from appapi_host.cli.trigger import TriggerOptions, trigger

    data_dir: Path | None = options.pop("data_dir")
    app_id: str = options.pop("app_id")
    place = data_dir.expanduser().absolute() if data_dir else default_data_dir(os.environ)
    return trigger(TriggerOptions(what, app_id, place, options), sys.stdout, sys.stderr)


@trigger_group.command("file-action", short_help="Click an action in the menu of a file.")
@_shared
@click.option("--name", help="Which action, if the app has several.")
@click.option(
    "--file", "paths", multiple=True, metavar="PATH", help="On which file; may be repeated."
)
@click.option("--mime", help="Type of the files, instead of what their names say.")
@click.pass_obj
def _file_action(command: tuple[str, ...] | None, /, **options: Any) -> int:
    """Click an action of the app APPID on a file, by default on a sample of its type."""
    return _set_off("file-action", command, options)


@trigger_group.command("task", short_help="Have the app do a task.")
@_shared
@click.option("--provider", metavar="ID", help="Which provider, if the app has several.")
@click.option(
    "--input",
    "values",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_pairs,
    help="An input; may be repeated.",
)
@click.option(
    "--input-file",
    "files",
    multiple=True,
    metavar="KEY=PATH",
    callback=_files,
    help="An input that is a file; may be repeated.",
)
@click.option(
    "--wait",
    "seconds",
    type=click.FloatRange(min=0),
    default=_TASK_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the result.",
)
@click.pass_obj
def _task(command: tuple[str, ...] | None, /, **options: Any) -> int:
    """Schedule a task for the app APPID and wait for its result."""
    options["values"] |= options.pop("files")
    return _set_off("task", command, options)


@trigger_group.command("talk", short_help="Say something to a bot.")
@_shared
@click.option("--bot", "route", metavar="ROUTE", help="Which bot, if the app has several.")
@click.option("--message", default="Hello", show_default=True, help="What is said.")
@click.option("--conversation", default="n3xtc10ud", show_default=True, help="Its token.")
@click.option(
    "--wait",
    "seconds",
    type=click.FloatRange(min=0),
    default=_TALK_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for what the bot says.",
)
@click.pass_obj
def _talk(command: tuple[str, ...] | None, /, **options: Any) -> int:
    """Say something to a bot of the app APPID, and show what it says."""
    return _set_off("talk", command, options)


@trigger_group.command("webhook", short_help="Have something happen that the app listens to.")
@_shared
@click.option(
    "--event",
    metavar="CLASS",
    help="What, if the app listens to several; the last part of the name will do.",
)
@click.option("--data", callback=_json, metavar="JSON", help="Members of the event.")
@click.pass_obj
def _webhook(command: tuple[str, ...] | None, /, **options: Any) -> int:
    """Tell the webhooks of the app APPID that something happened; `--user ''` is nobody."""
    return _set_off("webhook", command, options)


@trigger_group.command("setting", short_help="Enter a value in a form of the app.")
@_shared
@click.option("--form", metavar="ID", help="Which form, if the app has several.")
@click.option("--field", metavar="ID", help="Which field.  [default: the first]")
@click.option("--value", help="What is entered.")
@click.pass_obj
def _setting(command: tuple[str, ...] | None, /, **options: Any) -> int:
    """Enter a value in a form of the app APPID, as a person does among the settings."""
    return _set_off("setting", command, options)
