"""Apps that want to be asked about their health.

Source: AppAPI documentation, Setup checks.
"""

from typing import Any, Final

from appapi_host.ocs._endpoints import Auth, Call, Family
from appapi_host.setup_checks import KIND, SINCE

__all__ = ["family"]

PATH: Final = "/apps/app_api/api/v1/setup_check"

family = Family()


@family.post(PATH, auth=Auth.APP, since=SINCE)
async def opt_in(call: Call) -> list[Any]:
    """Have the host ask `GET /setup_checks` of the app."""
    await call.store(KIND, "", {})
    return []


@family.delete(PATH, auth=Auth.APP, since=SINCE)
async def opt_out(call: Call) -> list[Any]:
    """Have it stop that; nothing happens if it does not."""
    await call.discard(KIND, "")
    return []
