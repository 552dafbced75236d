"""Apps that a developer starts by hand; the host only talks to them."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import anyio

from appapi_host.deploy.base import DeployBackend, Deployment, ReportProgress
from appapi_host.deploy.environment import reachable_override
from appapi_host.events import EventBus
from appapi_host.records import AppRecord
from appapi_host.settings import HostSettings

__all__ = ["ManualBackend"]


class ManualBackend(DeployBackend):
    """Deploys nothing, and so has nothing to stop, to remove or to read."""

    deploy_id: ClassVar[str] = "manual-install"

    def __init__(self, settings: HostSettings, bus: EventBus) -> None:
        pass

    async def deploy(self, deployment: Deployment, report: ReportProgress) -> Mapping[str, Any]:
        """The app is in place already."""
        return {}

    async def start(self, app: AppRecord) -> Mapping[str, Any]:
        """The developer starts it."""
        return {}

    async def stop(self, app: AppRecord) -> None:
        """The developer stops it."""

    async def remove(self, app: AppRecord, *, data: bool) -> None:
        """Nothing of it is ours, its data neither."""

    async def exited(self, app: AppRecord) -> str:
        """Never returns: whether the app runs is seen by asking its heartbeat only."""
        await anyio.sleep_forever()
        raise AssertionError  # pragma: no cover  # sleep_forever() is not typed as NoReturn

    async def output(
        self, app: AppRecord, *, tail: int | None = None, follow: bool = True
    ) -> AsyncIterator[str]:
        """Goes to the developer's own terminal."""
        nothing: tuple[str, ...] = ()
        for line in nothing:
            yield line

    async def last_output(self, app: AppRecord, *, lines: int) -> list[str]:
        """The same."""
        return []

    def url(self, app: AppRecord) -> str:
        """The daemon's host at the app's port.

        Source: AppAPI 33.0.0, which cuts off a port in the daemon's host.
        """
        host = reachable_override(app.daemon) or _without_port(app.daemon.host)
        return f"{app.daemon.protocol}://{host}:{app.port}"


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[: host.find("]") + 1] or host
    if host.count(":") > 1:
        return f"[{host}]"  # an IPv6 address as it stands: no port can follow it
    return host.partition(":")[0]
