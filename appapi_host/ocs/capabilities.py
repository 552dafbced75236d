"""What the host is and can do.

Source: Nextcloud OCS API, Capabilities.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from appapi_host.host import Host
from appapi_host.ocs._endpoints import Answer, Auth, Call, Family
from appapi_host.records import User
from appapi_host.settings import HostSettings
from appapi_host.throttling import client_address
from exapp_sdk.protocol.capabilities import GET_CAPABILITIES
from exapp_sdk.protocol.log import LogLevel

__all__ = ["PRODUCT", "VERSIONS", "capabilities", "family"]

VERSIONS: Final[Mapping[int, tuple[int, int, int]]] = {
    32: (32, 0, 1),
    33: (33, 0, 4),
    34: (34, 0, 0),
    35: (35, 0, 0),
}
"""The Nextcloud that the host claims to be, which clients look at before they use a feature; by
major version."""

PRODUCT: Final = "Nextcloud"

_LINK_PATTERN: Final = (
    r"(\s|\n|^)(https?:\/\/)([-A-Z0-9+_.]+(?::[0-9]+)?(?:\/[-A-Z0-9+&@#%?=~_|!:,.;()]*)*)(\s|\n|$)"
)
"""What the real one finds links with, for clients that do as it does."""

family = Family()


@family.get(GET_CAPABILITIES.path, auth=Auth.PUBLIC)
async def get_capabilities(call: Call) -> Answer:
    """`{"version": {...}, "capabilities": {...}}`, a part of it without an acting user.

    Only what this host does is announced: a client that finds a section uses what it stands for.
    """
    delay_ms = _delay_ms(call.host, client_address(call.request.scope))
    return _answer(call.host.settings, delay_ms, is_public=call.user is None)


# Clients ask for it before whatever else they do, and it is the largest answer of all.
@lru_cache(16)
def _answer(settings: HostSettings, delay_ms: int, *, is_public: bool) -> Answer:
    major, minor, micro = VERSIONS[settings.nextcloud_version]
    data = {
        "version": {
            "major": major,
            "minor": minor,
            "micro": micro,
            "string": f"{major}.{minor}.{micro}",
            "edition": "",
            "extendedSupport": False,
        },
        "capabilities": (_public if is_public else _all)(settings, delay_ms),
    }
    digest = hashlib.md5(json.dumps(data).encode(), usedforsecurity=False).hexdigest()
    return Answer(data, headers=(("ETag", f'"{digest}"'),))


def capabilities(host: Host, *, user: User | None, address: str) -> dict[str, Any]:
    """What is announced.

    Args:
        host: whose.
        user: who asks; nobody gets a part of it.
        address: from where.
    """
    delay_ms = _delay_ms(host, address)
    return (_public if user is None else _all)(host.settings, delay_ms)


def _delay_ms(host: Host, address: str) -> int:
    return round(host.throttle.delay(address) * 1000)


def _public(settings: HostSettings, delay_ms: int) -> dict[str, Any]:
    logo = f"{settings.url}/core/img/logo/logo.svg?v=0"
    return {
        "bruteforce": {"delay": delay_ms, "allow-listed": False},
        "app_api": {"version": settings.aa_version},
        "theming": {
            "name": PRODUCT,
            "productName": PRODUCT,
            "url": "https://nextcloud.com",
            "slogan": "a safe home for all your data",
            "color": "#00679e",
            "color-text": "#ffffff",
            "color-element": "#00679e",
            "color-element-bright": "#00679e",
            "color-element-dark": "#00679e",
            "logo": logo,
            "background": "#00679e",
            "background-text": "#ffffff",
            "background-plain": True,
            "background-default": True,
            "logoheader": logo,
            "favicon": logo,
        },
        # For everybody, because apps look for it in nobody's name before they register a bot.
        "spreed": {"features": ["bots-v1", "bots-reactions"], "config": {}, "version": ""},
    }


def _all(settings: HostSettings, delay_ms: int) -> dict[str, Any]:
    public = _public(settings, delay_ms)
    return {
        "core": {
            "pollinterval": 60,
            "webdav-root": "remote.php/webdav",
            "reference-api": False,
            "reference-regex": _LINK_PATTERN,
            "mod-rewrite-working": True,
            "user": {"language": "", "locale": "", "timezone": "UTC"},
        },
        **public,
        "files": {
            "blacklisted_files": [".htaccess"],  # what older clients read instead of the next one
            "forbidden_filenames": [".htaccess"],
            "forbidden_filename_basenames": [],
            "forbidden_filename_characters": ["\\", "/"],
            "forbidden_filename_extensions": [".filepart", ".part"],
            "bigfilechunking": True,
            "chunked_upload": {"max_size": 104857600, "max_parallel_count": 5},
            "windows_compatible_filenames": False,
            "undelete": True,
            "delete_from_trash": True,
            "versioning": True,
            "version_deletion": True,
        },
        "dav": {"chunking": "1.0"},
        "systemtags": {"enabled": True},
        # In this order on the wire. The host shows all lines; 2 is what a fresh Nextcloud says.
        "app_api": {"loglevel": int(LogLevel.WARNING), **public["app_api"]},
        "notifications": {
            "ocs-endpoints": ["list", "get", "delete", "delete-all", "rich-strings", "exists"],
            "push": [],
            "admin-notifications": [],
        },
        "provisioning_api": {
            "version": "1.22.0",
            "AccountPropertyScopesVersion": 2,
            "AccountPropertyScopesFederatedEnabled": True,
            "AccountPropertyScopesPublishedEnabled": False,
        },
        "user_status": {
            "enabled": True,
            "restore": False,
            "supports_emoji": True,
            "supports_busy": True,
        },
    }
