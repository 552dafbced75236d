"""What is read of an engine's words about the end of a container; needs no engine."""

import pytest

from appapi_host.deploy.docker.endings import unix_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-02T03:04:05.12345Z", "1767323045.123450000"),
        ("2026-01-02T04:04:05.123456789+01:00", "1767323045.123456789"),  # Podman
        ("2026-01-02T03:04:05Z", "1767323045.000000000"),
        ("0001-01-01T00:00:00Z", ""),  # it has never ended
        ("", ""),
        ("yesterday", ""),
    ],
)
def test_times_of_an_engine_become_unix_times(text: str, seconds: str) -> None:
    assert unix_time(text) == seconds
