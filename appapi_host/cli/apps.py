"""occ's commands about apps."""

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from appapi_host.cli.session import Session
from appapi_host.cli.symfony import Argument, Command, Input, Option, Value
from appapi_host.errors import (
    AlreadyExistsError,
    DeployError,
    HostError,
    InfoError,
    NotFoundError,
    RefusedError,
    StepError,
)
from appapi_host.events import Event, StepFinished
from appapi_host.recovery import was_never_deployed
from exapp_sdk.protocol.lifecycle import State

if TYPE_CHECKING:
    from appapi_host.host import Host, Mount
    from appapi_host.info_xml import AppInfo
    from appapi_host.records import AppRecord, Daemon

__all__ = [
    "COMMANDS",
    "NOT_SERVED",
    "RefusalError",
    "checked_daemon",
    "folder_of",
    "known_backends",
    "load",
    "rest",
    "watched",
]

_STUCK_SECONDS: Final = 3.0
"""After this time without any progress it is worth a line that nobody can receive progress."""

NOT_SERVED: Final = (
    "The app's progress cannot be received: no `python -m appapi_host serve` runs on this state."
)
"""Said where init would seem to hang."""


class RefusalError(Exception):
    """A check before the installation failed.

    Args:
        line: what the real occ prints.
        code: exit code.
        causes: what only we say.
    """

    def __init__(self, line: str, code: int, *causes: str) -> None:
        self.line = line
        self.code = code
        self.causes = causes
        super().__init__(line)

    def show(self, session: Session) -> None:
        """Print it."""
        session.line(self.line)
        for cause in self.causes:
            session.cause(cause)


async def _register(session: Session, given: Input) -> int:
    async with session.host() as host:
        try:
            return await _Registration(session, given, host).run()
        except RefusalError as refused:
            refused.show(session.hushed(given.flag("silent")))
            return refused.code


class _Registration:
    """One `app:register`."""

    def __init__(self, session: Session, given: Input, host: "Host") -> None:
        self.session = session
        self.given = given
        self.host = host
        self.silent = given.flag("silent")
        self.waits = given.flag("wait-finish")
        self.is_deployed = False

    async def run(self) -> int:
        """Check, deploy, wait; returns the exit code."""
        asked_for = self.given.arguments["appid"]
        if await self._stands(asked_for):
            raise RefusalError(f"ExApp {asked_for} is already registered.", 3)
        info = await self._described()
        daemon = await self._daemon()
        if await self._stands(info.id):
            raise RefusalError(
                f"Error during registering ExApp {info.id}.",
                3,
                f"An app with the id {info.id} is registered already.",
            )
        if await self.host.registry.app(info.id):
            await self.host.unregister(info.id, force=True)
        for warning in info.warnings:
            self.session.note(f"Warning: {warning}")
        install = partial(
            self.host.register,
            info,
            daemon=daemon.name,
            source=folder_of(self.given),
            environment=_environment(self.given),
            mounts=_mounts(self.given),
            wait_finish=self.waits,
        )
        try:
            with self.host.bus.subscribed(self._see):
                app = await watched(self.session, self.host, info.id, install)
        except AlreadyExistsError as error:
            raise RefusalError(
                f"Error during registering ExApp {info.id}.", 3, error.cause
            ) from error
        except DeployError as error:
            raise RefusalError(
                f"ExApp {info.id} deployment failed. Error: {error.cause}", 1, *rest(error)
            ) from error
        except StepError as error:
            return self._failed(info.id, error)
        if app.state is State.INITIALIZING and not self.session.is_served:
            self.session.note(NOT_SERVED)
        if not self.silent:
            self.session.line(f"ExApp {app.app_id} successfully registered.")
        return 0

    async def _stands(self, app_id: str) -> bool:
        """Whether an app is in the way; one whose installation was interrupted is not."""
        present = await self.host.registry.app(app_id)
        return (
            present is not None
            and not self.given.flag("test-deploy-mode")
            and not was_never_deployed(present)
        )

    async def _described(self) -> "AppInfo":
        try:
            return await load(self.given)
        except InfoError as error:
            if error.headline:
                raise RefusalError(error.headline, 1, *error.problems, *rest(error)) from error
            await self._daemon()  # upstream notices this only when it stores the app
            line = f"Error during registering ExApp {self.given.arguments['appid']}."
            raise RefusalError(line, 3, *error.problems) from error

    def _see(self, event: Event) -> None:
        match event:
            # The real one says so as soon as the first heartbeat is answered.
            case StepFinished(app_id, "heartbeat") if not self.is_deployed:
                self.is_deployed = True
                if not self.silent:
                    self.session.line(f"ExApp {app_id} deployed successfully.")
            case _:
                pass

    def _failed(self, app_id: str, error: StepError) -> int:
        """The lines of an installation that failed after the deployment."""
        if error.step == "healthcheck":
            raise RefusalError(
                f"ExApp {app_id} deployment failed. Error: Container healthcheck failed.",
                1,
                error.cause,
                *rest(error),
            )
        if not self.is_deployed:
            raise RefusalError(
                f"ExApp {app_id} heartbeat check failed. Make sure that Nextcloud instance and "
                "ExApp can reach it other.",
                1,
                error.cause,
                *rest(error),
            )
        if error.step == "init":
            line = f"ExApp {app_id} initialization step failed. Error: {error.cause}"
        else:
            # On purpose not as upstream, which says "successfully registered" and exits with 0.
            line = f"ExApp {app_id} failed to enable. Error: {error.cause}"
        if self.waits or not self.silent:
            self.session.line(line)
        if not self.silent:
            for text in rest(error):
                self.session.cause(text)
        return 1

    async def _daemon(self) -> "Daemon":
        from appapi_host.host import DEFAULT_DAEMON_SETTING

        name = self.given.arguments.get("daemon-config-name")
        if name is None:
            name = await self.host.registry.setting(DEFAULT_DAEMON_SETTING) or ""
        return await checked_daemon(self.host, name)


async def checked_daemon(host: "Host", name: str) -> "Daemon":
    """The daemon of that name, if apps can be deployed on it.

    Raises:
        RefusalError: there is none, or no backend for it.
    """
    daemon = await host.registry.daemon(name)
    if daemon is None:
        known = ", ".join(daemon.name for daemon in await host.registry.daemons()) or "none"
        raise RefusalError(
            f"Daemon config {name} not found.",
            2,
            f"Registered daemons: {known}. Add one, for example: app_api:daemon:register "
            f'{name or "manual_install"} "Manual" manual-install http localhost '
            "http://127.0.0.1:8080",
        )
    try:
        host.backend(daemon)
    except NotFoundError as error:
        raise RefusalError(
            f"Daemon config {name} actions for {daemon.accepts_deploy_id} not found.",
            2,
            f"This version deploys with {known_backends()}; "
            f"{daemon.accepts_deploy_id} is not available yet.",
        ) from error
    return daemon


def known_backends() -> str:
    """The deploy ids that have a backend, as a sentence has them."""
    from appapi_host.deploy import BACKENDS

    return " and ".join(sorted(BACKENDS))


def rest(error: HostError) -> list[str]:
    """What our errors say beyond their cause."""
    texts = [f"Try: {error.remedy}"] if error.remedy else []
    if error.output:
        texts += ["Last lines of the app:", *(f"  | {line}" for line in error.output)]
    return texts


async def load(given: Input) -> "AppInfo":
    """The app's description, from the option that wins.

    Raises:
        InfoError: it cannot be used.
        RefusalError: there is none.
    """
    from appapi_host.info_source import load_info
    from appapi_host.info_xml import AppInfo

    app_id = given.arguments["appid"]
    text, source = given.text("json-info"), given.text("info-xml")
    if text is not None:
        return AppInfo.from_json(text, app_id=app_id)
    if source is not None:
        return await load_info(source)
    raise RefusalError(
        f"Failed to get app info for `{app_id}` from the Appstore",
        1,
        "This host asks no App Store: give --info-xml FILE or --json-info TEXT.",
    )


def folder_of(given: Input) -> Path | None:
    """The app's folder: where `appinfo/info.xml` is, or the file itself."""
    from appapi_host.info_source import is_url

    source = given.text("info-xml")
    if source is None or given.text("json-info") is not None or is_url(source):
        return None
    folder = Path(source).absolute().parent
    return folder.parent if folder.name == "appinfo" else folder


def _environment(given: Input) -> dict[str, str]:
    """The variables of `--env`; words without `=` are dropped, as upstream does."""
    pairs = (text.partition("=") for text in given.texts("env") if "=" in text)
    return {name: value for name, _, value in pairs}


def _mounts(given: Input) -> list["Mount"]:
    """What `--mount` says; a path that begins with a dot is one of here, as with `docker run`."""
    mounts: list[Mount] = []
    for text in given.texts("mount"):
        source, _, rest = text.partition(":")
        target, _, mode = rest.partition(":")
        if source.startswith("."):
            source = str(Path(source).absolute())
        if target:
            mounts.append((source, target, "ro" if mode == "ro" else "rw"))
    return mounts


async def watched(
    session: Session, host: "Host", app_id: str, work: Callable[[], Awaitable["AppRecord"]]
) -> "AppRecord":
    """Do the work, meanwhile with a bar for somebody who looks, and a word when nothing can move.

    Raises:
        HostError: the work's own.
    """
    errors: list[HostError] = []
    results: list[AppRecord] = []
    with ExitStack() as stack:
        if session.shows_progress:
            from appapi_host.cli.console import ProgressOnly

            console = ProgressOnly(session.out, session.err)
            stack.callback(console.close)
            stack.enter_context(host.bus.subscribed(console))
        async with anyio.create_task_group() as group:
            group.start_soon(_say_when_stuck, session, host, app_id)
            try:
                results.append(await work())
            except HostError as error:
                errors.append(error)  # by hand: the group would wrap it
            group.cancel_scope.cancel()
    if errors:
        raise errors[0]
    return results[0]


async def _say_when_stuck(session: Session, host: "Host", app_id: str) -> None:
    """Progress is received by `serve`; where none runs, init would seem to hang."""
    app = await host.registry.wait(
        app_id, lambda app: app is not None and app.state is State.INITIALIZING
    )
    begun = app.status.init if app else 0
    with anyio.move_on_after(_STUCK_SECONDS) as limit:
        await host.registry.wait(app_id, lambda app: app is None or app.status.init != begun)
    if limit.cancelled_caught and not session.is_served:
        session.note(NOT_SERVED)


async def _unregister(session: Session, given: Input) -> int:
    app_id, silent = given.arguments["appid"], given.flag("silent")
    async with session.host() as host:
        app = await host.registry.app(app_id)
        if app is None:
            if silent:
                return 0
            session.line(f"ExApp {app_id} not found. Failed to unregister.")
            return 1
        try:
            await _remove(session.hushed(silent), given, host, app)
        except RefusalError as refused:
            refused.show(session.hushed(silent))
            return refused.code
    return 0


async def _remove(session: Session, given: Input, host: "Host", app: "AppRecord") -> None:
    """Disable the app and remove what there is of it.

    Raises:
        RefusalError: a step failed that must not fail without `--force`.
    """
    force, rm_data = given.flag("force"), given.flag("rm-data")

    def failed(error: HostError | None, *lines: str) -> None:
        refusal = RefusalError("\n".join(lines), 1, *([error.cause] if error else []))
        if not force:
            raise refusal
        refusal.show(session)

    if app.enabled:
        try:
            await host.disable(app.app_id)
        except HostError as error:
            failed(error, f"Error during disabling {app.app_id} ExApp.")
        else:
            session.line(f"ExApp {app.app_id} successfully disabled.")
    if await host.registry.daemon(app.daemon.name) is None:
        failed(None, f"Failed to get ExApp {app.app_id} DaemonConfig by name {app.daemon.name}")
    try:
        await host.unregister(app.app_id, rm_data=rm_data)
    except (DeployError, NotFoundError) as error:
        failed(
            error,
            f"Failed to remove ExApp {app.app_id} {_thing(app)}",
            f'Hint: If the {_thing(app)} "{app.app_id}" was already removed manually, you can use '
            "the --force option to fully remove it from AppAPI.",
        )
        await host.unregister(app.app_id, rm_data=rm_data, force=True)
    else:
        if app.daemon.accepts_deploy_id not in ("", "manual-install"):
            session.line(f"ExApp {app.app_id} {_thing(app)} successfully removed")
            if rm_data:
                session.line(f"ExApp {app.app_id} data volume successfully removed")
    session.line(f"ExApp {app.app_id} successfully unregistered.")


def _thing(app: "AppRecord") -> str:
    """What a deployment of that kind leaves behind."""
    return "process" if app.daemon.accepts_deploy_id == "process-install" else "container"


async def _enable(session: Session, given: Input) -> int:
    app_id = given.arguments["appid"]
    async with session.host() as host:
        app = await host.registry.app(app_id)
        if app is None:
            session.line(f"ExApp {app_id} not found. Failed to enable.")
            return 1
        if app.enabled and app.state is not State.FAILED:
            session.line(f"ExApp {app_id} already enabled.")
            return 0
        try:
            await host.enable(app_id)
        except HostError as error:
            session.line(f"Failed to enable ExApp {app_id}.")
            for text in (error.cause, *rest(error)):
                session.cause(text)
            return 1
    session.line(f"ExApp {app_id} successfully enabled.")
    return 0


async def _disable(session: Session, given: Input) -> int:
    app_id = given.arguments["appid"]
    async with session.host() as host:
        app = await host.registry.app(app_id)
        if app is None:
            session.line(f"ExApp {app_id} not found. Failed to disable.")
            return 1
        if not app.enabled:
            session.line(f"ExApp {app_id} already disabled.")
            return 0
        try:
            await host.disable(app_id)
        except HostError as error:
            session.line(f"Failed to disable ExApp {app_id}.")
            session.cause(error.cause)
            if isinstance(error, RefusedError):
                session.cause("It is disabled nevertheless.")
            elif error.is_unreachable:
                session.cause(
                    "It is disabled nevertheless, and stopped as soon as that is possible."
                )
                session.cause(f"Try: {error.remedy}")
            return 1
    session.line(f"ExApp {app_id} successfully disabled.")
    return 0


async def _list(session: Session, given: Input) -> int:
    async with session.host() as host:
        apps = await host.registry.apps()
    session.line("ExApps:")
    for app in apps:
        state = "enabled" if app.enabled else "disabled"
        session.line(f"{app.app_id} ({app.name}): {app.version} [{state}]")
    return 0


_APP: Final = Argument("appid", "Id of the ExApp")
_SILENT: Final = Option("silent", "Print nothing")
_FORCE_SCOPES: Final = Option("force-scopes", "Without effect, kept for older command lines")

REGISTER: Final = Command(
    "app_api:app:register",
    "Install external App",
    _register,
    (_APP, Argument("daemon-config-name", "Where to deploy it", required=False)),
    (
        _FORCE_SCOPES,
        Option("info-xml", "Path or URL of the app's info.xml", Value.REQUIRED),
        Option("json-info", "The app's description as JSON text", Value.REQUIRED),
        Option("wait-finish", "Wait until the app is initialized"),
        _SILENT,
        Option("env", "NAME=VALUE for a declared variable", Value.OPTIONAL, repeatable=True),
        Option("mount", "SRC:DST or SRC:DST:ro|rw", Value.OPTIONAL, repeatable=True),
        Option("test-deploy-mode", "Replace the app if it is registered"),
    ),
)
UNREGISTER: Final = Command(
    "app_api:app:unregister",
    "Unregister external app",
    _unregister,
    (_APP,),
    (
        _SILENT,
        Option("force", "Continue removal even if some error occurs"),
        Option("keep-data", "Without effect: data is kept unless --rm-data is given"),
        Option("rm-data", "Remove the app's persistent storage"),
    ),
)
ENABLE: Final = Command("app_api:app:enable", "Enable registered external app", _enable, (_APP,))
DISABLE: Final = Command(
    "app_api:app:disable", "Disable registered external app", _disable, (_APP,)
)
LIST: Final = Command("app_api:app:list", "List external apps", _list)

COMMANDS: Final = (REGISTER, UNREGISTER, ENABLE, DISABLE, LIST)
