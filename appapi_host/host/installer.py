"""Installing an app and removing it: from a description to enabled, and back to nothing."""

import secrets
import string
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from appapi_host.deploy.base import DeployBackend, Deployment
from appapi_host.deploy.environment import build_environment
from appapi_host.errors import (
    AlreadyExistsError,
    AppInterruptedError,
    DeployError,
    HostError,
    NotFoundError,
    RefusedError,
    StepError,
)
from appapi_host.events import ProgressChanged, StepFailed
from appapi_host.handshake import Handshake, stepping
from appapi_host.info_xml import AppInfo
from appapi_host.operations import Verb
from appapi_host.records import AppRecord
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import TRANSITIONS, Event, State
from exapp_sdk.protocol.status import Status

if TYPE_CHECKING:
    from appapi_host.host import Host

__all__ = ["Installer", "Mount"]

_SECRET_ALPHABET: Final = string.ascii_letters + string.digits + "+/"
_SECRET_LENGTH: Final = 128
_INTERRUPTIONS: Final = 3
"""How often an app is asked to initialize that is started again in the middle of it."""

Mount = tuple[str, str, str]
"""Source, target and mode (`rw` or `ro`)."""


class Installer:
    """Puts apps in place and takes them away.

    Args:
        host: whose apps.
    """

    def __init__(self, host: "Host") -> None:
        self._host = host

    async def register(
        self,
        info: AppInfo,
        *,
        daemon: str | None = None,
        source: Path | None = None,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        mounts: Sequence[Mount] = (),
        wait_finish: bool = True,
    ) -> AppRecord:
        """Deploy an app and bring it to enabled; see `Host.register()`."""
        if await self._host.registry.app(info.id):
            raise AlreadyExistsError(f"ExApp {info.id} is already registered.")
        target = await self._host.daemons.find(daemon)
        backend = self._host.backend(target)
        app = AppRecord(
            app_id=info.id,
            version=info.version,
            name=info.name,
            daemon=target,
            port=info.port or 0,  # the registry chooses one
            secret=info.secret or _new_secret(),
            state=State.DEPLOYING,
            status=Status().deploy_reported(0, now=int(time.time())),
            routes=info.routes,
            created_time=int(time.time()),
            options={
                "environment": dict(environment or {}),
                "mounts": [list(mount) for mount in mounts],
                "source": str(source or ""),
                "command": list(command),
                "scopes": list(info.scopes),
            },
        )
        async with self._host.turns.take(info.id, Verb.REGISTER, "register"):
            app = await self._host.registry.add_app(app)
            try:
                gateway = await self._host.daemons.open_gateway(app)
                await self.deploy(app, backend, self.deployment(app, info, gateway))
            except BaseException:
                # Cancellation too: an interrupted deployment must not leave a row that nobody can
                # use.
                with anyio.CancelScope(shield=True):
                    await self._host.registry.remove_app(app.app_id)
                    await self._host.operations.end(app.app_id)
                raise
            try:
                app = await self.bring_up(app)
            except StepError:
                await self._host.switch.stop_failed(info.id, Verb.REGISTER, only_later=True)
                raise
        # From here on the app is at work, not we: whoever wants to disable it need not wait.
        try:
            return await self.initialized(app, wait_finish=wait_finish)
        except StepError as error:
            may_report = error.step == "init"
            await self._host.switch.stop_failed(info.id, Verb.REGISTER, only_later=may_report)
            raise

    async def unregister(self, app_id: str, *, rm_data: bool = False, force: bool = False) -> None:
        """Remove an app; see `Host.unregister()`."""
        await self._host.app(app_id)
        details = {"rm_data": rm_data, "force": force}
        async with self._host.turns.take(app_id, Verb.UNREGISTER, "disable", **details):
            app = await self._host.app(app_id)
            if app.enabled:
                try:
                    app = await self._host.switch.disable_now(app_id)
                except HostError as error:
                    if not force:
                        await self._host.switch.leave_unstopped(app_id, error)
                        raise
            await self._host.operations.step(app_id, "remove")
            try:
                await self._host.backend(app).remove(app, data=rm_data)
            except (DeployError, NotFoundError):
                if not force:
                    raise
            await self._host.registry.remove_app(app_id)
        self._host.reports.forget(app_id)

    def deployment(self, app: AppRecord, info: AppInfo, gateway: str) -> Deployment:
        """What a backend has to know to put an app in place."""
        storage = self._storage(app)
        options = app.options
        environment = build_environment(
            self._host.settings,
            app,
            info,
            storage=storage,
            gateway=gateway,
            overrides=options.get("environment", {}),
        )
        return Deployment(
            app,
            environment,
            info=info,
            source=Path(options["source"]) if options.get("source") else None,
            command=tuple(options.get("command", ())),
            storage=storage,
            mounts=tuple(
                (source, target, mode) for source, target, mode in options.get("mounts", ())
            ),
        )

    async def deploy(
        self,
        app: AppRecord,
        backend: DeployBackend,
        deployment: Deployment,
        *,
        is_prepared: bool = False,
    ) -> None:
        """Put the app in place and note how far that is."""
        stored = -1

        async def report(percent: int, detail: str = "") -> None:
            nonlocal stored
            if percent != stored:
                stored, now = percent, int(time.time())
                await self._host.registry.apply(
                    app.app_id,
                    lambda app: replace(app, status=app.status.deploy_reported(percent, now=now)),
                )
            self._host.bus.emit(ProgressChanged(app.app_id, "deploy", percent, detail))

        with stepping(self._host.bus, app.app_id, "deploy"):
            try:
                if not is_prepared:
                    await self._host.operations.step(app.app_id, "fetch")
                    await backend.prepare(deployment, report)
                await self._host.operations.step(app.app_id, "deploy")
                notes = await backend.deploy(deployment, report)
            except DeployError as error:
                self._host.bus.emit(StepFailed(app.app_id, "deploy", error.cause, error.remedy))
                raise
        now = int(time.time())
        await self._host.registry.apply(
            app.app_id,
            lambda app: replace(
                app.after(Event.DEPLOYED, status=app.status.deploy_reported(100, now=now)),
                deployment=dict(notes),
            ),
        )

    async def bring_up(self, app: AppRecord) -> AppRecord:
        """From deployed to initializing; to enabled where the app has no init.

        Raises:
            StepError: the heartbeat failed, and that is recorded.
        """
        handshake = self._host.handshake(app)
        try:
            await handshake.wait_for_heartbeat()
        except StepError as error:
            await self.record_failure(app.app_id, Event.HEARTBEAT_FAILED, error)
            with suppress(DeployError):  # nobody asks it any more
                await self._host.backend(app).stop(app)
            raise
        return await handshake.begin_init()

    async def initialized(self, app: AppRecord, *, wait_finish: bool) -> AppRecord:
        """Wait for the end of init; where it is over already, its outcome is known at once."""
        if wait_finish or app.state is not State.INITIALIZING:
            return await self._wait_for_init(self._host.handshake(app))
        return app

    async def resume(self, app: AppRecord, error: AppInterruptedError) -> None:
        """Initialize an app anew that was started again; one process does that for all.

        Args:
            app: as it was when that was noticed.
            error: why.

        Raises:
            StepError: it did not come up.
            AppInterruptedError: once more.
        """
        operation = await self._host.operations.of(app.app_id)
        if operation is not None and self._host.operations.owns(operation):
            await self._begin_init_again(app, error)
            return
        async with self._host.turns.take(app.app_id, Verb.ENABLE, "start"):
            await self._begin_init_again(app, error)

    async def _begin_init_again(self, app: AppRecord, error: AppInterruptedError) -> None:
        current = await self._host.app(app.app_id)
        began = current.status.init_start_time
        if current.state is not State.INITIALIZING or began != app.status.init_start_time:
            return
        self._host.warn(app.app_id, f"{error.cause}; it is initialized anew")
        await self._host.handshake(current).resume_init()

    async def _wait_for_init(self, handshake: Handshake) -> AppRecord:
        interrupted: AppInterruptedError | None = None
        app = await self._host.app(handshake.app_id)
        try:
            for _ in range(_INTERRUPTIONS):
                try:
                    if interrupted is not None:
                        await self.resume(app, interrupted)
                        app = await self._host.app(handshake.app_id)
                    return await handshake.wait_for_init()
                except AppInterruptedError as error:
                    interrupted = error
            assert interrupted is not None
            raise StepError("init", interrupted.cause) from interrupted
        except RefusedError:
            raise  # recorded by the enable sequence itself
        except StepError as error:
            await self.record_failure(handshake.app_id, Event.INIT_FAILED, error)
            raise

    async def record_failure(self, app_id: str, event: Event, error: StepError) -> None:
        """Store why an operation ended, unless it is stored already."""

        def change(app: AppRecord) -> AppRecord:
            if event not in TRANSITIONS[app.state] or app.state is State.FAILED:
                return app
            text = "Heartbeat check failed" if event is Event.HEARTBEAT_FAILED else error.cause
            return app.after(event, status=app.status.failed(text), failure=error.cause)

        await self._host.registry.apply(app_id, change)

    def _storage(self, app: AppRecord) -> Path | None:
        if self._host.settings.data_dir is None:
            return None
        return self._host.settings.data_dir.absolute() / "apps" / app.app_id / "storage"


def _new_secret() -> Secret:
    return Secret("".join(secrets.choice(_SECRET_ALPHABET) for _ in range(_SECRET_LENGTH)))
