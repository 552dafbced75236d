"""Who lives on the host.

Source: AppAPI documentation, Users.
"""

from typing import Final

from exapp_sdk.protocol.ocs import Endpoint

__all__ = ["LIST_USERS"]

LIST_USERS: Final = Endpoint("GET", "/apps/app_api/api/v1/users", list[str], idempotent=True)
"""Ids of all users, disabled ones too."""
