"""Who failed to sign in too often, and has to wait.

What the host keeps of an address is in memory, for the process that serves: restarting the host
forgives everybody, which the real one, with its table of attempts, does not.

Source: Nextcloud's brute force protection; limits measured on Nextcloud 32 with AppAPI 32.0.0.
"""

import ipaddress
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import anyio

__all__ = ["APPS", "LOGIN", "Throttle", "Throttled", "client_address"]

APPS: Final = "app_api"
"""Action of everything that AppAPI protects: signatures of apps, routes of the proxy that name
status codes, messages to bots."""

LOGIN: Final = "login"
"""Action of signing in with a password."""

MAX_ATTEMPTS: Final = 10
"""Failures within `WINDOW` after which an address is refused; `auth.bruteforce.max-attempts`."""

WINDOW: Final = 30 * 60.0
"""Seconds for which failures count towards being refused."""

MEMORY: Final = 12 * 3600.0
"""Seconds for which failures count towards the delay."""

FIRST_DELAY: Final = 0.1
MAX_DELAY: Final = 25.0
"""Seconds that the next attempt takes longer: `0.1·2^n` after n failures, at most 25."""

MAX_KNOWN: Final = 10_000
"""Addresses that are remembered; the one that failed longest ago is forgotten first."""


class Throttled(Exception):  # noqa: N818  # a decision, not something gone wrong
    """An address failed too often; to be answered with 429.

    Args:
        address: who.
        max_attempts: how many failures are allowed.
        window: in how many seconds.
    """

    MESSAGE: Final = "Reached maximum delay"
    """The words of Nextcloud for OCS."""

    def __init__(
        self, address: str, max_attempts: int = MAX_ATTEMPTS, window: float = WINDOW
    ) -> None:
        self.address = address
        super().__init__(
            f"more than {max_attempts} failed attempts from {address or 'nowhere'} in "
            f"{window / 60:g} minutes"
        )


class Throttle:
    """Counts failures by action and address.

    Args:
        is_on: otherwise nobody has to wait and nothing is counted.
        clock: seconds; only differences matter.
        max_attempts: failures within `window` after which an address is refused.
        window: seconds.
    """

    def __init__(
        self,
        *,
        is_on: bool,
        clock: Callable[[], float] = time.monotonic,
        max_attempts: int = MAX_ATTEMPTS,
        window: float = WINDOW,
    ) -> None:
        self.is_on = is_on
        self._max_attempts = max_attempts
        self._window = window
        self._clock = clock
        # The newest failures of each, oldest first: more than these never matter.
        self._failures: dict[tuple[str, str], deque[float]] = {}

    def check(self, action: str, address: str) -> None:
        """Let an attempt through.

        Raises:
            Throttled: not this one, whatever it brings.
        """
        if self._failures:
            failures = self._failures.get((action, _network(address)))
            if failures and self._count(failures, self._window) > self._max_attempts:
                raise Throttled(address, self._max_attempts, self._window)

    async def pause(self, action: str, address: str) -> None:
        """Let an attempt through after the delay of its address.

        Signatures of apps are only `check()`ed: the real one does not make them wait.

        Raises:
            Throttled: as `check()`.
        """
        self.check(action, address)
        if seconds := self.delay(address, action):
            await anyio.sleep(seconds)

    def failed(self, action: str, address: str) -> None:
        """Note a failed attempt."""
        if not self.is_on:
            return
        key = action, _network(address)
        # Put in anew, so that the order of the mapping is that of the last failures.
        failures = self._failures.pop(key, None) or deque(maxlen=self._max_attempts + 1)
        failures.append(self._clock())
        self._failures[key] = failures
        if len(self._failures) > MAX_KNOWN:
            del self._failures[next(iter(self._failures))]

    def succeeded(self, action: str, address: str) -> None:
        """Forget the failures of an address."""
        if self._failures:
            self._failures.pop((action, _network(address)), None)

    def delay(self, address: str, action: str | None = None) -> float:
        """Seconds that an attempt has to wait now, as the capabilities say it too.

        Args:
            address: from where.
            action: which one; None for whatever failed there.
        """
        if not self._failures:
            return 0.0
        network = _network(address)
        count = sum(
            self._count(self._failures.get((what, network), ()), MEMORY)
            for what in ((APPS, LOGIN) if action is None else (action,))
        )
        if count > self._max_attempts:
            return MAX_DELAY
        return min(MAX_DELAY, FIRST_DELAY * 2**count) if count else 0.0

    def _count(self, failures: Iterable[float], seconds: float) -> int:
        since = self._clock() - seconds
        return sum(at > since for at in failures)


def client_address(scope: Any) -> str:
    """Where an ASGI request comes from; empty where that is unknown, as through a unix socket."""
    client = scope.get("client")
    return client[0] if client else ""


def _network(address: str) -> str:
    """What is counted as one: an address of the old internet, a network of 56 bits of the new."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 56), strict=False))
