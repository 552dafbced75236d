"""Apps as plain processes of this machine: no engine, no image, the developer's own code.

An app runs detached, in a session of its own, so that it outlives the command that installed it.
What the next host process must know to find it again is in `apps/<appid>/process.json`.
"""

import re
import shutil
import signal
import tempfile
import weakref
from collections.abc import AsyncIterator, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import anyio
import anyio.to_thread
import psutil

from appapi_host.deploy.base import DeployBackend, Deployment, Leftover, ReportProgress
from appapi_host.deploy.process.command import start_command
from appapi_host.deploy.process.listeners import stranger_on
from appapi_host.deploy.process.log import (
    CHUNK,
    LOG,
    LogReader,
    last_lines,
    start_of_last,
    text_of,
)
from appapi_host.deploy.process.plan import KEPT, Identity, Plan, keep_plan, restore_plan
from appapi_host.deploy.process.processes import (
    how_it_ended,
    members,
    running,
    runs,
    send,
    unrecorded,
    wait_by_descriptor,
)
from appapi_host.deploy.process.starting import remove_folder, start
from appapi_host.errors import DeployError
from appapi_host.events import EventBus, Notice
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings

__all__ = ["ProcessBackend"]

_POLL: Final = 0.05
"""Seconds between two looks at what cannot wake us: a log file, a process without pidfd."""

_STOP_POLL: Final = 0.02
"""Seconds between two looks whether all processes of an app have ended."""

_KILL_LIMIT: Final = 5.0
"""Seconds that killed processes get to disappear; more means that the kernel holds them."""

_KILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)
"""On Windows, SIGTERM does not ask but kill."""


class ProcessBackend(DeployBackend):
    """Starts an app's command on this machine."""

    deploy_id: ClassVar[str] = "process-install"

    def __init__(self, settings: HostSettings, bus: EventBus) -> None:
        self._timeouts = settings.timeouts
        self._bus = bus
        self._root = settings.data_dir.absolute() if settings.data_dir else None
        self._making_root = anyio.Lock()

    async def deploy(self, deployment: Deployment, report: ReportProgress) -> Mapping[str, Any]:
        """Start the app from its folder, instead of what an earlier deployment left.

        Returns:
            `pid`, `created` (unix seconds), `command`, `source`, `log_start` (bytes).

        Raises:
            DeployError: there is no command or it cannot be started. An app that starts and ends
                at once is none: `exited()` tells.
        """
        app = deployment.app
        folder = await self._folder(app.app_id)
        source = deployment.source.absolute() if deployment.source else folder
        command = await anyio.to_thread.run_sync(start_command, source, deployment.command)
        for identity in await self._identities(app):
            if await anyio.to_thread.run_sync(runs, identity):
                text = f"process {identity.pid} of an earlier deployment is stopped"
                self._bus.emit(Notice(app.app_id, text, is_warning=False))
        await self.stop(app)
        await report(95)
        environment = dict(deployment.environment)
        storage = deployment.storage or folder / "storage"
        if not environment.get("APP_PERSISTENT_STORAGE"):
            environment["APP_PERSISTENT_STORAGE"] = str(storage)
        plan = Plan(command, str(source), environment)
        try:
            started = await anyio.to_thread.run_sync(start, folder, plan, storage)
            await report(99)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.stop(app)
            raise
        return started.notes()

    async def start(self, app: AppRecord) -> Mapping[str, Any]:
        """Start the app again, as it was deployed, if it does not run.

        Raises:
            DeployError: it was never deployed here, or cannot be started.
        """
        folder = await self._folder(app.app_id)
        plan = await anyio.to_thread.run_sync(Plan.read, folder)
        if plan is None:
            raise DeployError(
                f"how to start {app.app_id} is not known: there is no {folder / Plan.FILE}",
                remedy="unregister the app and register it again",
            )
        if await anyio.to_thread.run_sync(runs, plan.identity):
            return plan.notes()
        await self.stop(app)  # children may have outlived it
        return (await anyio.to_thread.run_sync(start, folder, plan, None)).notes()

    async def stranger(self, app: AppRecord) -> str:
        """Who listens on the app's port, if it is none of the app's processes."""
        plan = await anyio.to_thread.run_sync(Plan.read, await self._folder(app.app_id))
        if plan is None:
            return ""
        return await anyio.to_thread.run_sync(stranger_on, app.port, app.app_id, plan)

    async def stop(self, app: AppRecord) -> None:
        """End all processes of the app: SIGTERM first, SIGKILL after the limit.

        Raises:
            DeployError: some do not even end when killed.
        """
        for identity in await self._identities(app):
            await self._stop(app.app_id, identity)

    async def is_gone(self, app: AppRecord) -> bool:
        """Whether no process of the app runs."""
        for identity in await self._identities(app):
            if await anyio.to_thread.run_sync(members, app.app_id, identity, set()):
                return False
        return True

    async def set_aside(self, app: AppRecord) -> None:
        """Stop the app, and keep how it was started until `discard()` or `restore()`."""
        await self.stop(app)
        await anyio.to_thread.run_sync(keep_plan, await self._folder(app.app_id))

    async def restore(self, app: AppRecord) -> Mapping[str, Any]:
        """Stop what came after it, and start the app as it was started before.

        Raises:
            DeployError: it was never set aside nor deployed, or cannot be started.
        """
        await self.stop(app)
        await anyio.to_thread.run_sync(restore_plan, await self._folder(app.app_id))
        return await self.start(app)

    async def discard(self, app: AppRecord) -> None:
        """Forget how the older version was started."""
        folder = await self._folder(app.app_id)
        await anyio.to_thread.run_sync(partial((folder / KEPT).unlink, missing_ok=True))

    async def remove(self, app: AppRecord, *, data: bool) -> None:
        """Stop the app and remove its folder, `storage` only with `data`."""
        await self.stop(app)
        await anyio.to_thread.run_sync(remove_folder, await self._folder(app.app_id), data)

    async def leftovers(self, daemon: Daemon, app_ids: Collection[str]) -> list[Leftover]:
        """Folders of apps that are not registered, and what runs from them."""
        root = (await self._folder("any")).parent

        def find() -> list[Leftover]:
            found = []
            for folder in sorted(root.iterdir()) if root.is_dir() else ():
                if folder.name in app_ids or not folder.is_dir():
                    continue
                plan = Plan.read(folder)
                is_alive = plan is not None and bool(running(folder.name, plan))
                kind = "process" if is_alive else "folder"
                has_only_data = plan is None and (folder / "storage").is_dir()
                found.append(Leftover(kind, folder.name, folder.name, is_data=has_only_data))
            return found

        return await anyio.to_thread.run_sync(find)

    async def remove_leftover(self, daemon: Daemon, leftover: Leftover) -> None:
        """End what runs, and remove the folder; what it holds as data only if it is nothing else.

        Raises:
            DeployError: it is not possible.
        """
        folder = await self._folder(leftover.app_id)
        plan = await anyio.to_thread.run_sync(Plan.read, folder)
        for identity in await anyio.to_thread.run_sync(running, leftover.app_id, plan):
            await self._stop(leftover.app_id, identity)
        await anyio.to_thread.run_sync(remove_folder, folder, leftover.is_data)

    async def exited(self, app: AppRecord) -> str:
        """Wait until the app's first process has ended.

        Returns:
            `exit code 1`, `killed by SIGKILL`; `ended` where that cannot be known, because another
            host process started it; `not running` if it was never started.
        """
        identities = await self._identities(app)
        if not identities:
            return "not running"
        identity = identities[0]
        await wait_by_descriptor(identity)
        while await anyio.to_thread.run_sync(runs, identity):  # noqa: ASYNC110  # nobody wakes us
            await anyio.sleep(_POLL)
        return how_it_ended(identity)

    async def output(
        self, app: AppRecord, *, tail: int | None = None, follow: bool = True
    ) -> AsyncIterator[str]:
        """What the app prints since it was last started, until it has ended and all is read.

        Yields:
            Whole lines without their end; of a line that was written over by carriage returns, what
            a terminal would still show.
        """
        folder = await self._folder(app.app_id)
        plan = await anyio.to_thread.run_sync(Plan.read, folder)
        offset = plan.log_start if plan else 0
        if tail is not None:
            find = partial(start_of_last, folder / LOG, offset, tail)
            offset = await anyio.to_thread.run_sync(find)
        reader = LogReader(folder / LOG)
        try:
            rest = b""
            while True:
                # First whether it runs, then its log: the last words are not missed.
                is_alive = (
                    follow
                    and plan is not None
                    and await anyio.to_thread.run_sync(runs, plan.identity)
                )
                chunk = await anyio.to_thread.run_sync(reader.read, offset)
                offset += len(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield text_of(line)
                if len(rest) >= CHUNK:
                    yield text_of(rest)
                    rest = b""
                if not chunk:
                    if not is_alive:
                        break
                    await anyio.sleep(_POLL)
            if rest:
                yield text_of(rest)
        finally:
            reader.close()

    async def last_output(self, app: AppRecord, *, lines: int) -> list[str]:
        """The last lines that the app printed since it was last started, oldest first."""
        folder = await self._folder(app.app_id)
        plan = await anyio.to_thread.run_sync(Plan.read, folder)
        start = plan.log_start if plan else 0
        return await anyio.to_thread.run_sync(last_lines, folder / LOG, start, lines)

    def url(self, app: AppRecord) -> str:
        """Apps that are processes listen on loopback."""
        return f"http://127.0.0.1:{app.port}"

    async def _folder(self, app_id: str) -> Path:
        if app_id in {"", ".", ".."} or not re.fullmatch(r"[\w.-]+", app_id):
            # What is removed later must never be more than one folder of ours.
            raise DeployError(f"{app_id!r} cannot be the name of a folder")
        async with self._making_root:
            if self._root is None:
                make = partial(tempfile.mkdtemp, prefix="appapi-host-")
                self._root = Path(await anyio.to_thread.run_sync(make))
                weakref.finalize(self, shutil.rmtree, self._root, ignore_errors=True)
        return self._root / "apps" / app_id

    async def _identities(self, app: AppRecord) -> list["Identity"]:
        """Which processes may be the app's; the one that was started last comes first."""
        folder = await self._folder(app.app_id)

        def find() -> list[Identity]:
            plan = Plan.read(folder)
            found = [] if plan is None else [plan.identity or unrecorded(plan)]
            found.append(Identity.of(app.deployment))
            return list(dict.fromkeys(identity for identity in found if identity))

        return await anyio.to_thread.run_sync(find)

    async def _stop(self, app_id: str, identity: "Identity") -> None:
        limit = anyio.current_time() + self._timeouts.stop
        known: set[psutil.Process] = set()
        asked: set[psutil.Process] = set()
        while True:
            scan = partial(members, app_id, identity, known)
            known = await anyio.to_thread.run_sync(scan)
            if not known:
                return
            late = anyio.current_time() - limit
            if late > _KILL_LIMIT:
                pids = ", ".join(str(process.pid) for process in known)
                raise DeployError(
                    f"processes of {app_id} do not end, though killed: {pids}",
                    remedy="see what holds them, and whether they run as another user",
                )
            if late >= 0:
                await anyio.to_thread.run_sync(send, _KILL, known)
            else:
                await anyio.to_thread.run_sync(send, signal.SIGTERM, known - asked)
            asked |= known
            await anyio.sleep(_STOP_POLL)
