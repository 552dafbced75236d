"""The OCS API that apps call: a file per family of endpoints, collected by itself."""

import importlib
import pkgutil
from typing import Final

from appapi_host.host import Host
from appapi_host.ocs._endpoints import Family
from appapi_host.ocs._routing import OCSApplication

__all__ = ["FAMILIES", "create_ocs_app"]

# Once, with the import and not for each host, because reading the folder blocks.
FAMILIES: Final[tuple[Family, ...]] = tuple(
    importlib.import_module(f"{__name__}.{module.name}").family
    for module in pkgutil.iter_modules(__path__)
    if not module.name.startswith("_")
)
"""The `family` of each module in this package, helpers (`_name`) left out."""


def create_ocs_app(host: Host) -> OCSApplication:
    """The ASGI application of everything below `/ocs/`."""
    return OCSApplication(host, FAMILIES)
