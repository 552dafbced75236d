"""occ's commands about the configuration that an app keeps at the host."""

import json
from typing import TYPE_CHECKING, Final

from appapi_host.cli.session import Session
from appapi_host.cli.symfony import Argument, Command, Input, Option, Value

if TYPE_CHECKING:
    from appapi_host.host import Host
    from appapi_host.values import Value as StoredValue

__all__ = ["COMMANDS", "php_json"]

_HIDDEN: Final = "***REMOVED SENSITIVE VALUE***"
_FALSE: Final = frozenset({"", "0", "false", "no", "off"})


async def _is_known(session: Session, host: "Host", app_id: str, *, full_stop: str = ".") -> bool:
    if await host.registry.app(app_id) is not None:
        return True
    session.line(f"ExApp {app_id} not found{full_stop}")
    return False


async def _stored(host: "Host", app_id: str, key: str) -> "StoredValue | None":
    found = await host.values.get(app_id, [key])
    return found[0] if found else None


async def _get(session: Session, given: Input) -> int:
    app_id, key = given.arguments["appid"], given.arguments["configkey"]
    async with session.host() as host:
        if not await _is_known(session, host, app_id):
            return 1
        value = await _stored(host, app_id, key)
    text = given.text("default-value") if value is None else value.text
    if text is None:
        session.line(f"ExApp {app_id} config {key} not found")
        return 1
    session.line(text)
    return 0


async def _set(session: Session, given: Input) -> int:
    app_id, key = given.arguments["appid"], given.arguments["configkey"]
    text = given.text("value") or ""
    asked = given.text("sensitive")  # None if the option came without a value
    is_sensitive = bool(asked) and str(asked).lower() not in _FALSE
    async with session.host() as host:
        if not await _is_known(session, host, app_id, full_stop=""):
            return 1
        value = await _stored(host, app_id, key)
        if given.flag("update-only"):
            if value is None:
                session.line(f"ExApp {app_id} config {key} not found")
                return 1
            if not asked:
                is_sensitive = value.is_sensitive
        elif value is not None:
            session.line(f"ExApp {app_id} config {key} already exists. Use --update-only flag.")
            return 1
        await host.values.set(app_id, key, text, is_sensitive=is_sensitive)
    if asked is None and not is_sensitive:
        session.note("stored in clear: --sensitive alone means nothing, --sensitive 1 encrypts")
    # On purpose not as upstream, which prints a sensitive value in clear.
    shown = "***" if is_sensitive else text
    end = "[sensitive]" if is_sensitive else ""
    session.line(f"ExApp {app_id} config {key} set to {shown} {end}".rstrip())
    return 0


async def _delete(session: Session, given: Input) -> int:
    app_id, key = given.arguments["appid"], given.arguments["configkey"]
    async with session.host() as host:
        if not await _is_known(session, host, app_id):
            return 1
        deleted = await host.values.delete(app_id, [key])
    if not deleted:
        session.line(f"ExApp {app_id} config {key} not found.")
        return 1
    session.line(f"ExApp {app_id} config {key} deleted.")
    return 0


async def _list(session: Session, given: Input) -> int:
    app_id = given.arguments["appid"]
    shows = given.flag("private")
    async with session.host() as host:
        if not await _is_known(session, host, app_id):
            return 1
        values = await host.values.get(app_id)
    session.line(f"ExApp {app_id} configs:")
    shown = {
        value.key: value.text if shows and not value.is_sensitive else _HIDDEN for value in values
    }
    session.line(php_json({app_id: shown} if shown else []))
    return 0


def php_json(value: object) -> str:
    """JSON as PHP prints it for people: indented by 4, slashes escaped, nothing but ASCII."""
    return json.dumps(value, indent=4).replace("/", "\\/")


_APP: Final = Argument("appid", "Id of the ExApp")
_KEY: Final = Argument("configkey", "Name of the value")

COMMANDS: Final = (
    Command(
        "app_api:app:config:get",
        "Get ExApp config",
        _get,
        (_APP, _KEY),
        (Option("default-value", "What to print if there is none", Value.REQUIRED),),
    ),
    Command(
        "app_api:app:config:set",
        "Set ExApp config",
        _set,
        (_APP, _KEY),
        (
            Option("value", "The value", Value.REQUIRED),
            Option("sensitive", "1 encrypts it where it is stored", Value.OPTIONAL, default=""),
            Option("update-only", "Only change a value that is there"),
        ),
    ),
    Command("app_api:app:config:delete", "Delete ExApp config", _delete, (_APP, _KEY)),
    Command(
        "app_api:app:config:list",
        "List ExApp configs",
        _list,
        (_APP,),
        (Option("private", "Show the values that are not sensitive"),),
    ),
)
