"""What a person can set about the host."""

from dataclasses import fields

import pytest

from appapi_host.settings import HostSettings, Timeouts
from exapp_sdk.errors import ConfigError


@pytest.mark.parametrize(
    ("bind", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_only_loopback_addresses_keep_others_out(bind: str, *, expected: bool) -> None:
    assert HostSettings(bind=bind).is_loopback_only is expected


@pytest.mark.parametrize(
    ("bind", "given", "expected"),
    [
        ("127.0.0.1", None, False),
        ("127.0.0.1", True, True),
        ("0.0.0.0", None, True),
        ("0.0.0.0", False, False),
    ],
)
def test_who_fails_to_sign_in_waits_unless_on_loopback(
    bind: str, given: bool | None, *, expected: bool
) -> None:
    assert HostSettings(bind=bind, throttling=given).is_throttling is expected


def test_the_heartbeat_limit_is_the_documented_one() -> None:
    assert HostSettings().timeouts.heartbeat == 90.0


def test_every_limit_of_the_handshake_is_a_positive_number_of_seconds() -> None:
    limits = Timeouts()
    assert all(getattr(limits, limit.name) > 0 for limit in fields(Timeouts))


def test_appapi_follows_the_nextcloud_unless_it_is_given() -> None:
    assert HostSettings().aa_version == "32.0.0"
    assert HostSettings(nextcloud_version=35).aa_version == "35.0.0"
    assert HostSettings(nextcloud_version=35, aa_version="5.1").aa_version == "5.1"


@pytest.mark.parametrize("version", [31, 36])
def test_other_nextclouds_are_refused(version: int) -> None:
    with pytest.raises(ConfigError, match=f"nextcloud_version is {version}, not 32 to 35"):
        HostSettings(nextcloud_version=version)


def test_people_reach_the_host_at_its_public_url() -> None:
    assert HostSettings(port=5).url == "http://127.0.0.1:5"
    assert HostSettings(public_url="https://cloud.example/").url == "https://cloud.example"
