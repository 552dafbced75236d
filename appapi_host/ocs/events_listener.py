"""The listener of events that came before webhooks.

AppAPI 32 still has its routes, without anything behind them; later ones do not know them. An app
that calls them gets what it gets there, and its developer reads what to use instead.

Source: AppAPI documentation, Events Listener; behaviour of AppAPI 32.0.0.
"""

from typing import Any, Final

from appapi_host.ocs._endpoints import Auth, Call, Family
from appapi_host.ocs._parameters import ParameterError

__all__ = ["family"]

PATH: Final = "/apps/app_api/api/v1/events_listener"
UNTIL: Final = 32
"""The last Nextcloud that has the routes."""

family = Family()


@family.post(PATH, auth=Auth.APP, until=UNTIL)
@family.get(PATH, auth=Auth.APP, until=UNTIL)
@family.delete(PATH, auth=Auth.APP, until=UNTIL)
async def refuse(call: Call) -> Any:
    """Fail as the real one does."""
    raise ParameterError("events_listener does nothing any more: register a webhook instead")
