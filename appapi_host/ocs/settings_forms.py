"""Forms of apps among the settings of the host, and the values that people enter there.

Source: AppAPI documentation, Declarative Settings; Nextcloud OCS API, Declarative settings.
"""

import json
from typing import Any, Final

from appapi_host.documents import Document
from appapi_host.ocs._parameters import ParameterError
from appapi_host.ocs._routing import Auth, Call, Family, OCSRefusal
from exapp_sdk.protocol.ocs import NOT_FOUND

__all__ = ["KIND", "family"]

KIND: Final = "settings-form"
PATH: Final = "/apps/app_api/api/v1/ui/settings"
CORE: Final = "/settings/api/declarative"

family = Family()


@family.post(PATH, auth=Auth.APP)
async def register_form(call: Call, form_scheme: dict[str, Any]) -> list[Any]:
    """Add a form, or replace the one of that id."""
    form_id = form_scheme.get("id")
    if not isinstance(form_id, str):
        raise ParameterError("formScheme needs the member 'id'")
    # Whatever the app asks for: the values are kept where it reads them, not by the form.
    scheme = {key: value for key, value in form_scheme.items() if key != "storage_type"}
    await call.store(KIND, form_id, {"scheme": {**scheme, "storage_type": "external"}})
    return []


@family.get(PATH, auth=Auth.APP)
async def get_form(call: Call, form_id: str) -> dict[str, Any]:
    """One form, as it was posted."""
    found = await call.stored(KIND, form_id)
    if found is None:
        raise OCSRefusal(NOT_FOUND)
    return dict(found.content["scheme"])


@family.delete(PATH, auth=Auth.APP)
async def unregister_form(call: Call, form_id: str) -> list[Any]:
    """Remove a form; values that were entered stay."""
    if not await call.discard(KIND, form_id):
        raise OCSRefusal(NOT_FOUND)
    return []


@family.get(f"{CORE}/forms", auth=Auth.USER)
async def list_forms(call: Call) -> list[dict[str, Any]]:
    """The forms of enabled apps that the user sees, each field with its value."""
    found = await call.host.documents.read(lambda documents: documents.find(KIND, of_enabled=True))
    return [
        await _with_values(call, form)
        for form in found
        if call.acting_user.is_admin or not _is_for_admins(form)
    ]


@family.post(f"{CORE}/value", auth=Auth.USER)
async def set_value(call: Call, app: str, form_id: str, field_id: str, value: Any) -> None:
    """Take what a person entered; the app reads it as its configuration, or the user's preference.

    The real one hands sensitive values to the app as cipher text; here they are encrypted at rest
    and the app reads them in clear.
    """
    form = await call.host.documents.read(lambda documents: documents.get(KIND, app, form_id))
    if form is None:
        raise OCSRefusal(NOT_FOUND)
    field = next((each for each in _fields(form) if each.get("id") == field_id), None)
    if field is None:
        raise OCSRefusal(400, note=f"the form {form_id!r} has no field {field_id!r}")
    if _is_for_admins(form) and not call.acting_user.is_admin:
        raise OCSRefusal(403, "Logged in account must be an admin")
    await call.host.values.set(
        app,
        field_id,
        value if isinstance(value, str) else json.dumps(value),
        is_sensitive=bool(field.get("sensitive")),
        user_id="" if _is_for_admins(form) else call.acting_user.user_id,
    )


@family.post(f"{CORE}/value-sensitive", auth=Auth.USER)
async def set_sensitive_value(
    call: Call, app: str, form_id: str, field_id: str, value: Any
) -> None:
    """The same; in Nextcloud this one asks for the password first."""
    await set_value(call, app, form_id, field_id, value)


def _is_for_admins(form: Document) -> bool:
    return bool(form.content["scheme"].get("section_type") != "personal")


def _fields(form: Document) -> list[dict[str, Any]]:
    fields = form.content["scheme"].get("fields")
    if not isinstance(fields, list):
        return []
    return [field for field in fields if isinstance(field, dict)]


async def _with_values(call: Call, form: Document) -> dict[str, Any]:
    user_id = "" if _is_for_admins(form) else call.acting_user.user_id
    values = {
        value.key: "dummySecret" if value.is_sensitive else _decoded(value.text)
        for value in await call.host.values.get(form.app_id, user_id=user_id)
    }
    fields = [
        {**field, "value": values.get(str(field.get("id")), field.get("default"))}
        for field in _fields(form)
    ]
    return {**form.content["scheme"], "app": form.app_id, "fields": fields}


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
