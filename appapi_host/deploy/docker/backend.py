"""Deployment on a Docker Engine: the order of things, and what becomes of what others made.

What we made carries labels, and only that is ever changed or removed, see `Owned`.
"""

import os
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from appapi_host.deploy.base import DeployBackend, Deployment, Leftover, ReportProgress
from appapi_host.deploy.docker import certificates, images
from appapi_host.deploy.docker.address import Address
from appapi_host.deploy.docker.container import (
    Placement,
    app_url,
    create_body,
    labels_of,
    network_of,
    previous_name,
)
from appapi_host.deploy.docker.endings import Endings
from appapi_host.deploy.docker.engine import Engine, EngineError
from appapi_host.deploy.docker.installation import Installation, has_ipv6
from appapi_host.deploy.docker.networks import check_way_back, find_gateway
from appapi_host.deploy.docker.owned import Owned
from appapi_host.deploy.docker.previous import Previous
from appapi_host.deploy.docker.site import Site, gone
from appapi_host.deploy.docker.watching import ContainerState, Watcher
from appapi_host.deploy.environment import host_url
from appapi_host.errors import DeployError, StepError
from appapi_host.events import EventBus, Notice
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.lifecycle import State

__all__ = ["DockerBackend"]


class DockerBackend(DeployBackend):
    """Deploys apps as containers; each daemon is an engine, or Podman."""

    deploy_id: ClassVar[str] = "docker-install"

    def __init__(self, settings: HostSettings, bus: EventBus) -> None:
        self._settings = settings
        self._bus = bus
        self._sites: dict[Address, Site] = {}
        self._images: dict[str, str] = {}
        self._previous = Previous(settings.timeouts.stop)

    async def check(self, daemon: Daemon) -> None:
        """See whether the engine answers, and whether the network is there.

        Raises:
            HostError: it cannot be used, with the reason and what to do.
        """
        engine = self.engine(daemon)
        await engine.connect()
        check_way_back(engine, host_url(self._settings, daemon))
        network = network_of(daemon)
        if network in ("host", "bridge", "none"):
            return
        try:
            await engine.network(network)
        except EngineError as error:
            if error.kind != "forbidden":
                raise

    async def close(self) -> None:
        """Close all connections."""
        for site in self._sites.values():
            await site.close()
        self._sites.clear()

    def engine(self, daemon: Daemon) -> Engine:
        """The engine of a daemon, which need not be reachable."""
        return self._at(daemon).engine

    async def gateway(self, daemon: Daemon) -> str:
        """Where this machine is found by containers of a daemon, see `find_gateway()`."""
        return await find_gateway(self.engine(daemon), network_of(daemon))

    async def prepare(self, deployment: Deployment, report: ReportProgress) -> None:
        """Let the engine fetch the image.

        Raises:
            DeployError: it cannot be had.
        """
        app = deployment.app
        if deployment.info is None or deployment.info.docker_install is None:
            raise DeployError(
                f"{app.app_id} does not say from which image it is made",
                remedy="name one in info.xml: <external-app><docker-install> with registry, image "
                "and image-tag",
            )
        wanted = images.candidates(deployment.info.docker_install, app.daemon)
        self._images[app.app_id] = await images.fetch(
            self.engine(app.daemon), wanted, report, partial(self._tell, app.app_id)
        )

    async def deploy(self, deployment: Deployment, report: ReportProgress) -> Mapping[str, Any]:
        """Create the container and start it, instead of what an earlier deployment left.

        Returns:
            `container` (id), `image`, `owns_volume`.

        Raises:
            DeployError: it cannot be done; no container is left, nor a volume that is new.
        """
        app = deployment.app
        image = self._images.pop(app.app_id, "")
        if not image:
            await self.prepare(deployment, report)
            image = self._images.pop(app.app_id)
        site = self._at(app.daemon)
        engine = site.engine
        body = create_body(
            deployment,
            image,
            labels=labels_of(app, self.instance),
            placement=Placement(engine.address, engine.is_podman, has_ipv6(engine)),
        )
        made = Installation(
            site,
            app,
            stop_seconds=self._settings.timeouts.stop,
            tell=self._tell,
            warn=self._warn,
        )
        await made.make(body, report)
        return {"container": made.container, "image": image, "owns_volume": made.owns_volume}

    async def start(self, app: AppRecord) -> Mapping[str, Any]:
        """Start the container if it does not run, see `Site.start()`."""
        return await self._at(app.daemon).start(app)

    async def running_since(self, app: AppRecord) -> float | None:
        """When the container was started last: its restart policy may have done that.

        Raises:
            DeployError: the engine cannot be asked.
        """
        site = self._at(app.daemon)
        container = await site.owned.container(app)
        if container is None:
            return None
        state = ContainerState.of(await site.engine.container(container))
        if not state.is_running or not state.started:
            return None
        return datetime.fromisoformat(state.started).timestamp()

    async def ready(self, app: AppRecord) -> None:
        """Wait for the image's health check, if it has one.

        Raises:
            StepError: it came out unhealthy; the last probe's output says why.
        """
        site = self._at(app.daemon)
        engine, watcher = site.engine, site.watcher
        container = await site.owned.container(app)
        if container is None:
            raise StepError("healthcheck", gone(app).cause, remedy=gone(app).remedy)

        def is_settled(state: ContainerState) -> bool:
            # Podman without systemd has nobody who runs the checks.
            is_starting = state.health == "starting" and not engine.is_podman
            return not (is_starting and state.exists)

        try:
            state = await watcher.until(container, is_settled)
        except EngineError as error:
            raise StepError("heartbeat", error.cause, remedy=error.remedy) from error
        if state.health == "unhealthy":
            said = f": {state.probe}" if state.probe else ""
            raise StepError(
                "healthcheck",
                f"the container is unhealthy; its last check printed{said or ' nothing'}",
                remedy="see HEALTHCHECK of the image, and what the app printed",
                output=await self.last_output(app, lines=20),
            )

    async def stop(self, app: AppRecord) -> None:
        """Stop the container: SIGTERM, then SIGKILL after the limit.

        Raises:
            DeployError: the engine refused, or cannot be reached.
        """
        container = await self._at(app.daemon).owned.container(app)
        engine = self.engine(app.daemon)
        if container is None or not await engine.stop(container, self._settings.timeouts.stop):
            self._tell(app.app_id, f"the container of {app.app_id} is not there any more")

    async def is_gone(self, app: AppRecord) -> bool:
        """Whether somebody else removed the container."""
        container = await self._at(app.daemon).owned.container(app)
        return container is None or await self.engine(app.daemon).container(container) is None

    async def set_aside(self, app: AppRecord) -> None:
        """Stop the container and keep it, see `Previous.set_aside()`."""
        await self._previous.set_aside(self._at(app.daemon), app)

    async def restore(self, app: AppRecord) -> Mapping[str, Any]:
        """Put the container that was set aside back, see `Previous.restore()`."""
        return await self._previous.restore(self._at(app.daemon), app)

    async def discard(self, app: AppRecord) -> None:
        """Remove the container that was set aside."""
        await self._previous.discard(self._at(app.daemon), app)

    async def remove(self, app: AppRecord, *, data: bool) -> None:
        """Remove the container, with `data` the volume too; what is gone already is no error.

        Raises:
            DeployError: the engine refused, or cannot be reached.
        """
        site = self._at(app.daemon)
        engine, watcher = site.engine, site.watcher
        container = await site.owned.container(app)
        if container is None or not await self._end(engine, app, container):
            self._tell(app.app_id, f"the container of {app.app_id} was gone already")
        else:
            watcher.forget(container)
        if data:
            try:
                await site.owned.remove_volume(app)
            except EngineError as error:
                if error.kind != "in-use":
                    raise
                # An update was left in the middle: the older container still has it.
                await site.owned.remove(app, previous_name(app.app_id))
                await site.owned.remove_volume(app)

    async def leftovers(self, daemon: Daemon, app_ids: Collection[str]) -> list[Leftover]:
        """Containers and volumes that bear our label, of apps that are not registered.

        Raises:
            DeployError: the engine refused, or cannot be reached.
        """
        return await self._at(daemon).owned.leftovers(app_ids)

    async def remove_leftover(self, daemon: Daemon, leftover: Leftover) -> None:
        """Remove such a container or volume.

        Raises:
            DeployError: the engine refused, or cannot be reached.
        """
        await self._at(daemon).owned.remove_leftover(leftover)

    async def exited(self, app: AppRecord) -> str:
        """Wait until the container has ended, see `Endings.ended()`."""
        site = self._at(app.daemon)
        container = await site.owned.container(app)
        if container is None:
            return "the container was removed"
        return await site.endings.ended(app, container)

    async def output(
        self, app: AppRecord, *, tail: int | None = None, follow: bool = True
    ) -> AsyncIterator[str]:
        """What the container prints, from its beginning until it has ended."""
        container = await self._at(app.daemon).owned.container(app)
        if container is None:
            return
        rest = b""
        engine = self.engine(app.daemon)
        async with engine.follow_log(container, tail=tail, follow=follow) as chunks:
            async for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield _text(line)
        if rest:
            yield _text(rest)

    async def last_output(self, app: AppRecord, *, lines: int) -> list[str]:
        """The last lines that the container printed, oldest first; none if it is gone."""
        try:
            site = self._at(app.daemon)
            container = await site.owned.container(app)
            if container is None:
                return []
            until = site.endings.failed_at(container)
            printed = await site.engine.log(container, lines, until=until)
        except EngineError:
            return []  # asked for in the middle of another error, which must not be hidden
        return [_text(line) for line in printed.removesuffix(b"\n").split(b"\n") if printed][
            -lines:
        ]

    def url(self, app: AppRecord) -> str:
        """Where the app's port is reached from this machine."""
        return app_url(app, self.engine(app.daemon).address)

    # The middle of it

    def _at(self, daemon: Daemon) -> Site:
        address = Address.of(daemon, os.environ)
        if address not in self._sites:
            engine = Engine(
                address, patience=self._settings.timeouts.away, tell=partial(self._warn, "")
            )
            watcher = Watcher(engine)
            self._sites[address] = Site(
                engine,
                watcher,
                Owned(engine, self.instance, self._tell),
                Endings(engine, watcher, self._settings.timeouts, self._warn),
                certificates.Plans(engine),
            )
        return self._sites[address]

    async def _end(self, engine: Engine, app: AppRecord, container: str) -> bool:
        """Remove a container; one that may run is asked to end first, for the sake of its data."""
        if app.state is not State.DISABLED:
            await engine.stop(container, self._settings.timeouts.stop)
        return await engine.remove(container)

    def _tell(self, app_id: str, text: str) -> None:
        self._bus.emit(Notice(app_id, text, is_warning=False))

    def _warn(self, app_id: str, text: str) -> None:
        self._bus.emit(Notice(app_id, text))


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
