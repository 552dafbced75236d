"""An engine, and who knows what about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appapi_host.deploy.docker import certificates
from appapi_host.deploy.docker.container import container_name
from appapi_host.deploy.docker.endings import Endings
from appapi_host.deploy.docker.engine import Engine, EngineError
from appapi_host.deploy.docker.owned import Owned
from appapi_host.deploy.docker.watching import Watcher
from appapi_host.errors import DeployError
from appapi_host.records import AppRecord

__all__ = ["Site", "gone"]


@dataclass(frozen=True, slots=True)
class Site:
    """An engine, and who knows what about it."""

    engine: Engine
    watcher: Watcher
    owned: Owned
    endings: Endings
    certificates: certificates.Plans

    async def start(self, app: AppRecord) -> Mapping[str, Any]:
        """Start the app's container if it does not run; returns the notes to store.

        Raises:
            DeployError: it is not there any more, or cannot be started.
        """
        container = await self.owned.container(app)
        if container is None:
            raise gone(app)
        await self.watcher.begin()
        try:
            if await self.engine.start(container):
                self.watcher.forget(container)
                self.endings.begun(container)
        except EngineError as error:
            if error.status == 404 and error.kind in ("no-container", "engine"):
                raise gone(app) from error
            raise
        return dict(app.deployment) | ({} if self.engine.is_proxied else {"container": container})

    async def close(self) -> None:
        """Close all connections."""
        await self.watcher.close()
        await self.engine.close()


def gone(app: AppRecord) -> DeployError:
    """What to say about a container that somebody else removed."""
    return DeployError(
        f"the container {container_name(app.app_id)} is not there any more",
        remedy="somebody removed it: update the app, or unregister it (its data stays) and "
        "register it again",
    )
