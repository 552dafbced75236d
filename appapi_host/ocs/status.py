"""How far the initialization of an app is, and whether the app is enabled.

Source: AppAPI documentation, App Installation Flow.
"""

from typing import Any

from appapi_host.errors import NotFoundError
from appapi_host.ocs._endpoints import Auth, Call, Family, OCSRefusal, WhileDisabled
from exapp_sdk.protocol.ocs import NOT_FOUND
from exapp_sdk.protocol.status import GET_STATE, REPORT_STATUS

__all__ = ["family"]

family = Family()


@family.put(REPORT_STATUS.path, auth=Auth.APP, while_disabled=WhileDisabled.WHILE_INSTALLING)
async def report_status(call: Call, progress: int, error: str = "") -> list[Any]:
    """Take a report, in whole percent; 100 is answered once the app is enabled."""
    try:
        await call.host.report_init(call.app.app_id, progress, error)
    except NotFoundError:  # unregistered while the report was on its way
        raise OCSRefusal(NOT_FOUND) from None
    return []


@family.put("/apps/app_api/apps/status/{appId}", auth=Auth.APP)
async def report_status_of(call: Call, app_id: str, progress: int, error: str = "") -> list[Any]:
    """The deprecated form of the same, never open to a disabled app."""
    # AppAPI lets every app report for every other one. That cannot be meant, and here it would let
    # one app under development enable its neighbour, so another id is as good as unknown.
    if app_id != call.app.app_id:
        raise OCSRefusal(NOT_FOUND, note=f"{call.app.app_id!r} reports for {app_id!r}")
    return await report_status(call, progress, error)


@family.get(GET_STATE.path, auth=Auth.APP, while_disabled=WhileDisabled.ALLOWED)
async def get_state(call: Call) -> int:
    """1 while enabled, 0 while not: a number, not a boolean."""
    return int(call.app.enabled)
