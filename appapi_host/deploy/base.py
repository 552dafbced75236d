"""What a deploy backend is: how apps of one kind of daemon get in place."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from appapi_host.events import EventBus
from appapi_host.info_xml import AppInfo
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings

__all__ = ["DeployBackend", "Deployment", "Leftover", "ReportProgress"]


class ReportProgress(Protocol):
    """Tell how far a deployment is."""

    async def __call__(self, percent: int, detail: str = "") -> None:
        """Tell it.

        Args:
            percent: whole percent; the same again if only the rest has changed.
            detail: what that means, for people: bytes and layers of a pull.
        """


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is to be put in place.

    Args:
        app: the registered app: id, port, secret, daemon.
        environment: all variables the app gets, in the order of the documentation; it holds the
            secret, so it is never shown.
        info: what the app says about itself.
        source: folder of the app, if it is installed from one.
        command: what to start instead of what the folder declares.
        storage: folder that survives updates (`APP_PERSISTENT_STORAGE`), where the backend runs on
            this machine.
        mounts: `(source, target, mode)` each.
    """

    app: AppRecord
    environment: Mapping[str, str] = field(repr=False)
    info: AppInfo | None = None
    source: Path | None = None
    command: tuple[str, ...] = ()
    storage: Path | None = None
    mounts: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that this host made for an app that is not registered, or does not use it.

    Args:
        kind: `process`, `container`, `volume`, `folder`.
        name: what it is called there, unique on its daemon.
        app_id: for which app it was made.
        is_data: what is kept on purpose when an app is unregistered without its data.
    """

    kind: str
    name: str
    app_id: str
    is_data: bool = False


class DeployBackend(Protocol):
    """One way to deploy apps; inherit from it for what most backends do alike.

    A backend keeps nothing in memory that it could not do without: what it must know again after a
    restart of the host it returns as notes, which the registry stores in `AppRecord.deployment`
    (JSON values only).
    """

    deploy_id: ClassVar[str]
    """What a daemon's `accepts_deploy_id` names."""

    instance: str = ""
    """Which host this is; a backend marks with it what it makes on machines that hosts share."""

    def __init__(self, settings: HostSettings, bus: EventBus) -> None: ...

    async def close(self) -> None:
        """Let go of connections; apps stay as they are."""
        return

    async def check(self, daemon: Daemon) -> None:
        """See whether a daemon can be used, when it is registered.

        Raises:
            HostError: it cannot, with the reason and what to do.
        """
        return

    async def gateway(self, daemon: Daemon) -> str:
        """Where this machine is found by apps of a daemon that have a loopback of their own.

        Returns:
            An address of this machine, on which the host then listens too; empty where apps share
            our loopback, or where the machine is not the one that the daemon runs on.

        Raises:
            HostError: it cannot be found out.
        """
        return ""

    async def prepare(self, deployment: Deployment, report: ReportProgress) -> None:
        """Fetch what `deploy()` will need, while an older version may still be at work.

        Raises:
            DeployError: it cannot be had; nothing was changed.
        """
        return

    async def deploy(self, deployment: Deployment, report: ReportProgress) -> Mapping[str, Any]:
        """Put the app in place and start it; replaces what an earlier deployment left.

        Returns:
            Notes for the registry.

        Raises:
            DeployError: it could not be done; nothing is left running.
        """
        ...

    async def start(self, app: AppRecord) -> Mapping[str, Any]:
        """Start the app again if it does not run; returns the notes to store."""
        ...

    async def running_since(self, app: AppRecord) -> float | None:
        """When the app was started last, in unix seconds.

        Returns:
            None where nothing but this host starts apps, or it does not run.
        """
        return None

    async def ready(self, app: AppRecord) -> None:
        """Wait until the app may be asked for its heartbeat.

        Raises:
            StepError: it never will, for instance because its health check fails.
        """
        return

    async def stranger(self, app: AppRecord) -> str:
        """Who answers at the app's address in its place, for a sentence.

        Returns:
            For instance `process 4711 (python3)`; empty if it is the app, or cannot be seen.
        """
        return ""

    async def stop(self, app: AppRecord) -> None:
        """Stop the app, its children too; nothing happens if it does not run."""
        ...

    async def is_gone(self, app: AppRecord) -> bool:
        """Whether an app that does not answer is not there at all: there is nobody to ask."""
        return False

    async def set_aside(self, app: AppRecord) -> None:
        """Make room for another version, but keep this one until `discard()` or `restore()`."""
        await self.stop(app)

    async def restore(self, app: AppRecord) -> Mapping[str, Any]:
        """Put what was set aside back in place of what came after it, and start it.

        Args:
            app: the record of the older version.

        Returns:
            Notes for the registry.

        Raises:
            DeployError: it could not be done.
        """
        return await self.start(app)

    async def discard(self, app: AppRecord) -> None:
        """Remove what was set aside: the new version is at work."""
        return

    async def remove(self, app: AppRecord, *, data: bool) -> None:
        """Stop the app and remove all that `deploy()` made, with `data` also its storage."""
        ...

    async def leftovers(self, daemon: Daemon, app_ids: Collection[str]) -> list[Leftover]:
        """What this host made on a daemon for apps other than those, or they do not use.

        Raises:
            HostError: the daemon cannot be asked.
        """
        return []

    async def remove_leftover(self, daemon: Daemon, leftover: Leftover) -> None:
        """Remove such a thing.

        Raises:
            HostError: it cannot be removed.
        """
        return

    async def exited(self, app: AppRecord) -> str:
        """Wait until the app has ended; never returns where that cannot be seen.

        Returns:
            How it ended, for instance `exit code 1` or `killed by SIGKILL`.
        """
        ...

    def output(
        self, app: AppRecord, *, tail: int | None = None, follow: bool = True
    ) -> AsyncIterator[str]:
        """The app's output, line by line.

        Args:
            app: the app.
            tail: begin with so many of the lines that are there; with its start if not given.
            follow: wait for more until the app has ended.
        """
        ...

    async def last_output(self, app: AppRecord, *, lines: int) -> list[str]:
        """The last lines that the app printed, oldest first."""
        ...

    def url(self, app: AppRecord) -> str:
        """Where the host reaches the app, without a trailing slash."""
        ...
