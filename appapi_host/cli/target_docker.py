"""`run --deploy docker`: the image of a folder, and the engine that it is built and run on."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from appapi_host.cli.targets import Target
from appapi_host.deploy.docker.backend import DockerBackend
from appapi_host.deploy.docker.build import LOCAL_REGISTRY, Builder, BuildStep, image_name
from appapi_host.deploy.docker.container import APP_LABEL, HOST_LABEL, VERSION_LABEL
from appapi_host.deploy.docker.context import IgnoreRules
from appapi_host.deploy.docker.engine import Engine
from appapi_host.deploy.docker.faults import EngineError
from appapi_host.errors import DeployError, HostError
from appapi_host.events import ProgressChanged, StepFailed, StepFinished, StepStarted
from appapi_host.host import Host
from appapi_host.info_rules import DockerInstall
from appapi_host.info_xml import AppInfo
from appapi_host.records import Daemon

__all__ = ["DockerOptions", "DockerTarget", "engine_address"]

DAEMON: Final = "local_docker"
DEFAULT_SOCKET: Final = "/var/run/docker.sock"

_UNREACHABLE: Final = frozenset({"no-socket", "refused", "unreachable", "unknown-host", "timeout"})
"""Kinds of faults that mean that there is no engine where we look for one."""

_UNITS: Final = ("bytes", "kB", "MB", "GB")


@dataclass(frozen=True, slots=True)
class DockerOptions:
    """What a person chose.

    Args:
        engine: path of a unix socket, or `host:port`; empty for the one of the docker command.
        net: network of the container.
        build_arguments: values for `ARG` instructions of the Dockerfile.
        rm_image: remove the image in the end.
    """

    engine: str = ""
    net: str = "host"
    build_arguments: Mapping[str, str] = field(default_factory=dict, repr=False)
    rm_image: bool = False


def engine_address(text: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Protocol and host of a daemon config for an engine.

    Args:
        text: what a person gave; empty takes what the docker command would: `DOCKER_HOST`, else
            its usual socket.
        environ: `DOCKER_HOST`, and `DOCKER_TLS_VERIFY` for engines elsewhere.

    Raises:
        HostError: it is no address that can be used.
    """
    address = text or environ.get("DOCKER_HOST", "") or DEFAULT_SOCKET
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = ("unix" if address.startswith(("/", "~", ".")) else "tcp"), address
    if scheme == "unix" and rest:
        return "http", str(Path(rest).expanduser().absolute())
    if scheme not in ("tcp", "http", "https") or not rest.strip("/"):
        raise HostError(
            f"{address} is no address of an engine that can be used",
            remedy="give the path of its socket or host:port with --daemon-host; one that is "
            "reached with ssh needs its socket forwarded: ssh -NL /tmp/engine.sock:"
            f"{DEFAULT_SOCKET} HOST",
        )
    secured = scheme == "https" or (scheme == "tcp" and bool(environ.get("DOCKER_TLS_VERIFY")))
    return ("https" if secured else "http"), rest.strip("/")


class DockerTarget(Target):
    """A container, from an image that is built of the folder.

    Args:
        folder: of the app.
        options: what a person chose.
        environ: names the engine where the options do not.
    """

    keeps_storage = False
    last_resort = "ends at once; the next run removes what is left"

    def __init__(self, folder: Path, options: DockerOptions, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._options = options
        self._environ = environ
        self._engine: Engine | None = None
        self._reference = ""
        self._superseded: set[str] = set()
        self._ignored = IgnoreRules()
        self._certificates = _certificates(environ)

    def daemon(self, url: str) -> Daemon:
        """`local_docker`; images of our own are never looked for in a registry."""
        protocol, address = engine_address(self._options.engine, self._environ)
        config: dict[str, Any] = {
            "net": self._options.net,
            "nextcloud_url": url,
            "computeDevice": {"id": "cpu", "label": "CPU"},
            # Who works on an app wants to see that it ended, not that it was started again.
            "restart_policy": "no",
        }
        if protocol == "https" and (folder := self._certificates):
            config["tls"] = {"cert_path": folder}
        return Daemon(DAEMON, "Containers of `run`", "docker-install", protocol, address, config)

    async def prepare(self, host: Host, info: AppInfo) -> AppInfo:
        """Build the image, with what an earlier build has left."""
        backend = host.backend(self.daemon(""))
        assert isinstance(backend, DockerBackend)
        engine = await self._reached(backend)
        image, tag = image_name(info)
        self._reference = f"{LOCAL_REGISTRY}/{image}:{tag}"
        builder = Builder(
            engine,
            self._folder,
            reference=self._reference,
            labels={
                HOST_LABEL: backend.instance,
                APP_LABEL: info.id,
                VERSION_LABEL: info.version,
            },
            arguments=self._options.build_arguments,
            on_step=partial(_show, host, info.id),
        )
        started = time.monotonic()
        context = await builder.context()
        self._ignored = context.ignored
        sent = f"{context.files} file{'s' * (context.files != 1)}, {_size(context.size)}"
        host.bus.emit(StepStarted(info.id, "build", sent))
        try:
            before = await engine.image(self._reference)
            built = await builder.run(context)
        except DeployError as error:
            host.bus.emit(StepFailed(info.id, "build", error.cause, error.remedy))
            raise
        seconds = time.monotonic() - started
        host.bus.emit(StepFinished(info.id, "build", seconds, f"{self._reference}  {sent}"))
        if before is not None:
            self._superseded.add(str(before["Id"]))
        self._superseded.discard(built)
        return replace(info, docker_install=DockerInstall(LOCAL_REGISTRY, image, tag))

    async def settle(self) -> None:
        """Remove the images of earlier builds: they have no name any more."""
        if self._engine is None:
            return
        for image in sorted(self._superseded):
            with suppress(HostError):  # it has another name by now, or another image is made of it
                await self._engine.remove_image(image)
        self._superseded.clear()

    async def finish(self) -> None:
        """Remove the image too, if that was asked for.

        Raises:
            EngineError: it could not be removed.
        """
        if self._engine is None:
            return
        await self.settle()
        if self._options.rm_image and self._reference:
            await self._engine.remove_image(self._reference)

    def is_input(self, path: str) -> bool:
        """What is sent to the engine."""
        return self._ignored.excluding(path) is None

    async def _reached(self, backend: DockerBackend) -> Engine:
        """The engine, which was seen to answer."""
        if self._engine is not None:
            return self._engine
        daemon = self.daemon("")
        try:
            await backend.check(daemon)
        except EngineError as error:
            if error.kind not in _UNREACHABLE:
                raise
            raise HostError(
                f"no Docker Engine can be reached: {error.cause}",
                remedy="start it (`systemctl start docker`), name another one with --daemon-host, "
                "or leave `--deploy docker` out to run the app as a process",
            ) from error
        self._engine = backend.engine(daemon)
        return self._engine


def _certificates(environ: Mapping[str, str]) -> str:
    """The folder in which the docker command looks for certificates when it has to verify."""
    if not environ.get("DOCKER_TLS_VERIFY") or environ.get("DOCKER_CERT_PATH"):
        return ""  # the variable counts wherever a daemon names no certificates
    return environ.get("DOCKER_CONFIG", "") or str(Path("~/.docker").expanduser())


def _show(host: Host, app_id: str, step: BuildStep) -> None:
    detail = f"{step.number}/{step.total}  {step.text}"
    host.bus.emit(ProgressChanged(app_id, "build", step.percent, detail, is_part=True))


def _size(size: float) -> str:
    """Bytes for people."""
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if size >= 10 or not unit else f"{size:.1f} {_UNITS[unit]}"
