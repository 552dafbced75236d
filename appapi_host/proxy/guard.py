"""Addresses that were refused too often, or got answers that an app counts as attempts.

Off where only this machine reaches the host, like all throttling. The two ways count apart: AppAPI
with everything else that it guards, HaRP in a memory of its own.

Source: AppAPI documentation, Routes, `bruteforce_protection`; HaRP's settings.
"""

from typing import Final

from appapi_host.host import Host
from appapi_host.proxy.profiles import Profile, Reason, Verdict
from appapi_host.proxy.refusals import Refusal
from appapi_host.records import Route
from appapi_host.throttling import APPS, Throttle, Throttled

__all__ = ["Guard"]

_HARP_ATTEMPTS: Final = 9
"""One more is a ban: `HP_BLACKLIST_COUNT` is 10."""

_HARP_WINDOW: Final = 300.0
"""Seconds, `HP_BLACKLIST_WINDOW`."""


class Guard:
    """Counts failures of user traffic.

    Args:
        host: whose settings say whether anything is counted.
    """

    def __init__(self, host: Host) -> None:
        self._shared = host.throttle
        self._own = Throttle(
            is_on=host.settings.is_throttling, max_attempts=_HARP_ATTEMPTS, window=_HARP_WINDOW
        )

    def check_address(self, profile: Profile, address: str) -> None:
        """Refuse a whole address, where the profile has that.

        Raises:
            Refusal: too many failures.
        """
        if profile.always_throttles:
            self._check(self._own, address)

    def check_route(self, profile: Profile, route: Route, address: str) -> None:
        """Refuse what is about to be sent to a guarded route.

        Raises:
            Refusal: too many failures.
        """
        if route.bruteforce_protection and not profile.always_throttles:
            self._check(self._shared, address)

    def answered(self, profile: Profile, route: Route, address: str, status: int) -> None:
        """Note what the app answered at a guarded route."""
        if not route.bruteforce_protection:
            return
        throttle = self._own if profile.always_throttles else self._shared
        if status in route.bruteforce_protection:
            throttle.failed(APPS, address)
        elif 200 <= status < 300 and not profile.always_throttles:
            throttle.succeeded(APPS, address)

    def refused(self, verdict: Verdict, address: str) -> None:
        """Note a refusal that counts."""
        if verdict.is_failure:
            self._own.failed(APPS, address)

    def _check(self, throttle: Throttle, address: str) -> None:
        try:
            throttle.check(APPS, address)
        except Throttled as error:
            raise Refusal(Reason.THROTTLED, str(error)) from error
