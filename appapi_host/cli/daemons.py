"""occ's commands about daemons: where apps run."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appapi_host.cli.session import Session
from appapi_host.cli.symfony import Argument, Command, Input, Option, UsageError, Value
from appapi_host.daemon_config import (
    COMPUTE_DEVICES,
    build_daemon,
    certificates_in,
    parse_size,
)
from appapi_host.errors import AlreadyExistsError, HostError
from appapi_host.records import Daemon

if TYPE_CHECKING:
    from appapi_host.host import Host

__all__ = ["COMMANDS"]

_TLS: Final = ("ca", "cert", "key")
_CPUS: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,9})?")


async def _register(session: Session, given: Input) -> int:
    words = given.arguments
    name, protocol, deploy_id = words["name"], words["protocol"], words["accepts-deploy-id"]
    device = _device(session, given)
    if protocol not in ("http", "https"):
        session.line("Value error: The protocol must be `http` or `https`.")
        return 1
    if problem := _problem(given):
        session.line(f"Value error: {problem}")
        return 1
    if given.flag("harp"):
        for needed in ("harp_shared_key", "harp_frp_address"):
            if not given.text(needed):
                session.line(f"Value error: HaRP enabled daemon requires `{needed}` option.")
                return 1
    elif deploy_id == "manual-install" and ":" in words["host"]:
        session.note(
            "Warning: The host contains a port, which will be ignored for manual-install daemons. "
            "The ExApp's port from --json-info will be used instead."
        )
    async with session.host() as host:
        if await host.registry.daemon(name):
            session.line(f"Skip registration, as daemon config `{name}` already registered.")
            return 0
        try:
            daemon = _daemon(session, given, device)
        except HostError as error:
            session.line("Failed to register daemon.")
            session.cause(error.cause)
            session.cause(error.remedy)
            return 1
        try:
            await host.register_daemon(daemon, set_default=given.flag("set-default"))
        except AlreadyExistsError:  # registered by another process since we looked
            session.line(f"Skip registration, as daemon config `{name}` already registered.")
            return 0
        session.line("Daemon successfully registered.")
        await _check(session, host, daemon)
    return 0


async def _check(session: Session, host: "Host", daemon: Daemon) -> None:
    """Say what keeps apps from being deployed there, as long as nobody has tried.

    Only a warning: the engine may be started later, and the real occ does not look at all.
    """
    try:
        await host.check_daemon(daemon)
    except HostError as error:
        session.note(f"Warning: {error.cause.rstrip('.')}.")
        if error.remedy:
            session.note(f"What to do: {error.remedy.rstrip('.')}.")


def _problem(given: Input) -> str:
    """What is wrong with options that AppAPI does not have."""
    if bool(given.text("tls-cert")) != bool(given.text("tls-key")):
        return "`tls-cert` and `tls-key` must be given together."
    is_secured = given.arguments["protocol"] == "https"
    if not is_secured and any(given.text(f"tls-{part}") for part in (*_TLS, "dir")):
        return "certificates need the protocol `https`."
    try:
        parse_size(given.text("memory") or "0")
    except ValueError as error:
        return f"`memory`: {error}."
    cpus = given.text("cpus") or "0"
    if not _CPUS.fullmatch(cpus):
        return f"`cpus`: {cpus!r} is no number of processors, for instance 1.5."
    return ""


def _tls(session: Session, given: Input) -> dict[str, str | Path]:
    """The certificates for an engine; those of the environment are written down with it.

    Whoever serves, or runs the next command, may have another environment.

    Raises:
        HostError: there are none in the folder that is named.
    """
    files: dict[str, str | Path] = {
        part: path for part in _TLS if (path := given.text(f"tls-{part}"))
    }
    folder = given.text("tls-dir")
    words = given.arguments
    if not files and not folder and not given.text("haproxy_password"):
        is_engine = words["accepts-deploy-id"] == "docker-install" and not given.flag("harp")
        if is_engine and words["protocol"] == "https":
            folder = os.environ.get("DOCKER_CERT_PATH")
            if folder:
                session.note(f"The certificates are those of DOCKER_CERT_PATH: {folder}.")
    return ({**certificates_in(Path(folder))} if folder else {}) | files


def _device(session: Session, given: Input) -> str:
    gpu = given.text("gpu")
    device = given.text("compute_device") or "cpu"
    if gpu is not None:
        device = "rocm" if gpu.startswith(("/dev/dri", "/dev/kfd")) else "cuda"
        session.note(f"--gpu is an older option: it is taken as --compute_device {device}.")
    if device not in COMPUTE_DEVICES:
        raise UsageError("Invalid compute device value.", REGISTER)
    return device


def _daemon(session: Session, given: Input, device: str) -> Daemon:
    """The daemon that the words describe.

    Raises:
        HostError: the real service would refuse it.
    """
    words, harp = given.arguments, given.flag("harp")
    return build_daemon(
        words["name"],
        words["accepts-deploy-id"],
        nextcloud_url=words["nextcloud_url"],
        host=words["host"],
        display_name=words["display-name"],
        protocol=words["protocol"],
        net=given.text("net") or "",
        compute_device=device,
        haproxy_password=given.text("harp_shared_key" if harp else "haproxy_password") or "",
        tls=_tls(session, given),
        memory=parse_size(given.text("memory") or "0"),
        cpus=float(given.text("cpus") or 0),
        name_suffix=not given.flag("no-name-suffix"),
        harp={
            "frp_address": given.text("harp_frp_address"),
            "docker_socket_port": given.text("harp_docker_socket_port"),
            "exapp_direct": given.flag("harp_exapp_direct"),
        }
        if harp
        else None,
    )


async def _unregister(session: Session, given: Input) -> int:
    name = given.arguments["daemon-config-name"]
    async with session.host() as host:
        if await host.registry.daemon(name) is None:
            session.line(f"Daemon config {name} not found.")
            return 1
        apps = [app for app in await host.registry.apps() if app.daemon.name == name]
        if apps:
            session.line(
                f"Error: {name} daemon contains {len(apps)} ExApps, "
                "please remove them first to proceed."
            )
            session.cause("They are: " + ", ".join(app.app_id for app in apps))
            return 1
        await host.daemons.unregister(name)
    session.line("Daemon config unregistered.")
    return 0


async def _list(session: Session, given: Input) -> int:
    output = given.text("output") or "plain"
    if output not in ("plain", "json", "json_pretty"):
        raise UsageError("--output must be plain, json or json_pretty.", LIST)
    async with session.host() as host:
        daemons = await host.registry.daemons()
        default = await host.daemons.default()
    if not daemons:
        session.line("No registered daemon configs.")
        return 0
    if output != "plain":
        indent = 4 if output == "json_pretty" else None
        session.line(json.dumps([_as_json(daemon) for daemon in daemons], indent=indent))
        return 0
    session.line("Registered ExApp daemon configs:")
    session.line(_table(_COLUMNS, [_row(daemon, default) for daemon in daemons]))
    return 0


_COLUMNS: Final = (
    "Def",
    "Name",
    "Display name",
    "Deploy ID",
    "Protocol",
    "Host",
    "NC Url",
    "Is HaRP",
    "HaRP FRP Address",
    "HaRP Docker Socket Port",
)


def _row(daemon: Daemon, default: str | None) -> tuple[str, ...]:
    harp: Mapping[str, Any] | None = daemon.deploy_config.get("harp")
    return (
        "*" if daemon.name == default else "",
        daemon.name,
        daemon.display_name,
        daemon.accepts_deploy_id,
        daemon.protocol,
        daemon.host,
        daemon.nextcloud_url,
        "yes" if harp else "no",
        str(harp["frp_address"]) if harp else "(none)",
        str(harp["docker_socket_port"]) if harp else "(none)",
    )


def _as_json(daemon: Daemon) -> dict[str, Any]:
    return {
        "name": daemon.name,
        "display_name": daemon.display_name,
        "deploy_id": daemon.accepts_deploy_id,
        "protocol": daemon.protocol,
        "host": daemon.host,
        "deploy_config": {**daemon.deploy_config, "haproxy_password": "***"},
    }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table drawn as Symfony draws it, because scripts cut it at its bars."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    ruler = "+" + "+".join("-" * (width + 2) for width in widths) + "+"

    def drawn(row: Sequence[str]) -> str:
        cells = (f" {text:<{width}} " for text, width in zip(row, widths, strict=True))
        return "|" + "|".join(cells) + "|"

    return "\n".join([ruler, drawn(head), ruler, *(drawn(row) for row in rows), ruler])


REGISTER: Final = Command(
    "app_api:daemon:register",
    "Register daemon config for ExApp deployment",
    _register,
    (
        Argument("name", "Unique name of the daemon"),
        Argument("display-name", "Name for people"),
        Argument("accepts-deploy-id", "How apps are deployed: process-install, manual-install, …"),
        Argument("protocol", "http or https"),
        Argument("host", "Host name, host:port, or path of a unix socket"),
        Argument("nextcloud_url", "Where apps reach this host, for instance http://127.0.0.1:8080"),
    ),
    (
        Option("net", "Engine network for apps", Value.REQUIRED, "host"),
        Option("haproxy_password", "Password of the socket proxy", Value.REQUIRED),
        Option("compute_device", "cpu, cuda or rocm", Value.REQUIRED, "cpu"),
        Option("set-default", "Make it the default daemon"),
        Option("tls-ca", "File with the authority of the engine's certificate", Value.REQUIRED),
        Option("tls-cert", "File with our certificate for the engine", Value.REQUIRED),
        Option("tls-key", "File with its key", Value.REQUIRED),
        Option("tls-dir", "Folder with these as ca.pem, cert.pem, key.pem", Value.REQUIRED),
        Option("memory", "What each app may use at most, for instance 512m", Value.REQUIRED),
        Option("cpus", "How many processors each app may use, for instance 1.5", Value.REQUIRED),
        Option("no-name-suffix", "Do not try image-cpu:tag, an older form of names"),
        Option("harp", "The daemon is a HaRP"),
        Option("harp_frp_address", "host:port of its FRP server", Value.REQUIRED),
        Option("harp_shared_key", "Key shared with HaRP", Value.REQUIRED),
        Option("harp_docker_socket_port", "Remote port of its engine", Value.REQUIRED, "24000"),
        Option("harp_exapp_direct", "No FRP between HaRP and apps"),
        Option("gpu", "Former name of --compute_device", Value.REQUIRED, hidden=True),
    ),
)
UNREGISTER: Final = Command(
    "app_api:daemon:unregister",
    "Unregister daemon",
    _unregister,
    (Argument("daemon-config-name", "Name of the daemon"),),
)
LIST: Final = Command(
    "app_api:daemon:list",
    "List registered daemons",
    _list,
    (),
    (Option("output", "plain, json or json_pretty", Value.REQUIRED, "plain"),),
)

COMMANDS: Final = (REGISTER, UNREGISTER, LIST)
