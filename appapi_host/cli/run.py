"""`run PATH`: one app, installed from its folder, shown at work, gone afterwards.

While it is at work, a key or a change of the folder installs it anew.
"""

import math
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from socket import socket
from typing import TYPE_CHECKING, Final, TextIO

import anyio
import anyio.abc

from appapi_host.cli.addresses import addresses, known_passwords, page_addresses, sign_in
from appapi_host.cli.common import DEFAULT_PORT, base_url, held, listen
from appapi_host.cli.console import Console, Failure, open_console
from appapi_host.cli.earlier_run import A_LOOK_SECONDS, end_earlier_run
from appapi_host.cli.keys import Keys
from appapi_host.cli.places import note_served
from appapi_host.cli.run_options import RunOptions, info_of
from appapi_host.cli.targets import ProcessTarget, Target
from appapi_host.deploy import load
from appapi_host.errors import HostError
from appapi_host.events import Event, EventBus, StepFailed, StepFinished
from appapi_host.gateways import serve_host
from appapi_host.host import Host
from appapi_host.info_xml import AppInfo
from appapi_host.records import AppRecord
from appapi_host.settings import HostSettings
from exapp_sdk.errors import ExAppError
from exapp_sdk.protocol.lifecycle import State

if TYPE_CHECKING:
    pass

__all__ = ["run"]

LAST_LINES: Final = 20
REBUILD_KEY: Final = "r"

_SHOWN_CHANGES: Final = 3
"""How many changed files are named."""


_SECRET_NAME: Final = re.compile(r"SECRET|TOKEN|PASS|KEY|CREDENTIAL", re.IGNORECASE)

_LAST_WORDS_SECONDS: Final = 1.0
"""How long reading the output of an app that has ended may take."""

_GOODBYE_SECONDS: Final = 10.0
"""How long the app may take to be disabled when everything ends; then it is stopped anyway."""


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
        info = info_of(options)
        directory = options.data_dir / "run" / info.id
        with (
            held(
                directory / "lock",
                what=f"{info.id} is being run",
                remedy="end that one with Ctrl-C first; with another --data-dir both can run",
            ),
            _listener(options, console) as listener,
            Keys(sys.stdin) as keys,
        ):
            port: int = listener.getsockname()[1]
            settings = HostSettings(
                data_dir=directory,
                bind=options.bind,
                port=port,
                timeouts=options.timeouts,
                throttling=options.throttling,
                nextcloud_version=options.nextcloud_version,
            )
            return anyio.run(
                _Run(options, info, settings, listener, console, _target(options), keys).main
            )
    except ExAppError as error:
        console.failure(Failure.of(error))
        return 1
    finally:
        console.close()


@contextmanager
def _listener(options: RunOptions, console: Console) -> Iterator[socket]:
    listener, is_other = listen(options.bind, options.port)
    with listener:
        if is_other:
            port = listener.getsockname()[1]
            console.labelled("note", f"port {DEFAULT_PORT} is in use, so the host takes {port}")
        yield listener


def _target(options: RunOptions) -> Target:
    if options.docker is None:
        return ProcessTarget()
    from appapi_host.cli.target_docker import DockerTarget  # loads what talks to an engine

    return DockerTarget(options.folder.absolute(), options.docker, os.environ)


class _Run:
    """One `run`, from the first step to the last process gone."""

    def __init__(
        self,
        options: RunOptions,
        info: AppInfo,
        settings: HostSettings,
        listener: socket,
        console: Console,
        target: Target,
        keys: Keys,
    ) -> None:
        self.options = options
        self.info = info
        self.settings = settings
        self.listener = listener
        self.console = console
        self.target = target
        self.keys = keys
        self.url = base_url(settings.bind, settings.port)
        self.interrupted = 0
        self.app: AppRecord | None = None
        self.followed: list[anyio.Event] = []
        self.wanted = anyio.Event()

    async def main(self) -> int:
        """Do all of it; returns the exit code."""
        self.work = anyio.CancelScope()
        self.goodbye = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch_signals)
            await end_earlier_run(self.settings, self.console)
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
                self.console.labelled("note", f"stopping; once more {self.target.last_resort}")
                self.work.cancel()

    async def _kill(self) -> None:
        """End everything now, whatever it was doing."""
        if self.app is not None and self.target.keeps_storage:
            settings = replace(self.settings, timeouts=replace(self.settings.timeouts, stop=0.0))
            with suppress(HostError):
                await load(self.app.daemon.accepts_deploy_id)(settings, EventBus()).stop(self.app)
        self.keys.restore()
        self.console.close()
        os._exit(128 + self.interrupted)

    async def _with_host(self) -> int:
        code = 1
        async with Host.open(self.settings) as host:
            await note_served(host.registry, self.settings)
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
        if isinstance(event, StepFinished) and event.step == "deploy":
            services.start_soon(self._follow, host)

    async def _follow(self, host: Host, tail: int | None = None) -> None:
        """Show what the app prints until it ends."""
        followed = anyio.Event()
        self.followed.append(followed)
        try:
            # What the backend noted about it is stored right after the deployment.
            app = await host.registry.wait(
                self.info.id, lambda app: app is None or app.state is not State.DEPLOYING
            )
            if app is not None:
                self.console.hide(app.secret.reveal())
                self.app = app
                await host.follow_output(app.app_id, tail=tail)
        except HostError as error:
            self.console.labelled("warning", f"the app's output is not shown: {error.cause}")
        finally:
            self.followed.remove(followed)
            followed.set()

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
        async with anyio.create_task_group() as group:
            if self.options.watch:
                # From the beginning, because a change during the installation counts as well.
                group.start_soon(self._watch_files)
            code = await self._install_and_attend(host, passwords, group)
            group.cancel_scope.cancel()
        return code

    async def _install_and_attend(
        self, host: Host, passwords: Mapping[str, str], group: anyio.abc.TaskGroup
    ) -> int:
        app = await self._install(host)
        if app is None:
            return 1
        if self.options.once:
            self.console.say(f"{app.app_id} is enabled; it is stopped again because of --once.")
            return 0
        await self._show_addresses(host, app, passwords)
        self.console.say("Ctrl-C stops it." + self._how_to_install_anew())
        group.start_soon(self._watch_keys)
        return await self._attend(host, passwords, group)

    async def _show_addresses(
        self, host: Host, app: AppRecord, passwords: Mapping[str, str]
    ) -> None:
        pages = await page_addresses(host, self.url, app.app_id)
        routes = addresses(self.url, app.app_id, app.routes)
        self.console.addresses([*pages, *routes], sign_in(self.url, passwords))

    def _how_to_install_anew(self) -> str:
        ways = []
        if self.keys.is_read:
            ways.append(f"the key {REBUILD_KEY}")
        if self.options.watch:
            ways.append("a change in the folder")
        return f" To install it anew: {' or '.join(ways)}." if ways else ""

    async def _watch_keys(self) -> None:
        async for key in self.keys.pressed():
            if key.lower() == REBUILD_KEY:
                self.wanted.set()

    async def _watch_files(self) -> None:
        from appapi_host.cli.watch import watch  # loads a library that only this needs

        def changed(paths: list[str]) -> None:
            named = ", ".join(paths[:_SHOWN_CHANGES])
            more = len(paths) - _SHOWN_CHANGES
            self.console.labelled(
                "note", f"changed: {named}" + (f" and {more} more" if more > 0 else "")
            )
            self.wanted.set()

        try:
            await watch(
                self.options.folder,
                changed,
                is_input=self.target.is_input,
                besides=[self.options.data_dir],
            )
        except HostError as error:
            self.console.failure(Failure.of(error))

    async def _attend(
        self, host: Host, passwords: Mapping[str, str], group: anyio.abc.TaskGroup
    ) -> int:
        """Install the app anew whenever that is wanted, until it has ended by itself."""
        is_up = True
        while True:
            if is_up and (how := await self._ended_or_wanted(host)):
                self.console.failure(
                    Failure(
                        f"{self.info.id} ended while it was enabled: {how}",
                        (),
                        "its last lines should say why",
                        tuple(await host.last_output(self.info.id, lines=LAST_LINES)),
                    )
                )
                if not self.options.watch:
                    return 1
                self.console.say("Waiting for a change in the folder.")
            await self.wanted.wait()
            self.wanted = anyio.Event()
            is_up = await self._install_anew(host, passwords)
            if is_up and not self.followed:
                # What was put back is followed again; how it starts was seen before.
                group.start_soon(self._follow, host, 0)

    async def _ended_or_wanted(self, host: Host) -> str:
        """How the app has ended; empty if it is to be installed anew before that."""
        how = ""
        async with anyio.create_task_group() as group:

            async def exited() -> None:
                nonlocal how
                how = await host.exited(self.info.id)
                group.cancel_scope.cancel()

            group.start_soon(exited)
            await self.wanted.wait()
            group.cancel_scope.cancel()
        return how

    async def _install(self, host: Host) -> AppRecord | None:
        """Bring the app to enabled; None after a failure that was shown."""
        self.console.has_steps = True
        try:
            daemon = self.target.daemon(self.url)
            info = await self.target.prepare(host, self.info)
            await host.register_daemon(daemon, set_default=True)
            app = await host.register(
                info,
                daemon=daemon.name,
                source=self.options.folder.absolute(),
                command=self.options.command,
                environment=self.options.environment,
            )
        except HostError as error:
            title = f"{self.info.id} could not be installed"
            self.console.failure(Failure.of(error, title=title))
            return None
        else:
            await self.target.settle()
            return app
        finally:
            self.console.has_steps = False

    async def _install_anew(self, host: Host, passwords: Mapping[str, str]) -> bool:
        """Replace the app by what is in the folder now; returns whether it runs, old or new."""
        before = await host.app(self.info.id)
        self.console.has_steps = True
        try:
            info = info_of(self.options)
            if info.id != self.info.id:
                raise HostError(
                    f"appinfo/info.xml says {info.id} now, which is another app",
                    remedy="end this run with Ctrl-C and start another",
                )
            app = await host.update(await self.target.prepare(host, info), redeploy=True)
        except HostError as error:
            return await self._not_installed_anew(host, error)
        finally:
            self.console.has_steps = False
        await self.target.settle()
        if app.routes != before.routes:
            await self._show_addresses(host, app, passwords)
        self.console.say(f"{app.app_id} {app.version} is enabled, installed anew.")
        return True

    async def _not_installed_anew(self, host: Host, error: HostError) -> bool:
        app = await host.app(self.info.id)
        is_up = app.state is State.ENABLED and await self._is_running(host)
        self.console.failure(Failure.of(error, title=f"{app.app_id} could not be installed anew"))
        if is_up:
            self.console.say(f"What ran before runs on: {app.app_id} {app.version}.")
        else:
            self.console.say(f"{app.app_id} does not run now." + self._how_to_install_anew())
        return is_up

    async def _clean_up(self, host: Host) -> None:
        """Remove the app, and what was made for it."""
        self.console.has_steps = True  # the steps say it all, as they did before
        app = await host.registry.app(self.info.id)
        if app is not None:
            await self._remove(host, app)
        try:
            await self.target.finish()
        except HostError as error:
            self.console.failure(Failure.of(error, title="the image could not be removed"))

    async def _remove(self, host: Host, app: AppRecord) -> None:
        """Disable the app, stop it with its children, and forget it."""
        if app.state is State.ENABLED and await self._is_running(host):
            await self._say_goodbye(host)
        backend = host.backend(app)
        try:
            await backend.stop(app)
            with anyio.move_on_after(_LAST_WORDS_SECONDS):
                for followed in tuple(self.followed):
                    await followed.wait()
            await backend.remove(app, data=not self.target.keeps_storage)
            await host.registry.remove_app(app.app_id)
        except HostError as error:
            self.console.failure(Failure.of(error, title=f"{app.app_id} could not be removed"))
        else:
            rest = "its storage is kept" if self.target.keeps_storage else "its storage too"
            self.console.say(f"{app.app_id} is stopped and removed; {rest}.")

    async def _is_running(self, host: Host) -> bool:
        with anyio.move_on_after(A_LOOK_SECONDS) as look:
            await host.exited(self.info.id)
        return look.cancelled_caught

    async def _say_goodbye(self, host: Host) -> None:
        with anyio.move_on_after(_GOODBYE_SECONDS) as self.goodbye:
            with suppress(HostError):  # shown as a step; the app is stopped all the same
                await host.disable(self.info.id)
        if self.goodbye.cancelled_caught:
            self.console.labelled(
                "warning",
                f"PUT /enabled?enabled=0 was not answered within {_GOODBYE_SECONDS:g} s",
            )
