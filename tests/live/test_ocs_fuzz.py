"""A part of what `nox -s fuzz` does: generated requests to every OCS route, over sockets."""

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.live


@pytest.mark.timeout(240)
def test_generated_requests_break_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.ocs", "--requests", "300", "--seed", "7"],
        capture_output=True,
        check=False,
        text=True,
        timeout=230,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(r"\d+ requests to \d+ operations", done.stdout)
