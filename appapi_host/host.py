"""The host as a library: what the command line, the web side and the fixtures stand on.

Each operation here is one verb of the documentation (register, enable, disable, unregister), runs
the handshake, tells the bus of every step, and raises what went wrong with cause and remedy.
"""

import secrets
import string
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import anyio
from anyio.abc import TaskGroup

from appapi_host.app_client import AppClient, TransportFactory
from appapi_host.deploy import load
from appapi_host.deploy.base import DeployBackend, Deployment, ReportProgress
from appapi_host.deploy.environment import build_environment, host_url, is_loopback_url
from appapi_host.documents import DocumentStore
from appapi_host.errands import Errands
from appapi_host.errors import (
    AlreadyExistsError,
    DeployError,
    HostError,
    NotFoundError,
    RefusedError,
    StepError,
)
from appapi_host.events import (
    AppOutput,
    EventBus,
    Notice,
    ProgressChanged,
    StepFailed,
    StepFinished,
    StepStarted,
)
from appapi_host.handshake import OUTPUT_LINES, Handshake, stepping
from appapi_host.info_xml import AppInfo
from appapi_host.operations import Operations, Verb
from appapi_host.records import AppRecord, Daemon
from appapi_host.recovery import Recovery, snapshot
from appapi_host.registry import Registry
from appapi_host.settings import HostSettings
from appapi_host.tasks import Tasks
from appapi_host.users import Users
from appapi_host.values import KEY_FILE, Values
from exapp_sdk.errors import LocalProtocolError
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import TRANSITIONS, Event, State
from exapp_sdk.protocol.status import Status, report_event

__all__ = ["DEFAULT_DAEMON_SETTING", "REGISTRY_FILE", "Host", "Mount", "WayBack"]

REGISTRY_FILE: Final = "state.sqlite3"
DEFAULT_DAEMON_SETTING: Final = "default_daemon_config"
INSTANCE_SETTING: Final = "instance_id"

_SECRET_ALPHABET: Final = string.ascii_letters + string.digits + "+/"
_SECRET_LENGTH: Final = 128

_SERVER_SECONDS: Final = 2.0
"""How long the process that serves may take to notice an app that another process registers."""

_SERVER_LOOK: Final = 0.02
"""Seconds between two looks whether it has."""

Mount = tuple[str, str, str]
"""Source, target and mode (`rw` or `ro`)."""


class WayBack(Protocol):
    """How apps with a loopback of their own reach a host that listens on ours."""

    async def open(self, daemon: Daemon, gateway: str) -> None:
        """Listen on a gateway for the apps of a daemon, if that is not done yet.

        Raises:
            HostError: it is not possible.
        """
        ...


class Host:
    """One AppAPI: its registry, its apps, and what can be done with them.

    Use `Host.open()`, which also opens the registry and owns the background tasks.

    Args:
        settings: how the host behaves.
        registry: where everything is kept.
        group: owner of the tasks that go on while nobody waits for them.
        bus: told of everything that happens.
        backends: deploy backends by deploy id, besides the built-in ones.
        transport_for: how to reach an app other than through the network.
        operations: what is being done to the apps of that registry.
    """

    def __init__(
        self,
        settings: HostSettings,
        *,
        registry: Registry,
        group: TaskGroup,
        bus: EventBus | None = None,
        backends: Mapping[str, DeployBackend] | None = None,
        transport_for: TransportFactory | None = None,
        operations: Operations | None = None,
    ) -> None:
        self.settings = settings
        self.registry = registry
        self.operations = operations or Operations(registry)
        self.recovery = Recovery(self)
        self.bus = bus or EventBus()
        self.users = Users(registry)
        self.documents = DocumentStore(registry)
        self.values = Values(
            self.documents, settings.data_dir / KEY_FILE if settings.data_dir else None
        )
        self.client = AppClient(settings, self.bus, transport_for=transport_for)
        self.tasks = Tasks(self.documents)
        self.errands = Errands(
            settings,
            registry=registry,
            client=self.client,
            url_of=self.url_of,
            bus=self.bus,
            tasks=self.tasks,
            start=group.start_soon,
        )
        self.way_back: WayBack | None = None
        """Set by what serves the host in this process."""
        self._group = group
        self.instance = ""
        """Which host this is, for what it makes on machines that hosts share."""
        self._backends = dict(backends or {})
        self._shown_progress: dict[str, int] = {}
        self._init_began: dict[str, float] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: HostSettings,
        *,
        bus: EventBus | None = None,
        backends: Mapping[str, DeployBackend] | None = None,
        transport_for: TransportFactory | None = None,
    ) -> AsyncIterator["Host"]:
        """Open the registry and run the host inside the block.

        Raises:
            HostError: the registry cannot be opened.
        """
        path = settings.data_dir / REGISTRY_FILE if settings.data_dir else None
        async with AsyncExitStack() as stack:
            registry = await Registry.open(path)
            stack.push_async_callback(registry.close)
            operations = Operations(registry)
            stack.callback(operations.close)
            group = await stack.enter_async_context(anyio.create_task_group())
            host = cls(
                settings,
                registry=registry,
                group=group,
                bus=bus,
                backends=backends,
                transport_for=transport_for,
                operations=operations,
            )
            stack.push_async_callback(host._close_backends)
            host.instance = await _instance(registry)
            await stack.enter_async_context(host.client)
            stack.enter_context(host.bus.subscribed(host._note_time))
            try:
                yield host
            finally:
                group.cancel_scope.cancel()

    # Daemons

    async def register_daemon(self, daemon: Daemon, *, set_default: bool = False) -> None:
        """Add a place where apps can run.

        Raises:
            AlreadyExistsError: the name is taken.
        """
        await self.registry.add_daemon(daemon)
        if set_default:
            await self.registry.set_setting(DEFAULT_DAEMON_SETTING, daemon.name)

    async def check_daemon(self, daemon: Daemon) -> None:
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
        if not is_loopback_url(host_url(self.settings, daemon)):
            return ""
        with self._patience(daemon):
            return await self.backend(daemon).gateway(daemon)

    @contextmanager
    def _patience(self, daemon: Daemon) -> Iterator[None]:
        """Wait for a daemon as long as people do, who look at what they have just registered."""
        limit = self.settings.timeouts.check
        try:
            with anyio.fail_after(limit):
                yield
        except TimeoutError:
            raise HostError(
                f"{daemon.host} did not answer within {limit:g} s",
                remedy="see whether the engine is busy or hangs, for instance with `docker info`",
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
            self._backends[deploy_id] = backend(self.settings, self.bus)
            self._backends[deploy_id].instance = self.instance
        return self._backends[deploy_id]

    def url_of(self, app: AppRecord) -> str:
        """Where the app is reached, without a trailing slash."""
        return self.backend(app).url(app)

    # Operations on apps

    async def register(
        self,
        info: AppInfo,
        *,
        daemon: str | None = None,
        source: Path | None = None,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        mounts: Sequence[Mount] = (),
        wait_finish: bool = True,
    ) -> AppRecord:
        """Deploy an app and bring it to enabled.

        Args:
            info: the app's description.
            daemon: where to deploy, by name; the default daemon if not given.
            source: absolute folder of the app, for backends that install from one.
            command: what to start instead of what the folder declares.
            environment: values for variables that the info declares.
            mounts: what to mount.
            wait_finish: wait until the app is enabled; otherwise return when `/init` was answered.

        Returns:
            The record: enabled, or still initializing without `wait_finish`.

        Raises:
            AlreadyExistsError: the id is registered, or the port is taken on that daemon.
            NotFoundError: no such daemon, or no backend for it.
            DeployError: deployment failed; the app is not registered.
            StepError: the heartbeat or init failed; the app stays registered, to be looked at.
            RefusedError: the app does not want to be enabled.
        """
        if await self.registry.app(info.id):
            raise AlreadyExistsError(f"ExApp {info.id} is already registered.")
        target = await self._daemon(daemon)
        backend = self.backend(target)
        app = AppRecord(
            app_id=info.id,
            version=info.version,
            name=info.name,
            daemon=target,
            port=info.port or 0,  # the registry chooses one
            secret=info.secret or _new_secret(),
            state=State.DEPLOYING,
            status=Status().deploy_reported(0, now=int(time.time())),
            routes=info.routes,
            created_time=int(time.time()),
            options={
                "environment": dict(environment or {}),
                "mounts": [list(mount) for mount in mounts],
                "source": str(source or ""),
                "command": list(command),
                "scopes": list(info.scopes),
            },
        )
        async with self._operation(info.id, Verb.REGISTER, "register"):
            app = await self.registry.add_app(app)
            try:
                gateway = await self._open_gateway(app)
                await self._deploy(app, backend, self._deployment(app, info, gateway))
            except BaseException:
                # Cancellation too: an interrupted deployment must not leave a row that nobody can
                # use.
                with anyio.CancelScope(shield=True):
                    await self.registry.remove_app(app.app_id)
                    await self.operations.end(app.app_id)
                raise
            app = await self.bring_up(app)
        # From here on the app is at work, not we: whoever wants to disable it need not wait.
        return await self._initialized(app, wait_finish=wait_finish)

    async def update(
        self,
        info: AppInfo,
        *,
        wait_finish: bool = True,
        keep_disabled: bool = False,
        redeploy: bool = False,
        source: Path | None = None,
    ) -> AppRecord:
        """Replace an app by another version: same port, secret, data and options.

        What the new version needs is fetched while the old one serves. If the new one does not get
        to enabled, the old one is put back and the error is raised.

        Args:
            info: the new version's description; any version but the present one will do.
            wait_finish: wait until the new version is enabled. Without it, nobody is there who
                could put the old one back if the initialization fails.
            keep_disabled: an app that was disabled is disabled again in the end; otherwise it ends
                enabled, as with the real one.
            redeploy: replace it even by the same version, which somebody has built anew.
            source: absolute folder of the new version, for an app that was installed from one;
                the same as before if not given.

        Returns:
            The record; unchanged if that version is installed already.

        Raises:
            NotFoundError: not registered.
            DeployError, StepError, RefusedError: as for `register()`; the old version is back.
        """
        old = await self.app(info.id)
        if old.version == info.version and not redeploy:
            return old
        async with self._operation(info.id, Verb.UPDATE, "fetch"):
            old = await self.app(info.id)
            app = await self._update(old, info, wait_finish=wait_finish, source=source)
            if keep_disabled and not old.enabled:
                app = await self._disable(info.id)
        return app

    async def _update(
        self, old: AppRecord, info: AppInfo, *, wait_finish: bool, source: Path | None
    ) -> AppRecord:
        backend = self.backend(old)
        before = old.options.get("source", "")
        new = replace(
            old,
            version=info.version,
            name=info.name,
            routes=info.routes,
            status=Status(type="update"),
            options={
                **old.options,
                "scopes": list(info.scopes),
                "source": str(source) if source and before else before,
            },
        )
        deployment = self._deployment(new, info, await self._open_gateway(new))
        await backend.prepare(deployment, self._report_to_bus(info.id))
        await self.operations.step(info.id, "disable", {"old": snapshot(old)})
        try:
            if old.enabled:
                try:
                    await self._disable(info.id)
                except RefusedError as error:
                    self._warn(info.id, f"did not want to be disabled: {error.cause}")
            await self.operations.step(info.id, "set aside")
            await backend.set_aside(old)
            app = await self._transition(info.id, partial(_updated, new))
            await self._deploy(app, backend, replace(deployment, app=app), is_prepared=True)
            app = await self.bring_up(app)
            app = await self._initialized(app, wait_finish=wait_finish)
        except BaseException as error:
            failure = (
                f"update failed: {error}" if isinstance(error, HostError) else "update interrupted"
            )
            with anyio.CancelScope(shield=True):
                await self.roll_back(old, backend, failure, enable=old.enabled)
                await self.operations.end(info.id)
            raise
        await self.operations.step(info.id, "discard")
        await backend.discard(app)
        return app

    async def enable(self, app_id: str) -> AppRecord:
        """Switch an app on; nothing happens if it is on already.

        Raises:
            NotFoundError: not registered.
            BusyError: another process is at work on it.
            StepError: it could not be started or did not answer.
            RefusedError: it does not want to.
        """
        app = await self.app(app_id)
        is_on = app.enabled and app.state is not State.FAILED
        if is_on and await self.operations.of(app_id) is None:
            return app
        async with self._operation(app_id, Verb.ENABLE, "enable"):
            return await self._enable(app_id)

    async def _enable(self, app_id: str) -> AppRecord:
        app = await self.app(app_id)
        if app.enabled and app.state is not State.FAILED:
            return app  # another process was faster
        await self._transition(
            app_id,
            lambda app: app.after(Event.ENABLE, status=replace(app.status, error=""), enabled=True),
        )
        app = await self.handshake(app).enable()
        if app.state is State.ENABLED:
            return app
        output = await self.backend(app).last_output(app, lines=OUTPUT_LINES)
        if app.state is State.DISABLED:
            raise RefusedError(app.failure, output=output)
        raise StepError("enabled", app.failure, output=output)

    async def disable(self, app_id: str) -> AppRecord:
        """Switch an app off; nothing happens if it is off already.

        Raises:
            NotFoundError: not registered.
            BusyError: another process is at work on it.
            RefusedError: it answered with an error or not at all; it is disabled nevertheless.
        """
        app = await self.app(app_id)
        if not app.enabled and await self.operations.of(app_id) is None:
            return app
        async with self._operation(app_id, Verb.DISABLE, "disable"):
            return await self._disable(app_id)

    async def _disable(self, app_id: str) -> AppRecord:
        app = await self.app(app_id)
        if not app.enabled:
            return app
        await self._transition(app_id, lambda app: app.after(Event.DISABLE))
        error = await self.handshake(app).disable()
        if error:
            raise RefusedError(error)
        return await self.app(app_id)

    async def unregister(self, app_id: str, *, rm_data: bool = False, force: bool = False) -> None:
        """Switch an app off, remove what was deployed, and forget it.

        Args:
            app_id: the app.
            rm_data: remove its persistent storage too.
            force: go on after errors.

        Raises:
            NotFoundError: not registered.
            BusyError: another process is at work on it.
            RefusedError: it does not want to be disabled (it is disabled by now).
            DeployError: what was deployed could not be removed.
        """
        await self.app(app_id)
        async with self._operation(app_id, Verb.UNREGISTER, "disable", rm_data=rm_data):
            app = await self.app(app_id)
            if app.enabled:
                try:
                    app = await self._disable(app_id)
                except HostError:
                    if not force:
                        raise
            await self.operations.step(app_id, "remove")
            try:
                await self.backend(app).remove(app, data=rm_data)
            except (DeployError, NotFoundError):
                if not force:
                    raise
            await self.registry.remove_app(app_id)
        self._shown_progress.pop(app_id, None)
        self._init_began.pop(app_id, None)

    async def app(self, app_id: str) -> AppRecord:
        """The record of an app.

        Raises:
            NotFoundError: not registered.
        """
        app = await self.registry.app(app_id)
        if app is None:
            raise NotFoundError(f"ExApp {app_id} not found.")
        return app

    # What apps tell us

    async def report_init(self, app_id: str, progress: int, error: str = "") -> None:
        """Take a progress report of an app.

        A report of 100 returns only after the app was enabled, or refused to be: that is when the
        real AppAPI answers it. The enabling itself goes on even if the app hangs up.

        Raises:
            NotFoundError: not registered.
            RemoteProtocolError: progress is not within 0..100; nothing is stored.
        """
        now = int(time.time())
        happened: Event | None = None

        def change(app: AppRecord) -> AppRecord:
            nonlocal happened
            happened = report_event(app.status, progress, error)
            if happened not in TRANSITIONS[app.state]:
                happened = None
            if happened is None:
                return app
            status = app.status.init_reported(progress, error, now=now)
            return app.after(
                happened,
                status=status,
                enabled=True,
                failure=status.error if error else app.failure,
            )

        app = await self.registry.apply(app_id, change)
        if happened is None:
            if not (progress and app.status.init == 100):
                self._warn(app_id, f"reported progress {progress} while {app.state.value}: ignored")
            return
        self._show_progress(app_id, app.status.init)
        if happened is Event.INIT_FAILED:
            self.bus.emit(StepFailed(app_id, "init", error))
        elif happened is Event.INIT_FINISHED:
            if error:
                self._warn(
                    app_id, "reported 100 with an error; like Nextcloud, the host enables it"
                )
            # In whole seconds only if another process sent /init.
            began = self._init_began.pop(app_id, None)
            seconds = time.time() - (began or app.status.init_start_time or now)
            self.bus.emit(StepFinished(app_id, "init", seconds))
            await self._owned(partial(self._enable_reported, app))

    async def app_version_seen(self, app_id: str, version: str) -> None:
        """Store a higher version that the app itself named in a request."""
        await self.registry.apply(app_id, lambda app: replace(app, version=version))

    # After a restart

    async def resume(self) -> None:
        """Take up what an earlier host process left behind; for the one that serves.

        Apps that should run and do not are started again, and what had begun goes on in the
        background: enabling and disabling are finished, and an app that was started anew while it
        initialized is told to initialize again. What becomes of it is in the record and on the bus.
        """
        for operation in await self.recovery.orphans():
            self._group.start_soon(partial(self.recovery.settle, operation, finish=True))
        at_work = {operation.app_id for operation in await self.operations.all()}
        for app in await self.registry.apps():
            if app.app_id in at_work:
                continue
            try:
                backend = self.backend(app)
            except NotFoundError as error:
                self._warn(app.app_id, error.cause)
                continue
            started = False
            if app.enabled:
                try:
                    notes = await backend.start(app)
                except DeployError as error:
                    self.bus.emit(StepFailed(app.app_id, "start", error.cause, error.remedy))
                    await self.registry.apply(app.app_id, partial(_could_not_start, error.cause))
                    continue
                started = notes != app.deployment
                if started:
                    place = f" as process {notes['pid']}" if "pid" in notes else ""
                    self.bus.emit(Notice(app.app_id, f"started again{place}", is_warning=False))
                app = await self.registry.apply(app.app_id, partial(_with_notes, notes))
            self._group.start_soon(self._resume, app, started)

    async def _resume(self, app: AppRecord, started: bool) -> None:  # noqa: FBT001  # a task
        handshake = self.handshake(app)
        try:
            if app.state is State.ENABLING:
                await handshake.enable()
            elif app.state is State.DISABLING:
                await handshake.disable()
            elif app.state is State.INITIALIZING and started:
                await handshake.resume_init()
        except StepError as error:
            await self.record_failure(app.app_id, Event.INIT_FAILED, error)
        except NotFoundError:
            pass  # unregistered meanwhile

    async def recover(self) -> None:
        """Settle what processes left behind that are gone, as far as it takes no patience.

        For a process that does not serve: what an app would have to come up for is ended with an
        error that names the step. Each is told on the bus.
        """
        for operation in await self.recovery.orphans():
            await self.recovery.settle(operation, finish=False)

    async def watch(self) -> None:
        """Notice processes and apps that die, and limits that are over; for the one that serves.

        Runs until it is cancelled.
        """
        await self.recovery.watch()

    # Watching

    async def exited(self, app_id: str) -> str:
        """Wait until the app has ended; never returns where that cannot be seen.

        Returns:
            How it ended, for instance `exit code 1`.
        """
        app = await self.app(app_id)
        return await self.backend(app).exited(app)

    async def last_output(self, app_id: str, *, lines: int = OUTPUT_LINES) -> list[str]:
        """The last lines that the app printed, oldest first."""
        app = await self.app(app_id)
        return await self.backend(app).last_output(app, lines=lines)

    async def follow_output(self, app_id: str, *, tail: int | None = None) -> None:
        """Emit each line that the app prints until it has ended.

        Args:
            app_id: the app.
            tail: begin with so many of the last lines; with all since its start if not given.
        """
        app = await self.app(app_id)
        async for line in self.backend(app).output(app, tail=tail):
            self.bus.emit(AppOutput(app_id, line))

    # The middle of the operations

    async def _daemon(self, name: str | None) -> Daemon:
        if name is None:
            name = await self.registry.setting(DEFAULT_DAEMON_SETTING) or ""
        daemon = await self.registry.daemon(name)
        if daemon is None:
            raise NotFoundError(
                f"Daemon config {name} not found.",
                remedy="register one with app_api:daemon:register, or name another",
            )
        return daemon

    async def _open_gateway(self, app: AppRecord) -> str:
        """Make sure that an app will reach us, before it is started.

        Returns:
            The gateway that it has to use, or nothing.
        """
        gateway = await self.gateway(app.daemon)
        if gateway and self.way_back is not None:
            await self.way_back.open(app.daemon, gateway)
        elif gateway:
            await self._await_server(app, gateway)
        return gateway

    async def _await_server(self, app: AppRecord, gateway: str) -> None:
        """Give the process that serves this registry the time to listen on a gateway."""
        url = host_url(self.settings, app.daemon)
        port = urlsplit(url).port or 80
        if not await _is_answered(urlsplit(url).hostname or "", port):
            return  # nobody serves; said elsewhere, and waiting would not help
        with anyio.move_on_after(_SERVER_SECONDS):
            while True:
                if await _is_answered(gateway, port):
                    return
                await anyio.sleep(_SERVER_LOOK)
        self._warn(
            app.app_id,
            f"nobody listens on {gateway} port {port}, where the app will look for {url}",
        )

    def _deployment(self, app: AppRecord, info: AppInfo, gateway: str) -> Deployment:
        storage = self._storage(app)
        options = app.options
        environment = build_environment(
            self.settings,
            app,
            info,
            storage=storage,
            gateway=gateway,
            overrides=options.get("environment", {}),
        )
        return Deployment(
            app,
            environment,
            info=info,
            source=Path(options["source"]) if options.get("source") else None,
            command=tuple(options.get("command", ())),
            storage=storage,
            mounts=tuple(
                (source, target, mode) for source, target, mode in options.get("mounts", ())
            ),
        )

    def _report_to_bus(self, app_id: str) -> ReportProgress:
        async def report(percent: int) -> None:
            self.bus.emit(ProgressChanged(app_id, "deploy", percent))

        return report

    async def _deploy(
        self,
        app: AppRecord,
        backend: DeployBackend,
        deployment: Deployment,
        *,
        is_prepared: bool = False,
    ) -> None:
        """Put the app in place and note how far that is."""

        async def report(percent: int) -> None:
            now = int(time.time())
            await self.registry.apply(
                app.app_id,
                lambda app: replace(app, status=app.status.deploy_reported(percent, now=now)),
            )
            self.bus.emit(ProgressChanged(app.app_id, "deploy", percent))

        with stepping(self.bus, app.app_id, "deploy"):
            try:
                if not is_prepared:
                    await self.operations.step(app.app_id, "fetch")
                    await backend.prepare(deployment, report)
                await self.operations.step(app.app_id, "deploy")
                notes = await backend.deploy(deployment, report)
            except DeployError as error:
                self.bus.emit(StepFailed(app.app_id, "deploy", error.cause, error.remedy))
                raise
        now = int(time.time())
        await self.registry.apply(
            app.app_id,
            lambda app: replace(
                app.after(Event.DEPLOYED, status=app.status.deploy_reported(100, now=now)),
                deployment=dict(notes),
            ),
        )

    async def bring_up(self, app: AppRecord) -> AppRecord:
        """From deployed to initializing; to enabled where the app has no init.

        Raises:
            StepError: the heartbeat failed, and that is recorded.
        """
        handshake = self.handshake(app)
        try:
            await handshake.wait_for_heartbeat()
        except StepError as error:
            await self.record_failure(app.app_id, Event.HEARTBEAT_FAILED, error)
            raise
        return await handshake.begin_init()

    async def _initialized(self, app: AppRecord, *, wait_finish: bool) -> AppRecord:
        """Wait for the end of init; where it is over already, its outcome is known at once."""
        if wait_finish or app.state is not State.INITIALIZING:
            return await self._wait_for_init(self.handshake(app))
        return app

    async def roll_back(
        self, old: AppRecord, backend: DeployBackend, failure: str, *, enable: bool
    ) -> None:
        """Put the old version back after an update that did not succeed, as it was before.

        Never raises for what goes wrong with that: it is in the record.
        """
        self._warn(old.app_id, f"{failure}; going back to version {old.version}")
        try:
            notes = await backend.restore(old)
            await self.registry.apply(old.app_id, partial(_rolled_back, old, notes, failure))
            if enable:
                await self._enable(old.app_id)
                await self.registry.apply(old.app_id, lambda app: replace(app, failure=failure))
            else:
                await backend.stop(await self.app(old.app_id))
        except HostError as second:
            text = f"{failure}; version {old.version} could not be put back: {second}"
            self._warn(old.app_id, text)
            with suppress(NotFoundError):
                await self.registry.apply(old.app_id, partial(_failed, text))

    async def _wait_for_init(self, handshake: Handshake) -> AppRecord:
        try:
            return await handshake.wait_for_init()
        except RefusedError:
            raise  # recorded by the enable sequence itself
        except StepError as error:
            await self.record_failure(handshake.app_id, Event.INIT_FAILED, error)
            raise

    async def record_failure(self, app_id: str, event: Event, error: StepError) -> None:
        """Store why an operation ended, unless it is stored already."""

        def change(app: AppRecord) -> AppRecord:
            if event not in TRANSITIONS[app.state] or app.state is State.FAILED:
                return app
            text = "Heartbeat check failed" if event is Event.HEARTBEAT_FAILED else error.cause
            return app.after(event, status=app.status.failed(text), failure=error.cause)

        await self.registry.apply(app_id, change)

    async def _transition(self, app_id: str, change: Callable[[AppRecord], AppRecord]) -> AppRecord:
        """Apply a change that a person asked for; a forbidden one is the person's to know."""
        try:
            return await self.registry.apply(app_id, change)
        except LocalProtocolError as error:
            raise HostError(
                f"ExApp {app_id} is busy: {error}",
                remedy="wait for the operation under way, or unregister the app with --force",
            ) from error

    async def _close_backends(self) -> None:
        with anyio.CancelScope(shield=True):
            for backend in self._backends.values():
                await backend.close()

    @asynccontextmanager
    async def _operation(
        self, app_id: str, verb: Verb, step: str, **details: object
    ) -> AsyncIterator[None]:
        """Have an app to ourselves inside the block, and have it written down.

        Raises:
            BusyError: another process is at work on it, for longer than we wait.
        """
        await self._begin(app_id, verb, step, details)
        async with self.ending(app_id):
            yield

    @asynccontextmanager
    async def ending(self, app_id: str) -> AsyncIterator[None]:
        """End our operation with the block; leave it to the next one if the block is cancelled."""
        try:
            yield
        except Exception:
            await self.operations.end(app_id)
            raise
        except BaseException:
            await self.operations.abandon(app_id)
            raise
        await self.operations.end(app_id)

    async def _begin(
        self, app_id: str, verb: Verb, step: str, details: Mapping[str, object]
    ) -> None:
        limit = anyio.current_time() + self.settings.timeouts.busy
        is_told = False
        while True:
            other = await self.operations.begin(app_id, verb, step, details)
            if other is None:
                return
            if await self.operations.is_orphaned(other):
                await self.recovery.settle(other, finish=False)
                continue
            if self.operations.owns(other) or anyio.current_time() >= limit:
                raise other.busy()
            if not is_told:
                is_told = True
                self.bus.emit(
                    Notice(
                        app_id,
                        f"waiting for process {other.pid}, which is about to {other.verb} it "
                        f"(step {other.step})",
                        is_warning=False,
                    )
                )
            with anyio.move_on_at(limit):
                await self.operations.wait_for_end(other)

    async def _enable_reported(self, app: AppRecord) -> None:
        """Enable an app that has finished its init."""
        other = await self.operations.begin(app.app_id, Verb.ENABLE, "enable", {})
        if other is not None:
            # Whoever installs it is still at it, and this is a part of that.
            await self.handshake(app).enable()
            return
        async with self.ending(app.app_id):
            await self.handshake(app).enable()

    async def _owned(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do the work in the host's own task group and wait for its end.

        Whoever waits may be cancelled (an app hangs up); the work goes on.
        """
        done = anyio.Event()

        async def run() -> None:
            try:
                await work()
            except NotFoundError as error:
                self._warn("", str(error))
            finally:
                done.set()

        self._group.start_soon(run)
        await done.wait()

    def handshake(self, app: AppRecord) -> Handshake:
        """The conversation with an app."""
        return Handshake(
            app.app_id,
            registry=self.registry,
            client=self.client,
            backend=self.backend(app),
            bus=self.bus,
            timeouts=self.settings.timeouts,
            on_progress=self._show_progress,
            on_step=partial(self.operations.step, app.app_id),
        )

    def _storage(self, app: AppRecord) -> Path | None:
        if self.settings.data_dir is None:
            return None
        return self.settings.data_dir.absolute() / "apps" / app.app_id / "storage"

    def _note_time(self, event: object) -> None:
        if isinstance(event, StepStarted) and event.step == "init":
            self._init_began[event.app_id] = time.time()

    def _show_progress(self, app_id: str, percent: int) -> None:
        """Emit the progress of init, once per change.

        It is seen twice where app and waiter are in one process: in the report and in the registry.
        """
        if self._shown_progress.get(app_id) != percent:
            self._shown_progress[app_id] = percent
            self.bus.emit(ProgressChanged(app_id, "init", percent))

    def _warn(self, app_id: str, text: str) -> None:
        self.bus.emit(Notice(app_id, text))


async def _is_answered(address: str, port: int) -> bool:
    """Whether connections to an address are accepted."""
    try:
        await (await anyio.connect_tcp(address, port)).aclose()
    except OSError:
        return False
    return True


async def _instance(registry: Registry) -> str:
    """Which host this is: drawn once, kept with the registry."""
    known = await registry.setting(INSTANCE_SETTING)
    if known is None:
        known = secrets.token_hex(8)
        await registry.set_setting(INSTANCE_SETTING, known)
    return known


def _with_notes(notes: Mapping[str, Any], app: AppRecord) -> AppRecord:
    return replace(app, deployment=dict(notes))


def _updated(new: AppRecord, app: AppRecord) -> AppRecord:
    """What an update changes; everything else stays as it is now."""
    return replace(
        app.after(Event.UPDATE, status=new.status.deploy_reported(0, now=int(time.time()))),
        version=new.version,
        name=new.name,
        routes=new.routes,
        options=new.options,
    )


def _rolled_back(
    old: AppRecord, notes: Mapping[str, Any], failure: str, app: AppRecord
) -> AppRecord:
    """The old version's row, disabled."""
    if Event.ROLLED_BACK not in TRANSITIONS[app.state]:
        app = app.after(Event.INTERRUPTED)
    changed = app.after(Event.ROLLED_BACK, status=old.status, enabled=False, failure=failure)
    return replace(
        changed,
        version=old.version,
        name=old.name,
        routes=old.routes,
        options=old.options,
        deployment=dict(notes),
    )


def _failed(text: str, app: AppRecord) -> AppRecord:
    if Event.INTERRUPTED in TRANSITIONS[app.state]:
        return app.after(Event.INTERRUPTED, failure=text)
    return replace(app, failure=text)


def _could_not_start(cause: str, app: AppRecord) -> AppRecord:
    if Event.INTERRUPTED in TRANSITIONS[app.state]:
        return app.after(Event.INTERRUPTED, failure=f"start: {cause}")
    return replace(app, failure=f"start: {cause}")


def _new_secret() -> Secret:
    return Secret("".join(secrets.choice(_SECRET_ALPHABET) for _ in range(_SECRET_LENGTH)))
