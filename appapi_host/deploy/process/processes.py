"""The processes of an app: which they are, whether they run, how they ended."""

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import anyio
import anyio.to_thread
import psutil

from appapi_host.deploy.process.plan import Identity, Plan

__all__ = [
    "CHILDREN",
    "Child",
    "how_it_ended",
    "members",
    "running",
    "runs",
    "send",
    "unrecorded",
    "wait_by_descriptor",
]


@dataclass(frozen=True, slots=True)
class Child:
    """A process that this one has started."""

    identity: Identity
    popen: subprocess.Popen[bytes]


CHILDREN: Final[dict[int, Child]] = {}
"""What this process has started, by process id. The operating system tells the exit code of a child
to this process once, whichever backend object asks, so they share what was heard."""


def runs(identity: Identity | None) -> bool:
    """Whether the process has not ended."""
    if identity is None:
        return False
    child = CHILDREN.get(identity.pid)
    if child and child.identity == identity:
        return child.popen.poll() is None
    try:
        process = psutil.Process(identity.pid)
        return identity.is_(process) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def running(app_id: str, plan: Plan | None) -> list[Identity]:
    """The process of a plan, if it or a child of it runs."""
    identity = (plan.identity or unrecorded(plan)) if plan else None
    return [identity] if identity and members(app_id, identity, set()) else []


def how_it_ended(identity: Identity) -> str:
    """For instance `exit code 1`; `ended` if that is not known."""
    child = CHILDREN.get(identity.pid)
    code = child.popen.returncode if child and child.identity == identity else None
    if code is None:
        return "ended"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


async def wait_by_descriptor(identity: Identity) -> None:
    """Wait until the process has ended; returns at once where the system cannot tell."""
    if not hasattr(os, "pidfd_open"):
        return
    try:
        descriptor = os.pidfd_open(identity.pid)
    except OSError:
        return
    try:
        # Only now: before the descriptor was open, the id could have gone to another process.
        if await anyio.to_thread.run_sync(runs, identity):
            await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)


def members(app_id: str, identity: Identity, known: set[psutil.Process]) -> set[psutil.Process]:
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
    runs(identity)  # reaps it, if it has ended and was our child
    return {process for process in found if _is_alive(process)}


def send(number: int, processes: set[psutil.Process]) -> None:
    """Send a signal to all of them that still run."""
    for process in processes:
        with suppress(psutil.Error):  # it may have ended meanwhile, psutil looks
            process.send_signal(number)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def unrecorded(plan: Plan) -> Identity | None:
    """The process of a plan whose host died before it wrote down the process id."""
    ours = {name: plan.environment.get(name) for name in ("APP_ID", "APP_SECRET")}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            environment = process.environ()
            leads = not hasattr(os, "getsid") or os.getsid(process.pid) == process.pid
            is_ours = all(environment.get(name) == value for name, value in ours.items())
            if leads and is_ours and process.cwd() == os.path.realpath(plan.source):
                return Identity(process.pid, process.create_time())
    return None
