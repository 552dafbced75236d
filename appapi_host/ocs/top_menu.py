"""Entries of apps in the menu at the top of every page.

Source: AppAPI documentation, Top Menu Entry.
"""

from typing import Any, Final

from appapi_host.documents import Documents
from appapi_host.ocs._endpoints import Auth, Call, Family, OCSRefusal
from exapp_sdk.protocol.ocs import NOT_FOUND

__all__ = ["KIND", "family"]

KIND: Final = "top-menu"
PATH: Final = "/apps/app_api/api/v1/ui/top-menu"

_PAGE_PARTS: Final = ("initial-state", "script", "style")

family = Family()


@family.post(PATH, auth=Auth.APP)
async def register_entry(
    call: Call, name: str, display_name: str, icon: str = "", admin_required: int = 0
) -> list[Any]:
    """Add an entry, or replace the one of that name as a whole."""
    content = {
        "name": name,
        "display_name": display_name,
        "icon": icon.lstrip("/"),
        "admin_required": admin_required,
    }
    await call.store(KIND, name, content)
    return []


@family.get(PATH, auth=Auth.APP)
async def get_entry(call: Call, name: str) -> dict[str, Any]:
    """One entry of the app."""
    found = await call.stored(KIND, name)
    if found is None:
        raise OCSRefusal(NOT_FOUND, "No such Top Menu entry")
    return {"id": found.id, "appid": found.app_id, **found.content}


@family.delete(PATH, auth=Auth.APP)
async def unregister_entry(call: Call, name: str) -> list[Any]:
    """Remove an entry, and what belongs to its page."""
    app_id = call.app.app_id

    def remove(documents: Documents) -> bool:
        if not documents.delete(KIND, app_id, [name]):
            return False
        for kind in _PAGE_PARTS:
            for part in documents.find(kind, app_id=app_id):
                if (part.content["type"], part.content["name"]) == ("top_menu", name):
                    documents.remove(part)
        return True

    if not await call.host.documents.write(remove):
        raise OCSRefusal(NOT_FOUND, "No such Top Menu entry")
    return []
