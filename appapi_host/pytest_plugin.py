"""Fixtures that start app and host together; loaded by pytest when the package is installed.

`appapi_host` connects both in memory, on asyncio and trio; `live_appapi_host` listens on a port and
starts apps as processes. Both have the same `install()`.

Everything is imported inside the fixtures: a test run that uses none of them pays nothing, and a
plain install of the SDK, without the `host` extra, does not break pytest.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from appapi_host.testing import TestHost

__all__ = ["appapi_host", "live_appapi_host"]


@pytest.fixture
async def appapi_host(anyio_backend: Any) -> "AsyncIterator[TestHost]":
    """A host in memory: `exapp = await appapi_host.install(app)`."""
    from appapi_host.testing import memory_host

    async with memory_host() as host:
        yield host


@pytest.fixture
async def live_appapi_host(anyio_backend: Any, tmp_path: Path) -> "AsyncIterator[TestHost]":
    """A host on a port of its own: `exapp = await live_appapi_host.install(FOLDER)`."""
    from appapi_host.testing import live_host

    async with live_host(tmp_path / "appapi_host") as host:
        yield host
