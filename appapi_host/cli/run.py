"""`run PATH`: one app, installed from its folder, shown at work, gone afterwards."""

import math
import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from socket import socket
from typing import Final, TextIO

import anyio
import anyio.abc

from appapi_host.cli.addresses import addresses, known_passwords, sign_in
from appapi_host.cli.common import DEFAULT_PORT, base_url, held, listen
from appapi_host.cli.console import Console, Failure, open_console
from appapi_host.deploy import load
from appapi_host.errors import HostError
from appapi_host.events import Event, EventBus, StepFailed, StepFinished, StepStarted
from appapi_host.gateways import serve_host
from appapi_host.host import REGISTRY_FILE, Host
from appapi_host.info_xml import AppInfo, EnvironmentVariable
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings, Timeouts
from exapp_sdk.errors import ExAppError
from exapp_sdk.protocol.lifecycle import State

__all__ = ["RunOptions", "run"]

DAEMON: Final = "local_process"
LAST_LINES: Final = 20

_SECRET_NAME: Final = re.compile(r"SECRET|TOKEN|PASS|KEY|CREDENTIAL", re.IGNORECASE)

_A_LOOK_SECONDS: Final = 0.1
"""Long enough to see whether a process has ended already."""

_LAST_WORDS_SECONDS: Final = 1.0
"""How long reading the output of an app that has ended may take."""

_GOODBYE_SECONDS: Final = 10.0
"""How long the app may take to be disabled when everything ends; then it is stopped anyway."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `run` was asked for.

    Args:
        folder: of the app.
        command: starts the app instead of what the folder declares.
        port: of the host; None takes the usual one, or a free one.
        bind: address to listen on.
        once: end when the app is enabled.
        data_dir: where the state is kept, below `run/<appid>`.
        environment: further variables for the app.
        timeouts: limits of the handshake.
    """

    folder: Path
    command: tuple[str, ...] = ()
    port: int | None = None
    bind: str = "127.0.0.1"
    once: bool = False
    data_dir: Path = field(default_factory=Path)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)


def run(options: RunOptions, out: TextIO, err: TextIO) -> int:
    """Install the app and stay until somebody ends it.

    Returns:
        0 when a person ended it, or with `once` when the app was enabled; else 1.
    """
    console = open_console(out, err)
    for name, value in options.environment.items():
        # Not every value: an ordinary word like `debug` would garble the app's own output.
        if _SECRET_NAME.search(name):
            console.hide(value)
    try:
        info = _info(options)
        directory = options.data_dir / "run" / info.id
        with (
            held(
                directory / "lock",
                what=f"{info.id} is being run",
                remedy="end that one with Ctrl-C first; with another --data-dir both can run",
            ),
            _listener(options, console) as listener,
        ):
            port: int = listener.getsockname()[1]
            settings = HostSettings(
                data_dir=directory, bind=options.bind, port=port, timeouts=options.timeouts
            )
            return anyio.run(_Run(options, info, settings, listener, console).main)
    except ExAppError as error:
        console.failure(Failure.of(error))
        return 1
    finally:
        console.close()


def _info(options: RunOptions) -> AppInfo:
    """The description of the app in the folder.

    Raises:
        HostError: no folder, or no usable description in it.
    """
    folder = options.folder
    if not folder.is_dir():
        raise HostError(
            f"{folder} is no folder" if folder.exists() else f"the folder {folder} does not exist",
            remedy="give the folder of an ExApp: the one that holds appinfo/info.xml",
        )
    info = AppInfo.from_folder(folder)
    # What a developer gives here is meant for the app, whether info.xml declares it or not.
    undeclared = {
        name: EnvironmentVariable(name=name, value=value)
        for name, value in options.environment.items()
        if name not in info.environment_variables
    }
    if not undeclared:
        return info
    return replace(info, environment_variables={**info.environment_variables, **undeclared})


@contextmanager
def _listener(options: RunOptions, console: Console) -> Iterator[socket]:
    listener, is_other = listen(options.bind, options.port)
    with listener:
        if is_other:
            port = listener.getsockname()[1]
            console.labelled("note", f"port {DEFAULT_PORT} is in use, so the host takes {port}")
        yield listener


class _Run:
    """One `run`, from the first step to the last process gone."""

    def __init__(
        self,
        options: RunOptions,
        info: AppInfo,
        settings: HostSettings,
        listener: socket,
        console: Console,
    ) -> None:
        self.options = options
        self.info = info
        self.settings = settings
        self.listener = listener
        self.console = console
        self.url = base_url(settings.bind, settings.port)
        self.interrupted = 0
        self.app: AppRecord | None = None
        self.following = anyio.Event()
        self.followed = anyio.Event()

    async def main(self) -> int:
        """Do all of it; returns the exit code."""
        self.work = anyio.CancelScope()
        self.goodbye = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch_signals)
            await self._end_earlier_run()
            code = await self._with_host()
            group.cancel_scope.cancel()
        if self.interrupted:
            # With --once somebody waits for "enabled", and did not get it.
            return 128 + self.interrupted if self.options.once else 0
        return code

    async def _watch_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for number in signals:
                if self.interrupted:
                    await self._kill()
                self.interrupted = int(number)
                self.console.say()
                self.console.labelled("note", "stopping; once more kills the app at once")
                self.work.cancel()

    async def _kill(self) -> None:
        """End everything now, whatever it was doing."""
        if self.app is not None:
            settings = replace(self.settings, timeouts=replace(self.settings.timeouts, stop=0.0))
            with suppress(HostError):
                await load(self.app.daemon.accepts_deploy_id)(settings, EventBus()).stop(self.app)
        self.console.close()
        os._exit(128 + self.interrupted)

    async def _end_earlier_run(self) -> None:
        """Stop what a `run` that was killed has left, and forget its state."""
        state = self.settings.data_dir / REGISTRY_FILE if self.settings.data_dir else None
        if state is None or not state.exists():
            return
        settings = replace(self.settings, timeouts=replace(self.settings.timeouts, stop=2.0))
        async with Host.open(settings) as host:
            for app in await host.registry.apps():
                with anyio.move_on_after(_A_LOOK_SECONDS) as look:
                    await host.exited(app.app_id)
                pid = app.deployment.get("pid", "?")
                await host.backend(app).remove(app, data=False)
                if look.cancelled_caught:
                    self.console.labelled(
                        "note",
                        f"an earlier run was killed: its app still ran (process {pid}), "
                        "and was stopped now",
                    )
        # Passwords of an earlier run must not outlive it: it may have been bound to loopback only.
        for suffix in ("", "-wal", "-shm"):
            state.with_name(state.name + suffix).unlink(missing_ok=True)

    async def _with_host(self) -> int:
        code = 1
        async with Host.open(self.settings) as host:
            passwords = await known_passwords(host)
            async with anyio.create_task_group() as services:
                await services.start(partial(serve_host, host, sockets=[self.listener]))
                try:
                    with host.bus.subscribed(partial(self._see, host, services)):
                        code = await self._with_server(host, passwords)
                finally:
                    services.cancel_scope.cancel()
        return code

    def _see(self, host: Host, services: anyio.abc.TaskGroup, event: Event) -> None:
        self.console(event)
        if self.console.is_gone and not self.interrupted:
            # Nobody reads any more, as after `| head`: the same as Ctrl-C.
            os.kill(os.getpid(), signal.SIGTERM)
        if isinstance(event, StepFinished | StepFailed) and event.step == "disabled":
            # It has answered. What follows, the stopping of its processes, must not be cut short:
            # a second attempt would not find children that have left the app's session.
            self.goodbye.deadline = math.inf
        is_started = isinstance(event, StepStarted) and event.step == "heartbeat"
        if is_started and not self.following.is_set():
            # By now the app was started, and what the backend noted about it is stored.
            self.following.set()
            services.start_soon(self._follow, host)

    async def _follow(self, host: Host) -> None:
        """Show what the app prints."""
        app = await host.app(self.info.id)
        self.console.hide(app.secret.reveal())
        self.app = app
        await host.follow_output(app.app_id)
        self.followed.set()

    async def _with_server(self, host: Host, passwords: Mapping[str, str]) -> int:
        folder = self.options.folder
        self.console.say(f"{self.info.name} {self.info.version} ({self.info.id}) from {folder}")
        self.console.say(f"Host on {self.url}")
        for warning in self.info.warnings:
            self.console.labelled("warning", warning)
        code = 1
        try:
            # Only this is cancelled by Ctrl-C: an app that is being disabled may still call us.
            with self.work:
                code = await self._until_it_ends(host, passwords)
        finally:
            with anyio.CancelScope(shield=True):
                await self._clean_up(host)
        return code

    async def _until_it_ends(self, host: Host, passwords: Mapping[str, str]) -> int:
        """Install the app and wait for its end; cancelled by whoever has seen enough."""
        app = await self._install(host)
        if app is None:
            return 1
        if self.options.once:
            self.console.say(f"{app.app_id} is enabled; it is stopped again because of --once.")
            return 0
        self.console.addresses(
            addresses(self.url, app.app_id, app.routes), sign_in(self.url, passwords)
        )
        self.console.say("Ctrl-C stops it.")
        how = await host.exited(app.app_id)
        self.console.failure(
            Failure(
                f"{app.app_id} ended while it was enabled: {how}",
                (),
                "its last lines should say why",
                tuple(await host.last_output(app.app_id, lines=LAST_LINES)),
            )
        )
        return 1

    async def _install(self, host: Host) -> AppRecord | None:
        """Bring the app to enabled; None after a failure that was shown."""
        self.console.has_steps = True
        daemon = Daemon(
            DAEMON,
            "Processes of this machine",
            "process-install",
            "http",
            "127.0.0.1",
            {"net": "host", "nextcloud_url": self.url},
        )
        try:
            await host.register_daemon(daemon, set_default=True)
            return await host.register(
                self.info,
                daemon=DAEMON,
                source=self.options.folder.absolute(),
                command=self.options.command,
                environment=self.options.environment,
            )
        except HostError as error:
            title = f"{self.info.id} could not be installed"
            self.console.failure(Failure.of(error, title=title))
            return None
        finally:
            self.console.has_steps = False

    async def _clean_up(self, host: Host) -> None:
        """Disable the app, stop it with its children, and forget it; its storage stays."""
        self.console.has_steps = True  # the steps say it all, as they did before
        app = await host.registry.app(self.info.id)
        if app is None:
            return
        with anyio.move_on_after(_A_LOOK_SECONDS) as look:
            await host.exited(app.app_id)
        if look.cancelled_caught and app.state is State.ENABLED:
            await self._say_goodbye(host)
        backend = host.backend(app)
        try:
            await backend.stop(app)
            if self.following.is_set():
                with anyio.move_on_after(_LAST_WORDS_SECONDS):
                    await self.followed.wait()
            await backend.remove(app, data=False)
            await host.registry.remove_app(app.app_id)
        except HostError as error:
            self.console.failure(Failure.of(error, title=f"{app.app_id} could not be removed"))
        else:
            self.console.say(f"{app.app_id} is stopped and removed; its storage is kept.")

    async def _say_goodbye(self, host: Host) -> None:
        with anyio.move_on_after(_GOODBYE_SECONDS) as self.goodbye:
            with suppress(HostError):  # shown as a step; the app is stopped all the same
                await host.disable(self.info.id)
        if self.goodbye.cancelled_caught:
            self.console.labelled(
                "warning",
                f"PUT /enabled?enabled=0 was not answered within {_GOODBYE_SECONDS:g} s",
            )
