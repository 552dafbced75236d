"""Forms of apps, as apps register them and as the page of settings reads and fills them.

Source: AppAPI documentation, Declarative Settings; Nextcloud OCS API, Declarative settings.
"""

from typing import Any, Final

from appapi_host.forms import FORM as KIND
from appapi_host.ocs._endpoints import Auth, Call, Family, OCSRefusal
from appapi_host.ocs._parameters import ParameterError
from exapp_sdk.protocol.ocs import NOT_FOUND

__all__ = ["KIND", "family"]

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
    forms = call.host.forms
    return [
        {
            **form.scheme,
            "app": form.app_id,
            "fields": await forms.values(form, call.acting_user),
        }
        for form in await forms.shown_to(call.acting_user)
    ]


@family.post(f"{CORE}/value", auth=Auth.USER)
async def set_value(call: Call, app: str, form_id: str, field_id: str, value: Any) -> None:
    """Take what a person entered."""
    form = await call.host.forms.get(app, form_id)
    if form is None:
        raise OCSRefusal(NOT_FOUND)
    field = form.field(field_id)
    if field is None:
        raise OCSRefusal(400, note=f"the form {form_id!r} has no field {field_id!r}")
    if not form.is_for(call.acting_user):
        raise OCSRefusal(403, "Logged in account must be an admin")
    await call.host.forms.enter(form, field, value, call.acting_user)


@family.post(f"{CORE}/value-sensitive", auth=Auth.USER)
async def set_sensitive_value(
    call: Call, app: str, form_id: str, field_id: str, value: Any
) -> None:
    """The same; in Nextcloud this one asks for the password first."""
    await set_value(call, app, form_id, field_id, value)
