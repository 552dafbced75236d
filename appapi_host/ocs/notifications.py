"""Notifications: apps send them, people see them.

Source: AppAPI documentation, Notifications; Nextcloud notifications app, OCS API v2.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from appapi_host.documents import Document, Documents
from appapi_host.events import Notice
from appapi_host.ocs._endpoints import Answer, Auth, Call, Family, OCSRefusal
from appapi_host.ocs._parameters import ParameterError
from exapp_sdk.protocol.ocs import NOT_FOUND

__all__ = ["KIND", "family"]

KIND: Final = "notification"
LIST: Final = "/apps/notifications/api/v2/notifications"

_MAX_LENGTH: Final = 64
"""Characters of what a notification is about; the width of the real one's columns."""

_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z][A-Za-z0-9\-_.]+)\}")

family = Family()


@family.post("/apps/app_api/api/v1/notification", auth=Auth.APP_USER)
async def notify(call: Call, params: dict[str, Any]) -> dict[str, Any]:
    """Send a notification to the acting user.

    It is rendered when the user looks. What cannot be rendered then is never seen, so the host says
    so at once in its own output; the answer is the same.
    """
    content = {name: _short(params, name) for name in ("object", "object_id", "subject_type")}
    subject = params.get("subject_params")
    if not isinstance(subject, dict):
        raise ParameterError("params needs the member 'subject_params'")
    for name in ("rich_subject", "rich_message"):
        if not isinstance(subject.get(name), str):
            raise ParameterError(f"subject_params needs the text {name!r}")
        if not isinstance(subject.get(f"{name}_params"), (dict, list)):
            raise ParameterError(f"subject_params needs the object '{name}_params'")
    sent = datetime.fromtimestamp(call.host.now(), UTC).isoformat(timespec="seconds")
    app_id, user_id = call.app.app_id, call.acting_user.user_id
    stored = {**content, "subject_params": subject, "datetime": sent}
    document = await call.host.documents.write(
        lambda documents: documents.add(KIND, app_id, stored, user_id=user_id)
    )
    if _rendered(document, "") is None:
        call.host.bus.emit(
            Notice(
                app_id,
                f"sent a notification that {user_id} will not see: it has no subject, a placeholder"
                " has no parameter, or a parameter lacks one of the texts 'type', 'id' and 'name'",
            )
        )
    return {
        "app": app_id,
        "user": user_id,
        "datetime": sent,
        "object_type": content["object"],
        "object_id": content["object_id"],
        "subject": "",
        "message": "",
        "link": "",
        "icon": "",
    }


@family.get(LIST, auth=Auth.USER)
async def list_notifications(call: Call) -> Answer:
    """The notifications of the user that can be rendered, newest first."""
    found = await _seen_by(call)
    shown = [item for item in (_rendered(one, _icon(call)) for one in reversed(found)) if item]
    numbers = [item["notification_id"] for item in shown]  # which never change what they stand for
    listed = json.dumps(numbers, separators=(",", ":")).encode()
    digest = hashlib.md5(listed, usedforsecurity=False).hexdigest()
    return Answer(shown, headers=(("ETag", f'"{digest}"'),))


@family.get(f"{LIST}/{{id}}", auth=Auth.USER)
async def get_notification(call: Call, id: int) -> dict[str, Any]:  # noqa: A002
    """One of them."""
    found = next((one for one in await _seen_by(call) if one.id == id), None)
    item = _rendered(found, _icon(call)) if found else None
    if item is None:
        raise OCSRefusal(NOT_FOUND, data=None)
    return item


@family.delete(f"{LIST}/{{id}}", auth=Auth.USER)
async def delete_notification(call: Call, id: int) -> list[Any]:  # noqa: A002
    """Forget one; nothing happens if there is none."""
    user_id = call.acting_user.user_id

    def remove(documents: Documents) -> None:
        found = documents.numbered(KIND, id)
        if found is not None and found.user_id == user_id:
            documents.remove(found)

    await call.host.documents.write(remove)
    return []


@family.delete(LIST, auth=Auth.USER)
async def delete_notifications(call: Call) -> list[Any]:
    """Forget all of the user's."""
    user_id = call.acting_user.user_id

    def remove(documents: Documents) -> None:
        for found in documents.find(KIND, user_id=user_id):
            documents.remove(found)

    await call.host.documents.write(remove)
    return []


@family.post(f"{LIST}/exists", auth=Auth.USER)
async def existing(call: Call, ids: list[Any]) -> list[int]:
    """Those of the numbers that are there."""
    present = {one.id for one in await _seen_by(call)}
    return [number for number in ids if isinstance(number, int) and number in present]


async def _seen_by(call: Call) -> list[Document]:
    """Of the user, from apps that are enabled."""
    user_id = call.acting_user.user_id
    return await call.host.documents.read(
        lambda documents: documents.find(KIND, user_id=user_id, of_enabled=True)
    )


def _icon(call: Call) -> str:
    return f"{call.host.settings.url}/apps/app_api/img/app-dark.svg"


def _short(params: Mapping[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, (str, int)) or not 0 < len(str(value)) <= _MAX_LENGTH:
        raise ParameterError(f"params needs the text {name!r} of 1 to {_MAX_LENGTH} characters")
    return str(value)


def _rendered(document: Document, icon: str) -> dict[str, Any] | None:
    """The notification as people get it; None for one that breaks the rules of rich texts."""
    given = document.content["subject_params"]
    subject_parameters = given["rich_subject_params"] or {}
    message_parameters = given["rich_message_params"] or {}
    subject = _filled(given["rich_subject"], subject_parameters)
    message = _filled(given["rich_message"], message_parameters)
    if not subject or message is None:
        return None
    return {
        "notification_id": document.id,
        "app": document.app_id,
        "user": document.user_id,
        "datetime": document.content["datetime"],
        "object_type": document.content["object"],
        "object_id": document.content["object_id"],
        "subject": subject,
        "message": message,
        "link": str(given.get("link") or ""),
        "subjectRich": given["rich_subject"],
        "subjectRichParameters": subject_parameters,
        "messageRich": given["rich_message"],
        "messageRichParameters": message_parameters,
        "icon": icon,
        "shouldNotify": True,
        "actions": [],
    }


def _filled(text: str, parameters: Any) -> str | None:
    """The text with names in place of `{placeholders}`; None if it has one that is not defined."""
    if not isinstance(parameters, dict):
        return None
    for parameter in parameters.values():
        if not isinstance(parameter, dict) or not all(
            isinstance(parameter.get(member), str) for member in ("type", "id", "name")
        ):
            return None
    if not set(_PLACEHOLDER.findall(text)) <= set(parameters):
        return None
    return _PLACEHOLDER.sub(lambda found: _named(parameters[found[1]]), text)


def _named(parameter: Mapping[str, Any]) -> str:
    if parameter["type"] == "user":
        return f"@{parameter['name']}"
    if parameter["type"] == "file":
        return str(parameter.get("path") or parameter["name"])
    return str(parameter["name"])
