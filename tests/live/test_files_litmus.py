"""litmus, the test suite of WebDAV servers, against the files."""

import os
import re
from pathlib import Path

import anyio
import pytest

from appapi_host.testing import live_host
from tests.install import litmus_obstacle

pytestmark = pytest.mark.live


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # what the ASGI server runs on


@pytest.fixture
def there_is_litmus() -> None:
    if reason := litmus_obstacle():
        if os.environ.get("CI"):
            pytest.fail(f"litmus must run in CI: {reason}", pytrace=False)
        pytest.skip(f"litmus does not run here: {reason}")


async def test_litmus_finds_nothing_wrong(there_is_litmus: None, tmp_path: Path) -> None:
    async with live_host(tmp_path / "data") as host:
        done = await anyio.run_process(
            ["litmus", "-k", f"{host.url}/remote.php/dav/files/user/", "user", "user"],
            cwd=tmp_path,
            check=False,
        )
    output = done.stdout.decode()
    assert done.returncode == 0, output
    summaries = re.findall(r"summary for `(\w+)': of (\d+) tests run: (\d+) passed, 0", output)
    assert [name for name, _, _ in summaries] == ["basic", "copymove", "props", "locks", "http"]
    assert sum(int(passed) for _, _, passed in summaries) >= 66
    assert all(run == passed for _, run, passed in summaries)
    # The only ones skipped are about locks, which Nextcloud does not have either.
    assert re.findall(r"(\d+) tests? (?:was|were) skipped", output) == ["1"]
