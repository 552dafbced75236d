"""What apps register for task processing.

Source: AppAPI documentation, Task processing.
"""

import json
from typing import Any, Final

from appapi_host.errors import HostError
from appapi_host.ocs._endpoints import Auth, Call, Family, OCSRefusal
from appapi_host.task_providers import PROVIDER
from exapp_sdk.protocol.ocs import NOT_FOUND

__all__ = ["family"]

PATH: Final = "/apps/app_api/api/v1/ai_provider/task_processing"

family = Family()


@family.post(PATH, auth=Auth.APP)
async def register_provider(
    call: Call, provider: dict[str, Any], custom_task_type: dict[str, Any] | None = None
) -> list[Any]:
    """Add a provider, or replace the one of that id."""
    try:
        await call.host.tasks.register(call.app.app_id, provider, custom_task_type)
    except HostError as error:
        raise OCSRefusal(400, note=error.cause) from error
    return []


@family.get(PATH, auth=Auth.APP)
async def get_provider(call: Call, name: str) -> dict[str, Any]:
    """One provider; what was registered is JSON text."""
    found = await call.stored(PROVIDER, name)
    if found is None:
        raise OCSRefusal(NOT_FOUND)
    registered = found.content["provider"]
    return {
        "id": found.id,
        "app_id": found.app_id,
        "name": found.name,
        "display_name": registered["name"],
        "task_type": registered["task_type"],
        "provider": json.dumps(registered, separators=(",", ":")),
        "custom_task_type": json.dumps(found.content["custom_type"], separators=(",", ":")),
    }


@family.delete(PATH, auth=Auth.APP)
async def unregister_provider(call: Call, name: str) -> list[Any]:
    """Remove a provider."""
    if not await call.discard(PROVIDER, name):
        raise OCSRefusal(NOT_FOUND)
    return []
