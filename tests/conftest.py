"""What all tests share: both event loops, and an alarm for calls that would freeze one."""

import mimetypes
from collections.abc import Iterator
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

mimetypes.init()  # reads the system's tables once; Starlette would do it within a request


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With pytest-xdist a file goes to one process, and all that starts engines to the same one.

    So what tests share is started once, and tests that wait for engines run beside the others.
    """
    from xdist.scheduler import LoadScopeScheduling  # not needed where tests run in one process

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "engines" if nodeid.startswith("tests/docker/") else nodeid.partition("::")[0]

    return ByFile(config, log)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _no_blocking_calls(request: pytest.FixtureRequest) -> Iterator[None]:
    """Raise where our code blocks the event loop; the detector knows asyncio only."""
    if (
        "anyio_backend" not in request.fixturenames
        or request.getfixturevalue("anyio_backend") != "asyncio"
    ):
        yield
        return
    with blockbuster_ctx(scanned_modules=["exapp_sdk", "appapi_host"]) as detector:
        for function in detector.functions.values():
            # What is imported when it is first needed reads files, once.
            function.can_block_in("<frozen importlib._bootstrap>", {"_find_and_load"})
        # Measuring coverage takes a lock now and then, for which it waits while threads run.
        detector.functions["threading.Lock.acquire"].can_block_in(
            "coverage/collector.py", "lock_data"
        )
        for name in ("os.stat", "os.listdir"):
            # Finding the siblings of a package is an import, too.
            detector.functions[name].can_block_in("pkgutil.py", {"_iter_file_finder_modules"})
        for name, function in detector.functions.items():
            if name.startswith("sqlite3."):  # short queries, done at once on purpose
                function.can_block_in("appapi_host/registry/__init__.py", {"look"})
        yield
