"""Reading and describing command lines as Symfony Console does."""

from typing import Any

import pytest

from appapi_host.cli.symfony import (
    Argument,
    Command,
    Input,
    Option,
    UsageError,
    Value,
    command_word,
    describe_command,
    describe_commands,
    find,
    parse,
    unquoted,
    usage,
)


async def nothing(session: Any, given: Input) -> int:
    raise AssertionError("not run here")


INSTALL = Command(
    "app:install",
    "Install an app",
    nothing,
    (Argument("appid", "Id"), Argument("daemon", required=False)),
    (
        Option("info-xml", "A path", Value.REQUIRED),
        Option("env", "A variable", Value.OPTIONAL, repeatable=True),
        Option("level", "A level", Value.REQUIRED, "low", shortcut="l"),
        Option("silent", "Print nothing"),
        Option("gpu", "Older", Value.REQUIRED, hidden=True),
    ),
)
LIST = Command("app:list", "List apps", nothing)
COMMANDS = {command.name: command for command in (INSTALL, LIST)}


def test_options_may_stand_anywhere_and_take_their_value_in_two_ways() -> None:
    given = parse(INSTALL, ["--info-xml", "a.xml", "notes", "--silent", "docker", "--level=high"])
    assert given.arguments == {"appid": "notes", "daemon": "docker"}
    assert given.text("info-xml") == "a.xml"
    assert given.text("level") == "high"
    assert given.flag("silent")


def test_what_is_left_out_has_its_default() -> None:
    given = parse(INSTALL, ["notes"])
    assert given.arguments == {"appid": "notes"}
    assert given.text("info-xml") is None
    assert given.text("level") == "low"
    assert given.texts("env") == ()
    assert not given.flag("silent")


def test_words_behind_two_dashes_are_arguments() -> None:
    assert parse(INSTALL, ["--", "--silent"]).arguments == {"appid": "--silent"}
    assert parse(INSTALL, ["notes", "--"]).arguments == {"appid": "notes"}


def test_repeated_option_keeps_each_value_and_may_have_none() -> None:
    given = parse(INSTALL, ["--env", "A=1", "--env=B=2", "--env", "--silent", "notes"])
    assert given.texts("env") == ("A=1", "B=2")
    assert given.flag("silent")


def test_global_options_are_read_with_each_command() -> None:
    given = parse(LIST, ["-q", "-vvv", "-n", "--no-ansi", "--no-warnings"])
    assert given.flag("quiet")
    assert given.options["verbose"] == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], 'Not enough arguments (missing: "appid").'),
        (["-e", "notes"], 'The "-e" option does not exist.'),
        (["--nope=1", "notes"], 'The "--nope" option does not exist.'),
        (["notes", "--info-xml"], 'The "--info-xml" option requires a value.'),
        (["--info-xml", "--silent", "notes"], 'The "--info-xml" option requires a value.'),
        (["--silent=1", "notes"], 'The "--silent" option does not accept a value.'),
        (
            ["a", "b", "c"],
            'Too many arguments to "app:install" command, expected arguments "appid" "daemon".',
        ),
    ],
)
def test_wrong_words_are_refused_in_symfonys_words(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(INSTALL, words)
    assert caught.value.message == message
    assert caught.value.command is INSTALL


def test_command_without_arguments_names_the_surplus_one() -> None:
    with pytest.raises(UsageError, match=r'No arguments expected for "app:list" command, got "x"'):
        parse(LIST, ["x"])


def test_help_is_understood_without_the_arguments_that_are_needed() -> None:
    assert parse(INSTALL, ["--help"]).flag("help")


def test_command_is_the_first_word_that_is_no_option() -> None:
    assert command_word(["-q", "app:list", "x"]) == 1
    assert command_word(["-q"]) is None
    assert command_word(["--", "app:list"]) is None


def test_command_is_found_by_its_name_or_a_unique_beginning_of_each_part() -> None:
    assert find(COMMANDS, "app:list") is LIST
    assert find(COMMANDS, "a:l") is LIST
    more = {**COMMANDS, "app:listen": Command("app:listen", "Listen", nothing)}
    assert find(more, "app:list") is LIST
    with pytest.raises(UsageError, match=r'Command "app:li" is ambiguous.*\n.*\n.*app:list'):
        find(more, "app:li")


def test_unknown_command_names_those_that_look_alike() -> None:
    with pytest.raises(UsageError) as caught:
        find(COMMANDS, "app:lst")
    assert caught.value.message.splitlines() == [
        'Command "app:lst" is not defined.',
        "Did you mean one of these?",
        "    app:list",
    ]
    with pytest.raises(UsageError) as caught:
        find(COMMANDS, "zzz")
    assert caught.value.message == 'Command "zzz" is not defined.'


@pytest.mark.parametrize(
    ("words", "rest"),
    [
        (["sudo", "-u", "www-data", "php", "occ", "app:list"], ["app:list"]),
        (["php", "./occ", "app:list"], ["app:list"]),
        (["occ", "app:list", "-q"], ["app:list", "-q"]),
        (["app:list", "occ"], ["app:list", "occ"]),
        (["php"], ["php"]),
        (["php", "x"], ["php", "x"]),
        ([], []),
    ],
)
def test_words_before_occ_in_the_documentation_are_dropped(
    words: list[str], rest: list[str]
) -> None:
    assert unquoted(words) == rest


def test_usage_line_says_what_is_optional_and_hides_older_options() -> None:
    assert usage(INSTALL) == (
        "app:install [--info-xml INFO-XML] [--env [ENV]] [-l|--level LEVEL] [--silent] "
        "[--] <appid> [<daemon>]"
    )
    assert usage(LIST) == "app:list"


def test_help_describes_arguments_and_options() -> None:
    text = describe_command(INSTALL)
    assert "  app:install [options] [--] <appid> [<daemon>]" in text
    assert "  -l, --level=LEVEL" in text
    assert 'A level [default: "low"]' in text
    assert "A variable (multiple values allowed)" in text
    assert "--gpu" not in text
    assert "Usage:\n  app:list\n" in describe_command(LIST)


def test_list_shows_every_command_under_its_namespace() -> None:
    text = describe_commands({"help": Command("help", "Help", nothing), **COMMANDS}, title="Title")
    lines = text[text.index("Available commands:") :].splitlines()
    assert text.startswith("Title\n")
    assert [line.split("  ")[1 if line.startswith("  ") else 0].strip() for line in lines] == [
        "Available commands:",
        "help",
        "app",
        "app:install",
        "app:list",
    ]
