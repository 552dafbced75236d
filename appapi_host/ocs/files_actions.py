"""Actions of apps in the menu of a file.

Source: AppAPI documentation, File Actions Menu.
"""

from typing import Any, Final

from appapi_host.ocs._endpoints import Auth, Call, Family, OCSRefusal
from exapp_sdk.protocol.ocs import NOT_FOUND

__all__ = ["KIND", "family"]

KIND: Final = "files-action"
PATH: Final = "/apps/app_api/api/v1/ui/files-actions-menu"
PATH_V2: Final = "/apps/app_api/api/v2/ui/files-actions-menu"

_DEFAULT_ACTION_SINCE: Final = 33

family = Family()


@family.post(PATH, auth=Auth.APP)
async def register_action(
    call: Call,
    name: str,
    display_name: str,
    action_handler: str,
    icon: str = "",
    mime: str = "file",
    permissions: int = 31,
    order: int = 0,
) -> list[Any]:
    """Add or replace an action of the old kind, whose handler gets one file at a time."""
    content = _content(name, display_name, action_handler, icon, mime, permissions, order)
    await call.store(KIND, name, {**content, "version": "1.0", "default_action": None})
    return []


@family.post(PATH_V2, auth=Auth.APP)
async def register_action_v2(
    call: Call,
    name: str,
    display_name: str,
    action_handler: str,
    icon: str = "",
    mime: str = "file",
    permissions: int = 31,
    order: int = 0,
    default_action: str = "",
) -> list[Any]:
    """Add or replace an action whose handler gets all selected files at once."""
    if default_action and call.host.settings.nextcloud_version >= _DEFAULT_ACTION_SINCE:
        if default_action not in ("default", "hidden"):
            raise OCSRefusal(400, note=f"defaultAction is {default_action!r}")
    else:
        default_action = ""
    content = _content(name, display_name, action_handler, icon, mime, permissions, order)
    await call.store(
        KIND, name, {**content, "version": "2.0", "default_action": default_action or None}
    )
    return []


def _content(
    name: str,
    display_name: str,
    action_handler: str,
    icon: str,
    mime: str,
    permissions: int,
    order: int,
) -> dict[str, Any]:
    return {
        "name": name,
        "display_name": display_name,
        "mime": mime,
        "permissions": str(permissions),
        "order": order,
        "icon": icon.lstrip("/"),
        "action_handler": action_handler.lstrip("/"),
    }


@family.get(PATH, auth=Auth.APP)
async def get_action(call: Call, name: str) -> dict[str, Any]:
    """One action of the app."""
    found = await call.stored(KIND, name)
    if found is None:
        raise OCSRefusal(NOT_FOUND, "FileActionMenu not found")
    answer = {"id": found.id, "appid": found.app_id, **found.content}
    if call.host.settings.nextcloud_version < _DEFAULT_ACTION_SINCE:
        del answer["default_action"]
    return answer


@family.delete(PATH, auth=Auth.APP)
async def unregister_action(call: Call, name: str) -> list[Any]:
    """Remove an action."""
    if not await call.discard(KIND, name):
        raise OCSRefusal(NOT_FOUND, "FileActionMenu not found")
    return []
