"""Switching apps on and off."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from appapi_host.errors import HostError, RefusedError, StepError
from appapi_host.handshake import OUTPUT_LINES
from appapi_host.operations import STOP, Verb
from appapi_host.records import AppRecord
from exapp_sdk.errors import LocalProtocolError
from exapp_sdk.protocol.lifecycle import Event, State

if TYPE_CHECKING:
    from appapi_host.host import Host

__all__ = ["Switch"]


class Switch:
    """Switches apps on and off.

    Args:
        host: whose apps.
    """

    def __init__(self, host: "Host") -> None:
        self._host = host

    async def enable(self, app_id: str) -> AppRecord:
        """Switch an app on; see `Host.enable()`."""
        app = await self._host.app(app_id)
        is_on = app.enabled and app.state is not State.FAILED
        if is_on and await self._host.operations.of(app_id) is None:
            return app
        async with self._host.turns.take(app_id, Verb.ENABLE, "enable"):
            try:
                return await self.enable_now(app_id)
            except StepError:
                await self.stop_failed(app_id, Verb.ENABLE)
                raise

    async def enable_now(self, app_id: str) -> AppRecord:
        """Switch an app on, as a part of an operation under way."""
        app = await self._host.app(app_id)
        if app.enabled and app.state is not State.FAILED:
            return app  # another process was faster
        await self.transition(
            app_id,
            lambda app: app.after(Event.ENABLE, status=replace(app.status, error=""), enabled=True),
        )
        handshake = self._host.handshake(app)
        app = await handshake.enable()
        if app.state is State.ENABLED:
            return app
        output = await self._host.backend(app).last_output(app, lines=OUTPUT_LINES)
        if app.state is State.DISABLED:
            raise RefusedError(app.failure, output=output)
        raise StepError("enabled", app.failure, remedy=handshake.remedy, output=output)

    async def disable(self, app_id: str) -> AppRecord:
        """Switch an app off; see `Host.disable()`."""
        app = await self._host.app(app_id)
        if not app.enabled and await self._host.operations.of(app_id) is None:
            return app
        async with self._host.turns.take(app_id, Verb.DISABLE, "disable"):
            try:
                return await self.disable_now(app_id)
            except HostError as error:
                await self.leave_unstopped(app_id, error)
                raise

    async def disable_now(self, app_id: str) -> AppRecord:
        """Switch an app off, as a part of an operation under way."""
        app = await self._host.app(app_id)
        if not app.enabled:
            return app
        await self.transition(app_id, lambda app: app.after(Event.DISABLE))
        error = await self._host.handshake(app).disable()
        if error:
            if away := await self._host.daemons.away(app):
                raise away
            raise RefusedError(error)
        return await self._host.app(app_id)

    async def leave_unstopped(self, app_id: str, error: HostError) -> None:
        """Where an app could not be stopped, leave that to whoever finds its daemon again."""
        if error.is_unreachable:
            await self._host.operations.abandon(app_id)

    async def stop_failed(self, app_id: str, verb: Verb, *, only_later: bool = False) -> None:
        """Stop an app that has failed, lest its engine start it again; later if that has gone.

        Args:
            app_id: the app; nothing happens unless it has failed.
            verb: what it has failed in.
            only_later: it has been stopped, or may yet report that it is initialized; but where its
                engine has gone, that will start it without an init.
        """
        app = await self._host.registry.app(app_id)
        if app is None or app.state is not State.FAILED:
            return
        error = await (self._host.daemons.away(app) if only_later else self._stopped(app))
        if error is not None and error.is_unreachable:
            await self._host.operations.leave(app_id, verb, STOP)

    async def _stopped(self, app: AppRecord) -> HostError | None:
        backend = self._host.backend(app)
        try:
            if not await backend.is_gone(app):
                await backend.stop(app)
        except HostError as error:
            return error
        return None

    async def transition(self, app_id: str, change: Callable[[AppRecord], AppRecord]) -> AppRecord:
        """Apply a change that a person asked for; a forbidden one is the person's to know."""
        try:
            return await self._host.registry.apply(app_id, change)
        except LocalProtocolError as error:
            raise HostError(
                f"ExApp {app_id} is busy: {error}",
                remedy="wait for the operation under way, or unregister the app with --force",
            ) from error
