"""Preferences that users have in other apps of the server.

Source: Nextcloud OCS API, Provisioning, Preferences.
"""

from typing import Any, Final

from appapi_host.documents import Documents
from appapi_host.ocs._endpoints import Auth, Call, Family

__all__ = ["KIND", "family"]

KIND: Final = "user-preference"
PATH: Final = "/apps/provisioning_api/api/v1/config/users"

family = Family()

# The real one leaves it to each of those apps whether it takes a value. Here every value is taken:
# nothing reads them but people who debug.


@family.post(f"{PATH}/{{appId}}/{{configKey}}", auth=Auth.USER)
async def set_preference(call: Call, app_id: str, config_key: str, config_value: str) -> list[Any]:
    """Store one value."""
    return await set_preferences(call, app_id, {config_key: config_value})


@family.post(f"{PATH}/{{appId}}", auth=Auth.USER)
async def set_preferences(call: Call, app_id: str, configs: dict[str, Any]) -> list[Any]:
    """Store several values."""
    user_id = call.acting_user.user_id

    def write(documents: Documents) -> None:
        for key, value in configs.items():
            documents.put(KIND, app_id, key, {"value": str(value)}, user_id=user_id)

    await call.host.documents.write(write)
    return []


@family.delete(f"{PATH}/{{appId}}/{{configKey}}", auth=Auth.USER)
async def delete_preference(call: Call, app_id: str, config_key: str) -> list[Any]:
    """Delete one value."""
    return await delete_preferences(call, app_id, [config_key])


@family.delete(f"{PATH}/{{appId}}", auth=Auth.USER)
async def delete_preferences(call: Call, app_id: str, config_keys: list[Any]) -> list[Any]:
    """Delete several values; those that are not there do not matter."""
    user_id = call.acting_user.user_id
    names = [str(key) for key in config_keys]
    await call.host.documents.write(
        lambda documents: documents.delete(KIND, app_id, names, user_id=user_id)
    )
    return []
