"""Commands that AppAPI had and that its older documentation lists: what is true instead today."""

from typing import TYPE_CHECKING, Final

from appapi_host.cli.session import Session
from appapi_host.cli.symfony import Argument, Command, Input

if TYPE_CHECKING:
    from appapi_host.records import AppRecord

__all__ = ["COMMANDS"]


async def _app(session: Session, app_id: str) -> "AppRecord | None":
    async with session.host() as host:
        app = await host.registry.app(app_id)
    if app is None:
        session.line(f"ExApp {app_id} not found.")
    return app


async def _list_users(session: Session, given: Input) -> int:
    app = await _app(session, given.arguments["appid"])
    if app is None:
        return 1
    session.note(
        "AppAPI keeps no list of users per ExApp since 3.0.0: an enabled app may act in the name "
        "of every account that is enabled. These are they; user:info says more about one."
    )
    session.line(f"ExApp {app.app_id} users:")
    async with session.host() as host:
        for user in await host.registry.users():
            if user.is_enabled:
                session.line(user.user_id)
    return 0


async def _list_app_scopes(session: Session, given: Input) -> int:
    app = await _app(session, given.arguments["appid"])
    if app is None:
        return 1
    session.note(
        "AppAPI removed scopes in 3.2.0: what an ExApp declares as such has no effect. What users "
        "may reach of an app is in the routes of its info.xml."
    )
    scopes = [str(scope) for scope in app.options.get("scopes", ())]
    session.line(f"ExApp {app.app_id} scopes:")
    for scope in scopes:
        session.line(scope)
    return 0


async def _list_scopes(session: Session, given: Input) -> int:
    session.note(
        "AppAPI removed this command in 2.4.0, and scopes themselves in 3.2.0: there are none. "
        "app_api:app:scopes:list shows what an app declares nevertheless."
    )
    session.line("Scopes:")
    return 0


_APP: Final = Argument("appid", "Id of the ExApp")

COMMANDS: Final = (
    Command("app_api:app:users:list", "List ExApp users (removed in 3.0.0)", _list_users, (_APP,)),
    Command(
        "app_api:app:scopes:list",
        "List ExApp scopes (removed in 3.2.0)",
        _list_app_scopes,
        (_APP,),
    ),
    Command("app_api:scopes:list", "List scopes (removed in 2.4.0)", _list_scopes),
)
