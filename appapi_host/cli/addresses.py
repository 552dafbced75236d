"""Which addresses of an app a person can open in a browser: its pages, and its routes."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from appapi_host.cli.console import Address
from appapi_host.records import AccessLevel, Route
from appapi_host.route_paths import fixed_path

if TYPE_CHECKING:
    from appapi_host.host import Host

__all__ = ["addresses", "known_passwords", "page_addresses", "proxy_base", "sign_in"]

_WHO: Final = {
    AccessLevel.PUBLIC: "anyone",
    AccessLevel.USER: "user, admin",
    AccessLevel.ADMIN: "admin",
}


def proxy_base(base_url: str, app_id: str) -> str:
    """The address below which the host passes requests on to an app."""
    return f"{base_url}/index.php/apps/app_api/proxy/{app_id}/"


def addresses(base_url: str, app_id: str, routes: Iterable[Route]) -> list[Address]:
    """An address for each route that can be opened with GET.

    A route is a regular expression; where it is more than a fixed path with anything behind it,
    the address ends at its fixed beginning and the expression is shown too.
    """
    found: dict[str, Address] = {}
    for route in routes:
        if "GET" not in route.verb.upper():
            continue
        path, is_whole = fixed_path(route.url)
        url = proxy_base(base_url, app_id) + quote(path)
        pattern = "" if is_whole else route.url
        # The first route that fits decides, so a later one of the same address says nothing new.
        found.setdefault(url + pattern, Address(url, _WHO[route.access_level], pattern))
    return list(found.values())


async def page_addresses(host: "Host", base_url: str, app_id: str) -> list[Address]:
    """An address for the page of each menu entry that an app has registered."""
    from appapi_host.pages.menu import entries_of

    found = [entry for entry in await entries_of(host, app_id) if entry.title]
    return [
        Address(f"{base_url}{entry.href}", f"{_WHO[entry.access_level]}: {entry.title}")
        for entry in found
    ]


async def known_passwords(host: "Host") -> dict[str, str]:
    """Make sure that the default users exist; user id → password of those that can be told."""
    from appapi_host.users import DEFAULT_USERS

    passwords = await host.users.create_defaults(loopback=host.settings.is_loopback_only)
    for user in DEFAULT_USERS:
        # True for those that nobody has given another password.
        if await host.users.authenticate(user.user_id, user.user_id):
            passwords[user.user_id] = user.user_id
    return passwords


def sign_in(base_url: str, passwords: Mapping[str, str]) -> Address | None:
    """Where a browser asks who somebody is, and what to answer; None if no password is known."""
    if not passwords:
        return None
    known = (f"{user_id}, password {password}" for user_id, password in passwords.items())
    return Address(f"{base_url}/login", "; ".join(known))
