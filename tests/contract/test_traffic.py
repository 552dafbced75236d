"""User traffic and forged requests, with both real peers in memory."""

from collections.abc import Mapping
from typing import Any

import pytest
from starlette.requests import Request

from appapi_host.app_client import memory_transport, user_client
from appapi_host.info_xml import AppInfo
from appapi_host.records import AccessLevel, Route
from appapi_host.testing import TestHost
from exapp_sdk import Access, ExApp, Settings
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.testing import running, signed_headers
from tests.contract.requirements import shows

SETTINGS = Settings(
    app_id="exapp_under_test",
    app_secret=Secret("right"),
    app_version="1.0.0",
    nextcloud_url="http://host.test",
)
INFO = AppInfo(
    id="levels",
    name="Levels",
    version="1.0.0",
    routes=(
        Route("^/public", "GET", AccessLevel.PUBLIC),
        Route("^/user", "GET", AccessLevel.USER),
        Route("^/admin", "GET", AccessLevel.ADMIN),
        Route(".*", "GET,POST,PUT", AccessLevel.PUBLIC),
    ),
)


def echoing_app() -> ExApp:
    app = ExApp()

    async def who(request: Request) -> Mapping[str, Any]:
        return {"user": request.user.identity, "headers": dict(request.headers)}

    app.get("/public", access=Access.PUBLIC)(who)
    app.get("/user", access=Access.USER)(who)
    app.get("/admin", access=Access.ADMIN)(who)
    app.route("/{rest:path}", methods=["GET", "POST", "PUT"], access=Access.PUBLIC)(who)
    return app


@shows("proxy.user", "proxy.levels")
@pytest.mark.parametrize(
    ("user", "open_to"),
    [
        ("", {"public": 200, "user": 404, "admin": 404}),
        ("user", {"public": 200, "user": 200, "admin": 404}),
        ("admin", {"public": 200, "user": 200, "admin": 200}),
    ],
)
async def test_routes_open_to_their_level(
    appapi_host: TestHost, user: str, open_to: dict[str, int]
) -> None:
    exapp = await appapi_host.install(echoing_app(), info=INFO)
    for path, status in open_to.items():
        answer = await exapp.get(path, user=user)
        assert answer.status_code == status, path
        if status == 200:
            assert answer.json()["user"] == user


@shows("proxy.no_forgery")
async def test_headers_forged_by_a_browser_do_not_reach_the_app(appapi_host: TestHost) -> None:
    exapp = await appapi_host.install(echoing_app(), info=INFO)
    forged = {
        "AUTHORIZATION-APP-API": "YWRtaW46eA==",
        "EX-APP-ID": "levels",
        "AA-VERSION": "1",
        "x-origin-ip": "203.0.113.9",
        "harp-shared-key": "k",
    }
    answer = await exapp.get("public", headers=forged)
    assert answer.status_code == 200
    assert answer.json()["user"] == ""
    seen = answer.json()["headers"]
    assert seen["x-origin-ip"] != forged["x-origin-ip"]
    assert "harp-shared-key" not in seen


@shows("auth.lifecycle_from_browser")
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "init"), ("PUT", "enabled?enabled=0"), ("GET", "heartbeat"), ("POST", "x/../init")],
)
async def test_browser_reaches_no_lifecycle_path(
    appapi_host: TestHost, method: str, path: str
) -> None:
    app = echoing_app()
    exapp = await appapi_host.install(app, info=INFO)
    before = len(exapp.received)
    answer = await exapp.request(method, path, user="admin")
    assert answer.status_code == 404
    assert len(exapp.received) == before
    assert app.is_enabled is True


@shows("auth.refused", "heartbeat.open")
async def test_host_with_another_secret_is_refused_but_hears_the_heartbeat() -> None:
    app = ExApp(settings=SETTINGS)
    wrong = Settings(
        app_id=SETTINGS.app_id,
        app_secret=Secret("wrong"),
        app_version="1.0.0",
        nextcloud_url="http://host.test",
    )
    async with (
        running(app),
        user_client("http://exapp.test", transport=memory_transport(app)) as client,
    ):
        for headers in ({}, dict(signed_headers(wrong)), dict(signed_headers(SETTINGS))):
            answer = await client.get("/heartbeat", headers=headers)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        refused = await client.put("/enabled?enabled=1", headers=dict(signed_headers(wrong)))
        assert refused.status_code == 401
        accepted = await client.put("/enabled?enabled=1", headers=dict(signed_headers(SETTINGS)))
        assert accepted.json() == {"error": ""}
