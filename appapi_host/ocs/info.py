"""Where the host is.

Source: AppAPI documentation, Information.
"""

from typing import Any

from appapi_host.ocs._endpoints import Auth, Call, Family

__all__ = ["family"]

family = Family()


@family.get("/apps/app_api/api/v1/info/nextcloud_url/absolute", auth=Auth.APP)
async def get_absolute_url(call: Call, url: str) -> dict[str, Any]:
    """A URL for people, made of one that is relative to the host."""
    return {"absolute_url": f"{call.host.settings.url}/{url.lstrip('/')}"}


@family.get("/apps/app_api/api/v1/info/nextcloud_url", auth=Auth.ADMIN)
async def get_url(call: Call) -> dict[str, Any]:
    """The address of the host, for administrators."""
    return {"base_url": call.host.settings.url}
