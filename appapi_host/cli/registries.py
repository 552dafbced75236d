"""occ's commands about the registry mappings of a daemon: where images are pulled from instead."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from appapi_host.cli.session import Session
from appapi_host.cli.symfony import Argument, Command, Input, Option, Value
from appapi_host.daemon_config import mappings_of
from appapi_host.errors import HostError, NotFoundError

if TYPE_CHECKING:
    from appapi_host.host.daemons import Daemons

__all__ = ["COMMANDS"]


def _pair(session: Session, given: Input) -> dict[str, str] | None:
    source, target = given.text("registry-from"), given.text("registry-to")
    if source and target:
        return {"from": source, "to": target}
    session.line("Registry URL pair (from -> to) is required.")
    return None


async def _change(
    session: Session,
    given: Input,
    *,
    change: Callable[["Daemons"], Callable[[str, str, str], Awaitable[None]]],
    needs_some: bool,
    done: str,
) -> int:
    """Change the mappings of a daemon by the method that `change` picks."""
    name = given.arguments["name"]
    async with session.host() as host:
        daemon = await host.registry.daemon(name)
        if daemon is None:
            session.line("Daemon config not found.")
            return 1
        if needs_some and not mappings_of(daemon):
            session.line(f'No registries configured for daemon "{name}".')
            return 0
        pair = _pair(session, given)
        if pair is None:
            return 1
        try:
            await change(host.daemons)(name, pair["from"], pair["to"])
        except NotFoundError:  # removed by another process since we looked
            session.line("Daemon config not found.")
            return 1
        except HostError as error:
            # The real one's words, also when something is removed.
            session.line(f"Error adding Docker registry: {error.cause}")
            return 1
    session.line(done.format(**{"from": pair["from"], "to": pair["to"], "name": name}))
    return 0


async def _add(session: Session, given: Input) -> int:
    done = 'Added registry mapping "{from}" -> "{to}" to daemon "{name}".'
    return await _change(
        session, given, change=lambda daemons: daemons.add_mapping, needs_some=False, done=done
    )


async def _remove(session: Session, given: Input) -> int:
    done = 'Removed registry mapping from "{from}" to "{to}" for daemon "{name}".'
    return await _change(
        session, given, change=lambda daemons: daemons.remove_mapping, needs_some=True, done=done
    )


async def _list(session: Session, given: Input) -> int:
    name = given.arguments["name"]
    async with session.host() as host:
        daemon = await host.registry.daemon(name)
    if daemon is None:
        session.line("Daemon config not found.")
        return 1
    mappings = mappings_of(daemon)
    if not mappings:
        session.line(f'No registries configured for daemon "{name}".')
        return 0
    session.line(f'Configured registries for daemon "{name}":')
    for pair in mappings:
        session.line(f" - {pair['from']} -> {pair['to']}")
    return 0


_NAME: Final = (Argument("name", "Name of the daemon"),)
_PAIR: Final = (
    Option("registry-from", "Registry that info.xml names", Value.REQUIRED),
    Option("registry-to", "Registry to use instead; `local` pulls nothing", Value.REQUIRED),
)

COMMANDS: Final = (
    Command(
        "app_api:daemon:registry:add",
        "Add registry mapping to a daemon",
        _add,
        _NAME,
        _PAIR,
    ),
    Command(
        "app_api:daemon:registry:remove",
        "Remove registry mapping of a daemon",
        _remove,
        _NAME,
        _PAIR,
    ),
    Command("app_api:daemon:registry:list", "List registry mappings of a daemon", _list, _NAME),
)
