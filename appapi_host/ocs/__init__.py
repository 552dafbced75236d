"""The OCS API that apps call: a file per family of endpoints, collected by itself."""

import importlib
import pkgutil

from appapi_host.host import Host
from appapi_host.ocs._routing import Family, OCSApplication

__all__ = ["create_ocs_app", "families"]


def families() -> list[Family]:
    """The `family` of each module in this package, helpers (`_name`) left out."""
    return [
        importlib.import_module(f"{__name__}.{module.name}").family
        for module in pkgutil.iter_modules(__path__)
        if not module.name.startswith("_")
    ]


def create_ocs_app(host: Host) -> OCSApplication:
    """The ASGI application of everything below `/ocs/`."""
    return OCSApplication(host, families())
