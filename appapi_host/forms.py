"""Forms of apps among the settings of the host, and what people enter there.

An app reads what was entered as its configuration, or, from a personal form, as the preference of
that user; nobody tells it. Defaults are not stored.

Source: AppAPI documentation, Declarative Settings.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from appapi_host.documents import Document, DocumentStore
from appapi_host.records import User
from appapi_host.values import Values

__all__ = ["FORM", "HIDDEN", "Form", "Forms"]

FORM: Final = "settings-form"
"""Kind of the documents."""

HIDDEN: Final = "dummySecret"
"""What is shown in place of a sensitive value, in Nextcloud's words."""


@dataclass(frozen=True, slots=True)
class Form:
    """A form of an app.

    Args:
        app_id: whose it is.
        scheme: as the app registered it. Next to nothing in it has been checked.
    """

    app_id: str
    scheme: Mapping[str, Any]

    @classmethod
    def of(cls, document: Document) -> "Form":
        """From what is stored."""
        return cls(document.app_id, document.content["scheme"])

    @property
    def id(self) -> str:
        """Unique within the app."""
        return str(self.scheme["id"])

    @property
    def is_for_admins(self) -> bool:
        """Whether it is about the app, and not about what each user prefers."""
        return bool(self.scheme.get("section_type") != "personal")

    @property
    def fields(self) -> list[dict[str, Any]]:
        """Those that are fields at all."""
        fields = self.scheme.get("fields")
        if not isinstance(fields, list):
            return []
        return [field for field in fields if isinstance(field, dict)]

    def field(self, field_id: str) -> dict[str, Any] | None:
        """The field of that id."""
        return next((field for field in self.fields if field.get("id") == field_id), None)

    def is_for(self, user: User) -> bool:
        """Whether somebody may see and use it."""
        return user.is_admin or not self.is_for_admins


class Forms:
    """The forms that apps have registered.

    Args:
        documents: where they are stored.
        values: where goes what people enter.
    """

    def __init__(self, documents: DocumentStore, values: Values) -> None:
        self._documents = documents
        self._values = values

    async def get(self, app_id: str, form_id: str) -> Form | None:
        """One form."""
        found = await self._documents.read(lambda documents: documents.get(FORM, app_id, form_id))
        return Form.of(found) if found else None

    async def shown_to(self, user: User) -> list[Form]:
        """Those of enabled apps that a user sees, in order of registration."""
        found = await self._documents.read(lambda documents: documents.find(FORM, of_enabled=True))
        return [form for form in map(Form.of, found) if form.is_for(user)]

    async def values(self, form: Form, user: User) -> list[dict[str, Any]]:
        """The fields, each with its `value`: what was entered, or the default."""
        user_id = "" if form.is_for_admins else user.user_id
        entered = {
            value.key: HIDDEN if value.is_sensitive else _decoded(value.text)
            for value in await self._values.get(form.app_id, user_id=user_id)
        }
        return [
            {**field, "value": entered.get(str(field.get("id")), field.get("default"))}
            for field in form.fields
        ]

    async def enter(self, form: Form, field: Mapping[str, Any], value: object, user: User) -> None:
        """Store what a user entered.

        The real one hands sensitive values to the app as cipher text; here they are encrypted at
        rest and the app reads them in clear.

        Args:
            form: which one.
            field: one of its fields.
            value: anything that JSON knows; texts are stored as they are.
            user: who entered it.
        """
        await self._values.set(
            form.app_id,
            str(field["id"]),
            value if isinstance(value, str) else _encoded(value),
            is_sensitive=bool(field.get("sensitive")),
            user_id="" if form.is_for_admins else user.user_id,
        )


def _encoded(value: object) -> str:
    """JSON as PHP writes it, because apps compare texts."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/")


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
