"""Write Nextcloud external apps (ExApps).

```python
from exapp_sdk import Access, ExApp, Progress

app = ExApp()
```

Everything is imported when it is first asked for: the host stands on some modules of this package,
and needs none of the rest.
"""

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from exapp_sdk.app import ExApp
    from exapp_sdk.auth import Access, AppAPIAuthMiddleware
    from exapp_sdk.client import Nextcloud
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

_MODULES: Final = {
    "Access": "exapp_sdk.auth",
    "AppAPIAuthMiddleware": "exapp_sdk.auth",
    "ExApp": "exapp_sdk.app",
    "LogLevel": "exapp_sdk.protocol.log",
    "Nextcloud": "exapp_sdk.client",
    "Progress": "exapp_sdk.jobs",
    "Settings": "exapp_sdk.protocol.environ",
}
"""Name → where it is; the errors are in `exapp_sdk.errors`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_MODULES.get(name, "exapp_sdk.errors"))
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
