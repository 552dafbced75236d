"""occ's `app_api:app:update`."""

from functools import partial
from typing import TYPE_CHECKING, Final

from appapi_host.cli.apps import (
    NOT_SERVED,
    RefusalError,
    checked_daemon,
    folder_of,
    load,
    rest,
    watched,
)
from appapi_host.cli.session import Session
from appapi_host.cli.symfony import Argument, Command, Input, Option, Value
from appapi_host.errors import DeployError, HostError, InfoError, StepError
from appapi_host.events import Event, StepFailed, StepFinished, StepStarted
from exapp_sdk.protocol.lifecycle import State

if TYPE_CHECKING:
    from appapi_host.host import Host
    from appapi_host.info_xml import AppInfo
    from appapi_host.records import AppRecord

__all__ = ["COMMANDS"]


async def _update(session: Session, given: Input) -> int:
    app_id, takes_all = given.arguments.get("appid"), given.flag("all")
    if app_id is None and not takes_all:
        session.line('Please specify an app to update or "--all" to update all updatable apps')
        return 1
    if app_id is not None and takes_all:
        session.line('The "--all" flag is mutually exclusive with specifying app')
        return 1
    if takes_all:
        # Newer releases come from the App Store, which nothing here asks: there are none, and the
        # real one prints nothing then.
        return 0
    for name in ("force-update", "enabled"):
        if given.flag(name):
            session.note(f"--{name} is an older option: {_OLDER[name]}")
    quiet = session.hushed(given.flag("silent"))
    async with session.host() as host:
        try:
            return await _Update(session, quiet, given, host).run()
        except RefusalError as refused:
            refused.show(quiet)
            return refused.code


_OLDER: Final = {
    "force-update": "nothing asks for a confirmation.",
    "enabled": "an app is enabled after its update unless --include-disabled says otherwise.",
}


class _Update:
    """One update.

    Args:
        session: for what is said even with `--silent`.
        quiet: for the rest.
        given: the command line.
        host: does it.
    """

    def __init__(self, session: Session, quiet: Session, given: Input, host: "Host") -> None:
        self.session = session
        self.quiet = quiet
        self.given = given
        self.host = host
        self.was_enabled = False
        self.is_deployed = False
        self.is_replaced = False
        self.is_over = False

    async def run(self) -> int:
        """Check, replace, wait; returns the exit code."""
        info = await self._info()
        old = await self.host.registry.app(info.id)
        if old is None:
            raise RefusalError(f"ExApp {info.id} not found.", 1)
        await checked_daemon(self.host, old.daemon.name)
        if await self.host.updater.has(old, info.version):
            self.quiet.line(f"ExApp {old.app_id} is already updated ({old.version})")
            return 0
        self.was_enabled = old.enabled
        keeps_disabled = (
            self.given.flag("include-disabled")
            and not old.enabled
            and not self.given.flag("enabled")
        )
        for warning in info.warnings:
            self.quiet.note(f"Warning: {warning}")
        work = partial(
            self.host.update,
            info,
            wait_finish=self.given.flag("wait-finish"),
            keep_disabled=keeps_disabled,
            source=folder_of(self.given),
        )
        try:
            with self.host.bus.subscribed(self._see):
                app = await watched(self.quiet, self.host, info.id, work)
        except DeployError as error:
            line = f"ExApp {info.id} deployment update failed. Error: {error.cause}"
            return await self._failed(old, line, error)
        except StepError as error:
            return await self._failed(old, self._line(info.id, error), error)
        if app.state is State.INITIALIZING and not self.session.is_served:
            self.quiet.note(NOT_SERVED)
        self.quiet.line(f"ExApp {app.app_id} successfully updated.")
        if keeps_disabled:
            self.quiet.line(f"ExApp {app.app_id} successfully disabled after update.")
        return 0

    async def _info(self) -> "AppInfo":
        try:
            return await load(self.given)
        except InfoError as error:
            asked_for = self.given.arguments["appid"]
            # Upstream notices what has no headline only when it stores it.
            line = error.headline or f"Failed to update ExApp {asked_for} info"
            raise RefusalError(line, 1, *error.problems, *rest(error)) from error

    def _see(self, event: Event) -> None:
        match event:
            case StepFailed() if self.is_replaced:
                self.is_over = True  # what follows is the old version's way back
            case _ if self.is_over:
                pass
            case StepFinished(app_id, "disabled") if self.was_enabled and not self.is_deployed:
                self.quiet.line(f"ExApp {app_id} successfully disabled.")
            case StepStarted(app_id, "deploy") if not self.is_replaced:
                self.is_replaced = True
                if not self.was_enabled:
                    self.quiet.line(f"ExApp {app_id} was already disabled.")
            case StepFinished(app_id, "heartbeat") if self.is_replaced and not self.is_deployed:
                self.is_deployed = True
                self.quiet.line(f"ExApp {app_id} update successfully deployed.")
            case _:
                pass

    def _line(self, app_id: str, error: StepError) -> str:
        if error.step == "healthcheck":
            return f"ExApp {app_id} update failed. Error: Container healthcheck failed."
        if error.step == "heartbeat":
            return (
                f"ExApp {app_id} heartbeat check failed. Make sure that Nextcloud instance and "
                "ExApp can reach it other."
            )
        if error.step == "init":
            return f"ExApp {app_id} initialization step failed. Error: {error.cause}"
        return f"ExApp {app_id} failed to enable. Error: {error.cause}"

    async def _failed(self, old: "AppRecord", line: str, error: HostError) -> int:
        """The lines of an update that failed, and what there is now."""
        is_late = isinstance(error, StepError) and error.step not in ("heartbeat", "healthcheck")
        shown = self.session if is_late and self.given.flag("wait-finish") else self.quiet
        shown.line(line)
        if isinstance(error, StepError) and error.step in ("heartbeat", "healthcheck"):
            self.quiet.cause(error.cause)
        for text in rest(error):
            self.quiet.cause(text)
        app = await self.host.registry.app(old.app_id)
        if app is None:
            self.quiet.cause(f"ExApp {old.app_id} was unregistered meanwhile.")
        elif (app.version, app.state) == (old.version, old.state):
            self.quiet.cause(f"Version {old.version} is still installed and {old.state}.")
        else:
            self.quiet.cause(
                f"Version {app.version} is installed and {app.state}"
                + (f": {app.failure}" if app.failure else ".")
            )
        return 1


COMMANDS: Final = (
    Command(
        "app_api:app:update",
        "Update ExApp",
        _update,
        (Argument("appid", "Id of the ExApp", required=False),),
        (
            Option("info-xml", "Path or URL of the new info.xml", Value.REQUIRED),
            Option("json-info", "The new description as JSON text", Value.REQUIRED),
            Option("force-update", "Without effect, kept for older command lines"),
            Option("force-scopes", "Without effect, kept for older command lines"),
            Option("enabled", "Enable the app even if it was disabled", shortcut="e"),
            Option("wait-finish", "Wait until the app is initialized"),
            Option("silent", "Print nothing"),
            Option("all", "Update all apps that have a newer release in the App Store"),
            Option("showonly", "With --all: only show them"),
            Option("include-disabled", "An app that is disabled is disabled again in the end"),
        ),
    ),
)
