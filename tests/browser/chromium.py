"""A headless Chromium of our own, driven over WebDriver from worker threads."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.install import PATH

T = TypeVar("T")

SECONDS = 20
"""How long anything on a page may take to appear."""

SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1100,700",
)


class Browser:
    """One browser. Selectors are CSS.

    Args:
        driver: of that browser.
    """

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    @classmethod
    @contextmanager
    def started(cls, folder: Path) -> Iterator[Self]:
        """A browser for as long as the block runs.

        Args:
            folder: an empty one, where it may keep things.
        """
        options = ChromeOptions()
        options.binary_location = shutil.which("chromium", path=PATH) or ""
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for switch in (*SWITCHES, f"--user-data-dir={folder / 'profile'}"):
            options.add_argument(switch)
        service = ChromeService(
            shutil.which("chromedriver", path=PATH),
            log_output=str(folder / "driver.log"),
            # Not even its crash reporter has to do with what the person at this machine keeps.
            env=os.environ | {"XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)},
        )
        driver = Chrome(options=options, service=service)
        try:
            driver.set_page_load_timeout(SECONDS)
            driver.set_script_timeout(SECONDS)
            yield cls(driver)
        finally:
            driver.quit()

    async def forget_everything(self) -> None:
        """Make it a browser that has never been anywhere."""
        await self.open("about:blank")
        for command in ("Network.clearBrowserCookies", "Network.clearBrowserCache"):
            await _in_thread(self.driver.execute_cdp_cmd, command, {})
        await self.complaints()

    async def open(self, url: str) -> None:
        await _in_thread(self.driver.get, url)

    async def text(self, selector: str) -> str:
        """The text of an element, as soon as it is there."""
        return await self._at(selector, lambda element: str(element.text))

    async def attribute(self, selector: str, name: str) -> str:
        """An attribute of an element, as soon as it is there."""
        return await self._at(selector, lambda element: element.get_attribute(name) or "")

    async def style(self, selector: str, name: str) -> str:
        """What a property of an element came to."""
        return await self._at(selector, lambda element: element.value_of_css_property(name))

    async def click(self, selector: str) -> None:
        await self._at(selector, lambda element: element.click())

    async def type(self, selector: str, text: str) -> None:
        """Write into an input, in place of what is in it."""
        await self._at(selector, lambda element: (element.clear(), element.send_keys(text)))

    async def count(self, selector: str) -> int:
        """How many elements of the page as it is now."""
        return len(await _in_thread(self.driver.find_elements, By.CSS_SELECTOR, selector))

    async def address(self) -> str:
        return await _in_thread(lambda: self.driver.current_url)

    async def run(self, script: str, *arguments: Any) -> Any:
        """Run a script; its last argument is a function that takes the result."""
        return await _in_thread(self.driver.execute_async_script, script, *arguments)

    async def complaints(self) -> list[str]:
        """Errors and warnings on the console since the last look."""
        lines = await _in_thread(self.driver.get_log, "browser")
        return [line["message"] for line in lines if line["level"] in ("SEVERE", "WARNING")]

    async def screenshot(self, path: Path) -> bytes:
        """A picture of the page as PNG, which is written to a file too."""
        await _in_thread(self.driver.save_screenshot, str(path))
        return await anyio.Path(path).read_bytes()

    async def sign_in(self, user: str) -> None:
        """Fill in the form that is shown."""
        await self.type("#user", user)
        await self.type("#password", user)
        await self.click("form.card button")

    async def _at(self, selector: str, use: Callable[[WebElement], T]) -> T:
        """Use an element as soon as it is there; again if the page was left in between."""

        def found_and_used(driver: Chrome) -> tuple[T]:
            return (use(driver.find_element(By.CSS_SELECTOR, selector)),)

        waiting = WebDriverWait(
            self.driver,
            SECONDS,
            poll_frequency=0.05,
            ignored_exceptions=[StaleElementReferenceException],
        )
        return (await _in_thread(waiting.until, found_and_used, f"no {selector}"))[0]


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    return await anyio.to_thread.run_sync(partial(work, *arguments))
