"""`serve`: a host that stays, managed by `occ` from other processes."""

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from socket import socket
from typing import Final, TextIO

import anyio
import anyio.abc

from appapi_host.asgi import LOOP
from appapi_host.cli.addresses import known_passwords, sign_in
from appapi_host.cli.common import SERVE_LOCK, base_url, held, listen
from appapi_host.cli.console import Console, Failure, open_console
from appapi_host.cli.places import note_served
from appapi_host.errors import HostError
from appapi_host.events import AppEnded, AppOutput, Event
from appapi_host.gateways import serve_host
from appapi_host.host import Host
from appapi_host.records import AppRecord
from appapi_host.settings import HostSettings
from exapp_sdk.errors import ExAppError
from exapp_sdk.protocol.lifecycle import State

__all__ = ["serve"]

PROCESS_INSTALL: Final = "process-install"

_LOOK_SECONDS: Final = 0.25
"""How soon a change that another process made is shown; nothing waits for it."""


def serve(settings: HostSettings, out: TextIO, err: TextIO) -> int:
    """Serve until somebody ends it.

    Args:
        settings: with a data directory.
        out: where to print.
        err: where to print failures.

    Returns:
        0 when a person ended it, 1 when it could not start.
    """
    directory = settings.data_dir
    assert directory is not None
    console = open_console(out, err, several=True)
    try:
        with held(
            directory / SERVE_LOCK,
            what=f"a host serves {directory}",
            remedy="use that one, or give --data-dir another folder",
        ):
            listener, _ = listen(settings.bind, settings.port)
            with listener:
                settings = replace(settings, port=listener.getsockname()[1])
                anyio.run(
                    _Serve(settings, directory, listener, console).main, backend_options=dict(LOOP)
                )
    except ExAppError as error:
        console.failure(Failure.of(error))
        return 1
    finally:
        console.close()
    return 0


class _Serve:
    """One `serve`."""

    def __init__(
        self, settings: HostSettings, directory: Path, listener: socket, console: Console
    ) -> None:
        self.settings = settings
        self.directory = directory
        self.listener = listener
        self.console = console
        self.url = base_url(settings.bind, settings.port)
        self.shown: dict[str, AppRecord] = {}
        self.followed: dict[str, object] = {}
        self.is_stopping = False

    async def main(self) -> None:
        """Start what ran before, serve, and stop it again."""
        async with Host.open(self.settings) as host:
            await note_served(host.registry, self.settings)
            passwords = await known_passwords(host)
            with host.bus.subscribed(self._see):
                async with anyio.create_task_group() as group:
                    with anyio.CancelScope() as work:
                        group.start_soon(self._watch_signals, work)
                        await group.start(partial(serve_host, host, sockets=[self.listener]))
                        self._greet(passwords)
                        await host.resume()
                        group.start_soon(host.watch)
                        group.start_soon(host.setup_checks.watch)
                        group.start_soon(self._watch_apps, host, group)
                        await anyio.sleep_forever()
                    with anyio.CancelScope(shield=True):
                        await self._stop_apps(host)
                    group.cancel_scope.cancel()
        self.console.say("Stopped.")

    def _greet(self, passwords: Mapping[str, str]) -> None:
        self.console.say(f"Host on {self.url}, state in {self.directory}")
        self.console.sign_in(sign_in(self.url, passwords))
        self.console.say("Ctrl-C stops it.")

    async def _watch_signals(self, work: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for _ in signals:
                if self.is_stopping:
                    # Processes of apps are in sessions of their own: they are not killed by this,
                    # and the next `serve` finds them.
                    self.console.close()
                    os._exit(130)
                self.is_stopping = True
                self.console.labelled("note", "stopping; once more ends at once")
                work.cancel()

    def _see(self, event: Event) -> None:
        match event:
            case AppEnded(app_id, during, how, output):
                if not self.is_stopping:
                    self._show_end(app_id, during, how, output)
            case _:
                self.console(event)

    def _show_end(self, app_id: str, during: str, how: str, output: tuple[str, ...]) -> None:
        self.console.failure(
            Failure(
                f"{app_id} ended while it was {during}: {how}",
                (),
                f"occ app_api:app:enable {app_id} starts it again",
                output,
            )
        )

    async def _stop_apps(self, host: Host) -> None:
        """Stop the processes; the apps stay registered and are started by the next `serve`."""
        for app in await host.registry.apps():
            if not _is_ours(app):
                continue
            try:
                await host.backend(app).stop(app)
            except HostError as error:
                title = f"{app.app_id} could not be stopped"
                self.console.failure(Failure.of(error, title=title))

    async def _watch_apps(self, host: Host, group: anyio.abc.TaskGroup) -> None:
        """Show what `occ` in other processes changes, and follow each process.

        Nothing tells us of a change in the registry as such, so it is looked at.
        """
        before: list[AppRecord] | None = None
        while True:
            found = await host.registry.apps()
            if found == before:
                await anyio.sleep(_LOOK_SECONDS)
                continue
            before = found
            apps = {app.app_id: app for app in found}
            for app_id in [*self.shown]:
                if app_id not in apps:
                    del self.shown[app_id]
                    self.followed.pop(app_id, None)
                    self.console.labelled("note", "unregistered", app_id)
            for app in apps.values():
                shown = self.shown.get(app.app_id)
                self.shown[app.app_id] = app
                if shown is None:
                    self.console.hide(app.secret.reveal())
                if shown is None or shown.state is not app.state:
                    self._show_state(app)
                if _is_ours(app):
                    self._follow(host, group, app)
            await anyio.sleep(_LOOK_SECONDS)

    def _show_state(self, app: AppRecord) -> None:
        # The first line: what follows are the app's own, which were shown when it printed them.
        reason = f": {app.failure.splitlines()[0]}" if app.failure else ""
        label = "warning" if app.state is State.FAILED else "note"
        self.console.labelled(label, f"{app.name} {app.version} is {app.state}{reason}", app.app_id)

    def _follow(self, host: Host, group: anyio.abc.TaskGroup, app: AppRecord) -> None:
        process = (app.deployment.get("pid"), app.deployment.get("created"))
        if process[0] is None or self.followed.get(app.app_id) == process:
            return
        self.followed[app.app_id] = process
        group.start_soon(self._follow_output, host, app)

    async def _follow_output(self, host: Host, app: AppRecord) -> None:
        """Show what a process prints; ends with it, after its last words."""
        async for line in host.backend(app).output(app):
            host.bus.emit(AppOutput(app.app_id, line))


def _is_ours(app: AppRecord) -> bool:
    return app.daemon.accepts_deploy_id == PROCESS_INSTALL
