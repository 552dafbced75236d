"""occ's commands about the registry mappings of a daemon: where images are pulled from instead."""

from collections.abc import Mapping
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


async def _add(session: Session, given: Input) -> int:
    name = given.arguments["name"]
    async with session.host() as host:
        if await host.registry.daemon(name) is None:
            session.line("Daemon config not found.")
            return 1
        pair = _pair(session, given)
        if pair is None:
            return 1

        def add(daemon: Daemon) -> Daemon:
            present = _mappings(daemon)
            if any(known["from"] == pair["from"] for known in present):
                raise HostError(f'This Docker registry map from "{pair["from"]}" already exists')
            if pair["from"] == pair["to"]:
                raise HostError("The source and target registry cannot be the same")
            return _with_mappings(daemon, [*present, pair])

        try:
            await host.registry.apply_daemon(name, add)
        except NotFoundError:  # removed by another process since we looked
            session.line("Daemon config not found.")
            return 1
        except HostError as error:
            session.line(f"Error adding Docker registry: {error.cause}")
            return 1
    session.line(f'Added registry mapping "{pair["from"]}" -> "{pair["to"]}" to daemon "{name}".')
    return 0


async def _remove(session: Session, given: Input) -> int:
    name = given.arguments["name"]
    async with session.host() as host:
        daemon = await host.registry.daemon(name)
        if daemon is None:
            session.line("Daemon config not found.")
            return 1
        if not _mappings(daemon):
            session.line(f'No registries configured for daemon "{name}".')
            return 0
        pair = _pair(session, given)
        if pair is None:
            return 1

        def remove(daemon: Daemon) -> Daemon:
            present = _mappings(daemon)
            if pair not in present:
                raise HostError("This Docker registry map does not exist")
            return _with_mappings(daemon, [known for known in present if known != pair])

        try:
            await host.registry.apply_daemon(name, remove)
        except NotFoundError:
            session.line("Daemon config not found.")
            return 1
        except HostError as error:
            session.line(f"Error adding Docker registry: {error.cause}")  # the real one's words
            return 1
    session.line(
        f'Removed registry mapping from "{pair["from"]}" to "{pair["to"]}" for daemon "{name}".'
    )
    return 0


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
