"""What this host made on one engine, recognised by its labels; nothing else is ever touched."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from appapi_host.deploy.base import Leftover
from appapi_host.deploy.docker.container import (
    APP_LABEL,
    HOST_LABEL,
    container_name,
    previous_name,
    volume_name,
)
from appapi_host.deploy.docker.engine import Engine, EngineError
from appapi_host.errors import DeployError
from appapi_host.records import AppRecord

__all__ = ["Owned"]

CREATION_LABEL: Final = "org.nextcloud.appapi.creation"
"""A new value with each volume that we ask for: tells whether it was there before."""


class Owned:
    """Containers and volumes of one host on one engine.

    A container is addressed by its id, so that another one of the same name is never meant; a
    socket proxy allows names only, so behind one the labels are looked at each time.

    Args:
        engine: where they are.
        instance: of the host.
        tell: told the app's id and what a person may want to know.
    """

    def __init__(self, engine: Engine, instance: str, tell: Callable[[str, str], None]) -> None:
        self._engine = engine
        self._instance = instance
        self._tell = tell

    async def create(self, app: AppRecord, body: Mapping[str, Any]) -> str:
        """Create the app's container, instead of one that this host made before; returns its id.

        Raises:
            DeployError: another one of that name is there, or the engine refused.
        """
        name = container_name(app.app_id)
        try:
            return await self._engine.create(name, body)
        except EngineError as error:
            if error.status != 409 and error.kind != "name-taken":
                raise
            own = await self.named(app, name)
            if own is None:
                raise DeployError(
                    f"there is a container {name} on {self._engine.shown} that this host did not "
                    "make",
                    remedy=f"it is left alone: rename it (`docker rename {name} NEW`), remove it, "
                    "or unregister the app where it belongs",
                ) from error
        self._tell(app.app_id, f"the container {name} of an earlier deployment is removed")
        await self._engine.remove(own)
        return await self._engine.create(name, body)

    async def container(self, app: AppRecord) -> str | None:
        """How to address the app's container; None if it is not there or not ours."""
        known = str(app.deployment.get("container") or "")
        if known and not self._engine.is_proxied:
            return known
        return await self.named(app, container_name(app.app_id))

    async def named(self, app: AppRecord, name: str) -> str | None:
        """A container by name, if this host made it for this app."""
        found = await self._engine.container(name)
        if found is None:
            return None
        labels = (found.get("Config") or {}).get("Labels") or {}
        if (labels.get(HOST_LABEL), labels.get(APP_LABEL)) != (self._instance, app.app_id):
            return None
        return name if self._engine.is_proxied else str(found["Id"])

    async def remove(self, app: AppRecord, name: str) -> None:
        """Remove a container by name, if this host made it for this app."""
        container = await self.named(app, name)
        if container is not None:
            await self._engine.remove(container)

    async def create_volume(
        self, app: AppRecord, labels: Mapping[str, str], creation: str
    ) -> tuple[bool, bool]:
        """Create the volume; returns whether it is ours, and whether it is new."""
        name = volume_name(app.app_id)
        found = await self._engine.create_volume(name, {**labels, CREATION_LABEL: creation})
        present = found.get("Labels") or {}
        if HOST_LABEL not in present and not self._engine.is_proxied:
            # An engine that was restarted meanwhile leaves out the labels of what was there.
            present = (await self._engine.volume(name) or {}).get("Labels") or {}
        owner = present.get(HOST_LABEL)
        if owner is None:
            self._tell(
                app.app_id,
                f"the volume {name} was there before, made by somebody else: its data is used, and "
                "it is never removed",
            )
        elif owner != self._instance:
            raise DeployError(
                f"the volume {name} belongs to another host on {self._engine.shown}",
                remedy=f"unregister the app there, or remove it with `docker volume rm {name}`",
            )
        return owner is not None, present.get(CREATION_LABEL) == creation

    async def remove_volume(self, app: AppRecord) -> None:
        """Remove the app's volume, if this host made it."""
        name = volume_name(app.app_id)
        owns = app.deployment.get("owns_volume")
        if owns is None:
            found = await self._engine.volume(name) or {}
            owns = (found.get("Labels") or {}).get(HOST_LABEL) == self._instance
        if owns:
            await self._engine.remove_volume(name)
        else:
            self._tell(app.app_id, f"the volume {name} is left: this host did not make it")

    async def leftovers(self, app_ids: Collection[str]) -> list[Leftover]:
        """Containers and volumes that bear our label, of apps that are not registered.

        Of those that are, what an update has set aside and nobody took away.

        Raises:
            DeployError: the engine refused, or cannot be reached.
        """
        label = f"{HOST_LABEL}={self._instance}"
        found = [
            Leftover("container", str(one["Names"][0]).lstrip("/"), one["Labels"][APP_LABEL])
            for one in await self._engine.labelled_containers(label)
            if APP_LABEL in one["Labels"] and one.get("Names")
        ]
        found += [
            Leftover("volume", str(one["Name"]), one["Labels"][APP_LABEL], is_data=True)
            for one in await self._engine.labelled_volumes(label)
            if APP_LABEL in one["Labels"]
        ]
        return [
            one
            for one in found
            if one.app_id not in app_ids or one.name == previous_name(one.app_id)
        ]

    async def remove_leftover(self, leftover: Leftover) -> None:
        """Remove such a container or volume.

        Raises:
            DeployError: the engine refused, or cannot be reached.
        """
        if leftover.kind == "volume":
            await self._engine.remove_volume(leftover.name)
        else:
            await self._engine.remove(leftover.name)
