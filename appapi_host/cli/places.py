"""Where state is kept: that of `serve`, and that of each `run` below it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from appapi_host.errors import NotFoundError
from appapi_host.settings import HostSettings

if TYPE_CHECKING:
    from appapi_host.registry import Registry

__all__ = ["as_served", "note_served", "place_of_app", "run_places"]

_SERVED: Final = "served"
"""Name of the setting in which whoever serves writes down where, and for which Nextcloud."""


async def note_served(registry: "Registry", settings: HostSettings) -> None:
    """Write down how this state is served, for processes that do not serve it."""
    noted = {"port": settings.port, "nextcloud_version": settings.nextcloud_version}
    await registry.set_setting(_SERVED, json.dumps(noted))


def run_places(data_dir: Path) -> list[Path]:
    """The state directories of `run`, one for each app that it has or had."""
    from appapi_host.host import REGISTRY_FILE

    return sorted(path.parent for path in (data_dir / "run").glob(f"*/{REGISTRY_FILE}"))


async def place_of_app(data_dir: Path, app_id: str) -> HostSettings:
    """Where an app is installed, whether `run` or `serve` has it.

    Args:
        data_dir: of `serve`.
        app_id: the app.

    Raises:
        NotFoundError: nowhere.
        HostError: the state cannot be read.
    """
    from appapi_host.host import REGISTRY_FILE
    from appapi_host.registry import Registry

    for directory in (data_dir / "run" / app_id, data_dir):
        if await anyio.Path(directory / REGISTRY_FILE).exists():  # opening it would make one
            async with await Registry.open(directory / REGISTRY_FILE) as registry:
                if await registry.app(app_id) is not None:
                    return HostSettings(data_dir=directory)
    raise NotFoundError(
        f"no app {app_id} is installed in {data_dir}",
        remedy="`occ app_api:app:list` names those of `serve`; --data-dir looks elsewhere",
    )


async def as_served(settings: HostSettings) -> HostSettings:
    """The same for the port, and the Nextcloud, of whoever serves this state or did so last.

    Raises:
        HostError: the state cannot be read.
    """
    from appapi_host.host import REGISTRY_FILE
    from appapi_host.registry import Registry

    path = settings.data_dir / REGISTRY_FILE if settings.data_dir else None
    if path is None or not await anyio.Path(path).exists():
        return settings
    async with await Registry.open(path) as registry:
        noted = await registry.setting(_SERVED)
    return settings if noted is None else replace(settings, aa_version="", **json.loads(noted))
