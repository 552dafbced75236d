"""What an embedded page of an app is made of: initial states, scripts and styles.

Source: AppAPI documentation, Other UI.
"""

import json
from typing import Any, Final

from appapi_host.documents import Document
from appapi_host.ocs._parameters import ParameterError
from appapi_host.ocs._routing import Auth, Call, Family, OCSRefusal
from exapp_sdk.protocol.ocs import NOT_FOUND

__all__ = ["INITIAL_STATE", "SCRIPT", "STYLE", "family"]

INITIAL_STATE: Final = "initial-state"
SCRIPT: Final = "script"
STYLE: Final = "style"

_UI: Final = "/apps/app_api/api/v1/ui"
_MISSING: Final = {
    INITIAL_STATE: "No such InitialState",
    SCRIPT: "No such Script",
    STYLE: "No such Style",
}

family = Family()


# `type` is what the page belongs to; there is only `top_menu`.


@family.post(f"{_UI}/initial-state", auth=Auth.APP)
async def set_initial_state(
    call: Call,
    type: str,  # noqa: A002  # the name on the wire
    name: str,
    key: str,
    value: Any,
) -> list[Any]:
    """Give the page a list or an object, in place of the one of that key."""
    if not isinstance(value, (list, dict)):
        raise ParameterError("value must be a list or an object")
    content = {"type": type, "name": name, "key": key, "value": value}
    await call.store(INITIAL_STATE, _name(type, name, key), content)
    return []


@family.get(f"{_UI}/initial-state", auth=Auth.APP)
async def get_initial_state(
    call: Call,
    type: str,  # noqa: A002
    name: str,
    key: str,
) -> dict[str, Any]:
    """One value."""
    return _shown(INITIAL_STATE, await call.stored(INITIAL_STATE, _name(type, name, key)))


@family.delete(f"{_UI}/initial-state", auth=Auth.APP)
async def delete_initial_state(
    call: Call,
    type: str,  # noqa: A002
    name: str,
    key: str,
) -> list[Any]:
    """Take a value from the page."""
    return await _discarded(call, INITIAL_STATE, _name(type, name, key))


@family.post(f"{_UI}/script", auth=Auth.APP)
async def set_script(
    call: Call,
    type: str,  # noqa: A002
    name: str,
    path: str,
    after_app_id: str = "",
) -> list[Any]:
    """Have the page load a script of the app."""
    path = path.lstrip("/")
    content = {"type": type, "name": name, "path": path, "after_app_id": after_app_id}
    await call.store(SCRIPT, _name(type, name, path), content)
    return []


@family.get(f"{_UI}/script", auth=Auth.APP)
async def get_script(
    call: Call,
    type: str,  # noqa: A002
    name: str,
    path: str,
) -> dict[str, Any]:
    """One script."""
    return _shown(SCRIPT, await call.stored(SCRIPT, _name(type, name, path.lstrip("/"))))


@family.delete(f"{_UI}/script", auth=Auth.APP)
async def delete_script(
    call: Call,
    type: str,  # noqa: A002
    name: str,
    path: str,
) -> list[Any]:
    """Take a script from the page."""
    return await _discarded(call, SCRIPT, _name(type, name, path.lstrip("/")))


@family.post(f"{_UI}/style", auth=Auth.APP)
async def set_style(
    call: Call,
    type: str,  # noqa: A002
    name: str,
    path: str,
) -> list[Any]:
    """Have the page load a style sheet of the app."""
    path = path.lstrip("/")
    await call.store(STYLE, _name(type, name, path), {"type": type, "name": name, "path": path})
    return []


@family.get(f"{_UI}/style", auth=Auth.APP)
async def get_style(
    call: Call,
    type: str,  # noqa: A002
    name: str,
    path: str,
) -> dict[str, Any]:
    """One style sheet."""
    return _shown(STYLE, await call.stored(STYLE, _name(type, name, path.lstrip("/"))))


@family.delete(f"{_UI}/style", auth=Auth.APP)
async def delete_style(
    call: Call,
    type: str,  # noqa: A002
    name: str,
    path: str,
) -> list[Any]:
    """Take a style sheet from the page."""
    return await _discarded(call, STYLE, _name(type, name, path.lstrip("/")))


def _name(*parts: str) -> str:
    return json.dumps(parts)


def _shown(kind: str, found: Document | None) -> dict[str, Any]:
    if found is None:
        raise OCSRefusal(NOT_FOUND, _MISSING[kind])
    return {"id": found.id, "appid": found.app_id, **found.content}


async def _discarded(call: Call, kind: str, name: str) -> list[Any]:
    if not await call.discard(kind, name):
        raise OCSRefusal(NOT_FOUND, _MISSING[kind])
    return []
