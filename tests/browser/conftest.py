"""A browser and a built app for all tests of this folder; each test has a host of its own."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appapi_host.testing import TestHost, live_host
from tests.browser.bundle import built_app
from tests.browser.chromium import Browser
from tests.install import browser_obstacle


@pytest.fixture
def anyio_backend() -> str:
    """What serves the host runs on asyncio only."""
    return "asyncio"


@pytest.fixture(scope="session")
def there_is_a_browser() -> None:
    """One line says what is missing; in CI that is an error."""
    if reason := browser_obstacle():
        if os.environ.get("CI"):
            pytest.fail(f"browser tests must run in CI: {reason}", pytrace=False)
        pytest.skip(f"browser tests do not run here: {reason}")


@pytest.fixture(scope="session")
def app_folder(there_is_a_browser: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_app(tmp_path_factory.mktemp("embedded"))


@pytest.fixture(scope="session")
def shared_browser(
    there_is_a_browser: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    with Browser.started(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
async def browser(shared_browser: Browser) -> Browser:
    await shared_browser.forget_everything()
    return shared_browser


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[TestHost]:
    async with live_host(tmp_path / "data") as host:
        yield host
