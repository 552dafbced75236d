"""A local AppAPI: deploys ExApps, performs the handshake, serves the OCS API and the proxy.

```python
from appapi_host import Host, HostSettings

async with Host.open(HostSettings(data_dir=Path("state"))) as host:
    for app in await host.apps():
        print(app.app_id, app.state)
```

This is what the command line stands on. Everything is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from appapi_host.asgi import create_app
    from appapi_host.daemon_config import build_daemon
    from appapi_host.errors import (
        AlreadyExistsError,
        BusyError,
        DeployError,
        HostError,
        InfoError,
        NotFoundError,
        RefusedError,
        StepError,
        StepTimeout,
    )
    from appapi_host.events import EventBus
    from appapi_host.host import Host
    from appapi_host.info_source import load_info
    from appapi_host.info_xml import AppInfo
    from appapi_host.records import AppRecord, Daemon, User
    from appapi_host.settings import HostSettings, Timeouts
    from exapp_sdk.protocol.lifecycle import State

__all__ = [
    "AlreadyExistsError",
    "AppInfo",
    "AppRecord",
    "BusyError",
    "Daemon",
    "DeployError",
    "EventBus",
    "Host",
    "HostError",
    "HostSettings",
    "InfoError",
    "NotFoundError",
    "RefusedError",
    "State",
    "StepError",
    "StepTimeout",
    "Timeouts",
    "User",
    "build_daemon",
    "create_app",
    "load_info",
]

_MODULES: Final = {
    "AppInfo": "appapi_host.info_xml",
    "AppRecord": "appapi_host.records",
    "Daemon": "appapi_host.records",
    "EventBus": "appapi_host.events",
    "Host": "appapi_host.host",
    "HostSettings": "appapi_host.settings",
    "State": "exapp_sdk.protocol.lifecycle",
    "Timeouts": "appapi_host.settings",
    "User": "appapi_host.records",
    "build_daemon": "appapi_host.daemon_config",
    "create_app": "appapi_host.asgi",
    "load_info": "appapi_host.info_source",
}
"""Name → where it is; the errors are in `appapi_host.errors`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_MODULES.get(name, "appapi_host.errors"))
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
