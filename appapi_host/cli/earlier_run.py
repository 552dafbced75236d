"""What a `run` that was killed has left: its app, and the state in which it was."""

from dataclasses import replace
from typing import Final

import anyio

from appapi_host.cli.console import Console
from appapi_host.errors import HostError
from appapi_host.host import INSTANCE_SETTING, REGISTRY_FILE, Host
from appapi_host.records import AppRecord
from appapi_host.registry import Registry
from appapi_host.settings import HostSettings

__all__ = ["A_LOOK_SECONDS", "end_earlier_run"]

A_LOOK_SECONDS: Final = 0.2
"""Long enough to see whether an app has ended already."""


async def end_earlier_run(settings: HostSettings, console: Console) -> None:
    """Stop what a `run` that was killed has left, and forget its state."""
    state = settings.data_dir / REGISTRY_FILE if settings.data_dir else None
    if state is None or not state.exists():
        return
    settings = replace(settings, timeouts=replace(settings.timeouts, stop=2.0))
    async with Host.open(settings) as host:
        for app in await host.registry.apps():
            await _remove_left(host, app, console)
        instance = host.instance
    # Passwords of an earlier run must not outlive it: it may have been bound to loopback only.
    for suffix in ("", "-wal", "-shm"):
        state.with_name(state.name + suffix).unlink(missing_ok=True)
    # By its name a later run knows what is ours.
    registry = await Registry.open(state)
    await registry.set_setting(INSTANCE_SETTING, instance)
    await registry.close()


async def _remove_left(host: Host, app: AppRecord, console: Console) -> None:
    is_process = app.daemon.accepts_deploy_id == "process-install"
    what = f"process {app.deployment.get('pid', '?')}" if is_process else "container"
    try:
        with anyio.move_on_after(A_LOOK_SECONDS) as look:
            await host.exited(app.app_id)
        await host.backend(app).remove(app, data=not is_process)
    except HostError as error:
        raise HostError(
            f"an earlier run was killed, and its {what} cannot be removed: {error.cause}",
            remedy=error.remedy,
        ) from error
    if look.cancelled_caught:
        console.labelled(
            "note",
            f"an earlier run was killed: its app still ran ({what}), and was stopped now",
        )
