"""The container of an older version, kept while a newer one is put in its place."""

from collections.abc import Mapping
from typing import Any

from appapi_host.deploy.docker.container import (
    VERSION_LABEL,
    body_of,
    container_name,
    earlier_body,
    previous_name,
)
from appapi_host.deploy.docker.site import Site
from appapi_host.records import AppRecord

__all__ = ["Previous"]


class Previous:
    """Containers that were set aside, by the id of their app.

    Args:
        stop_seconds: how long a container may take to end.
    """

    def __init__(self, stop_seconds: float) -> None:
        self._stop_seconds = stop_seconds
        self._kept: dict[str, Mapping[str, Any]] = {}

    async def set_aside(self, site: Site, app: AppRecord) -> None:
        """Stop the container and give it another name, or keep what is needed to make it anew.

        Raises:
            DeployError: the engine refused, or cannot be reached.
        """
        engine = site.engine
        container = await site.owned.container(app)
        if container is None:
            return
        await engine.stop(container, self._stop_seconds)
        if engine.is_proxied:
            # A socket proxy does not let us rename: the container is made anew if need be.
            found = await engine.container(container)
            if found is not None:
                self._kept[app.app_id] = found
            return
        await site.owned.remove(app, previous_name(app.app_id))
        await engine.rename(container, previous_name(app.app_id))

    async def restore(self, site: Site, app: AppRecord) -> Mapping[str, Any]:
        """Remove the new container, and start the one that was set aside.

        Raises:
            DeployError: it is not there any more, or the engine refused.
        """
        engine = site.engine
        name = container_name(app.app_id)
        body = None
        if kept := self._kept.pop(app.app_id, None):
            body = body_of(kept)
        elif engine.is_proxied:
            body = await _body_before(site, app)
        if body is not None:
            await site.owned.remove(app, name)
            await engine.create(name, body)
            return await site.start(app)
        aside = await site.owned.named(app, previous_name(app.app_id))
        if aside is not None:
            await site.owned.remove(app, name)
            await engine.rename(aside, name)
        return await site.start(app)

    async def discard(self, site: Site, app: AppRecord) -> None:
        """Remove the container that was set aside."""
        if self._kept.pop(app.app_id, None) is None and not site.engine.is_proxied:
            await site.owned.remove(app, previous_name(app.app_id))


async def _body_before(site: Site, app: AppRecord) -> dict[str, Any] | None:
    """The body for a version whose container another process has replaced, else None."""
    name = container_name(app.app_id)
    found = await site.engine.container(name)
    image = str(app.deployment.get("image") or "")
    if not found or not image or await site.owned.named(app, name) is None:
        return None
    if found["Config"]["Labels"].get(VERSION_LABEL) == app.version:
        return None
    return earlier_body(found, image, app.version)
