"""The commands `run`, `serve` and `logs`, as click describes them."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from appapi_host.cli.common import (
    DATA_DIR_VARIABLE,
    DEFAULT_PORT,
    HEARTBEAT_VARIABLE,
    INIT_VARIABLE,
    NEXTCLOUD_VARIABLE,
    default_data_dir,
    parse_environment,
    timeouts,
)
from appapi_host.cli.manage_commands import groups
from appapi_host.cli.trigger_commands import trigger_group
from appapi_host.settings import NEXTCLOUD_VERSIONS

__all__ = ["main"]

_PROGRAM: Final = "python -m appapi_host"
_LISTED: Final = ("run", "serve", "app", "daemon", "trigger", "check", "repair", "logs")
_BUILD_ARGUMENT: Final = "--build-arg"
_NO_COMMAND: Final = "`--` must be followed by the command that starts the app."


def main(words: Sequence[str]) -> int:
    """Run what is not `occ`.

    Returns:
        The exit code; 2 if the command line is wrong, 130 after Ctrl-C.
    """
    before, command = _split(words)
    try:
        result = _group.main(before, prog_name=_PROGRAM, standalone_mode=False, obj=command)
    except click.UsageError as error:
        error.show()
        return 2
    except click.Abort:  # what click makes of Ctrl-C, where the command does not see to that
        return 130
    return int(result or 0)


def _split(words: Sequence[str]) -> tuple[list[str], tuple[str, ...] | None]:
    """Cut at `--`: behind it is the app's command, whose options are not ours."""
    if "--" not in words:
        return list(words), None
    place = list(words).index("--")
    return list(words[:place]), tuple(words[place + 1 :])


def _environment(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> dict[str, str]:
    try:
        return parse_environment(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


class _Group(click.Group):
    """The top level; `occ` is only listed here, its words are not click's."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, self.commands[name].get_short_help_str()) for name in _LISTED]
        rows.append(("occ", "Manage apps as on a Nextcloud; `occ list` names the commands."))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="exapp-sdk", prog_name="appapi_host")
def _group() -> None:
    """A local AppAPI host: install and try ExApps without a Nextcloud."""


_DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar=DATA_DIR_VARIABLE,
    help=f"Where the state is kept; also {DATA_DIR_VARIABLE}.",
)
_BIND = click.option(
    "--bind",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Anything but this machine's own makes up passwords.",
)
_HEARTBEAT = click.option(
    "--heartbeat-timeout",
    type=click.FloatRange(min=0, min_open=True),
    envvar=HEARTBEAT_VARIABLE,
    metavar="SECONDS",
    help="How long an app may take to answer its heartbeat.  [default: 90]",
)
_INIT = click.option(
    "--init-timeout",
    type=click.FloatRange(min=0, min_open=True),
    envvar=INIT_VARIABLE,
    metavar="SECONDS",
    help="How long an app may initialize.  [default: 2400]",
)
_THROTTLING = click.option(
    "--throttling/--no-throttling",
    default=None,
    help="Refuse addresses that fail to sign in too often.  [default: unless on loopback]",
)
_NEXTCLOUD = click.option(
    "--nextcloud-version",
    type=click.IntRange(NEXTCLOUD_VERSIONS.start, NEXTCLOUD_VERSIONS.stop - 1),
    default=NEXTCLOUD_VERSIONS.start,
    show_default=True,
    envvar=NEXTCLOUD_VARIABLE,
    help="Which Nextcloud the host stands for.",
)


class _RunCommand(click.Command):
    """Its usage line names what `_split()` has cut off."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND ...]"]


@_group.command(
    "run", cls=_RunCommand, short_help="Install the ExApp in a folder and show what happens."
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help=f"Port of the host.  [default: {DEFAULT_PORT}, or a free one]",
)
@_BIND
@click.option("--once", is_flag=True, help="Stop again when the app is enabled.")
@click.option("--watch", is_flag=True, help="Install it anew whenever a file of PATH changes.")
@_DATA_DIR
@_HEARTBEAT
@_INIT
@_THROTTLING
@_NEXTCLOUD
@click.option(
    "--env",
    "environment",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_environment,
    help="A variable for the app; may be repeated.",
)
@click.option(
    "--deploy",
    type=click.Choice(["process", "docker"]),
    default="process",
    show_default=True,
    help="As a local process, or as a container that is built of PATH.",
)
@click.option(
    "--daemon-host",
    metavar="SOCKET|HOST:PORT",
    help="Docker Engine for --deploy docker.  [default: DOCKER_HOST, or its usual socket]",
)
@click.option("--net", help="Network of the container.  [default: host]")
@click.option(
    "--build-arg",
    "build_arguments",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_environment,
    help="A value for an ARG of the Dockerfile; may be repeated.",
)
@click.option("--rm-image", is_flag=True, help="Remove the image of the container in the end.")
@click.pass_obj
def _run(command: tuple[str, ...] | None, /, **options: Any) -> int:
    """Install the ExApp in folder PATH and show what happens.

    What follows `--` starts the app instead of what the folder declares: a line `web:` in its
    Procfile, ex_app/lib/main.py, or main.py.
    """
    if command == ():
        raise click.UsageError(_NO_COMMAND)
    docker = _docker(command, options)
    from appapi_host.cli.run import run
    from appapi_host.cli.run_options import RunOptions

    return run(
        RunOptions(
            folder=options["path"],
            command=command or (),
            port=options["port"],
            bind=options["bind"],
            once=options["once"],
            data_dir=_data_dir(options),
            environment=options["environment"],
            timeouts=_timeouts(options),
            docker=docker,
            watch=options["watch"],
            throttling=options["throttling"],
            nextcloud_version=options["nextcloud_version"],
        ),
        sys.stdout,
        sys.stderr,
    )


def _docker(command: tuple[str, ...] | None, options: dict[str, Any]) -> Any:
    """What was chosen for a container; None for a process.

    Raises:
        UsageError: options of the one were given for the other.
    """
    if options["deploy"] == "docker":
        if command:
            raise click.UsageError("With --deploy docker, CMD of the Dockerfile starts the app.")
        from appapi_host.cli.target_docker import DockerOptions

        return DockerOptions(
            engine=options["daemon_host"] or "",
            net=options["net"] or "host",
            build_arguments=options["build_arguments"],
            rm_image=options["rm_image"],
        )
    for name in ("daemon_host", "net", "build_arguments", "rm_image"):
        if options[name]:
            option = _BUILD_ARGUMENT if name == "build_arguments" else f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} needs --deploy docker.")
    return None


@_group.command("logs", short_help="Show what an installed app prints.")
@click.argument("app_id", metavar="APPID")
@click.option("--follow", "-f", is_flag=True, help="Go on until the app has ended.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
@_DATA_DIR
@click.pass_obj
def _logs(command: tuple[str, ...] | None, /, **options: Any) -> int:
    """Show what the app APPID has printed since its start, whether `run` or `serve` has it."""
    if command is not None:
        raise click.UsageError("logs starts no command; `--` belongs to run.")
    from appapi_host.cli.logs import logs

    return logs(
        options["app_id"],
        data_dir=_data_dir(options),
        follow=options["follow"],
        tail=options["tail"],
        out=sys.stdout,
        err=sys.stderr,
    )


@_group.command("serve", short_help="Keep a host running that `occ` manages.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@_BIND
@_DATA_DIR
@_HEARTBEAT
@_INIT
@_THROTTLING
@_NEXTCLOUD
@click.pass_obj
def _serve(command: tuple[str, ...] | None, /, **options: Any) -> int:
    """Keep a host running; `occ` in another shell registers and manages apps on it."""
    if command is not None:
        raise click.UsageError("serve starts no command; `--` belongs to run.")
    from appapi_host.cli.serve import serve
    from appapi_host.settings import HostSettings

    settings = HostSettings(
        data_dir=_data_dir(options),
        bind=options["bind"],
        port=options["port"],
        timeouts=_timeouts(options),
        throttling=options["throttling"],
        nextcloud_version=options["nextcloud_version"],
    )
    return serve(settings, sys.stdout, sys.stderr)


_group.add_command(trigger_group)


@_group.command("check", short_help="Say what is wrong with an app's info.xml.")
@click.argument("source", metavar="PATH")
@click.option("--strict", is_flag=True, help="Take warnings for problems.")
@click.pass_obj
def _check(command: tuple[str, ...] | None, /, **options: Any) -> int:
    """Read appinfo/info.xml of the folder PATH, or the file or address PATH, and report on it."""
    if command is not None:
        raise click.UsageError("check starts no command; `--` belongs to run.")
    from appapi_host.cli.check import check

    return check(options["source"], sys.stdout, sys.stderr, strict=options["strict"])


@_group.command("repair", short_help="Settle what was interrupted, show what is left over.")
@click.option(
    "--remove", multiple=True, metavar="NAME", help="Remove this leftover; may be repeated."
)
@click.option("--remove-all", is_flag=True, help="Remove all that is left over, but no data.")
@click.option("--data", is_flag=True, help="With --remove-all: data of apps that are gone, too.")
@_DATA_DIR
@click.pass_obj
def _repair(command: tuple[str, ...] | None, /, **options: Any) -> int:
    """Show what is not as it should be: apps that failed, and what belongs to no app any more."""
    if command is not None:
        raise click.UsageError("repair starts no command; `--` belongs to run.")
    from appapi_host.cli.repair import repair
    from appapi_host.settings import HostSettings

    return repair(
        HostSettings(data_dir=_data_dir(options)),
        sys.stdout,
        sys.stderr,
        remove=options["remove"],
        removes_all=options["remove_all"],
        data=options["data"],
    )


for _managing in groups():
    _group.add_command(_managing)


def _data_dir(options: dict[str, Any]) -> Path:
    given: Path | None = options["data_dir"]
    return given.expanduser().absolute() if given else default_data_dir(os.environ)


def _timeouts(options: dict[str, Any]) -> Any:
    return timeouts(heartbeat=options["heartbeat_timeout"], init=options["init_timeout"])
