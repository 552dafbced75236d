"""A person who changes a setting in a form of an app.

AppAPI tells the app nothing of it: the app reads the value when it needs it. So what comes out of
this is what the app reads from then on.

Source: AppAPI documentation, Declarative Settings; Nextcloud OCS API, Declarative settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from appapi_host.errors import HostError, NotFoundError
from appapi_host.host import Host
from appapi_host.ocs.settings_forms import CORE, KIND
from appapi_host.records import User
from appapi_host.triggers.outcome import Outcome
from appapi_host.triggers.targets import acting_user, enabled_app, registration, signed_in

__all__ = ["SettingOutcome", "trigger_setting"]

_SAMPLES: Final[Mapping[str, Any]] = {
    "checkbox": True,
    "email": "somebody@example.org",
    "number": 1,
    "tel": "+49 30 123456",
    "url": "https://example.org/",
}


@dataclass(frozen=True, slots=True)
class SettingOutcome(Outcome):
    """The same, and the value.

    Args:
        key: under which the app finds it.
        user_id: whose preference it is; empty for the app's configuration.
        text: what the app reads.
    """

    key: str = ""
    user_id: str = ""
    text: str = ""


async def trigger_setting(
    host: Host,
    app_id: str,
    *,
    form: str | None = None,
    field: str | None = None,
    value: Any = None,
    user_id: str | None = None,
) -> SettingOutcome:
    """Enter a value in a form of an app, and save it.

    Args:
        host: where the app is installed.
        app_id: the app.
        form: its id; not needed if the app has only one.
        field: id of the field; the first one if not given.
        value: what is entered; a sample that fits the field if None.
        user_id: who does it; an administrator for forms of administrators if not given.

    Raises:
        NotFoundError: there is no such app, form, field or user.
        HostError: the app or the user is disabled, the user may not, or it is not clear which form
            is meant.
    """
    await enabled_app(host, app_id)
    found = await registration(host, app_id, KIND, form, what="settings form")
    scheme = found.content["scheme"]
    is_for_admins = scheme.get("section_type") != "personal"
    user = await _user(host, user_id, is_for_admins=is_for_admins)
    chosen = _field(scheme, field)
    entered = _sample(chosen) if value is None else value
    route = "value-sensitive" if chosen.get("sensitive") else "value"
    async with signed_in(host, user) as browser:
        answer = await browser.post(
            f"/ocs/v2.php{CORE}/{route}",
            params={"format": "json"},
            json={
                "app": app_id,
                "formId": found.name,
                "fieldId": chosen["id"],
                "value": entered,
            },
        )
    if answer.status_code != 200:
        message = answer.json()["ocs"]["meta"]["message"] or f"HTTP status {answer.status_code}"
        raise HostError(f"the form did not take it: {message}")
    owner = "" if is_for_admins else user.user_id
    [stored] = await host.values.get(app_id, [chosen["id"]], user_id=owner)
    kind = "its configuration" if is_for_admins else f"the preferences of {owner}"
    note = f"nobody tells the app: it reads the value from {kind} when it needs it"
    return SettingOutcome((), (note,), key=stored.key, user_id=owner, text=stored.text)


async def _user(host: Host, user_id: str | None, *, is_for_admins: bool) -> User:
    if user_id is None and is_for_admins:
        for user in await host.registry.users():
            if user.is_admin and user.is_enabled:
                return user
    return await acting_user(host, user_id)


def _field(scheme: Mapping[str, Any], name: str | None) -> Mapping[str, Any]:
    listed = scheme.get("fields")
    fields = [
        each
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict) and isinstance(each.get("id"), str)
    ]
    for each in fields:
        if name in (None, each["id"]):
            return each
    names = ", ".join(each["id"] for each in fields)
    raise NotFoundError(
        f"The form {scheme['id']} has no field {name or ''}".rstrip() + ".",
        remedy=f"it has {names}" if names else "",
    )


def _sample(field: Mapping[str, Any]) -> Any:
    kind = field.get("type")
    options = field.get("options")
    if isinstance(options, list) and options:
        values = [each.get("value") if isinstance(each, dict) else each for each in options]
        chosen = values[-1]  # the first one tends to be the default
        if kind == "multi-checkbox":
            return {str(value): value == chosen for value in values}
        return [chosen] if kind == "multi-select" else chosen
    return _SAMPLES.get(str(kind), "sample")
