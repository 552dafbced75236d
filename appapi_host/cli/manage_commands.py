"""The commands `app …` and `daemon …`, as click describes them."""

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click

from appapi_host.cli.common import DATA_DIR_VARIABLE

__all__ = ["groups"]

_DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar=DATA_DIR_VARIABLE,
    help=f"Where the state is kept; also {DATA_DIR_VARIABLE}.",
)
_NAME = click.argument("app_id", metavar="APPID")
_SOURCE = click.argument("source", metavar="PATH")
_URL = click.option(
    "--host-url", help="Where apps reach the host.  [default: where `serve` listens, or did last]"
)


def groups() -> tuple[click.Group, click.Group]:
    """`app` and `daemon`."""
    return _app, _daemon


def _run(name: str, options: dict[str, Any], **more: object) -> int:
    import os

    from appapi_host.cli import manage
    from appapi_host.cli.common import default_data_dir, timeouts_from
    from appapi_host.cli.session import Session
    from appapi_host.settings import HostSettings

    if click.get_current_context().obj is not None:
        raise click.UsageError(f"`--` belongs to run: {name.replace('_', ' ')} starts no command.")
    given: Path | None = options.pop("data_dir")
    data_dir = given.expanduser().absolute() if given else default_data_dir(os.environ)
    settings = HostSettings(data_dir=data_dir, timeouts=timeouts_from(os.environ))
    work: Callable[..., Awaitable[int]] = getattr(manage, name)
    return anyio.run(partial(work, Session(settings, sys.stdout, sys.stderr), **options, **more))


@click.group("app", short_help="Install, list, switch, update and remove apps.")
def _app() -> None:
    """Manage the apps of `serve`; the same as with `occ`, in other words."""


@_app.command("install")
@_SOURCE
@click.option("--daemon", metavar="NAME", help="Where to install it.  [default: the default one]")
@click.option(
    "--env",
    "environment",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value for a variable that the app declares; may be repeated.",
)
@_URL
@_DATA_DIR
def _install(**options: Any) -> int:
    """Install the app in folder PATH, or that PATH or URL of an info.xml describes."""
    from appapi_host.cli.common import parse_environment

    try:
        options["environment"] = parse_environment(options["environment"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--env") from None
    return _run("install", options)


@_app.command("list")
@_DATA_DIR
def _list(**options: Any) -> int:
    """Show all apps."""
    return _run("list_apps", options)


@_app.command("show")
@_NAME
@_DATA_DIR
def _show(**options: Any) -> int:
    """Show where the app APPID stands, why, and what it printed last."""
    return _run("show", options)


@_app.command("enable")
@_NAME
@_DATA_DIR
def _enable(**options: Any) -> int:
    """Switch the app APPID on."""
    return _run("enable", options)


@_app.command("disable")
@_NAME
@_DATA_DIR
def _disable(**options: Any) -> int:
    """Switch the app APPID off."""
    return _run("disable", options)


@_app.command("update")
@_SOURCE
@click.option("--keep-disabled", is_flag=True, help="Leave an app off that is off.")
@_DATA_DIR
def _update(**options: Any) -> int:
    """Replace an app by the version in folder PATH, or that an info.xml describes."""
    return _run("update", options)


@_app.command("remove")
@_NAME
@click.option("--data", is_flag=True, help="Remove what it has stored, too.")
@click.option("--force", is_flag=True, help="Go on after errors.")
@_DATA_DIR
def _remove(**options: Any) -> int:
    """Remove the app APPID."""
    return _run("remove", options)


@click.group("daemon", short_help="Say where apps can run.")
def _daemon() -> None:
    """Manage where apps are deployed."""


@_daemon.command("list")
@_DATA_DIR
def _list_daemons(**options: Any) -> int:
    """Show all daemons."""
    return _run("list_daemons", options)


@_daemon.command("add")
@click.argument("name")
@click.argument("deploy_id", metavar="DEPLOY-ID")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Host name, host:port, or the path of the engine's socket.",
)
@_URL
@click.option("--net", default="host", show_default=True, help="Network of the engine for apps.")
@click.option("--default", is_flag=True, help="Take it where no daemon is named.")
@_DATA_DIR
def _add(**options: Any) -> int:
    """Register a daemon NAME that deploys with process-install, docker-install, manual-install."""
    return _run("add_daemon", options)


@_daemon.command("remove")
@click.argument("name")
@_DATA_DIR
def _remove_daemon(**options: Any) -> int:
    """Forget the daemon NAME, which must not have apps."""
    return _run("remove_daemon", options)
