"""Administration of users and groups, for apps that bring people in or take them out.

Source: Nextcloud OCS API, Instruction set for users and for groups.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from appapi_host.errors import AlreadyExistsError, NotFoundError
from appapi_host.ocs._endpoints import Auth, Call, Family, OCSRefusal
from appapi_host.users import ADMIN_GROUP, USER_ID_RULE, is_user_id
from exapp_sdk.protocol.ocs import UNKNOWN_ERROR, UNKNOWN_ROUTE

__all__ = ["family"]

_NOT_POSSIBLE: Final = 101
"""Code for what cannot be done, mostly without a word."""

family = Family()


# Users


@family.post("/cloud/users", auth=Auth.ADMIN)
async def add_user(
    call: Call,
    userid: str,
    password: str = "",
    display_name: str = "",
    email: str = "",
    groups: list[Any] | None = None,
) -> dict[str, str]:
    """Create a user, who is in these groups; without a password nobody can sign in as them."""
    users = call.host.users
    if await users.find(userid) is not None:
        raise OCSRefusal(102, "User already exists")
    known = await users.groups()
    wanted = [str(group_id) for group_id in groups or ()]
    for group_id in wanted:
        if group_id not in known:
            raise OCSRefusal(104, f"Group {group_id} does not exist")
    if not is_user_id(userid):
        raise OCSRefusal(_NOT_POSSIBLE, USER_ID_RULE)
    if not password and not email:
        text = "An email address is required, to send a password link to the user."
        raise OCSRefusal(108, text)
    try:
        await users.add(userid, password or secrets.token_urlsafe(), display_name=display_name)
    except AlreadyExistsError as error:
        raise OCSRefusal(102, "User already exists") from error
    for group_id in wanted:
        await users.add_member(group_id, userid)
    return {"id": userid}


@family.put("/cloud/users/{userId}", auth=Auth.USER)
async def change_user(call: Call, user_id: str, key: str, value: str) -> list[Any]:
    """Change the name or the password of a user; users may do that with their own."""
    if call.acting_user.user_id != user_id and not call.acting_user.is_admin:
        raise OCSRefusal(UNKNOWN_ROUTE)
    if await call.host.users.find(user_id) is None:
        raise OCSRefusal(UNKNOWN_ROUTE)
    if key in ("display", "displayname"):
        await call.host.users.rename(user_id, value)
    elif key == "password" and value:
        await call.host.users.set_password(user_id, value)
    else:
        raise OCSRefusal(113, note=f"users of this host have no {key!r} that could be changed")
    return []


@family.delete("/cloud/users/{userId}", auth=Auth.ADMIN)
async def delete_user(call: Call, user_id: str) -> list[Any]:
    """Delete a user with all files; nobody deletes themselves."""
    with _of_another(call, user_id):
        await call.host.users.remove(user_id)
    return []


@family.put("/cloud/users/{userId}/enable", auth=Auth.ADMIN)
async def enable_user(call: Call, user_id: str) -> list[Any]:
    """Let a user sign in again."""
    with _of_another(call, user_id):
        await call.host.users.switch(user_id, enabled=True)
    return []


@family.put("/cloud/users/{userId}/disable", auth=Auth.ADMIN)
async def disable_user(call: Call, user_id: str) -> list[Any]:
    """Keep a user from signing in, and apps from acting for them."""
    with _of_another(call, user_id):
        await call.host.users.switch(user_id, enabled=False)
    return []


# Groups


@family.post("/cloud/groups", auth=Auth.ADMIN)
async def add_group(call: Call, groupid: str, displayname: str = "") -> list[Any]:
    """Make a group."""
    if not groupid.strip():
        raise OCSRefusal(_NOT_POSSIBLE, "Invalid group name")
    try:
        await call.host.users.add_group(groupid, display_name=displayname)
    except AlreadyExistsError as error:
        raise OCSRefusal(102, "group exists") from error
    return []


@family.put("/cloud/groups/{groupId}", auth=Auth.ADMIN)
async def rename_group(call: Call, group_id: str, key: str, value: str) -> list[Any]:
    """Call a group something else."""
    if key != "displayname":
        raise OCSRefusal(UNKNOWN_ERROR, note=f"groups have no {key!r} that could be changed")
    if group_id not in await call.host.users.groups():
        raise OCSRefusal(UNKNOWN_ROUTE, "Group does not exist")
    try:
        await call.host.users.rename_group(group_id, value)
    except NotFoundError as error:
        raise OCSRefusal(_NOT_POSSIBLE, "Not supported by backend") from error
    return []


@family.delete("/cloud/groups/{groupId}", auth=Auth.ADMIN)
async def delete_group(call: Call, group_id: str) -> list[Any]:
    """Delete a group; its members stay, and so does the group of administrators."""
    if group_id == ADMIN_GROUP:
        raise OCSRefusal(102)
    try:
        await call.host.users.remove_group(group_id)
    except NotFoundError as error:
        raise OCSRefusal(_NOT_POSSIBLE) from error
    return []


@family.post("/cloud/users/{userId}/groups", auth=Auth.ADMIN)
async def add_member(call: Call, user_id: str, groupid: str = "") -> list[Any]:
    """Put a user into a group."""
    await _check_membership(call, user_id, groupid)
    await call.host.users.add_member(groupid, user_id)
    return []


@family.delete("/cloud/users/{userId}/groups", auth=Auth.ADMIN)
async def remove_member(call: Call, user_id: str, groupid: str = "") -> list[Any]:
    """Take a user out of a group."""
    await _check_membership(call, user_id, groupid)
    if groupid == ADMIN_GROUP and user_id == call.acting_user.user_id:
        raise OCSRefusal(105, "Cannot remove yourself from the admin group")
    await call.host.users.remove_member(groupid, user_id)
    return []


async def _check_membership(call: Call, user_id: str, group_id: str) -> None:
    if not group_id:
        raise OCSRefusal(_NOT_POSSIBLE)
    if group_id not in await call.host.users.groups():
        raise OCSRefusal(102)
    if await call.host.users.find(user_id) is None:
        raise OCSRefusal(103)


@contextmanager
def _of_another(call: Call, user_id: str) -> Iterator[None]:
    """Nobody shuts themselves out, and only who is there can be."""
    if user_id == call.acting_user.user_id:
        raise OCSRefusal(_NOT_POSSIBLE)
    try:
        yield
    except NotFoundError as error:
        raise OCSRefusal(_NOT_POSSIBLE) from error
