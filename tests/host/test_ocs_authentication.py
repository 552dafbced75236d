"""Who may call what, in the order of the real checks, and what refusals look like."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appapi_host.callers import _lenient_base64
from appapi_host.ocs._endpoints import Auth, Call, Family
from appapi_host.ocs._routing import OCSApplication
from exapp_sdk.protocol.lifecycle import State
from exapp_sdk.protocol.status import Status
from tests.host.web_stage import WebStage, meta, signed, web_stage

USERS = "/apps/app_api/api/v1/users"
STATE = "/apps/app_api/ex-app/state"
STATUS = "/apps/app_api/ex-app/status"
OLD_STATUS = "/apps/app_api/apps/status/nc_py_api"
FAILED = (997, "AppAPI authentication failed")
NOT_LOGGED_IN = (997, "Current user is not logged in")


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


REFUSED = {
    "no headers at all": ({}, "the request is not signed by an app"),
    "no app id": (signed(ex_app_id=None), "EX-APP-ID is missing"),
    "empty app id": (signed(ex_app_id=""), "EX-APP-ID is missing"),
    "unknown app": (signed(ex_app_id="nobody"), "no app 'nobody' is registered"),
    "wrong secret": (
        signed(authorization_app_api=b64(":wrong")),
        "AUTHORIZATION-APP-API does not hold the secret of the app",
    ),
    "no colon": (
        signed(authorization_app_api=b64("12345")),
        "AUTHORIZATION-APP-API does not hold the secret of the app",
    ),
    "empty signature": (
        signed(authorization_app_api=""),
        "AUTHORIZATION-APP-API does not hold the secret of the app",
    ),
    "no version": (signed(ex_app_version=None), "EX-APP-VERSION is missing"),
    "unknown user": (signed("nobody"), "no user 'nobody'"),
    "disabled user": (signed("gone"), "the user 'gone' is disabled"),
    "too long": (signed(ex_app_id="a" * 5000), "an authentication header is too long"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("version", [1, 2])
async def test_every_refusal_looks_the_same_and_is_explained_to_the_host(
    case: str, version: int
) -> None:
    headers, note = REFUSED[case]
    async with web_stage() as s:
        response = await s.ocs("GET", USERS, version=version, headers=headers)
        assert response.status_code == 401
        assert meta(response) == FAILED
        assert "x-user-id" not in response.headers
        assert response.headers["cache-control"] == "no-cache, no-store, must-revalidate"
        assert [exchange.note for exchange in s.exchanges()] == [note]


async def test_refusal_is_as_recorded_in_both_versions() -> None:
    async with web_stage() as s:
        v1 = await s.ocs("GET", USERS, headers={})
        assert v1.text == (
            '{"ocs":{"meta":{"status":"failure","statuscode":997,'
            '"message":"AppAPI authentication failed","totalitems":"","itemsperpage":""},'
            '"data":[]}}'
        )
        v2 = await s.ocs("GET", USERS, version=2, headers={})
        assert v2.text == v1.text.replace(',"totalitems":"","itemsperpage":""', "")


@pytest.mark.parametrize("name", ["ex-app-id", "ex-app-version", "authorization-app-api"])
async def test_doubled_header_is_refused(name: str) -> None:
    async with web_stage() as s:
        headers = [*signed().items(), (name, signed()[name])]
        response = await s.client.get(f"/ocs/v1.php{USERS}", headers=headers)
        assert response.status_code == 401


async def test_authentication_comes_before_the_parameters() -> None:
    async with web_stage() as s:
        response = await s.ocs("PUT", STATUS, headers={})
        assert meta(response) == FAILED


@pytest.mark.parametrize("signature", ["OjE\r\t yMzQ1", "=OjEyMzQ1=", "*Oj-Ey_MzQ1*", "OjEyMzQ1A"])
def test_base64_is_read_leniently(signature: str) -> None:
    assert _lenient_base64(signature.encode()) == b":12345"


@given(st.binary(max_size=200))
def test_no_signature_is_too_strange(signature: bytes) -> None:
    assert isinstance(_lenient_base64(signature), bytes)


async def test_lenient_base64_signs_in() -> None:
    async with web_stage() as s:
        response = await s.ocs("GET", USERS, headers=signed(authorization_app_api="O.jEyMzQ1"))
        assert meta(response) == (100, "OK")


async def test_secret_may_hold_colons_and_a_header_non_ascii() -> None:
    async with web_stage() as s:
        response = await s.ocs("GET", USERS, headers=signed(authorization_app_api=b64(":12345:6")))
        assert meta(response) == FAILED
        raw = [
            (b"EX-APP-ID", b"\xff\xfe"),
            (b"EX-APP-VERSION", b"1"),
            (b"AUTHORIZATION-APP-API", b"\xff"),
        ]
        response = await s.client.get(f"/ocs/v2.php{USERS}", headers=raw)
        assert response.status_code == 401
        raw = [
            (b"EX-APP-ID", b"nc_py_api"),
            (b"EX-APP-VERSION", b"\xff"),
            (b"AUTHORIZATION-APP-API", b"OjEyMzQ1"),
        ]
        response = await s.client.get(f"/ocs/v2.php{USERS}", headers=raw)
        assert response.status_code == 200
        assert (await s.host.app("nc_py_api")).version == "1.0.0"


async def test_acting_user_is_named_in_the_answer() -> None:
    async with web_stage() as s:
        assert (await s.ocs("GET", USERS, user_id="admin")).headers["x-user-id"] == "admin"
        assert "x-user-id" not in (await s.ocs("GET", USERS)).headers
        assert [exchange.user_id for exchange in s.exchanges()] == ["admin", ""]


@pytest.mark.parametrize(
    ("sent", "stored"), [("1.0.1", "1.0.1"), ("0.9", "1.0.0"), ("zzz", "1.0.0"), ("1.0.0", "1.0.0")]
)
async def test_only_a_higher_version_is_stored(sent: str, stored: str) -> None:
    async with web_stage() as s:
        assert meta(await s.ocs("GET", USERS, headers=signed(ex_app_version=sent))) == (100, "OK")
        assert (await s.host.app("nc_py_api")).version == stored


@pytest.mark.parametrize("kind", ["", "install", "update"])
async def test_disabled_app_may_only_ask_for_its_state_and_report_while_installing(
    kind: str,
) -> None:
    async with web_stage() as s:
        status = Status(deploy=100, init=10, action="init", type=kind)
        await s.change_app(enabled=False, state=State.FAILED, status=status)
        report = {"progress": 20}
        assert meta(await s.ocs("GET", USERS)) == FAILED
        assert s.exchanges()[-1].note == "the app is disabled (state: failed)"
        assert meta(await s.ocs("PUT", OLD_STATUS, json=report)) == FAILED
        state = await s.ocs("GET", STATE)
        assert state.text.endswith('"data":0}}')
        expected = (100, "OK") if kind else FAILED
        assert meta(await s.ocs("PUT", STATUS, json=report)) == expected


family = Family()


@family.get("/test/{kind}", auth=Auth.USER)
async def user_only(call: Call, kind: str) -> str:
    return f"{kind} of {call.user.user_id if call.user else ''}"


@family.get("/test-admin", auth=Auth.ADMIN)
async def admin_only(call: Call) -> bool:
    return call.signed_by is None


@family.get("/test-app-user", auth=Auth.APP_USER)
async def app_user_only(call: Call) -> str:
    return call.app.app_id


@family.get("/test-public", auth=Auth.PUBLIC)
async def public(call: Call) -> list[Any]:
    return [call.user.user_id if call.user else None, call.signed_by is not None]


@asynccontextmanager
async def family_stage() -> AsyncIterator[WebStage]:
    async with web_stage() as s:
        transport = httpx.ASGITransport(OCSApplication(s.host, [family]))
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as s.client:
            yield s


async def test_user_routes_take_users_of_both_ways_in() -> None:
    async with family_stage() as s:
        assert (await s.ocs("GET", "/test/x", user_id="user")).json()["ocs"]["data"] == "x of user"
        response = await s.ocs("GET", "/test/x", headers={}, auth=("admin", "admin"))
        assert response.json()["ocs"]["data"] == "x of admin"
        assert response.headers["x-user-id"] == "admin"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(),
        signed("gone"),
        signed(authorization_app_api="x"),
        {"authorization": "Bearer x"},
    ],
)
async def test_user_routes_refuse_everybody_else(headers: dict[str, str]) -> None:
    async with family_stage() as s:
        response = await s.ocs("GET", "/test/x", headers=headers)
        assert (response.status_code, meta(response)) == (401, NOT_LOGGED_IN)
        assert "www-authenticate" not in response.headers


@pytest.mark.parametrize(
    "authorization", ["Basic !", f"Basic {b64('user:wrong')}", f"basic {b64('x')}"]
)
async def test_wrong_password_is_asked_for_again(authorization: str) -> None:
    async with family_stage() as s:
        response = await s.ocs("GET", "/test/x", headers={"authorization": authorization})
        assert (response.status_code, meta(response)) == (401, (997, "Unauthorised"))
        assert response.headers["www-authenticate"] == 'Basic realm="Authorisation Required"'


async def test_bad_signature_is_not_rescued_by_a_good_password() -> None:
    async with family_stage() as s:
        headers = signed(authorization_app_api="x", authorization=f"Basic {b64('admin:admin')}")
        assert meta(await s.ocs("GET", "/test/x", headers=headers)) == NOT_LOGGED_IN


async def test_admin_routes_are_for_admins() -> None:
    async with family_stage() as s:
        refusal = (403, "Logged in account must be an admin")
        v1 = await s.ocs("GET", "/test-admin", user_id="user")
        assert (v1.status_code, meta(v1)) == (200, refusal)
        v2 = await s.ocs("GET", "/test-admin", user_id="user", version=2)
        assert (v2.status_code, meta(v2)) == (403, refusal)
        assert (await s.ocs("GET", "/test-admin", user_id="admin")).json()["ocs"]["data"] is False
        response = await s.ocs("GET", "/test-admin", headers={}, auth=("admin", "admin"))
        assert response.json()["ocs"]["data"] is True


async def test_app_routes_can_demand_a_user() -> None:
    async with family_stage() as s:
        response = await s.ocs("GET", "/test-app-user", user_id="user")
        assert response.json()["ocs"]["data"] == "nc_py_api"
        assert meta(await s.ocs("GET", "/test-app-user")) == NOT_LOGGED_IN
        response = await s.ocs("GET", "/test-app-user", headers={}, auth=("admin", "admin"))
        assert meta(response) == FAILED


@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        ({}, [None, False]),
        (signed(), [None, True]),
        (signed("user"), ["user", True]),
        (signed("nobody"), [None, False]),
        (signed("gone"), [None, False]),
        ({"authorization": f"Basic {b64('user:user')}"}, ["user", False]),
        ({"authorization": f"Basic {b64('user:x')}"}, [None, False]),
    ],
)
async def test_public_routes_take_bad_authentication_for_none(
    headers: dict[str, str], seen: list[Any]
) -> None:
    async with family_stage() as s:
        response = await s.ocs("GET", "/test-public", headers=headers)
        assert (response.status_code, response.json()["ocs"]["data"]) == (200, seen)
