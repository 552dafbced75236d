"""Deployment on a Docker Engine: the order of things, and what becomes of what others made.

What we made carries labels, and only that is ever changed or removed, see `Owned`.
"""

import errno
import os
import secrets
import socket
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

import anyio
import anyio.to_thread

from appapi_host.deploy.base import DeployBackend, Deployment, Leftover, ReportProgress
from appapi_host.deploy.docker import certificates, images
from appapi_host.deploy.docker.address import Address
from appapi_host.deploy.docker.container import (
    VERSION_LABEL,
    Placement,
    app_url,
    body_of,
    container_name,
    create_body,
    earlier_body,
    labels_of,
    network_of,
    previous_name,
    volume_name,
)
from appapi_host.deploy.docker.endings import Endings
from appapi_host.deploy.docker.engine import Engine, EngineError
from appapi_host.deploy.docker.faults import explain
from appapi_host.deploy.docker.networks import check_way_back, find_gateway
from appapi_host.deploy.docker.owned import Owned
from appapi_host.deploy.docker.watching import ContainerState, Watcher
from appapi_host.deploy.environment import host_url
from appapi_host.errors import DeployError, StepError
from appapi_host.events import EventBus, Notice
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.lifecycle import State

__all__ = ["DockerBackend"]

_ATTEMPTS: Final = 3
"""How often a deployment is begun whose engine goes away in the middle, and comes back."""


@dataclass(frozen=True, slots=True)
class _Site:
    """An engine, and who knows what about it."""

    engine: Engine
    watcher: Watcher
    owned: Owned
    endings: Endings
    certificates: certificates.Plans


@dataclass(slots=True)
class _Made:
    """What a deployment has made so far.

    Args:
        creation: marks the volume as new.
        container: its id.
        owns_volume: the volume is ours.
        is_volume_new: it was not there before.
    """

    creation: str
    container: str = ""
    owns_volume: bool = False
    is_volume_new: bool = False


class DockerBackend(DeployBackend):
    """Deploys apps as containers; each daemon is an engine, or Podman."""

    deploy_id: ClassVar[str] = "docker-install"

    def __init__(self, settings: HostSettings, bus: EventBus) -> None:
        self._settings = settings
        self._bus = bus
        self._sites: dict[Address, _Site] = {}
        self._images: dict[str, str] = {}
        self._kept: dict[str, Mapping[str, Any]] = {}

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
            await site.watcher.close()
            await site.engine.close()
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
        creation = secrets.token_hex(8)
        labels = labels_of(app, self.instance)
        body = create_body(
            deployment,
            image,
            labels=labels,
            placement=Placement(engine.address, engine.is_podman, _has_ipv6(engine)),
        )
        made = _Made(creation)
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    await self._put_in_place(site, app, body, made, report)
                    break
                except EngineError as error:
                    if not error.is_unreachable or attempt == _ATTEMPTS:
                        raise
                    if not await engine.is_back():
                        raise engine.gone() from error
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._take_back(site, app, made)
            raise
        return {"container": made.container, "image": image, "owns_volume": made.owns_volume}

    async def start(self, app: AppRecord) -> Mapping[str, Any]:
        """Start the container if it does not run.

        Raises:
            DeployError: it is not there any more, or cannot be started.
        """
        site = self._at(app.daemon)
        engine, watcher = site.engine, site.watcher
        container = await site.owned.container(app)
        if container is None:
            raise self._gone(app)
        await watcher.begin()
        try:
            if await engine.start(container):
                watcher.forget(container)
                site.endings.begun(container)
        except EngineError as error:
            if error.status == 404 and error.kind in ("no-container", "engine"):
                raise self._gone(app) from error
            raise
        return dict(app.deployment) | ({} if engine.is_proxied else {"container": container})

    async def ready(self, app: AppRecord) -> None:
        """Wait for the image's health check, if it has one.

        Raises:
            StepError: it came out unhealthy; the last probe's output says why.
        """
        site = self._at(app.daemon)
        engine, watcher = site.engine, site.watcher
        container = await site.owned.container(app)
        if container is None:
            raise StepError("healthcheck", self._gone(app).cause, remedy=self._gone(app).remedy)

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
        """Stop the container and give it another name, or keep what is needed to make it anew.

        Raises:
            DeployError: the engine refused, or cannot be reached.
        """
        site = self._at(app.daemon)
        engine = site.engine
        container = await site.owned.container(app)
        if container is None:
            return
        await engine.stop(container, self._settings.timeouts.stop)
        if engine.is_proxied:
            # A socket proxy does not let us rename: the container is made anew if need be.
            found = await engine.container(container)
            if found is not None:
                self._kept[app.app_id] = found
            return
        await site.owned.remove(app, previous_name(app.app_id))
        await engine.rename(container, previous_name(app.app_id))

    async def restore(self, app: AppRecord) -> Mapping[str, Any]:
        """Remove the new container, and start the one that was set aside.

        Raises:
            DeployError: it is not there any more, or the engine refused.
        """
        site = self._at(app.daemon)
        engine = site.engine
        name = container_name(app.app_id)
        body = None
        if kept := self._kept.pop(app.app_id, None):
            body = body_of(kept)
        elif engine.is_proxied:
            body = await self._body_before(site, app)
        if body is not None:
            await site.owned.remove(app, name)
            await engine.create(name, body)
            return await self.start(app)
        aside = await site.owned.named(app, previous_name(app.app_id))
        if aside is not None:
            await site.owned.remove(app, name)
            await engine.rename(aside, name)
        return await self.start(app)

    async def discard(self, app: AppRecord) -> None:
        """Remove the container that was set aside."""
        site = self._at(app.daemon)
        engine = site.engine
        if self._kept.pop(app.app_id, None) is None and not engine.is_proxied:
            await site.owned.remove(app, previous_name(app.app_id))

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
            container = await self._at(app.daemon).owned.container(app)
            if container is None:
                return []
            printed = await self.engine(app.daemon).log(container, lines)
        except EngineError:
            return []  # asked for in the middle of another error, which must not be hidden
        return [_text(line) for line in printed.removesuffix(b"\n").split(b"\n") if printed][
            -lines:
        ]

    def url(self, app: AppRecord) -> str:
        """Where the app's port is reached from this machine."""
        return app_url(app, self.engine(app.daemon).address)

    # The middle of it

    async def _put_in_place(
        self,
        site: _Site,
        app: AppRecord,
        body: Mapping[str, Any],
        made: _Made,
        report: ReportProgress,
    ) -> None:
        """Create volume and container and start that; may be done again when it was interrupted."""
        made.owns_volume, made.is_volume_new = await site.owned.create_volume(
            app, body["Labels"], made.creation
        )
        made.container = await site.owned.create(app, body)
        reference = container_name(app.app_id) if site.engine.is_proxied else made.container
        await report(96)
        await self._install_certificates(site, app, str(body["Image"]), reference)
        await report(98)
        await site.watcher.begin()
        site.watcher.forget(reference)
        _check_port(app, site.engine)
        await site.engine.start(reference)
        site.endings.begun(reference)

    async def _body_before(self, site: _Site, app: AppRecord) -> dict[str, Any] | None:
        """The body for a version whose container another process has replaced, else None."""
        name = container_name(app.app_id)
        found = await site.engine.container(name)
        image = str(app.deployment.get("image") or "")
        if not found or not image or await site.owned.named(app, name) is None:
            return None
        if found["Config"]["Labels"].get(VERSION_LABEL) == app.version:
            return None
        return earlier_body(found, image, app.version)

    async def _take_back(self, site: _Site, app: AppRecord, made: _Made) -> None:
        """Remove what a deployment has made that failed."""
        try:
            if made.container:
                name = container_name(app.app_id) if site.engine.is_proxied else made.container
                await site.engine.remove(name)
            if made.is_volume_new:
                await site.engine.remove_volume(volume_name(app.app_id))
        except EngineError:
            self._warn(
                app.app_id,
                f"what was made of it on {site.engine.shown} is still there: register the app "
                "again, or have it removed by `repair --remove`",
            )

    def _at(self, daemon: Daemon) -> "_Site":
        address = Address.of(daemon, os.environ)
        if address not in self._sites:
            engine = Engine(
                address, patience=self._settings.timeouts.away, tell=partial(self._warn, "")
            )
            watcher = Watcher(engine)
            self._sites[address] = _Site(
                engine,
                watcher,
                Owned(engine, self.instance, self._tell),
                Endings(engine, watcher, self._settings.timeouts, self._warn),
                certificates.Plans(engine),
            )
        return self._sites[address]

    async def _install_certificates(
        self, site: "_Site", app: AppRecord, image: str, container: str
    ) -> None:
        if site.engine.is_proxied:
            return  # the proxy does not let us see what the image has
        trusted = await anyio.to_thread.run_sync(certificates.instance_bundle, os.environ)
        if not trusted:
            return
        try:
            plan = await site.certificates.of(image, container, trusted)
            if plan.upload is not None:
                await site.engine.upload(container, plan.upload)
        except EngineError as error:
            self._warn(app.app_id, f"certificates of this machine are not installed: {error.cause}")
            return
        if plan.warning:
            self._warn(app.app_id, plan.warning)
        if plan.count:
            self._tell(
                app.app_id, f"{plan.count} certificates of this machine installed in the image"
            )

    async def _end(self, engine: Engine, app: AppRecord, container: str) -> bool:
        """Remove a container; one that may run is asked to end first, for the sake of its data."""
        if app.state is not State.DISABLED:
            await engine.stop(container, self._settings.timeouts.stop)
        return await engine.remove(container)

    def _gone(self, app: AppRecord) -> DeployError:
        return DeployError(
            f"the container {container_name(app.app_id)} is not there any more",
            remedy="somebody removed it: update the app, or unregister it (its data stays) and "
            "register it again",
        )

    def _tell(self, app_id: str, text: str) -> None:
        self._bus.emit(Notice(app_id, text, is_warning=False))

    def _warn(self, app_id: str, text: str) -> None:
        self._bus.emit(Notice(app_id, text))


def _check_port(app: AppRecord, engine: Engine) -> None:
    """See whether an app can have its port; what has it would be taken for the app.

    Raises:
        EngineError: somebody else listens there.
    """
    if network_of(app.daemon) != "host" or not engine.address.is_local:
        return  # elsewhere the engine says it, or we cannot know
    try:
        socket.create_server(("127.0.0.1", app.port)).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise explain(
                engine.shown, f"127.0.0.1:{app.port}: address already in use", status=500
            ) from error


def _has_ipv6(engine: Engine) -> bool:
    """Whether `::1` is an address of the engine's machine, which must be this one to know."""
    if not engine.address.is_local:
        return False
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
