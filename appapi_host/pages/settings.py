"""The forms of apps as a page: each one is shown with its values, and saved as a whole.

Field types and members are those of Nextcloud's declarative settings. What an app put into its form
has hardly been checked, so whatever cannot be shown becomes a line of text.
"""

import html
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import Response

from appapi_host.forms import Form
from appapi_host.pages.login import hidden, is_meant, request_sign_in
from appapi_host.pages.menu import entries, header
from appapi_host.pages.visit import PageRefusal, Visit, redirect
from appapi_host.sessions import request_token

__all__ = ["SETTINGS_PATH", "settings"]

SETTINGS_PATH: Final = "/index.php/settings"

Field = Mapping[str, Any]

_INPUTS: Final = frozenset({"text", "password", "email", "tel", "url", "number"})
_MANY: Final = frozenset({"multi-select", "multi-checkbox"})


async def settings(visit: Visit) -> Response:
    """Show the forms, or save one of them."""
    if visit.user is None:
        return request_sign_in(visit)
    if visit.scope["method"] == "POST":
        return await _save(visit)
    forms = visit.host.forms
    saved = visit.query("saved")
    shown = [
        _form(visit, form, await forms.values(form, visit.user), is_saved=saved == _key(form))
        for form in await forms.shown_to(visit.user)
    ]
    body = "".join(shown) or "<p>No app has a form for you.</p>\n"
    listed = await entries(visit.host, visit.user)
    return visit.page("Settings", body, header=header(visit, listed))


async def _save(visit: Visit) -> Response:
    assert visit.user is not None
    given = await visit.form()
    if not is_meant(visit, visit.secret, given):
        text = "The form was too old, or came from elsewhere. Nothing was saved."
        raise PageRefusal(412, "Precondition Failed", text)
    visible = await visit.host.forms.shown_to(visit.user)
    form = next((form for form in visible if _key(form) == given.get("form")), None)
    if form is None:
        raise PageRefusal(404, "Not Found", "There is no such form.")
    for position, field in enumerate(await visit.host.forms.values(form, visit.user)):
        entered = _entered(field, f"field-{position}", given)
        # Only what was changed: what is left at its default is not stored.
        if entered is not None and _is_changed(field, entered):
            await visit.host.forms.enter(form, field, entered, visit.user)
    return redirect(visit, f"{SETTINGS_PATH}?saved={quote(_key(form), safe='')}#{_anchor(form)}")


def _key(form: Form) -> str:
    return f"{form.app_id}/{form.id}"


def _anchor(form: Form) -> str:
    return quote(f"form-{form.app_id}-{form.id}", safe="-_.")


def _form(visit: Visit, form: Form, fields: Iterable[Field], *, is_saved: bool) -> str:
    scheme = form.scheme
    audience = "for administrators" if form.is_for_admins else "personal"
    rows = "".join(_row(field, f"field-{position}") for position, field in enumerate(fields))
    said = '<p class="saved" role="status">Saved.</p>\n' if is_saved else ""
    address = str(scheme.get("doc_url") or "")
    if address.startswith(("https://", "http://")):
        link = f'<p><a href="{html.escape(address)}" rel="noreferrer">Documentation</a></p>\n'
    else:
        link = ""
    return (
        f'<form method="post" action="{SETTINGS_PATH}" class="card wide" id="{_anchor(form)}">\n'
        f"{hidden('requesttoken', request_token(visit.secret))}{hidden('form', _key(form))}"
        f"<h2>{_shown(scheme.get('title') or form.id)}</h2>\n"
        f"<small>{html.escape(form.app_id)}, {audience}</small>\n"
        f"{_paragraph(scheme.get('description'))}{link}{rows}{said}<button>Save</button>\n</form>\n"
    )


def _row(field: Field, name: str) -> str:
    """A field with its title and explanation."""
    kind = field.get("type")
    title = _shown(field.get("title") or field.get("id") or "")
    draw = _DRAWN.get(str(kind)) if isinstance(field.get("id"), str) else None
    if draw is None:
        return f"<p>{title}: a field of the type {_shown(kind)} cannot be shown.</p>\n"
    description = _paragraph(field.get("description"))
    if kind in _GROUPS:
        return f"<fieldset><legend>{title}</legend>{description}\n{draw(field, name)}</fieldset>\n"
    return f'<label for="{name}">{title}</label>{description}\n{draw(field, name)}'


def _input(field: Field, name: str) -> str:
    is_sensitive = bool(field.get("sensitive"))
    # A sensitive value does not leave the host: left empty, it stays.
    value = "" if is_sensitive else _text(field["value"])
    kind = "password" if is_sensitive else str(field["type"])
    placeholder = "unchanged" if is_sensitive and field["value"] else field.get("placeholder") or ""
    step = ' step="any"' if kind == "number" else ""
    return (
        f'<input id="{name}" name="{name}" type="{kind}" value="{html.escape(value)}" '
        f'placeholder="{_shown(placeholder)}" autocomplete="off"{step}>\n'
    )


def _select(field: Field, name: str) -> str:
    chosen = _text(field["value"])
    known = [_text(value) for value, _ in _options(field)]
    none = "" if chosen in known else '<option value="" selected></option>'
    options = "".join(
        f'<option value="{html.escape(_text(value))}"{_if(_text(value) == chosen, "selected")}>'
        f"{_shown(title)}</option>"
        for value, title in _options(field)
    )
    return f'<select id="{name}" name="{name}">{none}{options}</select>\n'


def _radio(field: Field, name: str) -> str:
    chosen = _text(field["value"])
    return "".join(
        f'<label class="choice"><input type="radio" name="{name}" '
        f'value="{html.escape(_text(value))}"{_if(_text(value) == chosen, "checked")}>'
        f"{_shown(title)}</label>\n"
        for value, title in _options(field)
    )


def _checkbox(field: Field, name: str) -> str:
    label = _shown(field.get("label") or field.get("title") or field["id"])
    return (
        f'<label class="choice"><input type="checkbox" name="{name}" value="1"'
        f"{_if(bool(field['value']), 'checked')}>{label}</label>\n"
    )


def _checkboxes(field: Field, name: str) -> str:
    chosen = _chosen(field["value"])
    return "".join(
        f'<label class="choice"><input type="checkbox" name="{name}-{position}" value="1"'
        f"{_if(_text(value) in chosen, 'checked')}>{_shown(title)}</label>\n"
        for position, (value, title) in enumerate(_options(field))
    )


_GROUPS: Final = frozenset({"radio", "checkbox", *_MANY})
_DRAWN: Final[Mapping[str, Callable[[Field, str], str]]] = {
    **dict.fromkeys(_INPUTS, _input),
    **dict.fromkeys(_MANY, _checkboxes),
    "checkbox": _checkbox,
    "radio": _radio,
    "select": _select,
}


def _entered(field: Field, name: str, given: Mapping[str, str]) -> object:
    """What a person entered, as the app is to read it; None for nothing."""
    kind = str(field.get("type"))
    if kind not in _DRAWN or not isinstance(field.get("id"), str):
        return None
    if kind == "checkbox":
        return name in given
    if kind in _MANY:
        marks = {
            _text(value): f"{name}-{position}" in given
            for position, (value, _) in enumerate(_options(field))
        }
        # A map of all of them, or a list of those that were chosen: Nextcloud has it both ways.
        return marks if kind == "multi-checkbox" else [key for key, mark in marks.items() if mark]
    text = given.get(name)
    if kind in _INPUTS:
        return None if field.get("sensitive") and not text else text
    return next((value for value, _ in _options(field) if _text(value) == text), None)


def _is_changed(field: Field, entered: object) -> bool:
    if field.get("type") in _MANY:
        return _chosen(entered) != _chosen(field["value"])
    return _text(entered) != _text(field["value"])


def _chosen(value: object) -> set[str]:
    if isinstance(value, Mapping):
        return {str(key) for key, mark in value.items() if mark}
    return {_text(one) for one in value} if isinstance(value, list) else set()


def _options(field: Field) -> list[tuple[Any, str]]:
    """Value and title of each."""
    options = field.get("options")
    return [
        (option.get("value"), str(option.get("name", option.get("value"))))
        if isinstance(option, Mapping)
        else (option, _text(option))
        for option in (options if isinstance(options, list) else [])
    ]


def _text(value: object) -> str:
    """As it is stored, so that equal texts are equal values."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _shown(value: object) -> str:
    return html.escape(_text(value))


def _paragraph(value: object) -> str:
    return f"<small>{_shown(value)}</small>\n" if value else ""


def _if(condition: bool, attribute: str) -> str:  # noqa: FBT001  # reads as a sentence
    return f" {attribute}" if condition else ""
