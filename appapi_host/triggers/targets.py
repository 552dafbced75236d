"""What a trigger is about: the app, what it has registered, and who acts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from appapi_host.app_client import UserClient, memory_transport, user_client
from appapi_host.asgi import create_app
from appapi_host.documents import Document
from appapi_host.errors import HostError, NotFoundError
from appapi_host.host import Host
from appapi_host.identity import cookie_name
from appapi_host.records import AppRecord, User

__all__ = ["acting_user", "enabled_app", "registration", "signed_in"]


async def enabled_app(host: Host, app_id: str) -> AppRecord:
    """The app.

    Raises:
        NotFoundError: it is not registered.
        HostError: it is not enabled.
    """
    app = await host.registry.app(app_id)
    if app is None:
        raise NotFoundError(f"ExApp {app_id} not found.", remedy="occ app_api:app:list names all")
    if not app.enabled:
        raise HostError(f"ExApp {app_id} is disabled.", remedy=f"occ app_api:app:enable {app_id}")
    return app


async def registration(
    host: Host, app_id: str, kind: str, name: str | None, *, what: str
) -> Document:
    """The only thing of a kind that an app has registered, or the one of that name.

    Args:
        host: where it is registered.
        app_id: the app.
        kind: of the document.
        name: which; None takes the only one.
        what: how people call it, for instance `file action`.

    Raises:
        NotFoundError: there is none.
        HostError: there are several, and none is named.
    """
    found = await host.documents.read(lambda documents: documents.find(kind, app_id=app_id))
    names = ", ".join(document.name for document in found)
    if not found:
        raise NotFoundError(
            f"ExApp {app_id} has registered no {what}.",
            remedy="apps register when they are enabled; look at what it asked the host then",
        )
    if name is None and len(found) == 1:
        return found[0]
    if name is None:
        raise HostError(f"ExApp {app_id} has several: {names}", remedy="say which one")
    for document in found:
        if document.name == name:
            return document
    raise NotFoundError(f"ExApp {app_id} has no {what} {name}.", remedy=f"it has {names}")


async def acting_user(host: Host, user_id: str | None) -> User:
    """Who acts: the named user, or the first who is no administrator.

    Raises:
        NotFoundError: there is no such user, or nobody at all.
        HostError: the user is disabled.
    """
    if user_id is None:
        users = [user for user in await host.registry.users() if user.is_enabled]
        if not users:
            raise NotFoundError("Nobody can sign in.", remedy="occ user:add makes a user")
        return next((user for user in users if not user.is_admin), users[0])
    user = await host.registry.user(user_id)
    if user is None:
        raise NotFoundError(f"There is no user {user_id}.", remedy="occ user:list names all")
    if not user.is_enabled:
        raise HostError(f"The user {user_id} is disabled.", remedy=f"occ user:enable {user_id}")
    return user


@asynccontextmanager
async def signed_in(host: Host, user: User | None) -> AsyncIterator[UserClient]:
    """The web side of the host as a user's browser sees it, scripts of its pages included.

    Within this process: what it asks an app does not pass through the server of `serve`.

    Args:
        host: the host.
        user: whose session it is; None for somebody anonymous.
    """
    headers: dict[str, Any] = {
        "Accept": "application/json, text/plain, */*",
        "OCS-APIRequest": "true",
        "User-Agent": "Mozilla/5.0 (appapi_host)",
        "X-Requested-With": "XMLHttpRequest",
    }
    token = ""
    if user is not None:
        token = await host.sessions.begin(user)
        headers["Cookie"] = f"{cookie_name(host)}={token}"
    transport = memory_transport(create_app(host))
    try:
        async with user_client(host.settings.url, transport=transport) as client:
            client.headers.update(headers)
            yield client
    finally:
        if token:
            await host.sessions.end(token)
