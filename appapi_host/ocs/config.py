"""Values that apps keep on the host: their own configuration, and preferences of their users.

Source: AppAPI documentation, AppConfig and Preferences.
"""

from typing import Any, Final

from appapi_host.ocs._endpoints import Auth, Call, Family, OCSRefusal
from appapi_host.values import Value
from exapp_sdk.protocol.ocs import NOT_FOUND

__all__ = ["family"]

CONFIG: Final = "/apps/app_api/api/v1/ex-app/config"
PREFERENCE: Final = "/apps/app_api/api/v1/ex-app/preference"

# The words changed when AppAPI moved the values into the server's own tables.
_NOTHING_DELETED: Final = {
    False: ("No appconfig_ex values deleted", "No app config values deleted"),
    True: ("No preferences_ex values deleted", "No user config values deleted"),
}
_NEW_WORDS_SINCE: Final = 33

family = Family()


@family.post(CONFIG, auth=Auth.APP)
async def set_config(
    call: Call, config_key: str, config_value: Any = None, sensitive: int | None = None
) -> dict[str, Any]:
    """Store a value of the app; without `sensitive`, the flag of an existing one stays."""
    return await _set(call, "", config_key, config_value, sensitive)


@family.post(f"{CONFIG}/get-values", auth=Auth.APP)
async def get_config(call: Call, config_keys: list[Any]) -> list[dict[str, str]]:
    """Those values of the app that exist, sorted by key."""
    return await _get(call, "", config_keys)


@family.delete(CONFIG, auth=Auth.APP)
async def delete_config(call: Call, config_keys: list[Any]) -> int:
    """Delete values of the app."""
    return await _delete(call, "", config_keys)


@family.post(PREFERENCE, auth=Auth.APP_USER)
async def set_preference(
    call: Call, config_key: str, config_value: Any = None, sensitive: int | None = None
) -> dict[str, Any]:
    """The same for the acting user."""
    return await _set(call, call.acting_user.user_id, config_key, config_value, sensitive)


@family.post(f"{PREFERENCE}/get-values", auth=Auth.APP_USER)
async def get_preferences(call: Call, config_keys: list[Any]) -> list[dict[str, str]]:
    """The same for the acting user."""
    return await _get(call, call.acting_user.user_id, config_keys)


@family.delete(PREFERENCE, auth=Auth.APP_USER)
async def delete_preferences(call: Call, config_keys: list[Any]) -> int:
    """The same for the acting user."""
    return await _delete(call, call.acting_user.user_id, config_keys)


async def _set(
    call: Call, user_id: str, key: str, value: Any, sensitive: int | None
) -> dict[str, Any]:
    if not key:
        raise OCSRefusal(400, "Config key cannot be empty")
    app_id = call.app.app_id
    exists = value is None and bool(await call.host.values.get(app_id, [key], user_id=user_id))
    stored = await call.host.values.set(
        app_id,
        key,
        _as_text(value),
        is_sensitive=None if sensitive is None else bool(sensitive),
        user_id=user_id,
    )
    answer = _row(stored)
    if exists:
        answer["configvalue"] = None  # what was given, though an empty text is stored
    return answer


def _row(value: Value) -> dict[str, Any]:
    user = {"user_id": value.user_id} if value.user_id else {}
    return {
        "id": value.id,
        **user,
        "appid": value.app_id,
        "configkey": value.key,
        "configvalue": value.text,
        "sensitive": int(value.is_sensitive),
    }


async def _get(call: Call, user_id: str, keys: list[Any]) -> list[dict[str, str]]:
    names = [_as_text(key) for key in keys]
    found = await call.host.values.get(call.app.app_id, names, user_id=user_id)
    return [{"configkey": value.key, "configvalue": value.text} for value in found]


async def _delete(call: Call, user_id: str, keys: list[Any]) -> int:
    names = [_as_text(key) for key in keys]
    count = await call.host.values.delete(call.app.app_id, names, user_id=user_id)
    if not count:
        is_new = call.host.settings.nextcloud_version >= _NEW_WORDS_SINCE
        raise OCSRefusal(NOT_FOUND, _NOTHING_DELETED[bool(user_id)][is_new])
    return count


def _as_text(value: Any) -> str:
    """What PHP makes of a value where a text is wanted."""
    if value is None or isinstance(value, bool):
        return "1" if value else ""
    if isinstance(value, (dict, list)):
        return "Array"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
