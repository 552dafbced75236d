"""Commands that ExApps register with the host: `occ APPID:command …`.

They exist while their app is enabled, and `list`, `help` and the command line treat them as they
treat ours. Running one asks the app, whether `serve` runs or not.

Source: AppAPI documentation, OCC commands; a request recorded from AppAPI 32.0.0.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from appapi_host.cli.places import run_places
from appapi_host.cli.session import Session
from appapi_host.cli.symfony import (
    Argument,
    Command,
    Input,
    Option,
    UsageError,
    Value,
    parse,
)
from appapi_host.errors import HostError, NotFoundError
from exapp_sdk.errors import TransportError

if TYPE_CHECKING:
    from appapi_host.documents import Document
    from appapi_host.host import Host

__all__ = [
    "CommandResult",
    "command_of",
    "owner_of_disabled",
    "payload",
    "registered",
    "run_words",
]

_KIND: Final = "occ-command"
_NAME: Final = re.compile(r"[^\s=<>|-][^\s=<>|]*")
"""What can be typed as an option, and told apart from its value."""

_SHOWN_BYTES: Final = 1000
"""How much of an error page is shown; its beginning says enough."""


async def registered(session: Session) -> dict[str, Command]:
    """The commands of the apps that are enabled, by name; those that `run` has included.

    One that is malformed is left out, with a note: it must not take the others along.

    Args:
        session: gives the host.
    """
    commands: dict[str, Command] = {}
    runs = await anyio.to_thread.run_sync(run_places, session.data_dir)
    for directory in (session.data_dir, *runs):
        async with session.at(directory).host() as host:
            found = await host.documents.read(
                lambda documents: documents.find(_KIND, of_enabled=True)
            )
        for document in found:
            try:
                command = command_of(document, directory)
            except ValueError as error:
                text = f"its command {document.name} cannot run: {error}"
                session.note(f"ExApp {document.app_id}: {text}")
            else:
                commands.setdefault(command.name, command)
    return commands


async def owner_of_disabled(session: Session, name: str) -> str:
    """The app that is disabled and has registered a command of that name; empty for none."""
    async with session.host() as host:
        found = await host.documents.read(lambda documents: documents.find(_KIND))
        for document in found:
            app = await host.registry.app(document.app_id)
            if document.name == name and app is not None and not app.enabled:
                return app.app_id
    return ""


def command_of(document: "Document", directory: Path | None = None) -> Command:
    """What an app has registered, as a command.

    Args:
        document: the registration.
        directory: where the app is installed; None for that of the session.

    Raises:
        ValueError: it makes no sense as one.
    """
    content = document.content
    arguments = tuple(_argument(each) for each in _objects(content["arguments"], "argument"))
    for before, after in pairwise(arguments):
        if before.repeatable:
            raise ValueError(f"the argument {after.name} follows one that takes all words")
        if after.required and not before.required:
            raise ValueError(f"the required argument {after.name} follows an optional one")
    options = tuple(_option(each) for each in _objects(content["options"], "option"))
    for kind, names in (
        ("argument", [each.name for each in arguments]),
        ("option", [each.name for each in options]),
    ):
        if len(set(names)) < len(names):
            raise ValueError(f"two of its {kind}s have the same name")
    return Command(
        content["name"],
        content["description"],
        partial(_run, document, directory),
        arguments,
        options,
        tuple(str(usage) for usage in content["usages"]),
        hidden=bool(content["hidden"]),
    )


def _objects(values: Iterable[Any], kind: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for value in values:
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise ValueError(f"an {kind} has no name")
        if not _NAME.fullmatch(value["name"].removeprefix("--")):
            raise ValueError(f"{value['name']!r} is no name of an {kind}")
        found.append(value)
    return found


def _modes(value: Mapping[str, Any]) -> set[str]:
    """`array` may stand beside another one, with a comma in between."""
    return {mode.strip() for mode in str(value.get("mode") or "").split(",")}


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _default(value: Mapping[str, Any], *, repeatable: bool) -> Any:
    """The default; that of a list may be written with commas."""
    default = value.get("default")
    if not repeatable or isinstance(default, list):
        return default
    return [each.strip() for each in default.split(",")] if isinstance(default, str) else []


def _argument(value: Mapping[str, Any]) -> Argument:
    modes = _modes(value)
    repeatable = "array" in modes
    required = "required" in modes
    return Argument(
        value["name"],
        _text(value.get("description")),
        required=required,
        repeatable=repeatable,
        default=None if required else _default(value, repeatable=repeatable),
    )


def _option(value: Mapping[str, Any]) -> Option:
    modes = _modes(value)
    repeatable = "array" in modes
    if "optional" in modes:
        kind = Value.OPTIONAL
    elif "required" in modes or repeatable:
        kind = Value.REQUIRED
    else:
        kind = Value.NEGATABLE if "negatable" in modes else Value.NONE
    return Option(
        value["name"].removeprefix("--"),
        _text(value.get("description")),
        kind,
        None if kind is Value.NONE else _default(value, repeatable=repeatable),
        repeatable=repeatable,
        shortcut=_text(value.get("shortcut")),
    )


def payload(command: Command, given: Input) -> dict[str, Any]:
    """What the app gets of a command line: `arguments` and `options` by name, null for none."""
    arguments: dict[str, Any] = {}
    for argument in command.arguments:
        if argument.repeatable:
            arguments[argument.name] = list(given.rest) or argument.default or []
        else:
            arguments[argument.name] = given.arguments.get(argument.name, argument.default)
    options = {
        option.name: list(given.texts(option.name))
        if option.repeatable
        else given.options[option.name]
        for option in command.options
    }
    return {"arguments": arguments or None, "options": options or None}


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command of an app came to.

    Args:
        status: HTTP status of the app's answer; 200 is success.
        output: what it printed.
    """

    status: int
    output: str

    @property
    def exit_code(self) -> int:
        """That of occ."""
        return 0 if self.status == 200 else 1


async def run_words(host: "Host", app_id: str, name: str, words: Sequence[str]) -> CommandResult:
    """Run a command of an app as typed, and collect what it prints.

    Args:
        host: where the app is installed.
        app_id: the app.
        name: of the command.
        words: arguments and options.

    Raises:
        HostError: there is no such command, it makes no sense, or the words do not fit it.
        TransportError: the app did not answer, or broke off.
    """
    document = await host.documents.read(lambda documents: documents.get(_KIND, app_id, name))
    if document is None:
        raise NotFoundError(f"ExApp {app_id} has no command {name}.")
    try:
        command = command_of(document)
        typed = payload(command, parse(command, words))
    except (ValueError, UsageError) as error:
        raise HostError(str(error)) from error
    handler = str(document.content["execute_handler"])
    async with host.errands.run_command(app_id, handler, typed) as answer:
        output = b"".join([piece async for piece in answer.body])
    return CommandResult(answer.status, output.decode("utf-8", "replace"))


async def _run(document: "Document", directory: Path | None, session: Session, given: Input) -> int:
    command = command_of(document)
    async with session.at(directory or session.data_dir).host() as host:
        return await _asked(host, session, document, payload(command, given))


async def _asked(
    host: "Host", session: Session, document: "Document", words: Mapping[str, Any]
) -> int:
    """Ask the app, and print what it answers while it comes."""
    failed = f"[{document.name}] command executeHandler failed"
    handler = str(document.content["execute_handler"])
    try:
        async with host.errands.run_command(document.app_id, handler, words) as answer:
            if answer.status == 200:
                async for piece in answer.body:
                    session.raw(piece)
                return 0
            beginning = b""
            async for piece in answer.body:
                beginning += piece
                if len(beginning) > _SHOWN_BYTES:
                    break
    except (TransportError, HostError) as error:
        session.line(f"{failed}. Error: {error}")
        return 1
    session.line(failed)
    said = beginning[:_SHOWN_BYTES].decode("utf-8", "replace").strip()
    session.cause(f"POST /{handler} was answered with {answer.status}{f': {said}' if said else ''}")
    return 1
