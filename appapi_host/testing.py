"""App and host together, for tests: what the pytest fixtures hand out.

Usable without pytest too: `async with memory_host() as host: exapp = await host.install(app)`.
"""

import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from appapi_host.app_client import memory_transport, user_client
from appapi_host.asgi import create_app
from appapi_host.deploy.base import DeployBackend, Deployment, ReportProgress
from appapi_host.events import Direction, Event, EventBus, Exchange
from appapi_host.gateways import serve_host
from appapi_host.host import Host
from appapi_host.info_xml import AppInfo
from appapi_host.records import AccessLevel, AppRecord, Daemon, Route
from appapi_host.settings import HostSettings, Timeouts
from exapp_sdk import ExApp
from exapp_sdk.errors import LocalProtocolError
from exapp_sdk.protocol.environ import Settings
from exapp_sdk.protocol.lifecycle import State
from exapp_sdk.testing import running

if TYPE_CHECKING:
    from appapi_host.app_client import UserAnswer, UserClient
    from appapi_host.cli.exapp_commands import CommandResult
    from appapi_host.files.access import Files
    from appapi_host.triggers import Outcome, SettingOutcome, TalkOutcome, TaskOutcome

__all__ = ["InstalledApp", "MemoryBackend", "TestHost", "live_host", "memory_host"]

MEMORY_URL: Final = "http://host.test"
APP_URL: Final = "http://exapp.test"

TEST_TIMEOUTS: Final = Timeouts(heartbeat=15.0, init=60.0, enabled_request=15.0)
"""A test that hangs for 40 minutes tells nobody anything."""

DEFAULT_INFO: Final = AppInfo(
    id="exapp_under_test",
    name="ExApp under test",
    version="1.0.0",
    routes=(Route(".*", "GET,POST,PUT,DELETE", AccessLevel.PUBLIC),),
)
"""Describes an app that is installed without an info.xml: every path is open to everyone."""


class InstalledApp:
    """An app that was installed on a test host.

    Attributes:
        record: what the host knew about it after the last operation.
    """

    def __init__(self, host: "TestHost", record: AppRecord) -> None:
        self._host = host
        self.record = record

    @property
    def app_id(self) -> str:
        """Id of the app."""
        return self.record.app_id

    @property
    def state(self) -> State:
        """Where the app stands, for instance `State.ENABLED`."""
        return self.record.state

    @property
    def enabled(self) -> bool:
        """Whether the app is installed and switched on."""
        return self.record.state is State.ENABLED

    @property
    def progress(self) -> int:
        """How far init has come, in percent."""
        return self.record.status.init

    @property
    def error(self) -> str:
        """Why the last operation failed, empty if it did not."""
        return self.record.failure or self.record.status.error

    @property
    def exchanges(self) -> list[Exchange]:
        """Every request and answer between app, host and users so far, in order."""
        return [exchange for exchange in self._host.exchanges if exchange.app_id == self.app_id]

    @property
    def received(self) -> list[str]:
        """What the host asked the app so far: `GET /heartbeat`, `POST /init`, ..."""
        return [
            f"{exchange.method} {exchange.target}"
            for exchange in self.exchanges
            if exchange.direction is Direction.HOST_TO_APP
        ]

    @property
    def sent(self) -> list[str]:
        """What the app asked the host so far: `PUT /ocs/v1.php/apps/app_api/ex-app/status`, ..."""
        return [
            f"{exchange.method} {exchange.target.partition('?')[0]}"
            for exchange in self.exchanges
            if exchange.direction is Direction.APP_TO_HOST
        ]

    async def wait_until(self, state: State, *, seconds: float = 10.0) -> AppRecord:
        """Wait until the app is in a state.

        Raises:
            TimeoutError: it is not within the limit.
        """
        with anyio.fail_after(seconds):
            found = await self._host.host.registry.wait(
                self.app_id, lambda app: (app.state if app else State.ABSENT) is state
            )
        if found is not None:
            self.record = found
        return self.record

    async def enable(self) -> None:
        """Switch it on; raises what the host raises."""
        await self._operate(self._host.host.enable(self.app_id))

    async def disable(self) -> None:
        """Switch it off; raises what the host raises."""
        await self._operate(self._host.host.disable(self.app_id))

    async def unregister(self, *, rm_data: bool = False) -> None:
        """Remove it from the host."""
        await self._host.host.unregister(self.app_id, rm_data=rm_data)

    async def get(self, path: str, *, user: str = "", **options: Any) -> "UserAnswer":
        """`GET` as a user would, through the proxy of the host; see `request()`."""
        return await self.request("GET", path, user=user, **options)

    async def post(self, path: str, *, user: str = "", **options: Any) -> "UserAnswer":
        """`POST` as a user would, through the proxy of the host; see `request()`."""
        return await self.request("POST", path, user=user, **options)

    async def request(
        self, method: str, path: str, *, user: str = "", **options: Any
    ) -> "UserAnswer":
        """Ask the app as a user would, through the proxy of the host.

        Args:
            method: HTTP verb.
            path: path within the app.
            user: who asks; `admin` and `user` exist, empty is anonymous.
            options: as `httpx.AsyncClient.request` takes them, for instance `json`.
        """
        prefix = f"/index.php/apps/app_api/proxy/{self.app_id}/"
        async with self._host.client(user) as client:
            return await client.request(method, prefix + path.removeprefix("/"), **options)

    async def occ(self, name: str, *words: str) -> "CommandResult":
        """Type a command that the app has registered, as `occ NAME WORDS…` does.

        Args:
            name: of the command, for instance `words:count`.
            words: arguments and options.

        Raises:
            HostError: there is no such command, or the words do not fit it.
            TransportError: the app did not answer.
        """
        from appapi_host.cli.exapp_commands import run_words

        return await run_words(self._host.host, self.app_id, name, words)

    async def trigger_file_action(self, name: str | None = None, **options: Any) -> "Outcome":
        """Click an action of the app; see `appapi_host.triggers.trigger_file_action`."""
        from appapi_host.triggers import trigger_file_action

        return await trigger_file_action(self._host.host, self.app_id, name=name, **options)

    async def trigger_task(self, provider: str | None = None, **options: Any) -> "TaskOutcome":
        """Have the app do a task; see `appapi_host.triggers.trigger_task`."""
        from appapi_host.triggers import trigger_task

        return await trigger_task(self._host.host, self.app_id, provider=provider, **options)

    async def trigger_talk(self, message: str = "Hello", **options: Any) -> "TalkOutcome":
        """Say something to a bot of the app; see `appapi_host.triggers.trigger_talk`."""
        from appapi_host.triggers import trigger_talk

        return await trigger_talk(self._host.host, self.app_id, message=message, **options)

    async def trigger_webhook(self, event: str | None = None, **options: Any) -> "Outcome":
        """Have something happen; see `appapi_host.triggers.trigger_webhook`."""
        from appapi_host.triggers import trigger_webhook

        return await trigger_webhook(self._host.host, self.app_id, event=event, **options)

    async def trigger_setting(
        self, field: str | None = None, value: Any = None, **options: Any
    ) -> "SettingOutcome":
        """Enter a value in a form of the app; see `appapi_host.triggers.trigger_setting`."""
        from appapi_host.triggers import trigger_setting

        return await trigger_setting(
            self._host.host, self.app_id, field=field, value=value, **options
        )

    async def _operate(self, operation: Awaitable[object]) -> None:
        try:
            await operation
        finally:
            self.record = await self._host.host.registry.app(self.app_id) or self.record


class TestHost:
    """A host whose events are kept, and on which apps can be installed.

    Attributes:
        host: the real host behind it.
        url: where the host listens.
        events: everything that happened so far.
    """

    __test__ = False  # pytest: this is no test class

    def __init__(self, host: Host, url: str, events: list[Event], transport: Any = None) -> None:
        self.host = host
        self.url = url
        self.events = events
        self._transport = transport

    @property
    def exchanges(self) -> list[Exchange]:
        """Every request and answer so far, in order."""
        return [event for event in self.events if isinstance(event, Exchange)]

    @property
    def files(self) -> "Files":
        """The files of the host's users, to put and to look at without HTTP."""
        return self.host.files

    def client(self, user: str = "") -> "UserClient":
        """A client for a person at the host; `admin` and `user` exist."""
        auth = (user, user) if user else None
        return user_client(self.url, auth=auth, transport=self._transport)

    async def stop(self, exapp: InstalledApp) -> None:
        """Stop the app without asking it, as when its container is stopped."""
        backend = self.host.backend(exapp.record)
        if isinstance(backend, MemoryBackend):
            await backend.end(exapp.app_id)
        else:
            await backend.stop(exapp.record)

    async def install(
        self,
        app: ExApp | Path | str,
        *,
        info: AppInfo | Path | str | None = None,
        environment: Mapping[str, str] | None = None,
        wait_finish: bool = True,
    ) -> InstalledApp:
        """Install an app and bring it to enabled.

        Args:
            app: the app object, on the host in memory; its folder, on the live one.
            info: its description, or the folder with `appinfo/info.xml`. Without one an app object
                is called `exapp_under_test` and all its paths are public; a folder describes
                itself.
            environment: values for variables that the info declares.
            wait_finish: return only when it is enabled; otherwise as soon as init began.

        Raises:
            HostError: the installation failed; see `appapi_host.errors`.
        """
        source = None if isinstance(app, ExApp) else Path(app)
        if info is None:
            info = DEFAULT_INFO if source is None else source
        if not isinstance(info, AppInfo):
            info = await anyio.to_thread.run_sync(AppInfo.from_folder, Path(info))
        if isinstance(app, ExApp):
            backend = self.host.backend(MEMORY_DAEMON)
            if not isinstance(backend, MemoryBackend):
                raise TypeError("an app object is installed in memory: use the fixture appapi_host")
            backend.apps[info.id] = app
        record = await self.host.register(
            info,
            daemon=(MEMORY_DAEMON if source is None else LIVE_DAEMON).name,
            source=source,
            environment=environment,
            wait_finish=wait_finish,
        )
        return InstalledApp(self, record)


MEMORY_DAEMON: Final = Daemon(
    "memory", "In memory", "memory-install", "http", "exapp.test", {"nextcloud_url": MEMORY_URL}
)
LIVE_DAEMON: Final = Daemon(
    "local_process", "Local process", "process-install", "http", "127.0.0.1"
)


class MemoryBackend(DeployBackend):
    """Deploys app objects within this process.

    Attributes:
        apps: the app objects by app id, to be put here before they are deployed.
        host_transport: how they reach the host.
        group: owner of their lifespans.
    """

    deploy_id: ClassVar[str] = "memory-install"

    def __init__(self, settings: HostSettings, bus: EventBus) -> None:
        self.apps: dict[str, ExApp] = {}
        self.host_transport: Any = None
        self.group: TaskGroup | None = None
        self._folder: Path | None = None
        self._running: dict[str, tuple[anyio.Event, anyio.Event]] = {}
        self._settings: dict[str, Settings] = {}

    async def deploy(self, deployment: Deployment, report: ReportProgress) -> Mapping[str, Any]:
        """Start the app's lifespan in a task of the host."""
        storage = await anyio.to_thread.run_sync(self._new_storage, deployment.app.app_id)
        settings = Settings.from_environ(deployment.environment)
        self._settings[deployment.app.app_id] = replace(settings, persistent_storage=storage)
        return await self.start(deployment.app)

    def _new_storage(self, app_id: str) -> Path:
        """A folder of the app's own; an update finds what the older version left."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="appapi-host-"))
        storage = self._folder / app_id
        storage.mkdir(exist_ok=True)
        return storage

    async def start(self, app: AppRecord) -> Mapping[str, Any]:
        """Start the app's lifespan if it does not run."""
        if app.app_id not in self._running:
            if self.group is None:
                raise LocalProtocolError("the backend in memory was given no task group")
            await self.group.start(self._run, app.app_id)
        return {}

    async def _run(self, app_id: str, *, task_status: TaskStatus[None]) -> None:
        stop, stopped = anyio.Event(), anyio.Event()
        try:
            async with running(
                self.apps[app_id], settings=self._settings[app_id], transport=self.host_transport
            ):
                self._running[app_id] = (stop, stopped)
                task_status.started()
                await stop.wait()
        finally:
            self._running.pop(app_id, None)
            stopped.set()

    async def stop(self, app: AppRecord) -> None:
        """Nothing: a disabled app runs on, as with manual-install, to be looked at."""

    async def remove(self, app: AppRecord, *, data: bool) -> None:
        """End the app's lifespan and forget the app."""
        await self.end(app.app_id)
        self.apps.pop(app.app_id, None)

    async def end(self, app_id: str) -> None:
        """End an app's lifespan and wait for it."""
        if app_id in self._running:
            stop, stopped = self._running[app_id]
            stop.set()
            await stopped.wait()

    async def end_all(self) -> None:
        """End every app's lifespan, and remove the folders of all."""
        for app_id in tuple(self._running):
            await self.end(app_id)
        if self._folder is not None:
            await anyio.to_thread.run_sync(shutil.rmtree, self._folder)

    async def exited(self, app: AppRecord) -> str:
        """Wait until the lifespan has ended."""
        if app.app_id in self._running:
            await self._running[app.app_id][1].wait()
        return "its lifespan ended"

    async def output(
        self, app: AppRecord, *, tail: int | None = None, follow: bool = True
    ) -> AsyncIterator[str]:
        """Nothing: what the app prints goes where pytest shows it."""
        line: str
        for line in ():
            yield line

    async def last_output(self, app: AppRecord, *, lines: int) -> list[str]:
        """Nothing, see `output()`."""
        return []

    def url(self, app: AppRecord) -> str:
        """A name that only the transport in memory knows."""
        return APP_URL

    def transport_for(self, app: AppRecord) -> Any:
        """The transport to the app object; None for apps of other daemons."""
        return memory_transport(self.apps[app.app_id]) if app.app_id in self.apps else None


@asynccontextmanager
async def memory_host(settings: HostSettings | None = None) -> AsyncIterator[TestHost]:
    """A host without sockets, files or processes, for apps that are `ExApp` objects."""
    settings = settings or HostSettings(timeouts=TEST_TIMEOUTS)
    bus = EventBus()
    events: list[Event] = []
    backend = MemoryBackend(settings, bus)
    async with (
        Host.open(
            settings,
            bus=bus,
            backends={MemoryBackend.deploy_id: backend},
            transport_for=backend.transport_for,
        ) as host,
        anyio.create_task_group() as group,
    ):
        transport = memory_transport(create_app(host))
        backend.group, backend.host_transport = group, transport
        await host.users.create_defaults(loopback=True)
        await host.register_daemon(MEMORY_DAEMON)
        with bus.subscribed(events.append):
            try:
                yield TestHost(host, MEMORY_URL, events, transport)
            finally:
                # Before the host: an app that is stopped during init reports so.
                with anyio.CancelScope(shield=True):
                    await backend.end_all()


@asynccontextmanager
async def live_host(
    data_dir: Path, settings: HostSettings | None = None
) -> AsyncIterator[TestHost]:
    """A host on a free port of the loopback interface, for apps that are folders.

    Args:
        data_dir: folder of its registry and of the apps' storage.
        settings: everything else; its `data_dir` is replaced.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    settings = settings or HostSettings(timeouts=TEST_TIMEOUTS)
    settings = replace(settings, data_dir=data_dir, port=port)
    bus = EventBus()
    events: list[Event] = []
    async with Host.open(settings, bus=bus) as host, anyio.create_task_group() as group:
        await host.users.create_defaults(loopback=True)
        await host.register_daemon(replace(LIVE_DAEMON, deploy_config={"nextcloud_url": url}))
        await group.start(partial(serve_host, host, sockets=[listener]))
        with bus.subscribed(events.append):
            try:
                yield TestHost(host, url, events)
            finally:
                with anyio.CancelScope(shield=True):
                    for app in await host.registry.apps():
                        await host.backend(app).remove(app, data=True)
                group.cancel_scope.cancel()
