"""The host as a library: what the command line, the web side and the fixtures stand on.

Each operation here is one verb of the documentation (register, enable, disable, unregister), runs
the handshake, tells the bus of every step, and raises what went wrong with cause and remedy.
"""

import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import TaskGroup

from appapi_host.app_client import AppClient, TransportFactory
from appapi_host.deploy.base import DeployBackend
from appapi_host.documents import DocumentStore
from appapi_host.errands import Errands
from appapi_host.errors import NotFoundError
from appapi_host.events import AppOutput, EventBus, Notice
from appapi_host.forms import Forms
from appapi_host.handshake import OUTPUT_LINES, Handshake
from appapi_host.host.daemons import DEFAULT_DAEMON_SETTING, Daemons, WayBack
from appapi_host.host.installer import Installer, Mount
from appapi_host.host.reports import Reports
from appapi_host.host.resumption import Resumption
from appapi_host.host.switch import Switch
from appapi_host.host.turns import Turns
from appapi_host.host.updater import Updater
from appapi_host.info_xml import AppInfo
from appapi_host.operations import Operations
from appapi_host.records import AppRecord, Daemon
from appapi_host.recovery import Recovery
from appapi_host.registry import Registry
from appapi_host.sessions import Sessions
from appapi_host.settings import HostSettings
from appapi_host.setup_checks import SetupChecks
from appapi_host.tasks import Tasks
from appapi_host.throttling import Throttle
from appapi_host.users import Users
from appapi_host.values import KEY_FILE, Values
from appapi_host.webhooks import Webhooks

if TYPE_CHECKING:
    from appapi_host.files.access import Files

__all__ = [
    "DEFAULT_DAEMON_SETTING",
    "INSTANCE_SETTING",
    "REGISTRY_FILE",
    "Host",
    "Mount",
    "WayBack",
]

logger = logging.getLogger(__name__)

REGISTRY_FILE: Final = "state.sqlite3"
INSTANCE_SETTING: Final = "instance_id"


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
        now: unix seconds, for what people are told the time of.
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
        now: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.now = now
        self.registry = registry
        self.start_soon = group.start_soon
        """Runs something for as long as the host is open."""
        self.operations = operations or Operations(registry)
        self.recovery = Recovery(self)
        self.bus = bus or EventBus()
        self.throttle = Throttle(is_on=settings.is_throttling)
        self.users = Users(registry, self.throttle)
        self.users.when_removed = self._forget_user
        self.sessions = Sessions(registry, now=now)
        self.documents = DocumentStore(registry)
        self.values = Values(
            self.documents, settings.data_dir / KEY_FILE if settings.data_dir else None
        )
        self.forms = Forms(self.documents, self.values)
        self.client = AppClient(settings, self.bus, transport_for=transport_for)
        self.tasks = Tasks(self.documents)
        self._group = group
        self.errands = Errands(
            settings,
            registry=registry,
            client=self.client,
            url_of=self.url_of,
            bus=self.bus,
            tasks=self.tasks,
            start=self.start,
        )
        self.webhooks = Webhooks(
            self.documents,
            registry=registry,
            client=self.client,
            url_of=self.url_of,
            bus=self.bus,
            values=self.values,
            start=self.start,
        )
        self.setup_checks = SetupChecks(
            self.documents,
            registry=registry,
            client=self.client,
            url_of=self.url_of,
            bus=self.bus,
        )
        self.way_back: WayBack | None = None
        """Set by what serves the host in this process."""
        self.instance = ""
        """Which host this is, for what it makes on machines that hosts share."""
        self.daemons = Daemons(self, backends)
        self.turns = Turns(self)
        self.switch = Switch(self)
        self.installer = Installer(self)
        self.updater = Updater(self)
        self.reports = Reports(self)
        self.resumption = Resumption(self)

    def start(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do something that nobody waits for, see `supervised()`."""
        self._group.start_soon(self.supervised, work)

    async def supervised(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do something whose failure must not end the host; it is told on the bus."""
        try:
            await work()
        except Exception as error:
            logger.exception("something in the background failed")
            self.bus.emit(
                Notice("", f"unexpected {type(error).__name__} in the background: {error}")
            )

    @cached_property
    def files(self) -> "Files":
        """The files of the users; nothing of them is loaded before somebody asks."""
        from appapi_host.files.access import Files

        return Files(
            self.registry,
            self.settings.data_dir,
            instance=lambda: self.instance,
            listener=self.webhooks.happened,
        )

    async def _forget_user(self, user_id: str) -> None:
        await self.documents.write(lambda documents: documents.forget_user(user_id))
        await self.files.forget(user_id)

    async def _close_files(self) -> None:
        if "files" in vars(self):
            await self.files.close()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: HostSettings,
        *,
        bus: EventBus | None = None,
        backends: Mapping[str, DeployBackend] | None = None,
        transport_for: TransportFactory | None = None,
        now: Callable[[], float] = time.time,
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
                now=now,
            )
            stack.push_async_callback(host._close_files)
            stack.push_async_callback(host.daemons.close)
            host.instance = await _instance(registry)
            await stack.enter_async_context(host.client)
            stack.enter_context(host.bus.subscribed(host.reports.note_time))
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
        await self.daemons.register(daemon, set_default=set_default)

    async def check_daemon(self, daemon: Daemon) -> None:
        """See whether apps can be deployed on a daemon, registered or not.

        Raises:
            HostError: they cannot, with the reason and what to do.
        """
        await self.daemons.check(daemon)

    async def gateway(self, daemon: Daemon) -> str:
        """Where apps of a daemon find this machine, if they need that to reach the host.

        Returns:
            An address; empty if they share our loopback, or are given a URL that is valid anywhere.

        Raises:
            HostError: it cannot be found out.
        """
        return await self.daemons.gateway(daemon)

    def backend(self, app_or_daemon: AppRecord | Daemon) -> DeployBackend:
        """The deploy backend of an app or daemon.

        Raises:
            NotFoundError: there is none for that deploy id.
        """
        return self.daemons.backend(app_or_daemon)

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
        return await self.installer.register(
            info,
            daemon=daemon,
            source=source,
            command=command,
            environment=environment,
            mounts=mounts,
            wait_finish=wait_finish,
        )

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
        return await self.updater.update(
            info,
            wait_finish=wait_finish,
            keep_disabled=keep_disabled,
            redeploy=redeploy,
            source=source,
        )

    async def enable(self, app_id: str) -> AppRecord:
        """Switch an app on; nothing happens if it is on already.

        Raises:
            NotFoundError: not registered.
            BusyError: another process is at work on it.
            StepError: it could not be started or did not answer.
            RefusedError: it does not want to.
        """
        return await self.switch.enable(app_id)

    async def disable(self, app_id: str) -> AppRecord:
        """Switch an app off; nothing happens if it is off already.

        Raises:
            NotFoundError: not registered.
            BusyError: another process is at work on it.
            RefusedError: it answered with an error or not at all; it is disabled nevertheless.
        """
        return await self.switch.disable(app_id)

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
        await self.installer.unregister(app_id, rm_data=rm_data, force=force)

    async def apps(self) -> list[AppRecord]:
        """The records of all apps, sorted by id."""
        return await self.registry.apps()

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
        await self.reports.init(app_id, progress, error)

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
        await self.resumption.begin()

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

    # For what works on apps here and in `appapi_host.recovery`

    def warn(self, app_id: str, text: str) -> None:
        """Tell the bus of what somebody should know; `app_id` is empty for what is about no app."""
        self.bus.emit(Notice(app_id, text))

    def handshake(self, app: AppRecord) -> Handshake:
        """The conversation with an app."""
        return Handshake(
            app.app_id,
            registry=self.registry,
            client=self.client,
            backend=self.backend(app),
            bus=self.bus,
            timeouts=self.settings.timeouts,
            on_progress=self.reports.show_progress,
            on_step=partial(self.operations.step, app.app_id),
        )


async def _instance(registry: Registry) -> str:
    """Which host this is: drawn once, kept with the registry."""
    known = await registry.setting(INSTANCE_SETTING)
    if known is None:
        known = secrets.token_hex(8)
        await registry.set_setting(INSTANCE_SETTING, known)
    return known
