"""What a person can set about the host."""

from dataclasses import fields

import pytest

from appapi_host.settings import HostSettings, Timeouts


@pytest.mark.parametrize(
    ("bind", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_only_loopback_addresses_keep_others_out(bind: str, *, expected: bool) -> None:
    assert HostSettings(bind=bind).is_loopback_only is expected


def test_the_heartbeat_limit_is_the_documented_one() -> None:
    assert HostSettings().timeouts.heartbeat == 90.0


def test_every_limit_of_the_handshake_is_a_positive_number_of_seconds() -> None:
    limits = Timeouts()
    assert all(getattr(limits, limit.name) > 0 for limit in fields(Timeouts))
