"""One container in the making: what becomes of it, also if that is interrupted or fails."""

import errno
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
import anyio.to_thread

from appapi_host.deploy.base import ReportProgress
from appapi_host.deploy.docker import certificates
from appapi_host.deploy.docker.container import container_name, network_of, volume_name
from appapi_host.deploy.docker.engine import Engine, EngineError
from appapi_host.deploy.docker.faults import explain
from appapi_host.deploy.docker.site import Site
from appapi_host.records import AppRecord

__all__ = ["Installation", "has_ipv6"]

_ATTEMPTS: Final = 3
"""How often a deployment is begun whose engine goes away in the middle, and comes back."""


class Installation:
    """What a deployment has made so far.

    Args:
        site: where it is made.
        app: for which app.
        stop_seconds: how long its container may take to end.
        tell: told the app's id and what a person may want to know.
        warn: told the app's id and what a person should know.
    """

    def __init__(
        self,
        site: Site,
        app: AppRecord,
        *,
        stop_seconds: float,
        tell: Callable[[str, str], None],
        warn: Callable[[str, str], None],
    ) -> None:
        self._site = site
        self._app = app
        self._stop_seconds = stop_seconds
        self._tell = tell
        self._warn = warn
        self._creation = secrets.token_hex(8)
        """Marks the volume as new."""
        self._is_volume_new = False
        self.container = ""
        """Its id."""
        self.owns_volume = False
        """Whether the volume is ours."""

    async def make(self, body: Mapping[str, Any], report: ReportProgress) -> None:
        """Create volume and container and start that.

        Raises:
            DeployError: it cannot be done; no container is left, nor a volume that is new.
        """
        engine = self._site.engine
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    await self._put_in_place(body, report)
                    break
                except EngineError as error:
                    if not error.is_unreachable or attempt == _ATTEMPTS:
                        raise
                    if not await engine.is_back():
                        raise engine.gone() from error
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._take_back()
            raise

    async def _put_in_place(self, body: Mapping[str, Any], report: ReportProgress) -> None:
        """Create volume and container and start that; may be done again when it was interrupted."""
        site, app = self._site, self._app
        self.owns_volume, self._is_volume_new = await site.owned.create_volume(
            app, body["Labels"], self._creation
        )
        self.container = await site.owned.create(app, body)
        image = str(body["Image"])
        await report(96)
        if not site.engine.is_proxied:
            await self._install_certificates(image)
        await report(98)
        await site.watcher.begin()
        site.watcher.forget(self._reference)
        _check_port(app, site.engine)
        await site.engine.start(self._reference)
        if site.engine.is_proxied and await self._install_certificates(image):
            # It has read those of the image already.
            await site.engine.stop(self._reference, self._stop_seconds)
            await site.engine.start(self._reference)
        site.endings.begun(self._reference)

    @property
    def _reference(self) -> str:
        """How to address the container: a socket proxy allows names only."""
        return container_name(self._app.app_id) if self._site.engine.is_proxied else self.container

    async def _take_back(self) -> None:
        """Remove what a deployment has made that failed."""
        app, engine = self._app, self._site.engine
        try:
            if self.container:
                await engine.remove(self._reference)
            if self._is_volume_new:
                await engine.remove_volume(volume_name(app.app_id))
        except EngineError:
            self._warn(
                app.app_id,
                f"what was made of it on {engine.shown} is still there: register the app "
                "again, or have it removed by `repair --remove`",
            )

    async def _install_certificates(self, image: str) -> bool:
        """Have the container trust what this machine trusts; returns whether it did not before."""
        site, app = self._site, self._app
        trusted = await anyio.to_thread.run_sync(certificates.instance_bundle, os.environ)
        if not trusted:
            return False
        try:
            plan = await site.certificates.of(image, self._reference, trusted)
            if plan.upload is not None:
                await site.engine.upload(self._reference, plan.upload)
        except EngineError as error:
            self._warn(app.app_id, f"certificates of this machine are not installed: {error.cause}")
            return False
        if plan.warning:
            self._warn(app.app_id, plan.warning)
        if plan.count:
            self._tell(
                app.app_id, f"{plan.count} certificates of this machine installed in the image"
            )
        return bool(plan.count)


def _check_port(app: AppRecord, engine: Engine) -> None:
    """See whether an app can have its port; what has it would be taken for the app.

    Raises:
        EngineError: somebody else listens there.
    """
    if network_of(app.daemon) != "host" or not engine.address.is_local:
        return  # elsewhere the engine says it, or we cannot know
    try:
        socket.create_server(("127.0.0.1", app.port)).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise explain(
                engine.shown, f"127.0.0.1:{app.port}: address already in use", status=500
            ) from error


def has_ipv6(engine: Engine) -> bool:
    """Whether `::1` is an address of the engine's machine, which must be this one to know."""
    if not engine.address.is_local:
        return False
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
