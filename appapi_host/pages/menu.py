"""What every page has at its top: the entries of apps in the menu, and who is signed in."""

import html
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from appapi_host.documents import Document
from appapi_host.host import Host
from appapi_host.ocs.top_menu import KIND
from appapi_host.pages.login import sign_out_form
from appapi_host.pages.visit import Visit
from appapi_host.proxy import BUILT_IN_PREFIX
from appapi_host.records import AccessLevel, User

__all__ = ["Entry", "app_url", "entries", "entries_of", "header"]

EMBEDDED: Final = "/index.php/apps/app_api/embedded/"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of an app in the menu.

    Args:
        app_id: whose it is.
        content: as the app registered it.
    """

    app_id: str
    content: dict[str, Any]

    @classmethod
    def of(cls, document: Document) -> "Entry":
        """From what is stored."""
        return cls(document.app_id, dict(document.content))

    @property
    def name(self) -> str:
        """Unique within the app."""
        return str(self.content["name"])

    @property
    def title(self) -> str:
        """For people; may be empty."""
        return str(self.content["display_name"])

    @property
    def href(self) -> str:
        """Path of its page."""
        return f"{EMBEDDED}{quote(self.app_id, safe='')}/{quote(self.name, safe='')}"

    @property
    def icon(self) -> str:
        """Path of its icon, empty without one."""
        icon = str(self.content["icon"])
        return app_url(self.app_id, icon) if icon else ""

    @property
    def access_level(self) -> AccessLevel:
        """Who may see it."""
        return AccessLevel.ADMIN if self.content["admin_required"] else AccessLevel.USER

    def is_for(self, user: User) -> bool:
        """Whether somebody may see it."""
        return user.access_level >= self.access_level


def app_url(app_id: str, path: str) -> str:
    """The path at which the proxy serves a path of an app."""
    return f"{BUILT_IN_PREFIX}{quote(app_id, safe='')}/{quote(path, safe='/')}"


async def entries(host: Host, user: User | None) -> list[Entry]:
    """What somebody sees in the menu, in order of registration; nothing for nobody.

    Those without a title are left out, as AppAPI's development branch does.
    """
    if user is None:
        return []
    found = await host.documents.read(lambda documents: documents.find(KIND, of_enabled=True))
    every = map(Entry.of, found)
    return [entry for entry in every if entry.title and entry.is_for(user)]


async def entries_of(host: Host, app_id: str) -> list[Entry]:
    """All that an app has registered."""
    found = await host.documents.read(lambda documents: documents.find(KIND, app_id=app_id))
    return [Entry.of(document) for document in found]


def header(visit: Visit, listed: list[Entry], *, active: Entry | None = None) -> str:
    """The bar as HTML.

    Args:
        visit: who looks at the page.
        listed: what is in the menu.
        active: the entry that the page belongs to.
    """
    items = "".join(_item(entry, is_active=entry == active) for entry in listed)
    return (
        '<a class="skip" href="#content">Skip to content</a>\n'
        '<header id="header">\n<a class="brand" href="/">ExApps</a>\n'
        f'<nav aria-label="Apps"><ul>\n{items}</ul></nav>\n{_person(visit)}</header>\n'
    )


def _item(entry: Entry, *, is_active: bool) -> str:
    current = ' aria-current="page"' if is_active else ""
    icon = f'<img src="{html.escape(entry.icon)}" alt="">' if entry.icon else ""
    key = html.escape(f"app_api_{entry.app_id}_{entry.name}")
    return (
        f'<li data-id="{key}"><a href="{html.escape(entry.href)}"{current}>{icon}'
        f"<span>{html.escape(entry.title)}</span></a></li>\n"
    )


def _person(visit: Visit) -> str:
    if visit.user is None:
        return '<div class="person"><a href="/index.php/login">Sign in</a></div>\n'
    name = html.escape(visit.user.display_name or visit.user.user_id)
    way_out = sign_out_form(visit, "inline") if visit.identity.session else ""
    return (
        '<div class="person"><a href="/index.php/settings">Settings</a> '
        f'<span title="{html.escape(visit.user.user_id)}">{name}</span>\n{way_out}</div>\n'
    )
