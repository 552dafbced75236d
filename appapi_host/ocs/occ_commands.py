"""Commands of apps for the command line of the host.

Source: AppAPI documentation, OCC commands.
"""

from typing import Any, Final

from appapi_host.ocs._endpoints import Auth, Call, Family, OCSRefusal
from exapp_sdk.protocol.ocs import NOT_FOUND

__all__ = ["KIND", "family"]

KIND: Final = "occ-command"
PATH: Final = "/apps/app_api/api/v1/occ_command"

family = Family()


@family.post(PATH, auth=Auth.APP)
async def register_command(
    call: Call,
    name: str,
    description: str,
    execute_handler: str,
    hidden: int = 0,
    arguments: list[Any] | None = None,
    options: list[Any] | None = None,
    usages: list[Any] | None = None,
) -> list[Any]:
    """Add a command, or replace the one of that name."""
    content = {
        "name": name,
        "description": description,
        "hidden": hidden,
        "arguments": arguments or [],
        "options": options or [],
        "usages": usages or [],
        "execute_handler": execute_handler.lstrip("/"),
    }
    await call.store(KIND, name, content)
    return []


@family.get(PATH, auth=Auth.APP)
async def get_command(call: Call, name: str) -> dict[str, Any]:
    """One command of the app."""
    found = await call.stored(KIND, name)
    if found is None:
        raise OCSRefusal(NOT_FOUND)
    return {"id": found.id, "appid": found.app_id, **found.content}


@family.delete(PATH, auth=Auth.APP)
async def unregister_command(call: Call, name: str) -> list[Any]:
    """Remove a command."""
    if not await call.discard(KIND, name):
        raise OCSRefusal(NOT_FOUND)
    return []
