"""Apps as plain processes of this machine: no engine, no image, the developer's own code.

An app runs detached, in a session of its own, so that it outlives the command that installed it.
What the next host process must know to find it again is in `apps/<appid>/process.json`.
"""

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import anyio
import anyio.to_thread
import psutil

from appapi_host.deploy.base import DeployBackend, Deployment, Leftover, ReportProgress
from appapi_host.errors import DeployError
from appapi_host.events import EventBus, Notice
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings

__all__ = ["ProcessBackend", "inherited_environment", "start_command"]

_OWN_PREFIXES: Final = ("APP_", "AA_", "HP_", "EX_APP")
_OWN_NAMES: Final = frozenset({"NEXTCLOUD_URL", "COMPUTE_DEVICE"})
_SHELL_SYNTAX: Final = re.compile(r"[$;|&<>()`*?~\n]|^\w+=")
"""What only a shell understands in the line of a Procfile."""

_POLL: Final = 0.05
"""Seconds between two looks at what cannot wake us: a log file, a process without pidfd."""

_STOP_POLL: Final = 0.02
"""Seconds between two looks whether all processes of an app have ended."""

_KILL_LIMIT: Final = 5.0
"""Seconds that killed processes get to disappear; more means that the kernel holds them."""

_CLOCK_TOLERANCE: Final = 1.0
"""Seconds by which the creation time of the same process may seem to differ after the clock was
set; a process id is not used again that soon."""

_KILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)
"""On Windows, SIGTERM does not ask but kill."""

_CHUNK: Final = 64 * 1024


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
            if await anyio.to_thread.run_sync(_runs, identity):
                text = f"process {identity.pid} of an earlier deployment is stopped"
                self._bus.emit(Notice(app.app_id, text, is_warning=False))
        await self.stop(app)
        await report(95)
        environment = dict(deployment.environment)
        storage = deployment.storage or folder / "storage"
        if not environment.get("APP_PERSISTENT_STORAGE"):
            environment["APP_PERSISTENT_STORAGE"] = str(storage)
        plan = _Plan(command, str(source), environment)
        try:
            started = await anyio.to_thread.run_sync(_start, folder, plan, storage)
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
        plan = await anyio.to_thread.run_sync(_Plan.read, folder)
        if plan is None:
            raise DeployError(
                f"how to start {app.app_id} is not known: there is no {folder / _Plan.FILE}",
                remedy="unregister the app and register it again",
            )
        if await anyio.to_thread.run_sync(_runs, plan.identity):
            return plan.notes()
        await self.stop(app)  # children may have outlived it
        return (await anyio.to_thread.run_sync(_start, folder, plan, None)).notes()

    async def stop(self, app: AppRecord) -> None:
        """End all processes of the app: SIGTERM first, SIGKILL after the limit.

        Raises:
            DeployError: some do not even end when killed.
        """
        for identity in await self._identities(app):
            await self._stop(app.app_id, identity)

    async def set_aside(self, app: AppRecord) -> None:
        """Stop the app, and keep how it was started until `discard()` or `restore()`."""
        await self.stop(app)
        await anyio.to_thread.run_sync(_keep_plan, await self._folder(app.app_id))

    async def restore(self, app: AppRecord) -> Mapping[str, Any]:
        """Stop what came after it, and start the app as it was started before.

        Raises:
            DeployError: it was never set aside nor deployed, or cannot be started.
        """
        await self.stop(app)
        await anyio.to_thread.run_sync(_restore_plan, await self._folder(app.app_id))
        return await self.start(app)

    async def discard(self, app: AppRecord) -> None:
        """Forget how the older version was started."""
        folder = await self._folder(app.app_id)
        await anyio.to_thread.run_sync(partial((folder / _KEPT).unlink, missing_ok=True))

    async def remove(self, app: AppRecord, *, data: bool) -> None:
        """Stop the app and remove its folder, `storage` only with `data`."""
        await self.stop(app)
        await anyio.to_thread.run_sync(_remove, await self._folder(app.app_id), data)

    async def leftovers(self, daemon: Daemon, app_ids: Collection[str]) -> list[Leftover]:
        """Folders of apps that are not registered, and what runs from them."""
        root = (await self._folder("any")).parent

        def find() -> list[Leftover]:
            found = []
            for folder in sorted(root.iterdir()) if root.is_dir() else ():
                if folder.name in app_ids or not folder.is_dir():
                    continue
                plan = _Plan.read(folder)
                runs = plan is not None and bool(_running(folder.name, plan))
                kind = "process" if runs else "folder"
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
        plan = await anyio.to_thread.run_sync(_Plan.read, folder)
        for identity in await anyio.to_thread.run_sync(_running, leftover.app_id, plan):
            await self._stop(leftover.app_id, identity)
        await anyio.to_thread.run_sync(_remove, folder, leftover.is_data)

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
        await _wait_by_descriptor(identity)
        while await anyio.to_thread.run_sync(_runs, identity):  # noqa: ASYNC110  # nobody wakes us
            await anyio.sleep(_POLL)
        return _how_it_ended(identity)

    async def output(
        self, app: AppRecord, *, tail: int | None = None, follow: bool = True
    ) -> AsyncIterator[str]:
        """What the app prints since it was last started, until it has ended and all is read.

        Yields:
            Whole lines without their end; of a line that was written over by carriage returns, what
            a terminal would still show.
        """
        folder = await self._folder(app.app_id)
        plan = await anyio.to_thread.run_sync(_Plan.read, folder)
        offset = plan.log_start if plan else 0
        if tail is not None:
            find = partial(_start_of_last, folder / _LOG, offset, tail)
            offset = await anyio.to_thread.run_sync(find)
        rest = b""
        while True:
            # First whether it runs, then its log: the last words are not missed.
            runs = (
                follow and plan is not None and await anyio.to_thread.run_sync(_runs, plan.identity)
            )
            chunk = await anyio.to_thread.run_sync(_read, folder / _LOG, offset)
            offset += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield _text(line)
            if len(rest) >= _CHUNK:
                yield _text(rest)
                rest = b""
            if not chunk:
                if not runs:
                    break
                await anyio.sleep(_POLL)
        if rest:
            yield _text(rest)

    async def last_output(self, app: AppRecord, *, lines: int) -> list[str]:
        """The last lines that the app printed since it was last started, oldest first."""
        folder = await self._folder(app.app_id)
        plan = await anyio.to_thread.run_sync(_Plan.read, folder)
        start = plan.log_start if plan else 0
        return await anyio.to_thread.run_sync(_tail, folder / _LOG, start, lines)

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

    async def _identities(self, app: AppRecord) -> list["_Identity"]:
        """Which processes may be the app's; the one that was started last comes first."""
        folder = await self._folder(app.app_id)

        def find() -> list[_Identity]:
            plan = _Plan.read(folder)
            found = [] if plan is None else [plan.identity or _unrecorded(plan)]
            found.append(_Identity.of(app.deployment))
            return list(dict.fromkeys(identity for identity in found if identity))

        return await anyio.to_thread.run_sync(find)

    async def _stop(self, app_id: str, identity: "_Identity") -> None:
        limit = anyio.current_time() + self._timeouts.stop
        known: set[psutil.Process] = set()
        asked: set[psutil.Process] = set()
        while True:
            scan = partial(_members, app_id, identity, known)
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
                await anyio.to_thread.run_sync(_send, _KILL, known)
            else:
                await anyio.to_thread.run_sync(_send, signal.SIGTERM, known - asked)
            asked |= known
            await anyio.sleep(_STOP_POLL)


def start_command(folder: Path, command: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What starts the app of a folder.

    Args:
        folder: of the app.
        command: takes the place of what the folder declares.

    Returns:
        The command, else the line `web:` of a `Procfile`, else `ex_app/lib/main.py` or `main.py`
        with the Python of the folder's `.venv`, or the one that runs the host.

    Raises:
        DeployError: there is nothing of all that.
    """
    if not folder.is_dir() and not command:
        raise DeployError(
            f"the folder {folder} does not exist", remedy="give the folder that holds the app"
        )
    if command:
        return command
    procfile = folder / "Procfile"
    if procfile.is_file():
        text = procfile.read_text(encoding="utf-8", errors="replace")
        if line := re.search(r"^web:[ \t]*(\S.*?)\s*$", text, re.MULTILINE):
            return _split(line[1])
    for script in ("ex_app/lib/main.py", "main.py"):
        if (folder / script).is_file():
            return (_python(folder), script)
    raise DeployError(
        f"nothing in {folder} says how to start the app; looked for a line `web:` in Procfile,"
        " ex_app/lib/main.py and main.py",
        remedy="add one of them, or give the command: -- python3 my_app.py",
    )


def inherited_environment(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What an app gets of the host's own environment.

    Args:
        environ: the host's.
        folder: of the app; the programs of its `.venv` are found first.

    Returns:
        All but the variables that tell an ExApp who it is: the host may itself run inside one.
    """
    inherited = {
        name: value
        for name, value in environ.items()
        if not name.startswith(_OWN_PREFIXES) and name not in _OWN_NAMES
    }
    virtual = folder / ".venv" / "bin"
    first = virtual if virtual.is_dir() else Path(sys.executable).parent
    inherited["PATH"] = os.pathsep.join(filter(None, (str(first), environ.get("PATH", os.defpath))))
    inherited["PYTHONUNBUFFERED"] = "1"  # a line is to be seen when it is printed
    return inherited


_LOG: Final = "output.log"
_KEPT: Final = "process.old.json"
"""The plan of the version that an update has set aside."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """One process: ids are used again, so the id alone may name another one."""

    pid: int
    created: float

    @classmethod
    def of(cls, notes: Mapping[str, Any]) -> Self | None:
        pid, created = notes.get("pid"), notes.get("created")
        if isinstance(pid, int) and isinstance(created, int | float):
            return cls(pid, float(created))
        return None

    def is_(self, process: psutil.Process) -> bool:
        return abs(process.create_time() - self.created) < _CLOCK_TOLERANCE


@dataclass(frozen=True, slots=True)
class _Plan:
    """How an app is started, and the process that was: the content of `process.json`.

    It is written before the process is started, then again with its id. So a host that dies in
    between leaves a plan without an id, and `_unrecorded()` finds the process.
    """

    FILE: ClassVar[str] = "process.json"

    command: tuple[str, ...]
    source: str
    environment: dict[str, str] = field(repr=False)
    pid: int | None = None
    created: float | None = None
    log_start: int = 0

    @property
    def identity(self) -> _Identity | None:
        if self.pid is None or self.created is None:
            return None
        return _Identity(self.pid, self.created)

    def notes(self) -> dict[str, Any]:
        notes = asdict(self)
        del notes["environment"]  # the secret is in there, and notes are shown
        return {**notes, "command": list(self.command)}

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        try:
            stored = json.loads((folder / cls.FILE).read_text(encoding="utf-8"))
            return cls(**{**stored, "command": tuple(stored["command"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, folder: Path, name: str = FILE) -> None:
        fresh = folder / f"{name}.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        fresh.replace(folder / name)


def _running(app_id: str, plan: _Plan | None) -> list[_Identity]:
    """The process of a plan, if it or a child of it runs."""
    identity = (plan.identity or _unrecorded(plan)) if plan else None
    return [identity] if identity and _members(app_id, identity, set()) else []


def _keep_plan(folder: Path) -> None:
    plan = _Plan.read(folder)
    if plan is not None:
        plan.write(folder, _KEPT)


def _restore_plan(folder: Path) -> None:
    with suppress(FileNotFoundError):  # the update ended before it was set aside
        (folder / _KEPT).replace(folder / _Plan.FILE)


@dataclass(frozen=True, slots=True)
class _Child:
    identity: _Identity
    popen: subprocess.Popen[bytes]


_CHILDREN: Final[dict[int, _Child]] = {}
"""What this process has started, by process id. The operating system tells the exit code of a child
to this process once, whichever backend object asks, so they share what was heard."""


def _start(folder: Path, plan: _Plan, storage: Path | None) -> _Plan:
    """Start a process as planned; with `storage`, that is a new deployment with an empty log."""
    source, before = Path(plan.source), plan
    try:
        for private in (folder.parent.parent, folder.parent, folder, storage):
            if private is not None:
                private.mkdir(mode=0o700, parents=True, exist_ok=True)
        truncate = 0 if storage is None else os.O_TRUNC
        log = os.open(folder / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | truncate, 0o600)
    except OSError as error:
        raise DeployError(
            f"the folder of the app cannot be used: {error}",
            remedy="choose another data directory, or make this one yours",
        ) from error
    try:
        environment = {**inherited_environment(os.environ, source), **plan.environment}
        program = _program(plan.command[0], source, environment["PATH"])
        plan = replace(plan, pid=None, created=None, log_start=os.fstat(log).st_size)
        plan.write(folder)
        popen = subprocess.Popen(
            [program, *plan.command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=source,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        with suppress(OSError):
            # Nothing runs: a plan without a process id would say that something might.
            before.write(folder) if storage is None else (folder / _Plan.FILE).unlink()
        raise _not_started(plan.command, error) from error
    finally:
        os.close(log)
    # It cannot be gone yet, even if it has ended: nobody but us can reap it.
    created = time.time()
    with suppress(psutil.Error):
        created = psutil.Process(popen.pid).create_time()
    _CHILDREN[popen.pid] = _Child(_Identity(popen.pid, created), popen)
    plan = replace(plan, pid=popen.pid, created=created)
    plan.write(folder)
    return plan


def _program(name: str, source: Path, path: str) -> str:
    """The program that a command names, as an absolute path.

    Raises:
        DeployError: it, or the folder to start it in, is not there or may not be executed.
    """
    if not source.is_dir():
        raise DeployError(
            f"the folder {source} does not exist", remedy="give the folder that holds the app"
        )
    named = source / name if os.path.dirname(name) else None  # noqa: PTH120  # a name has no folder
    found = shutil.which(named or name, path=path)
    if found:
        return found
    if named and named.exists():
        raise DeployError(
            f"{named} is not executable",
            remedy=f"chmod +x {named}, or give the program that runs it: -- python3 {name}",
        )
    raise DeployError(
        f"the command {name!r} was not found" + (f": {named} does not exist" if named else ""),
        remedy="install it, or give another start command after `--`; looked in " + path
        if not named
        else "paths in a start command count from the folder of the app",
    )


def _not_started(command: tuple[str, ...], error: OSError) -> DeployError:
    remedies = {
        errno.ENOEXEC: "a script begins with the program that runs it: #!/usr/bin/env python3",
        errno.ENOENT: "the program in the script's first line (#!) is not there",
    }
    return DeployError(
        f"{shlex.join(command)} cannot be started: {error.strerror or error}",
        remedy=remedies.get(error.errno or 0, "start it by hand to see why"),
    )


def _python(folder: Path) -> str:
    virtual = folder / ".venv"
    if not virtual.is_dir():
        return sys.executable
    python = virtual / "bin" / "python3"
    if not os.access(python, os.X_OK):
        raise DeployError(
            f"{virtual} has no working Python: {python} is missing",
            remedy=f"make it anew: python3 -m venv --clear {virtual}",
        )
    return str(python)


def _split(line: str) -> tuple[str, ...]:
    if _SHELL_SYNTAX.search(line):
        return ("/bin/sh", "-c", line)
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise DeployError(
            f"the line `web:` of Procfile cannot be read: {error}",
            remedy="close the quotation: web: python3 'my app.py'",
        ) from error


def _runs(identity: _Identity | None) -> bool:
    if identity is None:
        return False
    child = _CHILDREN.get(identity.pid)
    if child and child.identity == identity:
        return child.popen.poll() is None
    try:
        process = psutil.Process(identity.pid)
        return identity.is_(process) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _how_it_ended(identity: _Identity) -> str:
    child = _CHILDREN.get(identity.pid)
    code = child.popen.returncode if child and child.identity == identity else None
    if code is None:
        return "ended"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


async def _wait_by_descriptor(identity: _Identity) -> None:
    """Wait until the process has ended; returns at once where the system cannot tell."""
    if not hasattr(os, "pidfd_open"):
        return
    try:
        descriptor = os.pidfd_open(identity.pid)
    except OSError:
        return
    try:
        # Only now: before the descriptor was open, the id could have gone to another process.
        if await anyio.to_thread.run_sync(_runs, identity):
            await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)


def _members(app_id: str, identity: _Identity, known: set[psutil.Process]) -> set[psutil.Process]:
    """All living processes of an app: known ones, descendants, and all of its session.

    Descendants find children that began a session of their own, the session finds children whose
    parent has ended.
    """
    found = set(known)
    leader: psutil.Process | None = None
    with suppress(psutil.Error):
        leader = psutil.Process(identity.pid)
        if not identity.is_(leader):
            return {process for process in found if _is_alive(process)}
        found |= {leader, *leader.children(recursive=True)}
    for pid in psutil.pids() if hasattr(os, "getsid") else ():
        with suppress(psutil.Error, OSError):
            if os.getsid(pid) == identity.pid:
                process = psutil.Process(pid)
                # Without its leader, a session might be that of a later process of the same id.
                if leader or process.environ().get("APP_ID") == app_id:
                    found.add(process)
    _runs(identity)  # reaps it, if it has ended and was our child
    return {process for process in found if _is_alive(process)}


def _send(number: int, processes: set[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):  # it may have ended meanwhile, psutil looks
            process.send_signal(number)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _unrecorded(plan: _Plan) -> _Identity | None:
    """The process of a plan whose host died before it wrote down the process id."""
    ours = {name: plan.environment.get(name) for name in ("APP_ID", "APP_SECRET")}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            environment = process.environ()
            leads = not hasattr(os, "getsid") or os.getsid(process.pid) == process.pid
            is_ours = all(environment.get(name) == value for name, value in ours.items())
            if leads and is_ours and process.cwd() == os.path.realpath(plan.source):
                return _Identity(process.pid, process.create_time())
    return None


def _remove(folder: Path, data: bool) -> None:  # noqa: FBT001  # goes through run_sync by position
    try:
        if data or not (folder / "storage").is_dir():
            if folder.exists():
                shutil.rmtree(folder)
            return
        for entry in folder.iterdir():
            if entry.name != "storage":
                entry.unlink()
    except OSError as error:
        raise DeployError(
            f"the folder of the app cannot be removed: {error}", remedy=f"remove {folder} by hand"
        ) from error


def _read(log: Path, offset: int) -> bytes:
    try:
        with log.open("rb") as file:
            file.seek(offset)
            return file.read(_CHUNK)
    except OSError:
        return b""


def _tail(log: Path, start: int, lines: int) -> list[str]:
    try:
        offset = max(start, log.stat().st_size - _CHUNK)
    except OSError:
        return []
    content = _read(log, offset)
    if offset > start:
        content = content.partition(b"\n")[2]  # the first line is not whole
    found = [_text(line) for line in content.removesuffix(b"\n").split(b"\n")] if content else []
    return found[max(0, len(found) - lines) :]


def _start_of_last(log: Path, start: int, lines: int) -> int:
    """Where the last lines begin, in bytes."""
    starts: deque[int] = deque(maxlen=lines)
    place = start
    with suppress(OSError), log.open("rb") as file:
        file.seek(start)
        for line in file:
            starts.append(place)
            place += len(line)
    return starts[0] if starts else place


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r").rpartition("\r")[2]
