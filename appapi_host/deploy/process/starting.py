"""Starting an app as planned, and removing the folder it was started from."""

import errno
import os
import shlex
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from appapi_host.deploy.process.command import inherited_environment, program_of
from appapi_host.deploy.process.log import LOG
from appapi_host.deploy.process.plan import Identity, Plan
from appapi_host.deploy.process.processes import CHILDREN, Child
from appapi_host.errors import DeployError

__all__ = ["remove_folder", "start"]


def start(folder: Path, plan: Plan, storage: Path | None) -> Plan:
    """Start a process as planned; with `storage`, that is a new deployment with an empty log."""
    source, before = Path(plan.source), plan
    try:
        for private in (folder.parent.parent, folder.parent, folder, storage):
            if private is not None:
                private.mkdir(mode=0o700, parents=True, exist_ok=True)
        truncate = 0 if storage is None else os.O_TRUNC
        log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | truncate, 0o600)
    except OSError as error:
        raise DeployError(
            f"the folder of the app cannot be used: {error}",
            remedy="choose another data directory, or make this one yours",
        ) from error
    try:
        environment = {**inherited_environment(os.environ, source), **plan.environment}
        program = program_of(plan.command[0], source, environment["PATH"])
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
            before.write(folder) if storage is None else (folder / Plan.FILE).unlink()
        raise _not_started(plan.command, error) from error
    finally:
        os.close(log)
    # It cannot be gone yet, even if it has ended: nobody but us can reap it.
    created = time.time()
    with suppress(psutil.Error):
        created = psutil.Process(popen.pid).create_time()
    CHILDREN[popen.pid] = Child(Identity(popen.pid, created), popen)
    plan = replace(plan, pid=popen.pid, created=created)
    plan.write(folder)
    return plan


def _not_started(command: tuple[str, ...], error: OSError) -> DeployError:
    remedies = {
        errno.ENOEXEC: "a script begins with the program that runs it: #!/usr/bin/env python3",
        errno.ENOENT: "the program in the script's first line (#!) is not there",
    }
    return DeployError(
        f"{shlex.join(command)} cannot be started: {error.strerror or error}",
        remedy=remedies.get(error.errno or 0, "start it by hand to see why"),
    )


def remove_folder(folder: Path, data: bool) -> None:  # noqa: FBT001  # goes through run_sync by position
    """Remove the folder of an app, `storage` only with `data`.

    Raises:
        DeployError: it is not possible.
    """
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
