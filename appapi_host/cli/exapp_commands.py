"""The place of commands that ExApps register with the host: `occ APPID:command …`.

They exist while their app is enabled. What runs one is part of the OCS API; here they are only
found, so that `list`, `help` and the command line treat them as they treat ours.
"""

from appapi_host.cli.session import Session
from appapi_host.cli.symfony import Command

__all__ = ["registered"]


async def registered(session: Session) -> dict[str, Command]:
    """The commands of the apps that are enabled, by name.

    Args:
        session: gives the host.
    """
    return {}
