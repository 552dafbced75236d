"""occ's commands about users and groups, as far as a local host needs them."""

import getpass
import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import Final

import anyio.to_thread

from appapi_host.cli.session import Session
from appapi_host.cli.symfony import Argument, Command, Input, Option, UsageError, Value
from appapi_host.errors import AlreadyExistsError, NotFoundError
from appapi_host.users import USER_ID_RULE, is_user_id

__all__ = ["COMMANDS", "show_fields"]

_PASSWORD_VARIABLES: Final = ("NC_PASS", "OC_PASS")

Fields = Mapping[str, object]


def show_fields(session: Session, given: Input, fields: Fields) -> None:
    """Print names and values as `--output` wants them: a list with dashes, or JSON."""
    output = given.text("output") or "plain"
    if output == "plain":
        for line in _plain(fields):
            session.line(line)
    else:
        session.line(json.dumps(fields, indent=4 if output == "json_pretty" else None))


def _plain(fields: Fields, indent: str = "  ") -> list[str]:
    lines = []
    for name, value in fields.items():
        match value:
            case dict():
                lines += [f"{indent}- {name}:", *_plain(value, indent + "  ")]
            case list():
                lines.append(f"{indent}- {name}:")
                lines += [f"{indent}  - {item}" for item in value]
            case bool():
                lines.append(f"{indent}- {name}: {str(value).lower()}")
            case _:
                lines.append(f"{indent}- {name}: {value}")
    return lines


async def _add(session: Session, given: Input) -> int:
    user_id = given.arguments["uid"]
    if not is_user_id(user_id):
        session.line(f"Error: {USER_ID_RULE}")
        return 1
    async with session.host() as host:
        if await host.registry.user(user_id) is not None:
            session.line(f'The account "{user_id}" already exists.')
            return 1
        password = await _password(session, given)
        if password is None:
            return 1
        name = given.text("display-name") or ""
        try:
            await host.users.add(user_id, password, display_name=name)
        except AlreadyExistsError:
            session.line(f'The account "{user_id}" already exists.')
            return 1
        session.line(f'The account "{user_id}" was created successfully')
        if name:
            session.line(f'Display name set to "{name}"')
        for group_id in given.texts("group"):
            try:
                await host.users.add_group(group_id)
            except AlreadyExistsError:
                pass
            else:
                session.line(f'Created group "{group_id}"')
            await host.users.add_member(group_id, user_id)
            session.line(f'Account "{user_id}" added to group "{group_id}"')
    return 0


async def _password(session: Session, given: Input) -> str | None:
    """What the environment says, or the person types twice; None after a word about it."""
    if given.flag("password-from-env"):
        for name in _PASSWORD_VARIABLES:
            if os.environ.get(name):
                return os.environ[name]
        session.line("--password-from-env given, but NC_PASS/OC_PASS is empty!")
        return None
    if given.flag("no-interaction") or not sys.stdin.isatty():
        session.line("Interactive input or --password-from-env is needed for entering a password!")
        return None
    first = await anyio.to_thread.run_sync(getpass.getpass, "Enter password: ")
    second = await anyio.to_thread.run_sync(getpass.getpass, "Confirm password: ")
    if not first or first != second:
        session.line("Passwords did not match!" if first else "Password cannot be empty!")
        return None
    return first


async def _list(session: Session, given: Input) -> int:
    _check_output(given, LIST)
    async with session.host() as host:
        users = await host.registry.users()
    if given.flag("disabled"):
        users = [user for user in users if not user.is_enabled]
    show_fields(session, given, {user.user_id: user.display_name for user in users})
    return 0


async def _info(session: Session, given: Input) -> int:
    _check_output(given, INFO)
    user_id = given.arguments["user"]
    async with session.host() as host:
        user = await host.registry.user(user_id)
        groups = await host.users.groups_of(user_id)
    if user is None:
        session.line("user not found")
        return 1
    fields = {
        "user_id": user.user_id,
        "display_name": user.display_name,
        "enabled": user.is_enabled,
        "groups": groups,
        "backend": "Database",
    }
    show_fields(session, given, fields)
    return 0


async def _delete(session: Session, given: Input) -> int:
    async with session.host() as host:
        try:
            await host.users.remove(given.arguments["uid"])
        except NotFoundError:
            session.line("User does not exist")
            return 1
    session.line("The specified account was deleted")
    return 0


async def _switch(session: Session, given: Input, *, is_enabled: bool) -> int:
    async with session.host() as host:
        try:
            await host.users.switch(given.arguments["uid"], enabled=is_enabled)
        except NotFoundError:
            session.line("User does not exist")
            return 1
    session.line(f"The specified user is {'enabled' if is_enabled else 'disabled'}")
    return 0


async def _add_group(session: Session, given: Input) -> int:
    group_id = given.arguments["groupid"]
    async with session.host() as host:
        try:
            await host.users.add_group(group_id, display_name=given.text("display-name") or "")
        except AlreadyExistsError:
            session.line(f'Group "{group_id}" already exists.')
            return 1
    session.line(f'Created group "{group_id}"')
    return 0


async def _add_member(session: Session, given: Input) -> int:
    group_id, user_id = given.arguments["group"], given.arguments["user"]
    async with session.host() as host:
        if group_id not in await host.users.groups():
            session.line("group not found")
            return 1
        try:
            await host.users.add_member(group_id, user_id)
        except NotFoundError:
            session.line("user not found")
            return 1
    return 0


async def _list_groups(session: Session, given: Input) -> int:
    _check_output(given, LIST_GROUPS)
    async with session.host() as host:
        groups = await host.users.groups()
    show_fields(session, given, groups)
    return 0


def _check_output(given: Input, command: Command) -> None:
    if (given.text("output") or "plain") not in ("plain", "json", "json_pretty"):
        raise UsageError("--output must be plain, json or json_pretty.", command)


_OUTPUT: Final = Option("output", "plain, json or json_pretty", Value.REQUIRED, "plain")
_UID: Final = Argument("uid", "Id of the account")

LIST: Final = Command(
    "user:list",
    "List configured users",
    _list,
    options=(Option("disabled", "Only those that are disabled"), _OUTPUT),
)
INFO: Final = Command(
    "user:info", "Show user info", _info, (Argument("user", "Id of the account"),), (_OUTPUT,)
)
LIST_GROUPS: Final = Command(
    "group:list", "List configured groups", _list_groups, options=(_OUTPUT,)
)

COMMANDS: Final = (
    Command(
        "user:add",
        "Add an account",
        _add,
        (_UID,),
        (
            Option("password-from-env", "Read the password from NC_PASS or OC_PASS"),
            Option("display-name", "Name for people", Value.REQUIRED),
            Option(
                "group",
                "A group to be in; made if it is not there",
                Value.REQUIRED,
                repeatable=True,
                shortcut="g",
            ),
        ),
    ),
    LIST,
    INFO,
    Command("user:delete", "Delete the specified user", _delete, (_UID,)),
    Command("user:enable", "Enable the specified user", partial(_switch, is_enabled=True), (_UID,)),
    Command(
        "user:disable", "Disable the specified user", partial(_switch, is_enabled=False), (_UID,)
    ),
    Command(
        "group:add",
        "Add a group",
        _add_group,
        (Argument("groupid", "Id of the group"),),
        (Option("display-name", "Name for people", Value.REQUIRED),),
    ),
    LIST_GROUPS,
    Command(
        "group:adduser",
        "Add a user to a group",
        _add_member,
        (Argument("group", "Id of the group"), Argument("user", "Id of the account")),
    ),
)
