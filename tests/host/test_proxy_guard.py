"""Addresses that fail too often at the proxy."""

from dataclasses import replace

import httpx
import pytest

from appapi_host.records import AccessLevel, Route
from appapi_host.settings import HostSettings
from tests.host.proxy_stage import basic, note
from tests.host.web_stage import APP, EchoApp, WebStage, raw_request, web_stage

PHP = "/index.php/apps/app_api/proxy/nc_py_api"
HARP = "/exapps/nc_py_api"
RECORD = replace(
    APP,
    routes=(
        Route("^/guarded", "GET", AccessLevel.PUBLIC, bruteforce_protection=(401, 418)),
        Route("^/open", "GET", AccessLevel.PUBLIC),
        Route("^/admin", "GET", AccessLevel.ADMIN),
    ),
)
ON = HostSettings(throttling=True)


async def status(
    s: WebStage, target: str, *headers: tuple[str, str], address: str = "192.0.2.1"
) -> int:
    # The application of the stage, because it remembers.
    transport = s.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    answer = await raw_request(
        s.host, "GET", target, headers, application=transport.app, client=(address, 1)
    )
    return answer.status


async def test_answers_that_a_route_names_are_counted() -> None:
    app = EchoApp(status=418)
    async with web_stage(app, record=RECORD, settings=ON) as s:
        assert [await status(s, f"{PHP}/guarded") for _ in range(12)] == [418] * 11 + [429]
        assert len(app.received) == 11
        assert note(s) == "more than 10 failed attempts from 192.0.2.1 in 30 minutes"
        assert await status(s, f"{PHP}/open") == 418
        assert await status(s, f"{PHP}/guarded", address="192.0.2.2") == 418


async def test_good_answer_at_a_guarded_route_forgives() -> None:
    app = EchoApp(status=401)
    async with web_stage(app, record=RECORD, settings=ON) as s:
        for _ in range(10):
            await status(s, f"{PHP}/guarded")
        app.status = 200
        assert await status(s, f"{PHP}/guarded") == 200
        app.status = 401
        assert [await status(s, f"{PHP}/guarded") for _ in range(11)] == [401] * 11


@pytest.mark.parametrize(
    ("path", "expected"), [("/admin", 403), ("/nowhere", 404), ("/init", 403), ("/guarded", 401)]
)
async def test_harp_counts_refusals_and_then_bans_the_address(path: str, expected: int) -> None:
    app = EchoApp(status=401)
    async with web_stage(app, record=RECORD, settings=ON) as s:
        found = [await status(s, HARP + path) for _ in range(11)]
        assert found == [expected] * 10 + [429]
        assert note(s) == "more than 9 failed attempts from 192.0.2.1 in 5 minutes"
        app.status = 200
        assert await status(s, f"{HARP}/open") == 429
        assert await status(s, f"{HARP}/open", address="192.0.2.2") == 200
        # The other way counts apart.
        assert await status(s, f"{PHP}/open") == 200


async def test_wrong_passwords_end_in_429() -> None:
    async with web_stage(EchoApp(), record=RECORD, settings=ON) as s:
        for _ in range(11):
            s.host.throttle.failed("login", "192.0.2.1")
        assert await status(s, f"{PHP}/open", basic("user", "wrong")) == 429
        assert await status(s, f"{PHP}/open") == 200


async def test_nothing_is_counted_on_loopback() -> None:
    async with web_stage(EchoApp(status=401), record=RECORD) as s:
        for target in (f"{PHP}/guarded", f"{HARP}/admin"):
            assert 429 not in [await status(s, target) for _ in range(15)]
