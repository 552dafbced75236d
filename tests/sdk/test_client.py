"""The client: what it sends, what it makes of answers and failures, what it repeats."""

import inspect
import json
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, assert_type

import anyio
import httpx
import pytest

from exapp_sdk import (
    ExApp,
    ExAppError,
    LocalProtocolError,
    LogLevel,
    Nextcloud,
    OCSError,
    RemoteProtocolError,
    Settings,
    TransportError,
)
from exapp_sdk.client import FAILURES, Retry, tls_context
from exapp_sdk.protocol.ocs import Endpoint
from exapp_sdk.protocol.users import LIST_USERS
from tests.sdk.stage import ENVIRON, SECRET, SETTINGS, Answer, Call, RecordingHost, started

WIRE = Path(__file__).resolve().parents[1] / "wire" / "exapp-to-host-basics.jsonl"
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBiTCCAS+gAwIBAgIUK5V9FelEh4hu0wT7VYwUjpQUQO4wCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwOZXhhcHAtc2RrIHRlc3QwIBcNMjYxMTIxMTAwMjE0WhgPMjEy
NjEwMjgxMDAyMTRaMBkxFzAVBgNVBAMMDmV4YXBwLXNkayB0ZXN0MFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEB+4pg8mCbibngSVcc1Vx1NuYnMqpIFNelDEhdOAZ
bID5mrDS+G5pGatxhy5cB3S4VoR1etSJFBLEKWcfc9H2KaNTMFEwHQYDVR0OBBYE
FPaNOzkwdfuyb4t4cvR7A3Str+HKMB8GA1UdIwQYMBaAFPaNOzkwdfuyb4t4cvR7
A3Str+HKMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgQ77wefgp
UFwPn+koTIr/QNjdrXZ4HkVV3cHh0gABR5ECIQDqIXVdZv94eQT6L8pOyJlHiD2C
OiqU4hy2vu0UTS3oHg==
-----END CERTIFICATE-----
"""


class Wire(httpx.AsyncBaseTransport):
    """Fails in the prepared ways, then lets requests through to the host."""

    def __init__(self, host: RecordingHost, *failures: Exception) -> None:
        self.host = host
        self.failures = list(failures)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.failures:
            raise self.failures.pop(0)
        return await self.host.transport.handle_async_request(request)


class Pauses:
    """Notes how long it should have slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def client(
    *answers: Answer, failures: Sequence[Exception] = (), settings: Settings = SETTINGS
) -> tuple[Nextcloud, RecordingHost, Wire, Pauses]:
    prepared = list(answers)

    async def answer(call: Call) -> Answer:
        return prepared.pop(0) if len(prepared) > 1 else prepared[0]

    host = RecordingHost(answer if prepared else None)
    wire, pauses = Wire(host, *failures), Pauses()
    nextcloud = Nextcloud(settings, transport=wire, retry=Retry(sleep=pauses.sleep))
    return nextcloud, host, wire, pauses


# What is sent


async def test_request_is_what_a_host_expects() -> None:
    nextcloud, host, _, _ = client(Answer(data=["admin", "bob"]))
    users = await nextcloud.users()
    assert_type(users, list[str])
    assert users == ["admin", "bob"]
    (call,) = host.calls
    assert (call.method, call.path) == ("GET", "/ocs/v1.php/apps/app_api/api/v1/users")
    assert call.query == [("format", "json")]
    assert call.headers.pop("user-agent").startswith("ExApp/notes_ai/1.4.0 (exapp-sdk/")
    assert (
        call.headers.items()
        >= {
            "aa-version": "32.0.0",
            "ex-app-id": "notes_ai",
            "ex-app-version": "1.4.0",
            "authorization-app-api": "OnMzY3IzdDp3aXRoLWNvbG9u",
            "ocs-apirequest": "true",
            "accept": "application/json",
        }.items()
    )
    assert "cookie" not in call.headers


RECORDED = [json.loads(line) for line in WIRE.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: f"{row['method']} {row['target'][:60]}")
async def test_recorded_calls_are_sent_and_understood_alike(row: dict[str, Any]) -> None:
    answer = Answer(body=row["response_body"].encode(), status=row["status"])
    settings = Settings.from_environ(ENVIRON | {"APP_ID": "nc_py_api", "APP_SECRET": "12345"})
    nextcloud, host, _, _ = client(answer, settings=settings)
    theirs = {name.lower(): value for name, value in row["request_headers"]}
    as_admin = theirs["authorization-app-api"] == "YWRtaW46MTIzNDU="
    recorded = json.loads(row["response_body"])["ocs"]
    path = row["target"].partition("?")[0].removeprefix("/ocs/v1.php")
    body = json.loads(row["request_body"]) if row["request_body"] else None
    ask = nextcloud.as_user("admin" if as_admin else "").ocs(row["method"], path, json=body)
    if recorded["meta"]["statuscode"] == 100:
        assert await ask == recorded["data"]
    else:
        with pytest.raises(OCSError) as caught:
            await ask
        assert caught.value.statuscode == recorded["meta"]["statuscode"]
        assert caught.value.message == recorded["meta"]["message"]
    (call,) = host.calls
    assert f"{call.method} {call.path}?format=json" == f"{row['method']} {row['target']}"
    assert (call.json if call.body else None) == body
    for name in ("aa-version", "ex-app-id", "authorization-app-api", "ocs-apirequest", "accept"):
        assert call.headers[name] == theirs[name]


async def test_users_share_the_pool_and_nothing_else() -> None:
    nextcloud, host, _, _ = client()
    alice = nextcloud.as_user("alice")
    assert (alice.user_id, nextcloud.user_id) == ("alice", "")
    await alice.users()
    await nextcloud.users()
    await alice.as_user("").users()
    signed = [call.headers["authorization-app-api"] for call in host.calls]
    assert signed[0].startswith("YWxpY2U6")
    assert signed[1] == signed[2] != signed[0]
    await nextcloud.aclose()
    with pytest.raises(LocalProtocolError, match="closed together with the app"):
        await alice.users()
    with pytest.raises(ValueError, match="no colon"):
        nextcloud.as_user("a:b")


async def test_cookies_of_the_host_are_not_kept() -> None:
    nextcloud, host, _, _ = client(Answer(headers={"set-cookie": "session=1; Path=/"}))
    await nextcloud.users()
    await nextcloud.users()
    assert "cookie" not in host.calls[1].headers


async def test_versions_outside_ascii_can_be_sent() -> None:
    odd = Settings.from_environ(ENVIRON | {"APP_VERSION": "1.0-ä"})
    nextcloud, host, _, _ = client(settings=odd)
    await nextcloud.users()
    assert host.calls[0].headers["ex-app-version"] == "1.0-ä"


async def test_named_calls_send_what_is_documented() -> None:
    nextcloud, host, _, _ = client()
    await nextcloud.status(7, error="x")
    await nextcloud.log(LogLevel.WARNING, "hello")
    assert [(call.method, call.path, call.json) for call in host.calls] == [
        ("PUT", "/ocs/v1.php/apps/app_api/ex-app/status", {"progress": 7, "error": "x"}),
        ("POST", "/ocs/v1.php/apps/app_api/api/v1/log", {"level": 2, "message": "hello"}),
    ]


async def test_state_is_a_bool_and_capabilities_a_mapping() -> None:
    assert await client(Answer(data=1))[0].state() is True
    assert await client(Answer(data=0))[0].state() is False
    capabilities = {"version": {"major": 32}, "capabilities": {}}
    assert await client(Answer(data=capabilities))[0].capabilities() == capabilities
    assert await client(Answer(data=[]))[0].capabilities() == {}, "PHP's empty object"


@pytest.mark.parametrize("progress", [-1, 101])
async def test_progress_out_of_range_is_not_sent(progress: int) -> None:
    nextcloud, host, _, _ = client()
    with pytest.raises(LocalProtocolError):
        await nextcloud.status(progress)
    assert host.calls == []


async def test_100_waits_long_enough_for_being_enabled() -> None:
    nextcloud, _, wire, _ = client()
    await nextcloud.status(99)
    await nextcloud.status(100)
    timeouts = [request.extensions["timeout"]["read"] for request in wire.requests]
    assert timeouts == [30.0, 150.0]


NOTE: Endpoint[dict[str, int]] = Endpoint("GET", "/apps/notes/{folder}/{id}", dict[str, int])


async def test_endpoint_values_fill_path_query_and_body() -> None:
    nextcloud, host, _, _ = client(Answer(data={"size": "3"}))
    note = await nextcloud.call(NOTE, folder="a/b", id=7, deep=True, only=["x", "y"], none=None)
    assert_type(note, dict[str, int])
    assert note == {"size": 3}
    removed: Endpoint[list[Any]] = Endpoint("DELETE", "/x", list)
    stored: Endpoint[list[Any]] = Endpoint("POST", "/x/{id}", list)
    with pytest.raises(RemoteProtocolError):
        await nextcloud.call(removed, id=1)
    with pytest.raises(RemoteProtocolError):
        await nextcloud.call(stored, id=1, text="t")
    assert host.calls[0].query == [
        ("format", "json"),
        ("deep", "1"),
        ("only[]", "x"),
        ("only[]", "y"),
    ]
    assert host.calls[0].path.startswith("/ocs/v1.php/apps/notes/a")
    assert host.calls[1].query == [("format", "json"), ("id", "1")]
    assert (host.calls[2].path, host.calls[2].json) == ("/ocs/v1.php/x/1", {"text": "t"})
    with pytest.raises(LocalProtocolError, match=r"needs 'id'"):
        await nextcloud.call(NOTE, folder="a")


async def test_any_other_call_can_be_made() -> None:
    nextcloud, host, _, _ = client(Answer(data={"id": "alice"}))
    data = await nextcloud.as_user("alice").ocs("get", "/cloud/user")
    assert data == {"id": "alice"}
    await nextcloud.ocs("POST", "/x?a=1", params={"b": False}, json={"c": 1}, version=2)
    call = host.calls[1]
    assert (call.method, call.path) == ("POST", "/ocs/v2.php/x")
    assert call.query == [("format", "json"), ("a", "1"), ("b", "0")]
    assert call.json == {"c": 1}
    for path, version in (("cloud/user", 1), ("/cloud/user", 3)):
        with pytest.raises(LocalProtocolError):
            await nextcloud.ocs("GET", path, version=version)


# What answers mean


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (Answer(statuscode=997, message="no", status=401), 997, "no"),
        (Answer(statuscode=404, message="No such Script"), 404, "No such Script"),
        (Answer(statuscode=998, status=404), 998, "OK"),
        (Answer(body=b"", status=304), 304, "Not Modified"),
        (Answer(body=b'{"message":"ExApp required"}', status=412), 412, "ExApp required"),
    ],
)
async def test_refusals_are_ocs_errors(answer: Answer, code: int, message: str) -> None:
    with pytest.raises(OCSError) as caught:
        await client(answer)[0].users()
    assert (caught.value.statuscode, caught.value.message) == (code, message)
    assert "GET http://cloud.test/ocs/v1.php/apps/app_api/api/v1/users" in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(body=b"<html>login</html>"), "<html>login"),
        (Answer(body=b"x" * 999, status=404), "answered with 404"),
        (Answer(body=b'["x"]', status=500), "answered with 500"),
        (Answer(body=f"you sent {SECRET}".encode(), status=400), r"you sent \*\*\*"),
        (Answer(data={"x": 1}), r"users .*: data: Input should be a valid list"),
        (Answer(data=[1]), r"data\.0: Input should be a valid string"),
        (Answer(status=301, headers={"location": "https://else/"}), "leads to https://else/"),
    ],
)
async def test_answers_that_break_the_contract_are_the_hosts_mistake(
    answer: Answer, words: str
) -> None:
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        await client(answer)[0].users()
    assert SECRET not in str(caught.value)


async def test_no_content_is_an_empty_list() -> None:
    assert await client(Answer(status=204, body=b""))[0].users() == []


def instances() -> list[Exception]:
    """One of each exception that the HTTP client may raise."""
    found = []
    for name in httpx.__all__:
        kind = getattr(httpx, name)
        if inspect.isclass(kind) and issubclass(kind, Exception):
            needed = [
                parameter
                for parameter in inspect.signature(kind).parameters.values()
                if parameter.default is parameter.empty
            ]
            values = {
                "request": httpx.Request("GET", "http://x"),
                "response": httpx.Response(500),
                "message": f"with {SECRET}",
            }
            positional = [
                values[p.name] for p in needed if p.kind is not inspect.Parameter.KEYWORD_ONLY
            ]
            named = {
                p.name: values[p.name] for p in needed if p.kind is inspect.Parameter.KEYWORD_ONLY
            }
            found.append(kind(*positional, **named))
    return found


def test_every_exception_of_the_http_client_is_translated() -> None:
    assert {type(error) for error in instances()} == set(FAILURES)


@pytest.mark.parametrize("error", instances(), ids=lambda error: type(error).__name__)
async def test_failures_become_errors_of_ours_from_the_original(error: Exception) -> None:
    expected = FAILURES[type(error)]
    nextcloud, host, _, _ = client(failures=[error] * 3)
    with pytest.raises(ExAppError) as caught:
        await nextcloud.users()
    assert type(caught.value) is expected.error
    assert caught.value.__cause__ is error
    assert expected.reason in str(caught.value)
    assert SECRET not in str(caught.value)
    if isinstance(caught.value, TransportError):
        assert caught.value.outcome_unknown is expected.was_sent
    assert host.calls == []


async def test_unknown_kinds_of_failures_are_translated_by_their_base() -> None:
    class Newer(httpx.ReadTimeout): ...

    nextcloud, _, _, _ = client(failures=[Newer("later")])
    with pytest.raises(TransportError, match=r"no answer in time \(later\)"):
        await nextcloud.users()


# What is repeated

STALE = httpx.RemoteProtocolError("Server disconnected without sending a response.")
BROKEN = httpx.ReadError("")
UNREACHED = httpx.ConnectError("refused")
Ask = Callable[[Nextcloud], Awaitable[object]]


@pytest.mark.parametrize("failure", [STALE, BROKEN, UNREACHED, httpx.ConnectTimeout("")])
@pytest.mark.parametrize(
    "ask", [lambda n: n.users(), lambda n: n.status(5), lambda n: n.ocs("GET", "/x")]
)
async def test_safe_calls_survive_dropped_connections(failure: Exception, ask: Ask) -> None:
    nextcloud, host, _, pauses = client(failures=[failure, failure])
    await ask(nextcloud)
    assert len(host.calls) == 1
    assert pauses.slept == [0.05, 0.5]


@pytest.mark.parametrize(
    "ask", [lambda n: n.log(LogLevel.INFO, "x"), lambda n: n.ocs("POST", "/x", json={})]
)
async def test_other_calls_are_repeated_only_if_they_never_left(ask: Ask) -> None:
    nextcloud, host, _, _ = client(failures=[UNREACHED])
    await ask(nextcloud)
    assert len(host.calls) == 1
    nextcloud, host, wire, _ = client(failures=[STALE])
    with pytest.raises(TransportError) as caught:
        await ask(nextcloud)
    assert caught.value.outcome_unknown
    assert len(wire.requests) == 1
    nextcloud, host, _, _ = client(Answer(status=503, body=b"later"))
    with pytest.raises(TransportError):
        await ask(nextcloud)
    assert len(host.calls) == 1


async def test_repeating_ends() -> None:
    nextcloud, _, wire, _ = client(failures=[UNREACHED] * 9)
    with pytest.raises(TransportError):
        await nextcloud.users()
    assert len(wire.requests) == 3


async def test_an_answer_that_did_not_come_in_time_is_not_waited_for_again() -> None:
    nextcloud, _, wire, _ = client(failures=[httpx.ReadTimeout("")])
    with pytest.raises(TransportError) as caught:
        await nextcloud.status(100)
    assert caught.value.outcome_unknown
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=429, body=b""),
        Answer(statuscode=429, message="Reached maximum delay"),
        Answer(status=502, body=b"<html>"),
        Answer(status=503, statuscode=503),
        Answer(status=504, body=b""),
    ],
)
async def test_passing_refusals_are_waited_out(answer: Answer) -> None:
    nextcloud, host, _, pauses = client(answer, Answer(data=["a"]))
    assert await nextcloud.users() == ["a"]
    assert len(host.calls) == 2
    assert pauses.slept == [0.05]


@pytest.mark.parametrize(
    ("wished", "slept"), [("2", 2.0), ("120", 5.0), ("0", 0.05), ("soon", 0.05), ("²", 0.05)]
)
async def test_retry_after_is_obeyed_within_reason(wished: str, slept: float) -> None:
    answer = Answer(status=503, body=b"", headers={"retry-after": wished})
    nextcloud, _, _, pauses = client(answer, Answer())
    await nextcloud.users()
    assert pauses.slept == [slept]


async def test_refusals_that_last_are_not_repeated() -> None:
    nextcloud, host, _, _ = client(Answer(statuscode=997, status=401))
    with pytest.raises(OCSError):
        await nextcloud.users()
    assert len(host.calls) == 1


# Connections


async def test_the_client_is_closed_with_the_app() -> None:
    app = ExApp()
    async with started(app, host=RecordingHost()):
        nextcloud = app.nextcloud
        assert app.nextcloud is nextcloud
        await nextcloud.users()
    with pytest.raises(LocalProtocolError, match="closed"):
        await nextcloud.call(LIST_USERS)
    with pytest.raises(LocalProtocolError, match="only while the app runs"):
        app.nextcloud  # noqa: B018  # the property raises


async def test_a_pool_that_was_never_used_is_closed_too() -> None:
    await Nextcloud(SETTINGS).aclose()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_hosts_that_do_not_exist_are_transport_errors(scheme: str) -> None:
    nowhere = Settings.from_environ(ENVIRON | {"NEXTCLOUD_URL": f"{scheme}://127.0.0.1:1"})
    nextcloud = Nextcloud(nowhere, retry=Retry(pauses=()))
    with pytest.raises(TransportError, match="could not connect"):
        await nextcloud.users()
    await nextcloud.aclose()


async def test_environment_has_no_say_in_where_requests_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:1")
    monkeypatch.setenv("ALL_PROXY", "http://proxy.invalid:1")
    with anyio.fail_after(20):
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            here = Settings.from_environ(ENVIRON | {"NEXTCLOUD_URL": f"http://127.0.0.1:{port}"})
            asked: list[bytes] = []

            async def answer(stream: anyio.abc.ByteStream) -> None:
                async with stream:
                    asked.append(await stream.receive())
                    await stream.send(b"HTTP/1.1 204 No Content\r\n\r\n")

            nextcloud = Nextcloud(here)
            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, answer)
                assert await nextcloud.users() == []
                group.cancel_scope.cancel()
            await nextcloud.aclose()
    assert asked[0].startswith(b"GET /ocs/v1.php/apps/app_api/api/v1/users?format=json HTTP/1.1")


def test_certificates_are_those_of_the_operating_system() -> None:
    context = tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_certificates_are_found_where_python_does_not_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "missing"))
    assert tls_context(()).cert_store_stats()["x509_ca"] == 0
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(CERTIFICATE, encoding="ascii")
    found = tls_context([str(tmp_path / "nowhere.pem"), str(bundle)])
    assert found.cert_store_stats()["x509_ca"] == 1
