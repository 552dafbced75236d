"""Who lives on the host.

Source: AppAPI documentation, Users.
"""

from appapi_host.ocs._routing import Auth, Call, Family
from exapp_sdk.protocol.users import LIST_USERS

__all__ = ["family"]

family = Family()


@family.get(LIST_USERS.path, auth=Auth.APP)
async def list_users(call: Call) -> list[str]:
    """The ids of all users, disabled ones too, in nobody's name as well."""
    return [user.user_id for user in await call.host.registry.users()]
