"""What the host is and can do.

Source: Nextcloud OCS API, Capabilities.
"""

import hashlib
import json
from typing import Any, Final

from appapi_host.ocs._routing import Answer, Auth, Call, Family
from exapp_sdk.protocol.capabilities import GET_CAPABILITIES
from exapp_sdk.protocol.log import LogLevel

__all__ = ["PRODUCT", "VERSION", "family"]

VERSION: Final = (32, 0, 1)
"""The Nextcloud that the host claims to be, which clients look at before they use a feature."""

PRODUCT: Final = "Nextcloud"

family = Family()


@family.get(GET_CAPABILITIES.path, auth=Auth.PUBLIC)
async def get_capabilities(call: Call) -> Answer:
    """`{"version": {...}, "capabilities": {...}}`, a part of it without an acting user.

    Only what this host does is announced: a client that finds a section uses what it stands for.
    """
    major, minor, micro = VERSION
    app_api: dict[str, Any] = {"version": call.host.settings.aa_version}
    capabilities: dict[str, Any] = {
        "bruteforce": {"delay": 0, "allow-listed": False},
        "app_api": app_api,
        "theming": {"name": PRODUCT, "productName": PRODUCT, "color": "#00679e"},
    }
    if call.user is not None:
        # In this order on the wire. The host shows all lines; 2 is what a fresh Nextcloud says.
        capabilities["app_api"] = {"loglevel": int(LogLevel.WARNING), **app_api}
        capabilities["core"] = {"pollinterval": 60, "webdav-root": "remote.php/webdav"}
        capabilities["files"] = {"bigfilechunking": False}
    data = {
        "version": {
            "major": major,
            "minor": minor,
            "micro": micro,
            "string": f"{major}.{minor}.{micro}",
            "edition": "",
            "extendedSupport": False,
        },
        "capabilities": capabilities,
    }
    digest = hashlib.md5(json.dumps(data).encode(), usedforsecurity=False).hexdigest()
    return Answer(data, headers=(("ETag", f'"{digest}"'),))
