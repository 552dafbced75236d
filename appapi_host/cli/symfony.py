"""occ's command lines: commands as table rows, read and described by Symfony Console's rules.

One `Command` says everything: how its words are read (click does the reading), its usage line, and
its entries in `list` and `help`.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import click

__all__ = [
    "GLOBAL_OPTIONS",
    "Argument",
    "Command",
    "Input",
    "Option",
    "UsageError",
    "Value",
    "command_word",
    "describe_command",
    "describe_commands",
    "find",
    "parse",
    "unquoted",
    "usage",
]

_ABSENT: Final = "\0"
"""Stands for the value of an option that was given without one; no command line can hold it."""


class Value(Enum):
    """Whether an option takes a value; a negatable one has a second form, `--no-NAME`."""

    NONE = "none"
    REQUIRED = "required"
    OPTIONAL = "optional"
    NEGATABLE = "negatable"


@dataclass(frozen=True, slots=True)
class Argument:
    """A positional word.

    Args:
        name: how it is called.
        description: for `help`.
        required: whether it must be given.
        repeatable: it takes all words that are left; only for the last one.
        default: shown by `help`; who runs the command fills it in.
    """

    name: str
    description: str = ""
    required: bool = True
    repeatable: bool = False
    default: Any = None


@dataclass(frozen=True, slots=True)
class Option:
    """An option.

    Args:
        name: without dashes.
        description: for `help`.
        value: whether it takes a value.
        default: its value when it is not given.
        repeatable: each occurrence counts.
        shortcut: letters, several forms separated by `|`; empty for none.
        hidden: understood, because older command lines have it, but not advertised.
    """

    name: str
    description: str = ""
    value: Value = Value.NONE
    default: Any = None
    repeatable: bool = False
    shortcut: str = ""
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Input:
    """A command line that was understood.

    Args:
        arguments: by name; those that were left out are missing.
        options: by name: a flag's truth, a text, or a tuple of texts.
        rest: the words of a repeatable argument.
    """

    arguments: Mapping[str, str]
    options: Mapping[str, Any]
    rest: tuple[str, ...] = ()

    def flag(self, name: str) -> bool:
        """Whether a flag was given."""
        return bool(self.options[name])

    def text(self, name: str) -> str | None:
        """The value of an option, None if it was not given and has no default."""
        value = self.options[name]
        return None if value is None else str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """The values of a repeatable option."""
        return tuple(self.options[name])


@dataclass(frozen=True, slots=True)
class Command:
    """A command of occ.

    Args:
        name: with its namespaces.
        description: one line.
        run: does it; gets the context that `occ` makes and the input, returns the exit code.
        arguments: required ones first.
        options: in the order of the usage line.
        usages: further lines of usage, for instance examples.
        hidden: left out by `list`.
    """

    name: str
    description: str
    run: Callable[[Any, Input], Awaitable[int]] = field(repr=False)
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    usages: tuple[str, ...] = ()
    hidden: bool = False


class UsageError(Exception):
    """The command line is wrong.

    Args:
        message: what is wrong, in Symfony's words.
        command: the command whose usage helps; None if it is not known.
    """

    def __init__(self, message: str, command: Command | None = None) -> None:
        self.message = message
        self.command = command
        super().__init__(message)


GLOBAL_OPTIONS: Final = (
    Option("help", "Display help for the given command", shortcut="h"),
    Option("quiet", "Do not output any message", shortcut="q"),
    Option("version", "Display this application version", shortcut="V"),
    Option("ansi", "Force (or disable --no-ansi) ANSI output"),
    Option("no-ansi", hidden=True),
    Option("no-interaction", "Do not ask any interactive question", shortcut="n"),
    Option("no-warnings", "Skip global warnings, show command output only"),
    Option("verbose", "Say more (-v, -vv, -vvv)", shortcut="v", repeatable=True),
)


def command_word(words: Sequence[str]) -> int | None:
    """Where the name of the command is: the first word that is no option."""
    for index, word in enumerate(words):
        if word == "--":
            return None
        if not word.startswith("-"):
            return index
    return None


def unquoted(words: Sequence[str]) -> list[str]:
    """Without the words that stand before occ in the documentation: `sudo -u www-data php occ`."""
    if words and words[0] in ("sudo", "php", "occ", "./occ") and len(words) > 1:
        for index, word in enumerate(words):
            if word in ("occ", "./occ"):
                return list(words[index + 1 :])
    return list(words)


def find(commands: Mapping[str, Command], name: str) -> Command:
    """The command of that name; each part may be shortened while it stays unique.

    Raises:
        UsageError: none, or more than one.
    """
    if name in commands:
        return commands[name]
    parts = name.split(":")
    fitting = [
        command
        for command in commands.values()
        if len(command.name.split(":")) == len(parts)
        and all(
            whole.startswith(part)
            for whole, part in zip(command.name.split(":"), parts, strict=True)
        )
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = "\n".join(f"    {command.name}  {command.description}" for command in fitting)
        raise UsageError(f'Command "{name}" is ambiguous.\nDid you mean one of these?\n{names}')
    import difflib

    near = difflib.get_close_matches(name, commands, n=3, cutoff=0.7)
    hint = "\nDid you mean one of these?\n" + "\n".join(f"    {other}" for other in near)
    raise UsageError(f'Command "{name}" is not defined.' + (hint if near else ""))


def parse(command: Command, words: Sequence[str]) -> Input:
    """Read the words after a command's name.

    Raises:
        UsageError: an option that does not exist or lacks its value, too few or too many arguments.
    """
    _check_unique(command)
    reader = click.Command(
        command.name,
        params=[
            *(
                reading
                for option in (*command.options, *GLOBAL_OPTIONS)
                for reading in _readings(option)
            ),
            click.Argument(["words"], nargs=-1, type=click.UNPROCESSED),
        ],
        add_help_option=False,
    )
    try:
        with reader.make_context(command.name, list(words)) as context:
            found: dict[str, Any] = dict(context.params)
    except click.NoSuchOption as error:
        raise UsageError(f'The "{error.option_name}" option does not exist.', command) from None
    except click.BadOptionUsage as error:
        # The only other thing that can be wrong, because no option insists on a value.
        raise UsageError(
            f'The "{error.option_name}" option does not accept a value.', command
        ) from None
    positional: tuple[str, ...] = found.pop("words")
    options = {
        option.name: _option_value(command, option, found)
        for option in (*command.options, *GLOBAL_OPTIONS)
    }
    if options["help"] or options["version"]:
        return Input({}, options)
    return _with_arguments(command, positional, options)


def _check_unique(command: Command) -> None:
    """See that no option of an app's command stands for a global one too, as Symfony does."""
    names: set[str] = set()
    shortcuts: set[str] = set()
    for option in (*command.options, *GLOBAL_OPTIONS):
        if option.name in names:
            raise UsageError(f'An option named "{option.name}" already exists.')
        names.add(option.name)
        for shortcut in _shortcuts(option):
            if shortcut in shortcuts:
                raise UsageError(f'An option with shortcut "{shortcut}" already exists.')
            shortcuts.add(shortcut)


def _option_value(command: Command, option: Option, found: Mapping[str, Any]) -> Any:
    value = found[_identifier(option)]
    if option.value is Value.NEGATABLE:
        if found[_identifier(option, "no")]:
            return False
        return value or option.default
    if isinstance(value, tuple):
        if option.value is Value.REQUIRED and _ABSENT in value:
            raise UsageError(f'The "--{option.name}" option requires a value.', command)
        given = tuple(text for text in value if text != _ABSENT)
        return given or option.default or ()
    if value is None:
        return option.default
    if value != _ABSENT:
        return value
    if option.value is Value.REQUIRED:
        raise UsageError(f'The "--{option.name}" option requires a value.', command)
    return None  # given without a value, which is not the same as left out


def _with_arguments(
    command: Command, positional: Sequence[str], options: Mapping[str, Any]
) -> Input:
    arguments = command.arguments
    has_rest = bool(arguments) and arguments[-1].repeatable
    singles = arguments[:-1] if has_rest else arguments
    if len(positional) > len(singles) and not has_rest:
        expected = " ".join(f'"{argument.name}"' for argument in arguments)
        text = f'Too many arguments to "{command.name}" command, expected arguments {expected}.'
        if not expected:
            text = f'No arguments expected for "{command.name}" command, got "{positional[0]}".'
        raise UsageError(text, command)
    missing = [a.name for a in arguments[len(positional) :] if a.required]
    if missing:
        raise UsageError(f'Not enough arguments (missing: "{", ".join(missing)}").', command)
    names = (argument.name for argument in singles)
    return Input(
        dict(zip(names, positional, strict=False)), options, tuple(positional[len(singles) :])
    )


def _identifier(option: Option, form: str = "option") -> str:
    """A name that Python allows, whatever the option is called."""
    return f"{form}_{option.name.encode().hex()}"


def _shortcuts(option: Option) -> list[str]:
    found = (each.strip().lstrip("-") for each in option.shortcut.split("|"))
    return [each for each in found if each]


def _readings(option: Option) -> list[click.Option]:
    name = _identifier(option)
    spellings = [name, f"--{option.name}", *(f"-{each}" for each in _shortcuts(option))]
    match option.value:
        case Value.NONE if option.repeatable:
            return [click.Option(spellings, count=True)]
        case Value.NONE:
            return [click.Option(spellings, is_flag=True)]
        case Value.NEGATABLE:
            # Two flags, because click knows no third state between the forms of one.
            return [
                click.Option(spellings, is_flag=True),
                click.Option([_identifier(option, "no"), f"--no-{option.name}"], is_flag=True),
            ]
        case _:
            # Never insisting on a value: click would take the next word even if it is an option.
            return [
                click.Option(
                    spellings,
                    is_flag=False,
                    flag_value=_ABSENT,
                    multiple=option.repeatable,
                    default=None,
                )
            ]


def usage(command: Command) -> str:
    """The usage line, for instance `app_api:app:enable <appid>`."""
    parts = [command.name, *(_option_usage(o) for o in command.options if not o.hidden)]
    if len(parts) > 1 and command.arguments:
        parts.append("[--]")
    parts += [_argument_usage(argument) for argument in command.arguments]
    return " ".join(parts)


def _argument_usage(argument: Argument) -> str:
    dots = "..." if argument.repeatable else ""
    name = f"<{argument.name}>{dots}"
    return name if argument.required else f"[{name}]"


def _option_usage(option: Option) -> str:
    shortcut = "".join(f"-{each}|" for each in _shortcuts(option))
    value = option.name.upper()
    match option.value:
        case Value.NONE:
            return f"[{shortcut}--{option.name}]"
        case Value.NEGATABLE:
            return f"[{shortcut}--{option.name}|--no-{option.name}]"
        case Value.REQUIRED:
            return f"[{shortcut}--{option.name} {value}]"
        case Value.OPTIONAL:
            return f"[{shortcut}--{option.name} [{value}]]"


def describe_command(command: Command) -> str:
    """The text of `help COMMAND`."""
    lines = ["Description:", f"  {command.description}", "", "Usage:"]
    shown = [option for option in command.options if not option.hidden]
    short = " ".join(_argument_usage(argument) for argument in command.arguments)
    middle = " [options] [--]" if shown and short else " [options]" if shown else ""
    lines.append(f"  {command.name}{middle} {short}".rstrip())
    for example in command.usages:
        named = example if example.startswith(command.name) else f"{command.name} {example}"
        lines.append(f"  {named}")
    globals_ = [option for option in GLOBAL_OPTIONS if not option.hidden]
    rows = [(a.name, f"{a.description}{_shown_default(a.default)}") for a in command.arguments]
    option_rows = [(_option_head(o), _option_text(o)) for o in (*shown, *globals_)]
    width = max(len(head) for head, _ in (*rows, *option_rows))
    if rows:
        lines += ["", "Arguments:", *(f"  {head:<{width}}  {text}".rstrip() for head, text in rows)]
    lines += [
        "",
        "Options:",
        *(f"  {head:<{width}}  {text}".rstrip() for head, text in option_rows),
    ]
    return "\n".join(lines)


def _option_head(option: Option) -> str:
    shortcut = "|".join(f"-{each}" for each in _shortcuts(option))
    shortcut = f"{shortcut}, " if shortcut else "    "
    value = option.name.upper()
    match option.value:
        case Value.NONE:
            return f"{shortcut}--{option.name}"
        case Value.NEGATABLE:
            return f"{shortcut}--{option.name}|--no-{option.name}"
        case Value.REQUIRED:
            return f"{shortcut}--{option.name}={value}"
        case Value.OPTIONAL:
            return f"{shortcut}--{option.name}[={value}]"


def _option_text(option: Option) -> str:
    several = (
        " (multiple values allowed)" if option.repeatable and option.value is not Value.NONE else ""
    )
    return f"{option.description}{_shown_default(option.default)}{several}"


def _shown_default(default: Any) -> str:
    if default in (None, "", [], ()):
        return ""
    return f" [default: {json.dumps(default, ensure_ascii=False, separators=(',', ':'))}]"


def describe_commands(commands: Mapping[str, Command], *, title: str) -> str:
    """The text of `list`."""
    commands = {name: command for name, command in commands.items() if not command.hidden}
    shown = [option for option in GLOBAL_OPTIONS if not option.hidden]
    width = max(len(name) for name in (*commands, *(_option_head(o) for o in shown)))
    lines = [title, "", "Usage:", "  command [options] [arguments]", "", "Options:"]
    lines += [f"  {_option_head(o):<{width}}  {o.description}".rstrip() for o in shown]
    lines += ["", "Available commands:"]
    namespace = ""
    for command in sorted(
        commands.values(), key=lambda command: (":" in command.name, command.name)
    ):
        head = command.name.partition(":")[0] if ":" in command.name else ""
        if head != namespace:
            namespace = head
            lines.append(f" {namespace}")
        lines.append(f"  {command.name:<{width}}  {command.description}".rstrip())
    return "\n".join(lines)
