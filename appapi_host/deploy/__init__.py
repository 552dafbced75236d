"""Deploy backends: how apps get in place. A row in `BACKENDS` gives one a short name."""

import importlib
from typing import Final

from appapi_host.deploy.base import DeployBackend
from appapi_host.errors import NotFoundError

__all__ = ["BACKENDS", "load"]

BACKENDS: Final = {
    "docker-install": "appapi_host.deploy.docker:DockerBackend",
    "manual-install": "appapi_host.deploy.manual:ManualBackend",
    "process-install": "appapi_host.deploy.process:ProcessBackend",
}
"""Deploy id → `module:class`. Texts rather than imports, so that a run that only starts processes
never loads what talks to an engine."""


def load(deploy_id: str) -> type[DeployBackend]:
    """The backend of a deploy id.

    Args:
        deploy_id: a key of `BACKENDS`, or `package.module:Class` for one from elsewhere.

    Raises:
        NotFoundError: there is none, or it cannot be imported.
    """
    module_name, colon, class_name = BACKENDS.get(deploy_id, deploy_id).partition(":")
    remedy = f"known are {', '.join(sorted(BACKENDS))}; package.module:Class names another"
    if not colon:
        raise NotFoundError(f"there is no deploy backend {deploy_id!r}", remedy=remedy)
    try:
        backend: type[DeployBackend] = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise NotFoundError(
            f"the deploy backend {deploy_id!r} cannot be loaded: {error}", remedy=remedy
        ) from error
    return backend
