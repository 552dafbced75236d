"""Who lives on the host, and in which groups.

Source: AppAPI documentation, Users; Nextcloud OCS API, Provisioning.
"""

from collections.abc import Sequence
from typing import Any, Final

from appapi_host.ocs._endpoints import Auth, Call, Family, OCSRefusal
from appapi_host.records import User
from exapp_sdk.protocol.ocs import NOT_FOUND
from exapp_sdk.protocol.users import LIST_USERS

__all__ = ["family"]

FIELDS: Final = (
    "displayname",
    "email",
    "additional_mail",
    "phone",
    "address",
    "website",
    "twitter",
    "bluesky",
    "fediverse",
    "organisation",
    "role",
    "headline",
    "biography",
    "profile_enabled",
    "pronouns",
)
"""What people may tell about themselves."""

_LOCAL: Final = "v2-local"
_FEDERATED: Final = "v2-federated"
_UNLIMITED: Final = -3

family = Family()


@family.get(LIST_USERS.path, auth=Auth.APP)
async def list_users(call: Call) -> list[str]:
    """The ids of all users, disabled ones too, in nobody's name as well."""
    return [user.user_id for user in await call.host.registry.users()]


@family.get("/cloud/user", auth=Auth.USER)
async def get_own_data(call: Call) -> dict[str, Any]:
    """What is known of the acting user."""
    return await _data(call, call.acting_user)


@family.get("/cloud/user/fields", auth=Auth.USER)
async def list_fields(call: Call) -> list[str]:
    """What a user may change; the same for everybody."""
    return list(FIELDS)


@family.get("/cloud/users/{userId}", auth=Auth.USER)
async def get_data(call: Call, user_id: str) -> dict[str, Any]:
    """What is known of a user; others than administrators get the public part."""
    user = await _existing(call, user_id)
    data = await _data(call, user)
    if call.acting_user.is_admin or call.acting_user.user_id == user_id:
        return data
    return {name: data[name] for name in ("id", "displayname", "display-name", "groups")}


@family.get("/cloud/users", auth=Auth.ADMIN)
async def search_users(
    call: Call, search: str = "", limit: int | None = None, offset: int = 0
) -> dict[str, Any]:
    """Ids of users whose id or name contains a text."""
    found = await _found(call, search)
    return {"users": _page([user.user_id for user in found], limit, offset)}


@family.get("/cloud/users/details", auth=Auth.ADMIN)
async def search_users_with_data(
    call: Call, search: str = "", limit: int | None = None, offset: int = 0
) -> dict[str, Any]:
    """The same with what is known of them."""
    page = _page(await _found(call, search), limit, offset)
    return {"users": {user.user_id: await _data(call, user) for user in page}}


@family.get("/cloud/users/{userId}/groups", auth=Auth.USER)
async def list_groups_of(call: Call, user_id: str) -> dict[str, Any]:
    """The groups of a user; of others, for administrators only."""
    await _existing(call, user_id)
    if not call.acting_user.is_admin and call.acting_user.user_id != user_id:
        raise OCSRefusal(998)
    return {"groups": await call.host.users.groups_of(user_id)}


@family.get("/cloud/groups", auth=Auth.USER)
async def search_groups(
    call: Call, search: str = "", limit: int | None = None, offset: int = 0
) -> dict[str, Any]:
    """Ids of groups that contain a text."""
    found = [
        group_id
        for group_id in await call.host.users.groups()
        if search.lower() in group_id.lower()
    ]
    return {"groups": _page(found, limit, offset)}


@family.get("/cloud/groups/details", auth=Auth.ADMIN)
async def search_groups_with_data(
    call: Call, search: str = "", limit: int | None = None, offset: int = 0
) -> dict[str, Any]:
    """The same with how many are in them."""
    disabled = {user.user_id for user in await call.host.registry.users() if not user.is_enabled}
    groups = await call.host.users.groups()
    names = await call.host.users.group_names()
    found = [
        {
            "id": group_id,
            "displayname": names.get(group_id, group_id),
            "usercount": len(members),
            "disabled": len(disabled & set(members)),
            "canAdd": True,
            "canRemove": True,
        }
        for group_id, members in groups.items()
        if search.lower() in f"{group_id}\n{names.get(group_id, '')}".lower()
    ]
    return {"groups": _page(found, limit, offset)}


@family.get("/cloud/groups/{groupId}", auth=Auth.ADMIN)
@family.get("/cloud/groups/{groupId}/users", auth=Auth.ADMIN)
async def list_members(call: Call, group_id: str) -> dict[str, Any]:
    """Who is in a group."""
    groups = await call.host.users.groups()
    if group_id not in groups:
        raise OCSRefusal(NOT_FOUND, "The requested group could not be found")
    return {"users": groups[group_id]}


async def _existing(call: Call, user_id: str) -> User:
    user = await call.host.registry.user(user_id)
    if user is None:
        raise OCSRefusal(NOT_FOUND, "User does not exist")
    return user


async def _found(call: Call, search: str) -> list[User]:
    return [
        user
        for user in await call.host.registry.users()
        if search.lower() in f"{user.user_id}\n{user.display_name}".lower()
    ]


def _page(found: Sequence[Any], limit: int | None, offset: int) -> list[Any]:
    start = max(offset, 0)
    return list(found[start:] if limit is None else found[start : start + max(limit, 0)])


async def _data(call: Call, user: User) -> dict[str, Any]:
    """Everything, in the order of the real one; nobody here has told anything about themselves."""
    name = user.display_name or user.user_id
    data_dir = call.host.settings.data_dir
    home = f"{data_dir.absolute() if data_dir else ''}/files/{user.user_id}"
    profile: dict[str, Any] = {}
    for field in ("phone", "address", "website", "twitter", "bluesky", "fediverse"):
        profile |= {field: "", f"{field}Scope": _LOCAL}
    for field in ("organisation", "role", "headline", "biography"):
        profile |= {field: "", f"{field}Scope": _LOCAL}
    return {
        "enabled": user.is_enabled,
        "storageLocation": home,
        "id": user.user_id,
        "firstLoginTimestamp": 0,
        "lastLoginTimestamp": 0,
        "lastLogin": 0,
        "backend": "Database",
        "subadmin": [],
        "quota": {
            "free": _UNLIMITED,
            "used": await call.host.files.used(user.user_id),
            "total": _UNLIMITED,
            "relative": 0,
            "quota": _UNLIMITED,
        },
        "manager": "",
        "avatarScope": _FEDERATED,
        "email": None,
        "emailScope": _FEDERATED,
        "additional_mail": [],
        "additional_mailScope": [],
        "displayname": name,
        "display-name": name,
        "displaynameScope": _FEDERATED,
        **profile,
        "profile_enabled": "1",
        "profile_enabledScope": _LOCAL,
        "pronouns": "",
        "pronounsScope": _FEDERATED,
        "groups": await call.host.users.groups_of(user.user_id),
        "language": "en",
        "locale": "",
        "timezone": "",
        "notify_email": None,
        "backendCapabilities": {"setDisplayName": True, "setPassword": True},
    }
