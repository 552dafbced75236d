"""occ's commands about the registry mappings of a daemon: where images are pulled from instead."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from appapi_host.cli.session import Session
from appapi_host.cli.symfony import Argument, Command, Input, Option, Value
from appapi_host.errors import HostError, NotFoundError
from appapi_host.records import Daemon

__all__ = ["COMMANDS"]


def _mappings(daemon: Daemon) -> list[dict[str, str]]:
    """The pairs `{"from": …, "to": …}` as AppAPI stores them."""
    found = daemon.deploy_config.get("registries")
    return [dict(pair) for pair in found] if isinstance(found, list) else []


def _with_mappings(daemon: Daemon, mappings: list[dict[str, str]]) -> Daemon:
    config: Mapping[str, Any] = {**daemon.deploy_config, "registries": mappings}
    return replace(daemon, deploy_config=config)


def _pair(session: Session, given: Input) -> dict[str, str] | None:
    source, target = given.text("registry-from"), given.text("registry-to")
    if source and target:
        return {"from": source, "to": target}
    session.line("Registry URL pair (from -> to) is required.")
    return None


def _added(daemon: Daemon, pair: dict[str, str]) -> list[dict[str, str]]:
    present = _mappings(daemon)
    if any(known["from"] == pair["from"] for known in present):
        raise HostError(f'This Docker registry map from "{pair["from"]}" already exists')
    if pair["from"] == pair["to"]:
        raise HostError("The source and target registry cannot be the same")
    return [*present, pair]


def _removed(daemon: Daemon, pair: dict[str, str]) -> list[dict[str, str]]:
    present = _mappings(daemon)
    if pair not in present:
        raise HostError("This Docker registry map does not exist")
    return [known for known in present if known != pair]


async def _change(
    session: Session,
    given: Input,
    *,
    change: Callable[[Daemon, dict[str, str]], list[dict[str, str]]],
    needs_some: bool,
    done: str,
) -> int:
    """Replace the mappings of a daemon by what `change` makes of them."""
    name = given.arguments["name"]
    async with session.host() as host:
        daemon = await host.registry.daemon(name)
        if daemon is None:
            session.line("Daemon config not found.")
            return 1
        if needs_some and not _mappings(daemon):
            session.line(f'No registries configured for daemon "{name}".')
            return 0
        pair = _pair(session, given)
        if pair is None:
            return 1
        try:
            await host.registry.apply_daemon(
                name, lambda daemon: _with_mappings(daemon, change(daemon, pair))
            )
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
    return await _change(session, given, change=_added, needs_some=False, done=done)


async def _remove(session: Session, given: Input) -> int:
    done = 'Removed registry mapping from "{from}" to "{to}" for daemon "{name}".'
    return await _change(session, given, change=_removed, needs_some=True, done=done)


async def _list(session: Session, given: Input) -> int:
    name = given.arguments["name"]
    async with session.host() as host:
        daemon = await host.registry.daemon(name)
    if daemon is None:
        session.line("Daemon config not found.")
        return 1
    mappings = _mappings(daemon)
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
