"""The OCS envelope. Source: behaviour of Nextcloud 32, ocs-api.md 1."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exapp_sdk.errors import RemoteProtocolError
from exapp_sdk.protocol.capabilities import GET_CAPABILITIES
from exapp_sdk.protocol.log import WRITE_LOG, LogLevel
from exapp_sdk.protocol.ocs import FAILURE_CODES, Endpoint, Envelope
from exapp_sdk.protocol.status import GET_STATE, REPORT_STATUS
from exapp_sdk.protocol.users import LIST_USERS

SUCCESS = (
    '{"ocs":{"meta":{"status":"ok","statuscode":100,"message":"OK","totalitems":"",'
    '"itemsperpage":""},"data":[]}}'
)
REFUSAL = (
    '{"ocs":{"meta":{"status":"failure","statuscode":404,"message":"No such Script"},"data":[]}}'
)


def test_recorded_answers_are_unwrapped() -> None:
    assert Envelope.from_json(SUCCESS) == Envelope(100, "OK", [])
    refused = Envelope.from_json(REFUSAL.encode())
    assert refused == Envelope(404, "No such Script", [])
    assert not refused.is_success


@pytest.mark.parametrize(
    ("code", "success"), [(100, True), (200, True), (201, True), (101, False), (300, False)]
)
def test_success_is_100_or_2xx(code: int, success: bool) -> None:
    assert Envelope(code, "", None).is_success is success


@pytest.mark.parametrize("code", sorted(FAILURE_CODES))
def test_special_codes_are_failures(code: int) -> None:
    assert not Envelope(code, "", None).is_success


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>",
        "[]",
        "null",
        '{"ocs": []}',
        '{"ocs": {"meta": {}}}',
        '{"ocs": {"meta": {"statuscode": "x"}}}',
        '{"ocs": {"meta": {"statuscode": null}}}',
        b"\xff\xfe\xff",
    ],
)
def test_anything_else_is_the_peers_mistake(body: str | bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not an OCS answer"):
        Envelope.from_json(body)


def test_the_error_shows_how_the_body_begins() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Envelope.from_json("<title>Bad gateway</title>" + "x" * 500)
    assert "Bad gateway" in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_body_is_an_envelope_or_an_error(body: bytes | str) -> None:
    with pytest.raises(RemoteProtocolError):
        Envelope.from_json(body)


def test_message_and_data_may_be_missing() -> None:
    assert Envelope.from_json(json.dumps({"ocs": {"meta": {"statuscode": "200"}}})) == Envelope(
        200, "", None
    )


@pytest.mark.parametrize(
    ("endpoint", "method", "path", "idempotent"),
    [
        (REPORT_STATUS, "PUT", "/apps/app_api/ex-app/status", True),
        (GET_STATE, "GET", "/apps/app_api/ex-app/state", True),
        (WRITE_LOG, "POST", "/apps/app_api/api/v1/log", False),
        (LIST_USERS, "GET", "/apps/app_api/api/v1/users", True),
        (GET_CAPABILITIES, "GET", "/cloud/capabilities", True),
    ],
)
def test_endpoints_are_the_documented_ones(
    endpoint: Endpoint[object], method: str, path: str, idempotent: bool
) -> None:
    assert (endpoint.method, endpoint.path) == (method, path)
    assert endpoint.idempotent is idempotent


def test_log_levels_are_those_of_nextcloud() -> None:
    assert [level.value for level in LogLevel] == [0, 1, 2, 3, 4]
