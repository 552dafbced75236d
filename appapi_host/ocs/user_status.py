"""Who is there, and what they say about it.

Source: Nextcloud OCS API, User status.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from appapi_host.ocs._endpoints import Auth, Call, Family, OCSRefusal
from exapp_sdk.protocol.ocs import NOT_FOUND

__all__ = ["KIND", "family"]

KIND: Final = "user-status"
PATH: Final = "/apps/user_status/api/v1"

TYPES: Final = ("online", "away", "dnd", "busy", "invisible", "offline")

PREDEFINED: Final[Mapping[str, tuple[str, str, Mapping[str, Any] | None]]] = {
    "meeting": ("📅", "In a meeting", {"type": "period", "time": 3600}),
    "commuting": ("🚌", "Commuting", {"type": "period", "time": 1800}),
    "be-right-back": ("⏳", "Be right back", {"type": "period", "time": 900}),
    "remote-work": ("🏡", "Working remotely", {"type": "end-of", "time": "day"}),
    "sick-leave": ("🤒", "Out sick", {"type": "end-of", "time": "day"}),
    "vacationing": ("🌴", "Vacationing", None),
}
"""Icon, message and end of the messages that can be chosen by name."""

_NOTHING: Final[Mapping[str, Any]] = {
    "message": None,
    "messageId": None,
    "messageIsPredefined": False,
    "icon": None,
    "clearAt": None,
}
_OFFLINE: Final[Mapping[str, Any]] = {
    **_NOTHING,
    "status": "offline",
    "statusIsUserDefined": False,
}

family = Family()


@family.get(f"{PATH}/user_status", auth=Auth.USER)
async def get_own_status(call: Call) -> dict[str, Any]:
    """The status of the acting user."""
    return {"userId": call.acting_user.user_id, **await _stored(call, call.acting_user.user_id)}


@family.get(f"{PATH}/statuses", auth=Auth.USER)
async def list_statuses(
    call: Call, limit: int | None = None, offset: int = 0
) -> list[dict[str, Any]]:
    """The statuses of those who have one."""
    found = await call.host.documents.read(lambda documents: documents.find(KIND))
    statuses = [await _public(call, each.user_id) for each in found]
    start = max(offset, 0)
    return statuses[start:] if limit is None else statuses[start : start + max(limit, 0)]


@family.get(f"{PATH}/statuses/{{userId}}", auth=Auth.USER)
async def get_status(call: Call, user_id: str) -> dict[str, Any]:
    """The status of one user."""
    found = await call.host.documents.read(
        lambda documents: documents.get(KIND, "", "", user_id=user_id)
    )
    if found is None:
        raise OCSRefusal(NOT_FOUND, "No status for the requested userId")
    return await _public(call, user_id)


@family.get(f"{PATH}/predefined_statuses", auth=Auth.USER)
async def list_predefined(call: Call) -> list[dict[str, Any]]:
    """The messages that can be chosen by name."""
    return [
        {"id": name, "icon": icon, "message": message, "clearAt": clear_at}
        for name, (icon, message, clear_at) in PREDEFINED.items()
    ]


@family.put(f"{PATH}/user_status/status", auth=Auth.USER)
async def set_status(call: Call, status_type: str) -> dict[str, Any]:
    """Say whether one is there."""
    if status_type not in TYPES:
        raise OCSRefusal(400, f"Status-type {status_type} is not supported")
    return await _change(call, {"status": status_type, "statusIsUserDefined": True})


@family.put(f"{PATH}/user_status/message/predefined", auth=Auth.USER)
async def set_predefined_message(
    call: Call, message_id: str, clear_at: int | None = None
) -> dict[str, Any]:
    """Choose a message by name."""
    if message_id not in PREDEFINED:
        raise OCSRefusal(400, f"Message-Id {message_id} is not supported")
    icon, message, default = PREDEFINED[message_id]
    end = clear_at if clear_at is not None else _end(default, call.host.now())
    return await _change(
        call,
        {
            "message": message,
            "messageId": message_id,
            "messageIsPredefined": True,
            "icon": icon,
            "clearAt": end,
        },
    )


@family.put(f"{PATH}/user_status/message/custom", auth=Auth.USER)
async def set_message(
    call: Call,
    status_icon: str | None = None,
    message: str | None = None,
    clear_at: int | None = None,
) -> dict[str, Any]:
    """Say something in one's own words."""
    if clear_at is not None and clear_at < call.host.now():
        raise OCSRefusal(400, "ClearAt is in the past")
    return await _change(
        call,
        {**_NOTHING, "message": message or None, "icon": status_icon, "clearAt": clear_at},
    )


@family.delete(f"{PATH}/user_status/message", auth=Auth.USER)
async def clear_message(call: Call) -> list[Any]:
    """Take the message back."""
    await _change(call, _NOTHING)
    return []


async def _change(call: Call, changes: Mapping[str, Any]) -> dict[str, Any]:
    user_id = call.acting_user.user_id
    status = {**await _stored(call, user_id), **changes}
    await call.host.documents.write(
        lambda documents: documents.put(KIND, "", "", status, user_id=user_id)
    )
    return {"userId": user_id, **status}


async def _stored(call: Call, user_id: str) -> dict[str, Any]:
    found = await call.host.documents.read(
        lambda documents: documents.get(KIND, "", "", user_id=user_id)
    )
    status = {**_OFFLINE, **(found.content if found else {})}
    if status["clearAt"] is not None and status["clearAt"] < call.host.now():
        status |= _NOTHING
    return status


async def _public(call: Call, user_id: str) -> dict[str, Any]:
    status = await _stored(call, user_id)
    shown = "offline" if status["status"] == "invisible" else status["status"]
    return {
        "userId": user_id,
        "message": status["message"],
        "icon": status["icon"],
        "clearAt": status["clearAt"],
        "status": shown,
    }


def _end(rule: Mapping[str, Any] | None, seconds: float) -> int | None:
    if rule is None:
        return None
    now = datetime.fromtimestamp(seconds).astimezone()
    if rule["type"] == "period":
        return int(now.timestamp()) + int(rule["time"])
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return int(midnight.timestamp())
