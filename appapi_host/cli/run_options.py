"""What `run` was asked for, and the description of the app that it names."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from appapi_host.errors import HostError
from appapi_host.info_xml import AppInfo, EnvironmentVariable
from appapi_host.settings import NEXTCLOUD_VERSIONS, Timeouts

if TYPE_CHECKING:
    from appapi_host.cli.target_docker import DockerOptions

__all__ = ["RunOptions", "info_of"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `run` was asked for.

    Args:
        folder: of the app.
        command: starts the app instead of what the folder declares.
        port: of the host; None takes the usual one, or a free one.
        bind: address to listen on.
        once: end when the app is enabled.
        data_dir: where the state is kept, below `run/<appid>`.
        environment: further variables for the app.
        timeouts: limits of the handshake.
        docker: the app becomes a container; None makes it a process.
        watch: install it anew whenever a file of the folder changes.
        throttling: refuse addresses that fail to sign in too often; None as `HostSettings` has it.
        nextcloud_version: the major version of Nextcloud that the host stands for.
    """

    folder: Path
    command: tuple[str, ...] = ()
    port: int | None = None
    bind: str = "127.0.0.1"
    once: bool = False
    data_dir: Path = field(default_factory=Path)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)
    docker: "DockerOptions | None" = None
    watch: bool = False
    throttling: bool | None = None
    nextcloud_version: int = NEXTCLOUD_VERSIONS.start


def info_of(options: RunOptions) -> AppInfo:
    """The description of the app in the folder.

    Raises:
        HostError: no folder, or no usable description in it.
    """
    folder = options.folder
    if not folder.is_dir():
        raise HostError(
            f"{folder} is no folder" if folder.exists() else f"the folder {folder} does not exist",
            remedy="give the folder of an ExApp: the one that holds appinfo/info.xml",
        )
    info = AppInfo.from_folder(folder)
    # What a developer gives here is meant for the app, whether info.xml declares it or not.
    undeclared = {
        name: EnvironmentVariable(name=name, value=value)
        for name, value in options.environment.items()
        if name not in info.environment_variables
    }
    if not undeclared:
        return info
    return replace(info, environment_variables={**info.environment_variables, **undeclared})
