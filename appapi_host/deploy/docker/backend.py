"""Deployment on a Docker Engine: the order of things, and what becomes of what others made.

What we made carries labels, and only that is ever changed or removed. A container is addressed by
its id, so that another one of the same name is never meant; a socket proxy allows names only, so
behind one the labels are looked at each time.
"""

import os
import secrets
import socket
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Final

import anyio
import anyio.to_thread

from appapi_host.deploy.base import DeployBackend, Deployment, Leftover, ReportProgress
from appapi_host.deploy.docker import certificates, images
from appapi_host.deploy.docker.container import (
    APP_LABEL,
    HOST_LABEL,
    Placement,
    app_url,
    container_name,
    create_body,
    labels_of,
    network_of,
    volume_name,
)
from appapi_host.deploy.docker.engine import Address, Engine, EngineError
from appapi_host.deploy.docker.networks import check_way_back, find_gateway
from appapi_host.deploy.docker.watching import ContainerState, Watcher
from appapi_host.deploy.environment import host_url
from appapi_host.errors import DeployError, StepError
from appapi_host.events import EventBus, Notice
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.lifecycle import State

__all__ = ["DockerBackend"]

CREATION_LABEL: Final = "org.nextcloud.appapi.creation"
"""A new value with each volume that we ask for: tells whether it was there before."""

_SETTLED: Final = frozenset({State.ENABLED, State.DISABLED, State.DISABLING})
"""Where the engine's own restarts are welcome; before, an end is a failure to be looked at."""

_KEPT: Final = (
    *("NetworkMode", "Mounts", "RestartPolicy", "PortBindings"),
    *("DeviceRequests", "Devices", "Memory", "NanoCpus"),
)
"""What we set of a container's `HostConfig`, in the words of an inspection."""


class DockerBackend(DeployBackend):
    """Deploys apps as containers; each daemon is an engine, or Podman."""

    deploy_id: ClassVar[str] = "docker-install"

    def __init__(self, settings: HostSettings, bus: EventBus) -> None:
        self._settings = settings
        self._bus = bus
        self._engines: dict[Address, tuple[Engine, Watcher]] = {}
        self._images: dict[str, str] = {}
        self._restarts: dict[str, int] = {}
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
        for engine, watcher in self._engines.values():
            await watcher.close()
            await engine.close()
        self._engines.clear()

    def engine(self, daemon: Daemon) -> Engine:
        """The engine of a daemon, which need not be reachable."""
        return self._at(daemon)[0]

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
        engine, watcher = self._at(app.daemon)
        creation = secrets.token_hex(8)
        labels = labels_of(app, self.instance)
        owns_volume, is_new = await self._create_volume(engine, app, labels, creation)
        container = ""
        try:
            body = create_body(
                deployment,
                image,
                labels=labels,
                placement=Placement(engine.address, engine.is_podman, _has_ipv6(engine)),
            )
            container = await self._create(engine, app, body)
            await report(96)
            reference = container_name(app.app_id) if engine.is_proxied else container
            await self._install_certificates(engine, app, reference)
            await report(98)
            await watcher.begin()
            watcher.forget(reference)
            await engine.start(reference)
            self._restarts[reference] = 0
        except BaseException:
            with anyio.CancelScope(shield=True), suppress(EngineError):
                if container:
                    name = container_name(app.app_id) if engine.is_proxied else container
                    await engine.remove(name)
                if is_new:
                    await engine.remove_volume(volume_name(app.app_id))
            raise
        return {"container": container, "image": image, "owns_volume": owns_volume}

    async def start(self, app: AppRecord) -> Mapping[str, Any]:
        """Start the container if it does not run.

        Raises:
            DeployError: it is not there any more, or cannot be started.
        """
        engine, watcher = self._at(app.daemon)
        container = await self._container(app)
        if container is None:
            raise self._gone(app)
        await watcher.begin()
        try:
            if await engine.start(container):
                watcher.forget(container)
                self._restarts[container] = 0
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
        engine, watcher = self._at(app.daemon)
        container = await self._container(app)
        if container is None:
            raise StepError("healthcheck", self._gone(app).cause, remedy=self._gone(app).remedy)

        def is_settled(state: ContainerState) -> bool:
            # Podman without systemd has nobody who runs the checks.
            is_starting = state.health == "starting" and not engine.is_podman
            return not (is_starting and state.exists)

        state = await watcher.until(container, is_settled)
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
        container = await self._container(app)
        engine = self.engine(app.daemon)
        if container is None or not await engine.stop(container, self._settings.timeouts.stop):
            self._tell(app.app_id, f"the container of {app.app_id} is not there any more")

    async def is_gone(self, app: AppRecord) -> bool:
        """Whether somebody else removed the container."""
        container = await self._container(app)
        return container is None or await self.engine(app.daemon).container(container) is None

    async def set_aside(self, app: AppRecord) -> None:
        """Stop the container and give it another name, or keep what is needed to make it anew.

        Raises:
            DeployError: the engine refused, or cannot be reached.
        """
        container = await self._container(app)
        if container is None:
            return
        engine = self.engine(app.daemon)
        await engine.stop(container, self._settings.timeouts.stop)
        if engine.is_proxied:
            # A socket proxy does not let us rename: the container is made anew if need be.
            found = await engine.container(container)
            if found is not None:
                self._kept[app.app_id] = found
            return
        await self._remove_own(engine, app, _previous(app.app_id))
        await engine.rename(container, _previous(app.app_id))

    async def restore(self, app: AppRecord) -> Mapping[str, Any]:
        """Remove the new container, and start the one that was set aside.

        Raises:
            DeployError: it is not there any more, or the engine refused.
        """
        engine = self.engine(app.daemon)
        name = container_name(app.app_id)
        if kept := self._kept.pop(app.app_id, None):
            await self._remove_own(engine, app, name)
            await engine.create(name, _body_of(kept))
            return await self.start(app)
        aside = await self._own(engine, app, _previous(app.app_id))
        if aside is not None:
            await self._remove_own(engine, app, name)
            await engine.rename(aside, name)
        return await self.start(app)

    async def discard(self, app: AppRecord) -> None:
        """Remove the container that was set aside."""
        engine = self.engine(app.daemon)
        if self._kept.pop(app.app_id, None) is None and not engine.is_proxied:
            await self._remove_own(engine, app, _previous(app.app_id))

    async def remove(self, app: AppRecord, *, data: bool) -> None:
        """Remove the container, with `data` the volume too; what is gone already is no error.

        Raises:
            DeployError: the engine refused, or cannot be reached.
        """
        engine, watcher = self._at(app.daemon)
        container = await self._container(app)
        if container is None or not await self._end(engine, app, container):
            self._tell(app.app_id, f"the container of {app.app_id} was gone already")
        else:
            watcher.forget(container)
        if data:
            await self._remove_volume(engine, app)

    async def leftovers(self, daemon: Daemon, app_ids: Collection[str]) -> list[Leftover]:
        """Containers and volumes that bear our label, of apps that are not registered.

        Raises:
            DeployError: the engine refused, or cannot be reached.
        """
        engine = self.engine(daemon)
        label = f"{HOST_LABEL}={self.instance}"
        found = [
            Leftover("container", str(one["Names"][0]).lstrip("/"), one["Labels"][APP_LABEL])
            for one in await engine.labelled_containers(label)
            if APP_LABEL in one["Labels"] and one.get("Names")
        ]
        found += [
            Leftover("volume", str(one["Name"]), one["Labels"][APP_LABEL], is_data=True)
            for one in await engine.labelled_volumes(label)
            if APP_LABEL in one["Labels"]
        ]
        return [one for one in found if one.app_id not in app_ids]

    async def remove_leftover(self, daemon: Daemon, leftover: Leftover) -> None:
        """Remove such a container or volume.

        Raises:
            DeployError: the engine refused, or cannot be reached.
        """
        engine = self.engine(daemon)
        if leftover.kind == "volume":
            await engine.remove_volume(leftover.name)
        else:
            await engine.remove(leftover.name)

    async def exited(self, app: AppRecord) -> str:
        """Wait until the container has ended.

        Before the app is enabled, its first end counts and the engine is kept from starting it
        again: the app would never get its init. Later, restarts by the engine are told only.

        Returns:
            `exit code 1`, `killed for its memory (exit code 137)`, `removed`.
        """
        engine, watcher = self._at(app.daemon)
        container = await self._container(app)
        if container is None:
            return "the container was removed"
        before = await watcher.state(container)
        restarts = self._restarts.setdefault(container, before.restarts)

        def is_over(state: ContainerState) -> bool:
            return not state.is_running or state.restarts > restarts

        state = await watcher.until(container, is_over)
        text = _how_it_ended(container, state, watcher)
        if app.state not in _SETTLED and state.exists:
            with anyio.CancelScope(shield=True), suppress(EngineError):
                await engine.stop(container, self._settings.timeouts.stop)
        elif state.exists:
            state = await self._after_restarts(app, container, watcher, text)
            text = _how_it_ended(container, state, watcher)
        return text

    async def output(
        self, app: AppRecord, *, tail: int | None = None, follow: bool = True
    ) -> AsyncIterator[str]:
        """What the container prints, from its beginning until it has ended."""
        container = await self._container(app)
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
            container = await self._container(app)
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

    def _at(self, daemon: Daemon) -> tuple[Engine, Watcher]:
        address = Address.of(daemon, os.environ)
        if address not in self._engines:
            engine = Engine(address)
            self._engines[address] = engine, Watcher(engine)
        return self._engines[address]

    async def _create_volume(
        self, engine: Engine, app: AppRecord, labels: Mapping[str, str], creation: str
    ) -> tuple[bool, bool]:
        """Create the volume; returns whether it is ours, and whether it is new."""
        name = volume_name(app.app_id)
        found = await engine.create_volume(name, {**labels, CREATION_LABEL: creation})
        present = found.get("Labels") or {}
        owner = present.get(HOST_LABEL)
        if owner is None:
            self._tell(
                app.app_id,
                f"the volume {name} was there before, made by somebody else: its data is used, and "
                "it is never removed",
            )
        elif owner != self.instance:
            raise DeployError(
                f"the volume {name} belongs to another host on {engine.shown}",
                remedy=f"unregister the app there, or remove it with `docker volume rm {name}`",
            )
        return owner is not None, present.get(CREATION_LABEL) == creation

    async def _create(self, engine: Engine, app: AppRecord, body: Mapping[str, Any]) -> str:
        name = container_name(app.app_id)
        try:
            return await engine.create(name, body)
        except EngineError as error:
            if error.status != 409 and error.kind != "name-taken":
                raise
            own = await self._own(engine, app, name)
            if own is None:
                raise DeployError(
                    f"there is a container {name} on {engine.shown} that this host did not make",
                    remedy=f"it is left alone: rename it (`docker rename {name} NEW`), remove it, "
                    "or unregister the app where it belongs",
                ) from error
        self._tell(app.app_id, f"the container {name} of an earlier deployment is removed")
        await engine.remove(own)
        return await engine.create(name, body)

    async def _install_certificates(self, engine: Engine, app: AppRecord, container: str) -> None:
        def warn(text: str) -> None:
            self._bus.emit(Notice(app.app_id, text))

        if engine.is_proxied:
            return  # the proxy does not let us see what the image has
        trusted = await anyio.to_thread.run_sync(certificates.instance_bundle, os.environ)
        if not trusted:
            return
        try:
            count = await certificates.install(engine, container, trusted, warn)
        except EngineError as error:
            warn(f"certificates of this machine are not installed: {error.cause}")
            return
        if count:
            self._tell(app.app_id, f"{count} certificates of this machine installed in the image")

    async def _container(self, app: AppRecord) -> str | None:
        """How to address the app's container; None if it is not there or not ours."""
        engine = self.engine(app.daemon)
        known = str(app.deployment.get("container") or "")
        if known and not engine.is_proxied:
            return known
        return await self._own(engine, app, container_name(app.app_id))

    async def _own(self, engine: Engine, app: AppRecord, name: str) -> str | None:
        """A container by name, if this host made it for this app."""
        found = await engine.container(name)
        if found is None:
            return None
        labels = (found.get("Config") or {}).get("Labels") or {}
        if (labels.get(HOST_LABEL), labels.get(APP_LABEL)) != (self.instance, app.app_id):
            return None
        return name if engine.is_proxied else str(found["Id"])

    async def _remove_own(self, engine: Engine, app: AppRecord, name: str) -> None:
        container = await self._own(engine, app, name)
        if container is not None:
            await engine.remove(container)

    async def _end(self, engine: Engine, app: AppRecord, container: str) -> bool:
        """Remove a container; one that may run is asked to end first, for the sake of its data."""
        if app.state is not State.DISABLED:
            await engine.stop(container, self._settings.timeouts.stop)
        return await engine.remove(container)

    async def _remove_volume(self, engine: Engine, app: AppRecord) -> None:
        name = volume_name(app.app_id)
        owns = app.deployment.get("owns_volume")
        if owns is None:
            found = await engine.volume(name) or {}
            owns = (found.get("Labels") or {}).get(HOST_LABEL) == self.instance
        if owns:
            await engine.remove_volume(name)
        else:
            self._tell(app.app_id, f"the volume {name} is left: this host did not make it")

    async def _after_restarts(
        self, app: AppRecord, container: str, watcher: Watcher, text: str
    ) -> ContainerState:
        """Wait for the end of a container that its restart policy may start again."""
        while True:
            found = await self.engine(app.daemon).container(container)
            state = ContainerState.of(found)
            raw = (found or {}).get("State") or {}
            if not raw.get("Running") and not raw.get("Restarting"):
                return state
            self._restarts[container] = state.restarts
            self._bus.emit(
                Notice(app.app_id, f"the container ended ({text}); the engine starts it again")
            )
            seen = state.restarts

            def is_news(state: ContainerState, seen: int = seen) -> bool:
                return not state.is_running or state.restarts > seen

            await watcher.until(container, lambda state: state.is_running or not state.exists)
            state = await watcher.until(container, is_news)
            text = _how_it_ended(container, state, watcher)

    def _gone(self, app: AppRecord) -> DeployError:
        return DeployError(
            f"the container {container_name(app.app_id)} is not there any more",
            remedy="somebody removed it: update the app, or unregister it (its data stays) and "
            "register it again",
        )

    def _tell(self, app_id: str, text: str) -> None:
        self._bus.emit(Notice(app_id, text, is_warning=False))


def _previous(app_id: str) -> str:
    """Name of a container that was set aside during an update."""
    return f"{container_name(app_id)}_previous"


def _how_it_ended(container: str, state: ContainerState, watcher: Watcher) -> str:
    if not state.exists:
        return "the container was removed"
    seen = watcher.exit_code(container)
    code = state.exit_code if seen is None else seen
    if state.is_oom or watcher.is_out_of_memory(container):
        return f"killed because it used more memory than its limit (exit code {code})"
    if state.error:
        return f"exit code {code}, {state.error}"
    return f"exit code {code}"


def _body_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """What to ask for to get the same container again."""
    config = found["Config"]
    wanted = ("Image", "Hostname", "Labels", "Env", "ExposedPorts")
    body = {name: config[name] for name in wanted if config.get(name)}
    # Not all of it: a socket proxy refuses what so much as names privileges.
    host_config = found["HostConfig"]
    body["HostConfig"] = {name: host_config[name] for name in _KEPT if host_config.get(name)}
    networks = (found.get("NetworkSettings") or {}).get("Networks") or {}
    aliases = {
        name: {"Aliases": network["Aliases"]}
        for name, network in networks.items()
        if network.get("Aliases")
    }
    if aliases:
        body["NetworkingConfig"] = {"EndpointsConfig": aliases}
    return body


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
