"""Apps that want to be called when something happens.

Source: Nextcloud OCS API, Webhook Listeners.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from appapi_host.documents import Document, Documents
from appapi_host.ocs._routing import Auth, Call, Family, OCSRefusal
from exapp_sdk.protocol.ocs import NOT_FOUND

__all__ = ["EVENTS", "KIND", "family"]

KIND: Final = "webhook"
PATH: Final = "/apps/webhook_listeners/api/v1/webhooks"

EVENTS: Final = re.compile(
    r"OCP\\Files\\Events\\Node\\(Before)?Node(Created|Written|Touched|Deleted|Renamed|Copied|Read)Event"
    r"|OCP\\Files\\Events\\Node\\NodeRestoredEvent"
    r"|OCP\\Calendar\\Events\\CalendarObject\w+Event"
    r"|OCP\\SystemTag\\Tag(Assigned|Unassigned)Event"
    r"|OCA\\\w+(\\\w+)+Event"
)
"""Names of the classes that a webhook may be registered for; those of other apps unseen."""

_VERBS: Final = ("GET", "POST", "PUT", "DELETE")
_AUTH_METHODS: Final = ("none", "header")

family = Family()


@family.get(PATH, auth=Auth.EX_APP_OR_ADMIN)
async def list_webhooks(call: Call, uri: str | None = None) -> list[dict[str, Any]]:
    """All registrations, or those for a URI."""
    found = await call.host.documents.read(lambda documents: documents.find(KIND))
    return [_shown(each) for each in found if uri is None or each.content["uri"] == uri]


@family.get(f"{PATH}/{{id}}", auth=Auth.EX_APP_OR_ADMIN)
async def get_webhook(call: Call, id: int) -> dict[str, Any]:  # noqa: A002
    """One registration."""
    found = await call.host.documents.read(lambda documents: documents.numbered(KIND, id))
    return _shown(_existing(found, id))


@family.post(PATH, auth=Auth.EX_APP_OR_ADMIN)
async def register_webhook(
    call: Call,
    http_method: str,
    uri: str,
    event: str,
    event_filter: dict[str, Any] | None = None,
    user_id_filter: str = "",
    headers: dict[str, Any] | None = None,
    auth_method: str = "none",
    auth_data: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Register."""
    content = _content(http_method, uri, event, event_filter, user_id_filter, headers, auth_method)
    app_id = call.signed_by.app_id if call.signed_by else ""

    def add(documents: Documents) -> Document:
        return documents.add(KIND, app_id, _complete(call, content, auth_data))

    return _shown(await call.host.documents.write(add))


@family.post(f"{PATH}/{{id}}", auth=Auth.EX_APP_OR_ADMIN)
async def replace_webhook(
    call: Call,
    id: int,  # noqa: A002
    http_method: str,
    uri: str,
    event: str,
    event_filter: dict[str, Any] | None = None,
    user_id_filter: str = "",
    headers: dict[str, Any] | None = None,
    auth_method: str = "none",
    auth_data: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Replace a registration as a whole."""
    content = _content(http_method, uri, event, event_filter, user_id_filter, headers, auth_method)

    def replace(documents: Documents) -> Document:
        found = _existing(documents.numbered(KIND, id), id)
        return documents.replace(found, _complete(call, content, auth_data))

    return _shown(await call.host.documents.write(replace))


@family.delete(f"{PATH}/{{id}}", auth=Auth.EX_APP_OR_ADMIN)
async def delete_webhook(call: Call, id: int) -> bool:  # noqa: A002
    """Delete a registration; whether there was one."""

    def remove(documents: Documents) -> bool:
        found = documents.numbered(KIND, id)
        if found is not None:
            documents.remove(found)
        return found is not None

    return await call.host.documents.write(remove)


@family.delete(f"{PATH}/byappid/{{appid}}", auth=Auth.EX_APP_OR_ADMIN)
async def delete_webhooks_of(call: Call, appid: str) -> int:
    """Delete all registrations of an app."""

    def remove(documents: Documents) -> int:
        found = documents.find(KIND, app_id=appid)
        for each in found:
            documents.remove(each)
        return len(found)

    return await call.host.documents.write(remove)


def _existing(found: Document | None, number: int) -> Document:
    if found is None:
        raise OCSRefusal(NOT_FOUND, f"There is no webhook {number}")
    return found


def _content(
    http_method: str,
    uri: str,
    event: str,
    event_filter: Mapping[str, Any] | None,
    user_id_filter: str,
    headers: Mapping[str, Any] | None,
    auth_method: str,
) -> dict[str, Any]:
    """What was given, after a look at it."""
    event = event.lstrip("\\")
    if not EVENTS.fullmatch(event):
        raise OCSRefusal(400, f"{event} is not an event that webhooks can listen to")
    if http_method.upper() not in _VERBS:
        raise OCSRefusal(400, f"The HTTP method {http_method} is not supported")
    if auth_method not in _AUTH_METHODS:
        raise OCSRefusal(400, f"The auth method {auth_method} is not supported")
    return {
        "httpMethod": http_method.upper(),
        "uri": uri,
        "event": event,
        "eventFilter": event_filter or {},
        "userIdFilter": user_id_filter,
        "headers": headers,
        "authMethod": auth_method,
    }


def _complete(
    call: Call, content: Mapping[str, Any], auth_data: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The same with what must not be read by others; within a transaction."""
    secret = None if auth_data is None else call.host.values.encrypted(json.dumps(auth_data))
    user_id = call.user.user_id if call.user else ""
    return {"userId": user_id, **content, "authData": secret}


def _shown(found: Document) -> dict[str, Any]:
    return {"id": found.id, "appId": found.app_id, **found.content}
