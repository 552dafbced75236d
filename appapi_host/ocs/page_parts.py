"""What an embedded page of an app is made of: initial states, scripts and styles.

Source: AppAPI documentation, Other UI.
"""

import json
from typing import Any, Final

from appapi_host.ocs._endpoints import Auth, Call, Family, OCSRefusal
from appapi_host.ocs._parameters import ParameterError
from appapi_host.ocs._rendering import as_php
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


@family.post(f"{_UI}/{INITIAL_STATE}", auth=Auth.APP)
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
    content = {"type": type, "name": name, "key": key, "value": as_php(value)}
    await call.store(INITIAL_STATE, _name(type, name, key), content)
    return []


@family.get(f"{_UI}/{INITIAL_STATE}", auth=Auth.APP)
async def get_initial_state(
    call: Call,
    type: str,  # noqa: A002
    name: str,
    key: str,
) -> dict[str, Any]:
    """One value."""
    return await _shown(call, INITIAL_STATE, _name(type, name, key))


@family.delete(f"{_UI}/{INITIAL_STATE}", auth=Auth.APP)
async def delete_initial_state(
    call: Call,
    type: str,  # noqa: A002
    name: str,
    key: str,
) -> list[Any]:
    """Take a value from the page."""
    return await _discarded(call, INITIAL_STATE, _name(type, name, key))


@family.post(f"{_UI}/{SCRIPT}", auth=Auth.APP)
async def set_script(
    call: Call,
    type: str,  # noqa: A002
    name: str,
    path: str,
    after_app_id: str = "",
) -> list[Any]:
    """Have the page load a script of the app."""
    return await _load(call, SCRIPT, type, name, path, after_app_id=after_app_id)


@family.post(f"{_UI}/{STYLE}", auth=Auth.APP)
async def set_style(
    call: Call,
    type: str,  # noqa: A002
    name: str,
    path: str,
) -> list[Any]:
    """Have the page load a style sheet of the app."""
    return await _load(call, STYLE, type, name, path)


def _serve_loaded(kind: str) -> None:
    """Reading and deleting of what the page loads, which differs in nothing but its kind."""

    @family.get(f"{_UI}/{kind}", auth=Auth.APP)
    async def get_loaded(
        call: Call,
        type: str,  # noqa: A002
        name: str,
        path: str,
    ) -> dict[str, Any]:
        """One script or style sheet."""
        return await _shown(call, kind, _name(type, name, path.lstrip("/")))

    @family.delete(f"{_UI}/{kind}", auth=Auth.APP)
    async def delete_loaded(
        call: Call,
        type: str,  # noqa: A002
        name: str,
        path: str,
    ) -> list[Any]:
        """Take a script or style sheet from the page."""
        return await _discarded(call, kind, _name(type, name, path.lstrip("/")))


for _kind in (SCRIPT, STYLE):
    _serve_loaded(_kind)


async def _load(
    call: Call, kind: str, page_type: str, name: str, path: str, **more: str
) -> list[Any]:
    path = path.lstrip("/")
    content = {"type": page_type, "name": name, "path": path, **more}
    await call.store(kind, _name(page_type, name, path), content)
    return []


def _name(*parts: str) -> str:
    return json.dumps(parts)


async def _shown(call: Call, kind: str, stored_name: str) -> dict[str, Any]:
    found = await call.stored(kind, stored_name)
    if found is None:
        raise OCSRefusal(NOT_FOUND, _MISSING[kind])
    return {"id": found.id, "appid": found.app_id, **found.content}


async def _discarded(call: Call, kind: str, name: str) -> list[Any]:
    if not await call.discard(kind, name):
        raise OCSRefusal(NOT_FOUND, _MISSING[kind])
    return []
