"""Who fails too often has to wait: how is counted, and what each way in makes of it."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from appapi_host.callers import signer
from appapi_host.records import AccessLevel, Route
from appapi_host.settings import HostSettings
from appapi_host.throttling import APPS, LOGIN, MAX_KNOWN, Throttle, Throttled, client_address
from tests.host.web_stage import APP, WebStage, meta, raw_request, signed, web_stage

USERS = "/apps/app_api/api/v1/users"
CAPABILITIES = "/cloud/capabilities"
TALK = "/apps/app_api/api/v1/talk_proxy/nc_py_api/bot"
WRONG = signed(authorization_app_api="Ondyb25n")
FAILED = (997, "AppAPI authentication failed")
THROTTLED = (429, "Reached maximum delay")
ON = HostSettings(throttling=True)
ANY = Route(".*", "GET", AccessLevel.USER)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def throttle_at(clock: Clock) -> Throttle:
    return Throttle(is_on=True, clock=clock)


def is_refused(throttle: Throttle, address: str, action: str = APPS) -> bool:
    try:
        throttle.check(action, address)
    except Throttled:
        return True
    return False


def test_the_eleventh_failure_within_half_an_hour_is_one_too_many() -> None:
    clock = Clock()
    throttle = throttle_at(clock)
    for _ in range(10):
        throttle.failed(APPS, "10.0.0.1")
        clock.now += 60
    assert not is_refused(throttle, "10.0.0.1")
    throttle.failed(APPS, "10.0.0.1")
    with pytest.raises(Throttled, match=r"more than 10 failed attempts from 10\.0\.0\.1 in 30 min"):
        throttle.check(APPS, "10.0.0.1")
    assert not is_refused(throttle, "10.0.0.2")
    assert not is_refused(throttle, "10.0.0.1", LOGIN), "each action has a count of its own"
    clock.now = 1000 + 30 * 60
    assert not is_refused(throttle, "10.0.0.1"), "the first one is half an hour ago"
    throttle.failed(APPS, "10.0.0.1")
    assert is_refused(throttle, "10.0.0.1")


def test_the_delay_doubles_with_each_failure_of_twelve_hours() -> None:
    clock = Clock()
    throttle = throttle_at(clock)
    assert throttle.delay("10.0.0.1") == 0
    delays = []
    for _ in range(12):
        throttle.failed(LOGIN, "10.0.0.1")
        delays.append(throttle.delay("10.0.0.1", LOGIN))
    assert delays[:8] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25]
    assert set(delays[8:]) == {25}
    assert throttle.delay("10.0.0.1", APPS) == 0
    throttle.failed(APPS, "10.0.0.2")
    throttle.failed(LOGIN, "10.0.0.2")
    assert throttle.delay("10.0.0.2") == 0.4, "whatever it was"
    clock.now += 12 * 3600
    assert throttle.delay("10.0.0.1") == 0


def test_success_forgets_what_was_counted_for_that_action() -> None:
    throttle = throttle_at(Clock())
    for action in (APPS, LOGIN):
        for _ in range(11):
            throttle.failed(action, "::1")
    throttle.succeeded(APPS, "::1")
    assert not is_refused(throttle, "::1", APPS)
    assert is_refused(throttle, "::1", LOGIN)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::5", "2001:db8:0:ff::9", True),
        ("2001:db8:0:1::5", "2001:db8:0:100::5", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("", "", True),
        ("/run/socket", "", False),
    ],
)
def test_networks_are_counted_as_the_real_one_counts_them(
    one: str, other: str, *, same: bool
) -> None:
    throttle = throttle_at(Clock())
    for _ in range(11):
        throttle.failed(APPS, one)
    assert is_refused(throttle, other) is same


def test_it_forgets_rather_than_grow_without_end() -> None:
    throttle = throttle_at(Clock())
    for _ in range(11):
        throttle.failed(APPS, "first")
    for number in range(MAX_KNOWN):
        throttle.failed(APPS, f"other {number}")
    assert not is_refused(throttle, "first")
    assert throttle.delay(f"other {MAX_KNOWN - 1}") == 0.2


def test_nothing_is_counted_while_it_is_off() -> None:
    throttle = Throttle(is_on=False)
    for _ in range(20):
        throttle.failed(APPS, "10.0.0.1")
    assert not is_refused(throttle, "10.0.0.1")
    assert throttle.delay("10.0.0.1") == 0


def test_a_request_without_a_client_has_no_address() -> None:
    assert client_address({"client": ("10.0.0.1", 5)}) == "10.0.0.1"
    assert client_address({"client": None}) == ""
    assert client_address({}) == ""


async def test_sixth_wrong_signature_is_refused_and_locks_out_the_right_one() -> None:
    async with web_stage(settings=ON) as s:
        for _ in range(5):  # each counts twice
            assert meta(await s.ocs("GET", USERS, headers=WRONG)) == FAILED
        for version, status in ((1, 200), (2, 429)):
            answer = await s.ocs("GET", USERS, headers=WRONG, version=version)
            assert (answer.status_code, meta(answer)) == (status, THROTTLED)
        assert meta(await s.ocs("GET", USERS)) == THROTTLED
        assert meta(await s.ocs("GET", CAPABILITIES)) == THROTTLED
        assert s.exchanges()[-1].note == "more than 10 failed attempts from 127.0.0.1 in 30 minutes"
        other = await elsewhere(s, USERS, signed())
        assert other.status == 200


async def elsewhere(s: WebStage, path: str, headers: dict[str, str]) -> Any:
    """The answer to a request from another address."""
    return await raw_request(
        s.host,
        "GET",
        f"/ocs/v2.php{path}?format=json",
        headers.items(),
        client=("192.0.2.1", 5),
    )


async def test_a_route_of_the_server_counts_once_and_success_forgets() -> None:
    async with web_stage(settings=ON) as s:
        for _ in range(10):
            assert meta(await s.ocs("GET", "/cloud/user", headers=WRONG))[0] == 997
        assert s.host.throttle.delay("127.0.0.1") == 25
        assert meta(await s.ocs("GET", USERS)) == (100, "OK")
        assert s.host.throttle.delay("127.0.0.1") == 0


@pytest.mark.parametrize(
    ("headers", "counts"),
    [
        ({}, 0),
        (signed(ex_app_id=None), 0),
        (signed(ex_app_id="nobody"), 2),
        (WRONG, 2),
        (signed(authorization_app_api=""), 2),
        (signed(ex_app_version=None), 0),
        (signed("nobody"), 0),
        (signed("gone"), 0),
    ],
)
async def test_only_guesses_count(headers: dict[str, str], counts: int) -> None:
    async with web_stage(settings=ON) as s:
        assert meta(await s.ocs("GET", USERS, headers=headers)) == FAILED
        assert s.host.throttle.delay("127.0.0.1") == (0.1 * 2**counts if counts else 0)


async def test_disabled_app_does_not_count() -> None:
    async with web_stage(settings=ON) as s:
        await s.change_app(enabled=False)
        assert meta(await s.ocs("GET", USERS)) == FAILED
        assert s.host.throttle.delay("127.0.0.1") == 0


async def test_wrong_passwords_wait_and_are_refused_in_the_end() -> None:
    async with web_stage(settings=ON) as s:

        async def asked(password: str) -> httpx.Response:
            auth = ("user", password)
            return await s.ocs("GET", "/cloud/user", headers={}, auth=auth)

        assert meta(await asked("wrong")) == (997, "Unauthorised")
        capabilities = await s.data("GET", CAPABILITIES)
        delay = capabilities["capabilities"]["bruteforce"]["delay"]
        assert delay == 200
        assert meta(await asked("user")) == (100, "OK")  # after that delay
        assert s.host.throttle.delay("127.0.0.1") == 0
        for _ in range(11):
            s.host.throttle.failed(LOGIN, "127.0.0.1")
        assert meta(await asked("user")) == THROTTLED
        assert meta(await s.ocs("GET", USERS)) == (100, "OK"), "signatures are counted apart"


async def test_the_proxy_refuses_who_guesses_passwords() -> None:
    async with web_stage(record=replace(APP, routes=(ANY,)), settings=ON) as s:
        guess = "/index.php/apps/app_api/proxy/nc_py_api/x"
        assert (await s.client.get(guess, auth=("user", "wrong"))).status_code == 401
        for _ in range(10):
            s.host.throttle.failed(LOGIN, "127.0.0.1")
        refused = await s.client.get(guess, auth=("user", "user"))
        assert refused.status_code == 429
        assert "Too many requests" in refused.text


async def test_who_forges_messages_to_bots_is_refused() -> None:
    async with web_stage(settings=ON) as s:
        for _ in range(11):
            assert meta(await s.ocs("POST", TALK, headers={}, json={}))[0] == 404
        assert meta(await s.ocs("POST", TALK, headers={}, json={})) == THROTTLED


async def test_gateways_of_apps_refuse_who_guesses_secrets() -> None:
    async with web_stage(settings=ON) as s:

        async def refusal(headers: dict[str, str]) -> str:
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            return (await signer(s.host, raw, address="172.17.0.2")).refusal

        for _ in range(11):
            assert "does not hold the secret" in await refusal(WRONG)
        assert "more than 10 failed attempts from 172.17.0.2" in await refusal(signed())


async def test_nobody_is_refused_on_loopback_unless_asked_for() -> None:
    async with web_stage() as s:
        for _ in range(8):
            assert meta(await s.ocs("GET", USERS, headers=WRONG)) == FAILED
        assert meta(await s.ocs("GET", USERS)) == (100, "OK")
