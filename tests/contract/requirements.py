"""What the contract between app and host demands, each with its source.

Every test of this folder names the requirements it shows with `@shows(...)`; `test_requirements.py`
compares the two sets, so that none is forgotten and none is made up.
"""

from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["REQUIREMENTS", "shows"]

FLOW: Final = "AppAPI documentation, App Installation Flow"
AUTH: Final = "AppAPI documentation, Authentication"
REAL: Final = "behaviour of AppAPI 32.0.0"

REQUIREMENTS: Final[dict[str, tuple[str, str]]] = {
    "heartbeat.first": ("the first request is an unsigned GET /heartbeat", FLOW),
    "heartbeat.open": ("GET /heartbeat is answered with and without headers", FLOW),
    "init.signed": ("from /init on, every request carries the AppAPI headers", FLOW),
    "init.empty_answer": ("POST /init is answered at once with {}", FLOW),
    "init.optional": ("an app without /init is enabled directly", FLOW),
    "init.progress": ("progress reports reach the host as whole percent", FLOW),
    "init.error": ("an error report carries the progress and one sentence", FLOW),
    "init.hundred_enables": ("100 makes the host ask heartbeat and PUT /enabled", FLOW),
    "init.hundred_is_held": ("100 is answered after the app was enabled", REAL),
    "init.callback": ("the app may use the API while it initializes", REAL),
    "init.again": ("an error leaves the app registered, and it may be enabled by hand", REAL),
    "init.stopped": ("an app that is stopped during init says so", REAL),
    "enabled.query": ("PUT /enabled has the query parameter enabled=1|0", FLOW),
    "enabled.error": ("a non-empty error refuses; the app is disabled", FLOW),
    "enabled.callback": ("the app may use the API in both directions of /enabled", REAL),
    "enabled.no_init": ("enabling a disabled app sends no /init", REAL),
    "auth.refused": ("a host with another secret is refused with 401", AUTH),
    "auth.disabled": ("a disabled app may ask only for its state", AUTH),
    "auth.lifecycle_from_browser": ("no browser reaches a lifecycle path", REAL),
    "proxy.user": ("the app learns who the user is", AUTH),
    "proxy.levels": ("routes open to their access level and those above", REAL),
    "proxy.no_forgery": ("a browser cannot send AppAPI headers of its own", REAL),
    "ocs.unknown": ("an unknown OCS path answers 998", REAL),
    "storage.survives": ("APP_PERSISTENT_STORAGE survives an update", FLOW),
    "unregister.disables": ("unregistering disables first", REAL),
}

F = TypeVar("F", bound=Callable[..., object])


def shows(*ids: str) -> Callable[[F], F]:
    """Say which requirements a test shows."""
    for identifier in ids:
        if identifier not in REQUIREMENTS:
            raise KeyError(f"no requirement {identifier!r}")
    return lambda test: test
