"""The status object that a host keeps per app, and the reports that change it.

Source: AppAPI documentation, App Installation Flow, Init; stored objects of AppAPI 32.0.0.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Self

from exapp_sdk.errors import RemoteProtocolError
from exapp_sdk.protocol.lifecycle import Event
from exapp_sdk.protocol.ocs import Endpoint

__all__ = ["GET_STATE", "REPORT_STATUS", "Status", "report_event"]

REPORT_STATUS: Final = Endpoint("PUT", "/apps/app_api/ex-app/status", list, idempotent=True)
"""`{"progress": 0..100, "error": str}`; data `[]`. 100 is answered after the app was enabled."""

GET_STATE: Final = Endpoint("GET", "/apps/app_api/ex-app/state", int, idempotent=True)
"""1 while enabled and also during init, 0 while disabled."""


@dataclass(frozen=True, slots=True)
class Status:
    """How far an installation has come. Methods return the changed copy.

    Args:
        deploy: deployment in percent.
        init: initialization in percent, as the app reported it.
        action: what is going on: `deploy`, `healthcheck` (waiting for the heartbeat), `init` or
            nothing.
        type: why: `install`, `update`, or nothing once init reached 100.
        error: the last error, the only error channel of the wire.
        deploy_start_time: unix seconds when deployment last began.
        init_start_time: unix seconds when init last began.
        heartbeat_count: failed heartbeats so far.
    """

    deploy: int = 0
    init: int = 0
    action: str = ""
    type: str = "install"
    error: str = ""
    deploy_start_time: int | None = None
    init_start_time: int | None = None
    heartbeat_count: int | None = None

    def to_wire(self) -> dict[str, Any]:
        """The JSON object; members that were never set are left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_wire(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_wire()`; unknown members are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: member for name, member in value.items() if name in known})

    def deploy_reported(self, progress: int, *, now: int) -> Self:
        """Deployment came to `progress` percent; 0 starts it and clears the error."""
        if progress == 0:
            return replace(self, deploy=0, action="deploy", deploy_start_time=now, error="")
        if self.deploy == 100:
            return self
        return replace(
            self, deploy=progress, action="healthcheck" if progress == 100 else self.action
        )

    def init_reported(self, progress: int, error: str = "", *, now: int) -> Self:
        """The app reported its init, or the host did so for it.

        With an error the percentage stays as it is; 100 ends the phase in any case.
        """
        if progress and self.init == 100:
            return self
        changed = replace(self, error=error) if error else replace(self, init=progress)
        if progress == 0 and not error:
            changed = replace(changed, action="init", init_start_time=now, error="")
        if progress == 100:
            changed = replace(changed, action="", type="")
        return changed

    def failed(self, error: str) -> Self:
        """Something went wrong; nothing but the error changes."""
        return replace(self, error=error)


def report_event(status: Status, progress: int, error: str = "") -> Event | None:
    """What a report of the app means; None when it changes nothing.

    Raises:
        RemoteProtocolError: progress is not within 0..100.
    """
    if not 0 <= progress <= 100:
        raise RemoteProtocolError("Invalid ExApp init status progress value")
    if progress and status.init == 100:
        return None
    if progress == 100:
        return Event.INIT_FINISHED  # even with an error: AppAPI enables all the same
    if error:
        return Event.INIT_FAILED
    return Event.PROGRESS if progress else Event.INIT_RESTARTED
