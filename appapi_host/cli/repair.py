"""`repair`: what is not as it should be, and what only a person may decide."""

from collections.abc import Sequence
from typing import TextIO

import anyio

from appapi_host.cli.console import Console, open_console
from appapi_host.cli.session import opened
from appapi_host.deploy.base import Leftover
from appapi_host.errors import HostError
from appapi_host.events import Event, Notice
from appapi_host.host import Host
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.lifecycle import State

__all__ = ["repair"]


def repair(
    settings: HostSettings,
    out: TextIO,
    err: TextIO,
    *,
    remove: Sequence[str] = (),
    removes_all: bool = False,
    data: bool = False,
) -> int:
    """Settle what was interrupted, show what is left, and remove what a person names.

    Args:
        settings: with the data directory.
        out: where the report goes.
        err: where problems go.
        remove: names of leftovers to remove.
        removes_all: remove all of them, but no data.
        data: with `removes_all`, data too.

    Returns:
        0 if nothing is left to decide, else 1.
    """
    return anyio.run(
        _Repair(open_console(out, err), list(remove), removes_all, data).main, settings
    )


class _Repair:
    """One `repair`."""

    def __init__(
        self,
        console: Console,
        remove: list[str],
        removes_all: bool,  # noqa: FBT001  # the options as they are
        data: bool,  # noqa: FBT001
    ) -> None:
        self.console = console
        self.remove = remove
        self.removes_all = removes_all
        self.data = data
        self.left = 0

    async def main(self, settings: HostSettings) -> int:
        async with opened(settings) as host:
            with host.bus.subscribed(self._see):
                await host.recover()
            busy = await self._operations(host)
            apps = await host.registry.apps()
            for app in apps:
                self._app(app)
            known = {app.app_id for app in apps}
            for daemon in await host.registry.daemons():
                await self._daemon(host, daemon, known, busy)
        for name in self.remove:
            self.console.labelled("warning", f"there is nothing {name} to remove")
            self.left += 1
        self.console.say("Nothing is left to repair." if not self.left else "")
        return 1 if self.left else 0

    def _see(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.console.labelled("settled", event.text, event.app_id)

    async def _operations(self, host: Host) -> set[str]:
        """Show what is going on; returns the apps that somebody is at work on."""
        operations = await host.operations.all()
        for operation in operations:
            self.console.labelled(
                "at work",
                f"process {operation.pid} is about to {operation.verb} {operation.app_id} "
                f"(step {operation.step})",
            )
        return {operation.app_id for operation in operations}

    def _app(self, app: AppRecord) -> None:
        if not app.daemon.accepts_deploy_id:
            self.left += 1
            self.console.labelled(
                "app",
                f"{app.app_id}: its daemon {app.daemon.name} is gone; register that again, or "
                f"occ app_api:app:unregister {app.app_id} --force",
            )
        elif app.state is State.FAILED:
            self.left += 1
            self.console.labelled("app", f"{app.app_id} has failed: {app.failure}")

    async def _daemon(self, host: Host, daemon: Daemon, known: set[str], busy: set[str]) -> None:
        try:
            backend = host.backend(daemon)
            leftovers = await backend.leftovers(daemon, known)
        except HostError as error:
            self.left += 1
            self.console.labelled("daemon", f"{daemon.name}: {error.cause}")
            return
        for leftover in leftovers:
            if leftover.app_id in busy:
                continue
            if not self._is_wanted_gone(leftover):
                self.left += not leftover.is_data
                what = "kept data" if leftover.is_data else "left over"
                self.console.labelled(
                    what, f"{leftover.kind} {leftover.name} of {leftover.app_id} on {daemon.name}"
                )
                continue
            try:
                await backend.remove_leftover(daemon, leftover)
            except HostError as error:
                self.left += 1
                self.console.labelled("warning", f"{leftover.name}: {error.cause}")
            else:
                self.console.labelled("removed", f"{leftover.kind} {leftover.name}")

    def _is_wanted_gone(self, leftover: Leftover) -> bool:
        if leftover.name in self.remove:
            self.remove.remove(leftover.name)
            return True
        return self.removes_all and (self.data or not leftover.is_data)
