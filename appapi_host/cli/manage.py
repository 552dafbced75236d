"""`app` and `daemon`: managing for a person, on the same host as `occ`."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appapi_host.cli.apps import NOT_SERVED, watched
from appapi_host.cli.session import Session
from appapi_host.daemon_config import build_daemon
from appapi_host.errors import RefusedError
from appapi_host.info_source import is_url, load_info
from exapp_sdk.protocol.lifecycle import State

if TYPE_CHECKING:
    from appapi_host.host import Host
    from appapi_host.info_xml import AppInfo
    from appapi_host.records import AppRecord

__all__ = [
    "add_daemon",
    "disable",
    "enable",
    "install",
    "list_apps",
    "list_daemons",
    "remove",
    "remove_daemon",
    "show",
    "update",
]

_STYLES: Final = {State.ENABLED: "green", State.FAILED: "red", State.DISABLED: "dim"}
_LOCAL: Final = "local"
"""The daemon that is made where there is none: apps as processes of this machine."""

_LAST_LINES: Final = 10


async def install(
    session: Session,
    source: str,
    *,
    daemon: str | None,
    environment: Mapping[str, str],
    host_url: str | None,
) -> int:
    """Install an app and wait until it is enabled.

    Args:
        session: where the state is, and where to print.
        source: the app's folder, the path of an info.xml, or its URL.
        daemon: where, by name; the default daemon if not given.
        environment: values for variables that the app declares.
        host_url: where apps reach the host, for a daemon that is made; not given, where that is
            served, or was last.
    """
    info = await load_info(source)
    async with session.host() as host:
        if daemon is None and not await host.daemons.all():
            url = host_url or _served_at(host)
            local = build_daemon(_LOCAL, "process-install", nextcloud_url=url)
            await host.register_daemon(local, set_default=True)
            session.note(f"No daemon was registered: {_LOCAL} is one now, for local processes.")
        _warn(session, info)
        work = partial(
            host.register, info, daemon=daemon, source=_folder(source), environment=environment
        )
        app = await watched(session, host, info.id, work)
        session.line(f"{app.app_id} {app.version} is {app.state}, at {host.url_of(app)}.")
    return 0


async def update(session: Session, source: str, *, keep_disabled: bool) -> int:
    """Replace an app by the version that a description names; what failed is undone."""
    info = await load_info(source)
    async with session.host() as host:
        before = await host.app(info.id)
        _warn(session, info)
        work = partial(host.update, info, keep_disabled=keep_disabled, source=_folder(source))
        app = await watched(session, host, info.id, work)
    if app.version == before.version:
        session.line(f"{app.app_id} {app.version} is installed already.")
    else:
        session.line(f"{app.app_id} {app.version} is {app.state}; it was {before.version}.")
    return 0


async def enable(session: Session, app_id: str) -> int:
    """Switch an app on."""
    async with session.host() as host:
        app = await watched(session, host, app_id, partial(host.enable, app_id))
    if app.state is State.INITIALIZING and not session.is_served:
        session.note(NOT_SERVED)
    session.line(f"{app_id} is {app.state}.")
    return 0


async def disable(session: Session, app_id: str) -> int:
    """Switch an app off."""
    async with session.host() as host:
        try:
            await host.disable(app_id)
        except RefusedError as error:
            session.note(f"The app did not agree: {error.cause}")
    session.line(f"{app_id} is disabled.")
    return 0


async def remove(session: Session, app_id: str, *, data: bool, force: bool) -> int:
    """Remove an app, with `data` what it has stored, too."""
    async with session.host() as host:
        await host.unregister(app_id, rm_data=data, force=force)
    kept = "" if data else " What it has stored is kept; --data removes that, too."
    session.line(f"{app_id} is removed.{kept}")
    return 0


async def list_apps(session: Session) -> int:
    """Show all apps, and why those that have failed did."""
    async with session.host() as host:
        apps = await host.apps()
        urls = {app.app_id: _url(host, app) for app in apps}
    if not apps:
        session.line("No apps are installed; `app install PATH` installs one.")
        return 0
    rows = [
        (
            app.app_id,
            app.name,
            app.version,
            app.state.value,
            app.daemon.name,
            urls[app.app_id],
            app.failure.partition("\n")[0],
        )
        for app in apps
    ]
    head = ("App", "Name", "Version", "State", "Daemon", "Address", "Failure")
    _table(session, head, rows, [_STYLES.get(app.state, "yellow") for app in apps])
    return 0


async def show(session: Session, app_id: str) -> int:
    """Show one app: where it stands, why, and what it printed last."""
    async with session.host() as host:
        app = await host.app(app_id)
        lines = await host.last_output(app_id, lines=_LAST_LINES)
        address = _url(host, app)
        operation = await host.operations.of(app_id)
    fields = {
        "name": f"{app.name} {app.version}",
        "state": app.state.value
        + (f", {app.status.init} %" if app.state is State.INITIALIZING else ""),
        "failure": app.failure.replace("\n", "\n" + " " * 11),
        "at work": f"process {operation.pid}, {operation.verb}, step {operation.step}"
        if operation
        else "",
        "daemon": app.daemon.name,
        "address": address,
        "routes": "\n".ljust(12).join(f"{route.verb} {route.url}" for route in app.routes),
    }
    for name, text in fields.items():
        if text:
            session.line(f"{name:<9}  {text}")
    if lines:
        session.line("Last lines of the app:")
        for line in lines:
            session.line(f"  | {line.replace(app.secret.reveal(), '***')}")
    return 0


async def list_daemons(session: Session) -> int:
    """Show where apps can run."""
    async with session.host() as host:
        daemons, default = await host.daemons.all(), await host.daemons.default()
    if not daemons:
        session.line("No daemons are registered; `daemon add NAME DEPLOY-ID` registers one.")
        return 0
    rows = [
        (
            daemon.name + (" *" if daemon.name == default else ""),
            daemon.accepts_deploy_id,
            daemon.host,
            daemon.nextcloud_url,
        )
        for daemon in daemons
    ]
    _table(session, ("Daemon", "Deploys with", "Host", "Apps reach us at"), rows)
    session.note("* is the default daemon." if default else "There is no default daemon.")
    return 0


async def add_daemon(
    session: Session,
    name: str,
    deploy_id: str,
    *,
    host: str,
    host_url: str | None,
    net: str,
    default: bool,
) -> int:
    """Register a daemon, and see whether it can be used."""
    async with session.host() as opened:
        url = host_url or _served_at(opened)
        daemon = build_daemon(name, deploy_id, nextcloud_url=url, host=host, net=net)
        opened.backend(daemon)  # a deploy id that nobody knows is refused here
        await opened.check_daemon(daemon)
        await opened.register_daemon(daemon, set_default=default)
    session.line(f"Daemon {name} is registered.")
    return 0


async def remove_daemon(session: Session, name: str) -> int:
    """Forget a daemon that has no apps."""
    async with session.host() as host:
        await host.daemons.unregister(name)
    session.line(f"Daemon {name} is removed.")
    return 0


def _folder(source: str) -> Path | None:
    """The app's folder: what was named, or where `appinfo/info.xml` is, or the file itself."""
    if is_url(source):
        return None
    path = Path(source).absolute()
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name == "appinfo" else path.parent


def _warn(session: Session, info: "AppInfo") -> None:
    for warning in info.warnings:
        session.note(f"Warning: {warning}")


def _url(host: "Host", app: "AppRecord") -> str:
    return host.url_of(app) if app.daemon.accepts_deploy_id else ""


def _table(
    session: Session,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Sequence[str] = (),
) -> None:
    """Rows in columns; for somebody who looks, drawn and with colours."""
    columns = [index for index in range(len(head)) if any(row[index] for row in rows)]
    if session.out.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*(head[index] for index in columns))
        for number, row in enumerate(rows):
            style = styles[number] if styles else ""
            # As text: what an app is called must not be taken for markup.
            table.add_row(
                *(Text(row[index], style if head[index] == "State" else "") for index in columns)
            )
        Console(file=session.out).print(table)
        return
    widths = {index: max(len(row[index]) for row in (head, *rows)) for index in columns}
    for row in (head, *rows):
        session.line("  ".join(f"{row[index]:<{widths[index]}}" for index in columns).rstrip())


def _served_at(host: "Host") -> str:
    return f"http://127.0.0.1:{host.settings.port}"
