"""Where `run` can put an app; the one that needs an engine is in `target_docker`."""

from typing import TYPE_CHECKING, Protocol

from appapi_host.info_xml import AppInfo
from appapi_host.records import Daemon

if TYPE_CHECKING:
    from appapi_host.host import Host

__all__ = ["ProcessTarget", "Target"]


class Target(Protocol):
    """One way to put the app of a folder in place."""

    keeps_storage: bool
    """Whether the app's storage outlives the run."""

    last_resort: str
    """What a second Ctrl-C does."""

    def daemon(self, url: str) -> Daemon:
        """The daemon config for it.

        Args:
            url: where the app reaches the host.

        Raises:
            HostError: what a person chose cannot be understood.
        """
        ...

    async def prepare(self, host: "Host", info: AppInfo) -> AppInfo:
        """Make what a deployment needs from what is in the folder now.

        Returns:
            The description to deploy with.

        Raises:
            HostError: it could not be made; what runs was not touched.
        """
        ...

    async def settle(self) -> None:
        """Remove what only older versions needed: the one that was prepared last is at work."""
        ...

    async def finish(self) -> None:
        """Leave nothing behind that should not stay; the app is gone."""
        ...

    def is_input(self, path: str) -> bool:
        """Whether a change of a file means that the app has changed.

        Args:
            path: from the folder, with `/`.
        """
        ...


class ProcessTarget(Target):
    """A process of this machine; the folder itself is all that it needs."""

    keeps_storage = True
    last_resort = "kills the app at once"

    def daemon(self, url: str) -> Daemon:
        """`local_process`."""
        return Daemon(
            "local_process",
            "Processes of this machine",
            "process-install",
            "http",
            "127.0.0.1",
            {"net": "host", "nextcloud_url": url},
        )

    async def prepare(self, host: "Host", info: AppInfo) -> AppInfo:
        """Nothing is made."""
        return info

    async def settle(self) -> None:
        """Nothing was made."""

    async def finish(self) -> None:
        """Nothing was made."""

    def is_input(self, path: str) -> bool:
        """Any file may be."""
        return True
