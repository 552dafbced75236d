"""`python -m appapi_host occ COMMAND …`: the management commands of AppAPI over our own state.

Lines and exit codes are those of the real occ, because scripts parse them; what only we have to say
goes to standard error. The commands are rows of `COMMANDS`, from which `list` and `help` are made.
"""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import anyio

from appapi_host.cli import (
    accounts,
    apps,
    configs,
    daemons,
    registries,
    removed,
    setup_checks,
    updates,
)
from appapi_host.cli.common import default_data_dir, timeouts_from
from appapi_host.cli.exapp_commands import owner_of_disabled, registered
from appapi_host.cli.session import Session
from appapi_host.cli.symfony import (
    Argument,
    Command,
    Input,
    UsageError,
    command_word,
    describe_command,
    describe_commands,
    find,
    parse,
    unquoted,
    usage,
)
from appapi_host.settings import HostSettings
from exapp_sdk.errors import ExAppError

__all__ = ["COMMANDS", "main"]


def main(words: Sequence[str]) -> int:
    """Run one command; the first words may be `--data-dir DIR`.

    Returns:
        The exit code that the real occ would have.
    """
    data_dir, rest = _data_dir(unquoted(words))
    try:
        return _run(data_dir, unquoted(rest))
    except UsageError as error:
        _frame(error.message, usage(error.command) if error.command else "")
        return 1
    except ExAppError as error:
        remedy = getattr(error, "remedy", "")
        _frame(f"{error}\nTry: {remedy}" if remedy else str(error), "")
        return 1


def _run(data_dir: Path | None, words: Sequence[str]) -> int:
    settings = HostSettings(
        data_dir=data_dir or default_data_dir(os.environ), timeouts=timeouts_from(os.environ)
    )
    place = command_word(words)
    if place is None:
        # `occ`, `occ --help`, `occ --version`: read as options of `list`.
        command, rest = COMMANDS["list"], list(words)
    else:
        command = _find(words[place], Session(settings, sys.stdout, sys.stderr))
        rest = [*words[:place], *words[place + 1 :]]
    given = parse(command, rest)
    if given.flag("version"):
        print(_title())
        return 0
    if given.flag("help") and place is not None:
        print(describe_command(command))
        return 0
    session = Session(
        settings,
        sys.stdout,
        sys.stderr,
        quiet=given.flag("quiet"),
        warnings=not given.flag("no-warnings"),
    )
    return anyio.run(command.run, session, given)


def _find(name: str, session: Session) -> Command:
    """The command of that name; apps are asked for theirs only if we have none.

    Raises:
        UsageError: none, or more than one.
    """
    try:
        return find(COMMANDS, name)
    except UsageError:
        theirs = anyio.run(registered, session)
    try:
        return find({**theirs, **COMMANDS}, name)
    except UsageError as error:
        app_id = anyio.run(owner_of_disabled, session, name)
        if not app_id:
            raise
        raise UsageError(
            f"{error.message}\nIt belongs to the ExApp {app_id}, which is disabled: "
            f"occ app_api:app:enable {app_id}"
        ) from None


def _data_dir(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Take our own option off the front; behind it everything is Symfony's."""
    if words and words[0].startswith("--data-dir="):
        return Path(words[0].partition("=")[2]).expanduser().absolute(), list(words[1:])
    if len(words) > 1 and words[0] == "--data-dir":
        return Path(words[1]).expanduser().absolute(), list(words[2:])
    return None, list(words)


def _frame(message: str, usage_line: str) -> None:
    """Print an error as Symfony does: set off by blank lines, the usage below."""
    text = "\n".join(f"  {line}" for line in message.splitlines())
    print(f"\n{text}\n", file=sys.stderr)
    if usage_line:
        print(f"{usage_line}\n", file=sys.stderr)


def _title() -> str:
    return f"appapi_host {version('exapp-sdk')} (AppAPI {HostSettings().aa_version})"


async def _list(session: Session, given: Input) -> int:
    namespace = given.arguments.get("namespace", "")
    shown = {
        name: command
        for name, command in {**await registered(session), **COMMANDS}.items()
        if not namespace or name == namespace or name.startswith(f"{namespace}:")
    }
    if not shown:
        raise UsageError(f'There are no commands defined in the "{namespace}" namespace.')
    session.line(describe_commands(shown, title=_title()))
    return 0


async def _help(session: Session, given: Input) -> int:
    known = {**await registered(session), **COMMANDS}
    session.line(describe_command(find(known, given.arguments.get("command_name", "help"))))
    return 0


_OWN: Final = (
    Command(
        "list",
        "List commands",
        _list,
        (Argument("namespace", "Only the commands of it", required=False),),
    ),
    Command(
        "help",
        "Display help for a command",
        _help,
        (Argument("command_name", "The command", required=False),),
    ),
)

COMMANDS: Final[dict[str, Command]] = {
    command.name: command
    for command in (
        *_OWN,
        *daemons.COMMANDS,
        *registries.COMMANDS,
        *apps.COMMANDS,
        *updates.COMMANDS,
        *configs.COMMANDS,
        *removed.COMMANDS,
        *accounts.COMMANDS,
        *setup_checks.COMMANDS,
    )
}
"""Every command by its name."""
