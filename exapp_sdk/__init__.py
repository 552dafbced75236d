"""Write Nextcloud external apps (ExApps).

```python
from exapp_sdk import Access, ExApp, Progress

app = ExApp()
```

What most apps do not use is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Final

from exapp_sdk.app import ExApp
from exapp_sdk.auth import Access, AppAPIAuthMiddleware
from exapp_sdk.errors import (
    AuthError,
    ConfigError,
    ExAppError,
    HandlerError,
    InitInterruptedError,
    LocalProtocolError,
    OCSError,
    ProtocolError,
    RemoteProtocolError,
    TransportError,
)
from exapp_sdk.jobs import Progress
from exapp_sdk.protocol.environ import Settings

if TYPE_CHECKING:
    from exapp_sdk.client import Nextcloud
    from exapp_sdk.protocol.log import LogLevel

__all__ = [
    "Access",
    "AppAPIAuthMiddleware",
    "AuthError",
    "ConfigError",
    "ExApp",
    "ExAppError",
    "HandlerError",
    "InitInterruptedError",
    "LocalProtocolError",
    "LogLevel",
    "Nextcloud",
    "OCSError",
    "Progress",
    "ProtocolError",
    "RemoteProtocolError",
    "Settings",
    "TransportError",
]

_LAZY: Final = {
    "LogLevel": "exapp_sdk.protocol.log",
    "Nextcloud": "exapp_sdk.client",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
