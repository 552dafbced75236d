"""Replacing an app by another version, and going back where the new one does not come up."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from appapi_host.deploy.base import DeployBackend, ReportProgress
from appapi_host.errors import DeployError, HostError, NotFoundError, RefusedError
from appapi_host.events import ProgressChanged
from appapi_host.info_xml import AppInfo
from appapi_host.operations import Verb
from appapi_host.records import AppRecord
from appapi_host.recovery import snapshot
from exapp_sdk.protocol.lifecycle import TRANSITIONS, Event
from exapp_sdk.protocol.status import Status

if TYPE_CHECKING:
    from appapi_host.host import Host

__all__ = ["Updater"]


class Updater:
    """Brings apps to another version.

    Args:
        host: whose apps.
    """

    def __init__(self, host: "Host") -> None:
        self._host = host

    async def update(
        self,
        info: AppInfo,
        *,
        wait_finish: bool = True,
        keep_disabled: bool = False,
        redeploy: bool = False,
        source: Path | None = None,
    ) -> AppRecord:
        """Replace an app by another version; see `Host.update()`."""
        old = await self._host.app(info.id)
        if not redeploy and await self.has(old, info.version):
            return old
        async with self._host.turns.take(info.id, Verb.UPDATE, "fetch"):
            old = await self._host.app(info.id)
            if not redeploy and old.version == info.version:
                return old  # another process was faster
            app = await self._update(old, info, wait_finish=wait_finish, source=source)
            if keep_disabled and not old.enabled:
                app = await self._host.switch.disable_now(info.id)
        return app

    async def has(self, app: AppRecord, version: str) -> bool:
        """Whether an app has a version, and is not just on the way to it or back."""
        return app.version == version and await self._host.operations.of(app.app_id) is None

    async def _update(
        self, old: AppRecord, info: AppInfo, *, wait_finish: bool, source: Path | None
    ) -> AppRecord:
        backend = self._host.backend(old)
        before = old.options.get("source", "")
        new = replace(
            old,
            version=info.version,
            name=info.name,
            routes=info.routes,
            status=Status(type="update"),
            options={
                **old.options,
                "scopes": list(info.scopes),
                "source": str(source) if source and before else before,
            },
        )
        deployment = self._host.installer.deployment(
            new, info, await self._host.daemons.open_gateway(new)
        )
        await backend.prepare(deployment, self._report_to_bus(info.id))
        await self._host.operations.step(info.id, "disable", {"old": snapshot(old)})
        try:
            if old.enabled:
                try:
                    await self._host.switch.disable_now(info.id)
                except RefusedError as error:
                    self._host.warn(info.id, f"did not want to be disabled: {error.cause}")
            await self._host.operations.step(info.id, "set aside")
            await backend.set_aside(old)
            app = await self._host.switch.transition(info.id, partial(_updated, new))
            await self._host.installer.deploy(
                app, backend, replace(deployment, app=app), is_prepared=True
            )
            app = await self._host.installer.bring_up(app)
            app = await self._host.installer.initialized(app, wait_finish=wait_finish)
        except BaseException as error:
            failure = (
                f"update failed: {error}" if isinstance(error, HostError) else "update interrupted"
            )
            with anyio.CancelScope(shield=True):
                if await self.roll_back(old, backend, failure, enable=old.enabled):
                    await self._host.operations.end(info.id)
                else:
                    await self._host.operations.abandon(info.id)
            raise
        await self._host.operations.step(info.id, "discard")
        try:
            await backend.discard(app)
        except DeployError as error:
            # The new version is at work; what is left of the old one goes when that is possible.
            self._host.warn(
                app.app_id, f"version {old.version} could not be removed yet: {error.cause}"
            )
            await self._host.operations.abandon(info.id)
        return app

    async def roll_back(
        self, old: AppRecord, backend: DeployBackend, failure: str, *, enable: bool
    ) -> bool:
        """Put the old version back after an update that did not succeed, as it was before.

        Never raises for what goes wrong with that: it is in the record.

        Returns:
            Whether that is settled; False where it has to be tried again, because the daemon cannot
            be reached.
        """
        self._host.warn(old.app_id, f"{failure}; going back to version {old.version}")
        try:
            notes = await backend.restore(old)
            await self._host.registry.apply(old.app_id, partial(_rolled_back, old, notes, failure))
            if enable:
                await self._host.switch.enable_now(old.app_id)
                await self._host.registry.apply(
                    old.app_id, lambda app: replace(app, failure=failure)
                )
            else:
                await backend.stop(await self._host.app(old.app_id))
        except HostError as second:
            away = await self._host.daemons.away(old)
            if away:
                text = f"{failure}; version {old.version} will be put back: {away}"
            else:
                text = f"{failure}; version {old.version} could not be put back: {second}"
            self._host.warn(old.app_id, text)
            with suppress(NotFoundError):
                await self._host.registry.apply(old.app_id, partial(_failed, text))
            return away is None
        return True

    def _report_to_bus(self, app_id: str) -> ReportProgress:
        async def report(percent: int, detail: str = "") -> None:
            self._host.bus.emit(ProgressChanged(app_id, "deploy", percent, detail))

        return report


def _updated(new: AppRecord, app: AppRecord) -> AppRecord:
    """What an update changes; everything else stays as it is now."""
    return replace(
        app.after(Event.UPDATE, status=new.status.deploy_reported(0, now=int(time.time()))),
        version=new.version,
        name=new.name,
        routes=new.routes,
        options=new.options,
    )


def _rolled_back(
    old: AppRecord, notes: Mapping[str, Any], failure: str, app: AppRecord
) -> AppRecord:
    """The old version's row, disabled."""
    if Event.ROLLED_BACK not in TRANSITIONS[app.state]:
        app = app.after(Event.INTERRUPTED)
    changed = app.after(Event.ROLLED_BACK, status=old.status, enabled=False, failure=failure)
    return replace(
        changed,
        version=old.version,
        name=old.name,
        routes=old.routes,
        options=old.options,
        deployment=dict(notes),
    )


def _failed(text: str, app: AppRecord) -> AppRecord:
    if Event.INTERRUPTED in TRANSITIONS[app.state]:
        return app.after(Event.INTERRUPTED, failure=text)
    return replace(app, failure=text)
