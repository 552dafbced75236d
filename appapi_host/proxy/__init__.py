"""User traffic to apps, by the ways that the profiles name.

Those are `/index.php/apps/app_api/proxy/{appid}/{path}` and `/exapps/{appid}/{path}`; which rules
hold for which is in `appapi_host.proxy.profiles`. A refused request is answered as
tersely as by the real ones; why it was refused goes to the bus.

Known differences to AppAPI's own proxy, all of them so that development sees what the app does:
answers are streamed as they come, repeated headers all arrive, bodies stay compressed, redirects
that leave the app reach the browser instead of being followed, the answer for an app that cannot be
reached says why, and lifecycle paths are never reachable.

Source: AppAPI documentation, Routes; behaviour of AppAPI 32.0.0 and its development branch.
"""

from typing import Final

from starlette.types import Receive, Scope, Send

from appapi_host.host import Host
from appapi_host.proxy.admission import Address, admit, raw_path
from appapi_host.proxy.guard import Guard
from appapi_host.proxy.profiles import PHP, PROFILES, Profile
from appapi_host.proxy.refusals import Refusal, send_refusal
from appapi_host.proxy.relay import Relay
from appapi_host.proxy.report import Report
from appapi_host.proxy.sockets import SocketRelay
from appapi_host.throttling import client_address

__all__ = ["BUILT_IN_PREFIX", "PROXY_PREFIXES", "Proxy"]

PROXY_PREFIXES: Final = tuple(prefix for profile in PROFILES for prefix in profile.prefixes)

BUILT_IN_PREFIX: Final = PHP.prefixes[0]
"""What pages of the host put before an app's id."""


class Proxy:
    """The ASGI application of the proxy paths, for requests and for websockets.

    Args:
        host: whose apps are reached.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._guard = Guard(host)
        self._relay = Relay(host, self._guard)
        self._sockets = SocketRelay(host, self._guard)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward one request or refuse it.

        Raises:
            TransportError: the app broke off in the middle of its answer. The server must close the
                connection then, so that the client does not take a part for the whole.
        """
        report = Report(self._host.bus, scope)
        address = Address.parse(raw_path(scope))
        try:
            self._guard.check_address(address.profile, client_address(scope))
            passage = await admit(self._host, scope, address)
            self._guard.check_route(address.profile, passage.route, client_address(scope))
            forward = self._relay if scope["type"] == "http" else self._sockets
            await forward(scope, receive, send, passage, report)
        except Refusal as refusal:
            await self._refuse(scope, send, refusal, address.profile, report)

    async def _refuse(
        self, scope: Scope, send: Send, refusal: Refusal, profile: Profile, report: Report
    ) -> None:
        verdict = profile.verdicts[refusal.reason]
        if verdict is None:
            raise refusal  # a bug: this profile does not refuse for that reason
        self._guard.refused(verdict, client_address(scope))
        report.emit(refusal.app_id, refusal.user_id, verdict.status, refusal.note)
        await send_refusal(scope, send, refusal, profile, verdict)
