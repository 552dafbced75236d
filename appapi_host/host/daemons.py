"""Where apps run: the daemons, the backend of each, and how their apps find the way back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

import anyio

from appapi_host.daemon_config import mappings_of
from appapi_host.deploy import load
from appapi_host.deploy.base import DeployBackend
from appapi_host.deploy.environment import host_url, is_loopback_url
from appapi_host.errors import HostError, NotFoundError
from appapi_host.records import AppRecord, Daemon

if TYPE_CHECKING:
    from appapi_host.host import Host

__all__ = ["DEFAULT_DAEMON_SETTING", "Daemons", "WayBack"]

DEFAULT_DAEMON_SETTING: Final = "default_daemon_config"

_SERVER_SECONDS: Final = 2.0
"""How long the process that serves may take to notice an app that another process registers."""

_SERVER_LOOK: Final = 0.02
"""Seconds between two looks whether it has."""


class WayBack(Protocol):
    """How apps with a loopback of their own reach a host that listens on ours."""

    async def open(self, daemon: Daemon, gateway: str) -> None:
        """Listen on a gateway for the apps of a daemon, if that is not done yet.

        Raises:
            HostError: it is not possible.
        """
        ...


class Daemons:
    """The daemons of a host, and what deploys on them.

    Args:
        host: whose.
        backends: deploy backends by deploy id, besides the built-in ones.
    """

    def __init__(self, host: "Host", backends: Mapping[str, DeployBackend] | None) -> None:
        self._host = host
        self._backends = dict(backends or {})

    async def register(self, daemon: Daemon, *, set_default: bool = False) -> None:
        """Add a place where apps can run.

        Raises:
            AlreadyExistsError: the name is taken.
        """
        await self._host.registry.add_daemon(daemon)
        if set_default:
            await self._host.registry.set_setting(DEFAULT_DAEMON_SETTING, daemon.name)

    async def all(self) -> list[Daemon]:
        """All daemons in the order of their creation."""
        return await self._host.registry.daemons()

    async def default(self) -> str | None:
        """The name of the daemon that is taken when none is named."""
        return await self._host.registry.setting(DEFAULT_DAEMON_SETTING)

    async def unregister(self, name: str) -> None:
        """Forget a daemon.

        Raises:
            NotFoundError: there is none of that name.
            HostError: apps are registered on it.
        """
        await self._host.registry.remove_daemon(name)

    async def mappings(self, name: str) -> dict[str, str]:
        """Registry that an info.xml names → the one to pull from instead.

        Raises:
            NotFoundError: there is no daemon of that name.
        """
        daemon = await self._host.registry.daemon(name)
        if daemon is None:
            raise NotFoundError(f"there is no daemon {name!r}")
        return {pair["from"]: pair["to"] for pair in mappings_of(daemon)}

    async def add_mapping(self, name: str, source: str, target: str) -> None:
        """Have images of one registry pulled from another; `local` pulls nothing.

        Raises:
            NotFoundError: there is no daemon of that name.
            HostError: there is a mapping for that source, or it is the same as the target.
        """

        def add(daemon: Daemon) -> Daemon:
            present = mappings_of(daemon)
            if any(known["from"] == source for known in present):
                raise HostError(f'This Docker registry map from "{source}" already exists')
            if source == target:
                raise HostError("The source and target registry cannot be the same")
            return _with_mappings(daemon, [*present, {"from": source, "to": target}])

        await self._host.registry.apply_daemon(name, add)

    async def remove_mapping(self, name: str, source: str, target: str) -> None:
        """Undo `add_mapping()`.

        Raises:
            NotFoundError: there is no daemon of that name.
            HostError: there is no such mapping.
        """
        pair = {"from": source, "to": target}

        def remove(daemon: Daemon) -> Daemon:
            present = mappings_of(daemon)
            if pair not in present:
                raise HostError("This Docker registry map does not exist")
            return _with_mappings(daemon, [known for known in present if known != pair])

        await self._host.registry.apply_daemon(name, remove)

    async def check(self, daemon: Daemon) -> None:
        """See whether apps can be deployed on a daemon, registered or not.

        Raises:
            HostError: they cannot, with the reason and what to do.
        """
        with self._patience(daemon):
            await self.backend(daemon).check(daemon)
            await self.gateway(daemon)

    async def gateway(self, daemon: Daemon) -> str:
        """Where apps of a daemon find this machine, if they need that to reach the host.

        Returns:
            An address; empty if they share our loopback, or are given a URL that is valid anywhere.

        Raises:
            HostError: it cannot be found out.
        """
        if not is_loopback_url(host_url(self._host.settings, daemon)):
            return ""
        with self._patience(daemon):
            return await self.backend(daemon).gateway(daemon)

    async def away(self, app: AppRecord) -> HostError | None:
        """Why the daemon of an app cannot be reached just now; None if it can."""
        try:
            await self.backend(app).is_gone(app)
        except HostError as error:
            return error if error.is_unreachable else None
        return None

    @contextmanager
    def _patience(self, daemon: Daemon) -> Iterator[None]:
        """Wait for a daemon as long as people do, who look at what they have just registered."""
        limit = self._host.settings.timeouts.check
        try:
            with anyio.fail_after(limit):
                yield
        except TimeoutError:
            remedy = "see whether the engine is busy or hangs, for instance with `docker info`"
            if daemon.deploy_config.get("haproxy_password"):
                remedy += "; a socket proxy hears nobody for minutes after several wrong passwords"
            raise HostError(
                f"{daemon.host} did not answer within {limit:g} s", remedy=remedy
            ) from None

    def backend(self, app_or_daemon: AppRecord | Daemon) -> DeployBackend:
        """The deploy backend of an app or daemon.

        Raises:
            NotFoundError: there is none for that deploy id.
        """
        daemon = app_or_daemon.daemon if isinstance(app_or_daemon, AppRecord) else app_or_daemon
        deploy_id = daemon.accepts_deploy_id
        if deploy_id not in self._backends:
            try:
                backend = load(deploy_id)
            except NotFoundError:
                raise NotFoundError(
                    f"Daemon config {daemon.name} actions for {deploy_id} not found."
                ) from None
            self._backends[deploy_id] = backend(self._host.settings, self._host.bus)
            self._backends[deploy_id].instance = self._host.instance
        return self._backends[deploy_id]

    async def find(self, name: str | None) -> Daemon:
        """The daemon of that name, or the default one.

        Raises:
            NotFoundError: there is none.
        """
        if name is None:
            name = await self._host.registry.setting(DEFAULT_DAEMON_SETTING) or ""
        daemon = await self._host.registry.daemon(name)
        if daemon is None:
            raise NotFoundError(
                f"Daemon config {name} not found.",
                remedy="register one with app_api:daemon:register, or name another",
            )
        return daemon

    async def open_gateway(self, app: AppRecord) -> str:
        """Make sure that an app will reach us, before it is started.

        Returns:
            The gateway that it has to use, or nothing.
        """
        gateway = await self.gateway(app.daemon)
        if gateway and self._host.way_back is not None:
            await self._host.way_back.open(app.daemon, gateway)
        elif gateway:
            await self._await_server(app, gateway)
        return gateway

    async def _await_server(self, app: AppRecord, gateway: str) -> None:
        """Give the process that serves this registry the time to listen on a gateway."""
        url = host_url(self._host.settings, app.daemon)
        port = urlsplit(url).port or 80
        if not await _is_answered(urlsplit(url).hostname or "", port):
            return  # nobody serves; said elsewhere, and waiting would not help
        with anyio.move_on_after(_SERVER_SECONDS):
            while True:
                if await _is_answered(gateway, port):
                    return
                await anyio.sleep(_SERVER_LOOK)
        self._host.warn(
            app.app_id,
            f"nobody listens on {gateway} port {port}, where the app will look for {url}",
        )

    async def close(self) -> None:
        """Let go of what the backends hold."""
        with anyio.CancelScope(shield=True):
            for backend in self._backends.values():
                await backend.close()


def _with_mappings(daemon: Daemon, mappings: list[dict[str, str]]) -> Daemon:
    return replace(daemon, deploy_config={**daemon.deploy_config, "registries": mappings})


async def _is_answered(address: str, port: int) -> bool:
    """Whether connections to an address are accepted."""
    try:
        await (await anyio.connect_tcp(address, port)).aclose()
    except OSError:
        return False
    return True
