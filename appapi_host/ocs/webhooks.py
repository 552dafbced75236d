"""Apps that want to be called when something happens.

Source: Nextcloud OCS API, Webhook Listeners.
"""

import json
from typing import Any, Final

from appapi_host.documents import Document, Documents
from appapi_host.ocs._endpoints import Auth, Call, Family, OCSRefusal
from appapi_host.webhooks import EVENTS, KIND
from exapp_sdk.protocol.ocs import NOT_FOUND

__all__ = ["family"]

PATH: Final = "/apps/webhook_listeners/api/v1/webhooks"

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
@family.post(f"{PATH}/{{id}}", auth=Auth.EX_APP_OR_ADMIN)
async def register_webhook(
    call: Call,
    http_method: str,
    uri: str,
    event: str,
    id: int = 0,  # noqa: A002
    event_filter: dict[str, Any] | None = None,
    user_id_filter: str = "",
    headers: dict[str, Any] | None = None,
    auth_method: str = "none",
    auth_data: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Register, or replace a registration as a whole."""
    event = event.lstrip("\\")
    http_method = http_method.upper()
    if not EVENTS.fullmatch(event):
        raise OCSRefusal(400, f"{event} is not an event that webhooks can listen to")
    if http_method not in _VERBS:
        raise OCSRefusal(400, f"The HTTP method {http_method} is not supported")
    if auth_method not in _AUTH_METHODS:
        raise OCSRefusal(400, f"The auth method {auth_method} is not supported")

    def write(documents: Documents) -> Document:
        secret = None
        if auth_data is not None:
            secret = call.host.values.encrypted(json.dumps(auth_data))
        content = {
            "userId": call.user.user_id if call.user else "",
            "httpMethod": http_method,
            "uri": uri,
            "event": event,
            "eventFilter": event_filter or {},
            "userIdFilter": user_id_filter,
            "headers": headers,
            "authMethod": auth_method,
            "authData": secret,
        }
        if "id" in call.path:
            found = _existing(documents.numbered(KIND, id), id)
            return documents.replace(found, content, label=event)
        app_id = call.signed_by.app_id if call.signed_by else ""
        return documents.add(KIND, app_id, content, label=event)

    return _shown(await call.host.documents.write(write))


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


def _shown(found: Document) -> dict[str, Any]:
    return {"id": found.id, "appId": found.app_id, **found.content}
