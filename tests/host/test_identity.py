"""One place says which user a request comes from: for proxy, OCS API and pages alike."""

from collections.abc import Iterable

import pytest

from appapi_host.identity import Identity, cookie_name, identify, is_secure, without_session
from appapi_host.records import AccessLevel, Route
from appapi_host.sessions import COOKIE_PREFIX, request_token
from appapi_host.settings import HostSettings
from tests.host.web_stage import EchoApp, WebStage, meta, raw_request, signed, web_stage

PROXY = "/index.php/apps/app_api/proxy/nc_py_api"
HARP = "/exapps/nc_py_api"
USER = ("authorization", "Basic dXNlcjp1c2Vy")
WRONG = ("authorization", "Basic dXNlcjp4")
OPEN = (Route("^/open", "GET,POST", AccessLevel.PUBLIC), Route("^/in", "GET", AccessLevel.USER))


async def signed_in(s: WebStage, user_id: str = "user") -> tuple[str, str]:
    """Token and cookie of a new session."""
    user = await s.host.registry.user(user_id)
    assert user
    token = await s.host.sessions.begin(user)
    return token, f"{cookie_name(s.host)}={token}"


async def seen(s: WebStage, *headers: tuple[str, str]) -> Identity:
    return await identify(
        s.host, [(name.encode(), value.encode("latin-1")) for name, value in headers]
    )


async def test_nobody_is_nobody() -> None:
    async with web_stage() as s:
        assert await seen(s) == Identity()
        assert await seen(s, ("cookie", "a=b"), ("authorization", "Bearer x")) == Identity()
        assert await seen(s, ("cookie", f"{cookie_name(s.host)}=made-up")) == Identity()


async def test_basic_auth_and_a_session_are_users() -> None:
    async with web_stage() as s:
        token, cookie = await signed_in(s, "admin")
        by_session = await seen(s, ("cookie", f"a=b; {cookie}"))
        assert by_session.user
        assert (by_session.user.user_id, by_session.session) == ("admin", token)
        assert token not in repr(by_session)
        split = await seen(s, ("cookie", "a=b"), ("cookie", cookie))
        assert split == by_session
        # What is written into the request itself says more than what the browser adds.
        by_basic = await seen(s, ("cookie", cookie), USER)
        assert by_basic.user
        assert (by_basic.user.user_id, by_basic.session) == ("user", "")
        refused = await seen(s, ("cookie", cookie), WRONG)
        assert (refused.user, refused.refusal) == (None, "wrong user or password")


async def test_session_with_another_in_front_of_it_is_found() -> None:
    async with web_stage() as s:
        _, cookie = await signed_in(s)
        identity = await seen(s, ("cookie", f"{cookie_name(s.host)}=x; {cookie}"))
        assert identity.user


ORIGINS = {
    "none": (None, True),
    "own": ("http://host", True),
    "own in capitals": ("http://HOST", True),
    "public": ("https://cloud.example", True),
    "another port": ("http://host:81", False),
    "another site": ("https://evil.example", False),
    "hidden": ("null", False),
    "broken": ("http://[", False),
    "empty": ("", False),
}


@pytest.mark.parametrize("case", ORIGINS)
async def test_session_does_not_count_in_requests_of_foreign_pages(case: str) -> None:
    origin, counts = ORIGINS[case]
    settings = HostSettings(public_url="https://cloud.example")
    async with web_stage(settings=settings) as s:
        _, cookie = await signed_in(s)
        headers = [("cookie", cookie), ("host", "host")]
        if origin is not None:
            headers.append(("origin", origin))
        identity = await seen(s, *headers)
        assert (identity.user is not None) is counts


async def test_hidden_origin_counts_if_the_browser_says_that_it_is_ours() -> None:
    async with web_stage() as s:
        _, cookie = await signed_in(s)
        hidden = [("cookie", cookie), ("host", "host"), ("origin", "null")]
        assert (await seen(s, *hidden, ("sec-fetch-site", "same-origin"))).user
        assert (await seen(s, *hidden, ("sec-fetch-site", "same-site"))).user is None


async def test_origin_says_nothing_where_no_name_was_asked_for() -> None:
    async with web_stage() as s:
        _, cookie = await signed_in(s)
        assert (await seen(s, ("cookie", cookie), ("origin", "null"))).user is None
        assert (await seen(s, ("cookie", cookie), ("origin", "http://x"))).user is None


async def test_https_is_where_the_public_address_says_so() -> None:
    async with web_stage(settings=HostSettings(public_url="https://cloud.example")) as s:
        assert is_secure(s.host, "Cloud.example")
        assert not is_secure(s.host, "127.0.0.1:8080")
    async with web_stage() as s:
        assert not is_secure(s.host, "127.0.0.1:8080")


OURS = f"{COOKIE_PREFIX}0123=secret"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a=b; c=d", "a=b; c=d"),
        (OURS, ""),
        (f"{OURS}; a=b", "a=b"),
        (f"a=b; {OURS};{OURS}; c", "a=b; c"),
        (f"a={OURS}", f"a={OURS}"),
        ("", ""),
    ],
)
def test_sessions_are_taken_out_of_cookies(given: str, kept: str) -> None:
    assert without_session(given) == kept


@pytest.mark.parametrize("proxy", [PROXY, HARP])
async def test_proxy_knows_the_session_and_the_app_does_not(proxy: str) -> None:
    echo = EchoApp(headers=[(b"set-cookie", b"a=b"), (b"set-cookie", OURS.encode())])
    async with web_stage(echo) as s:
        await s.change_app(routes=OPEN)
        token, cookie = await signed_in(s)
        answer = await raw_request(s.host, "GET", f"{proxy}/in", [("Cookie", f"x=y; {cookie}")])
        assert answer.status == 200
        assert answer.values("set-cookie") == ["a=b"]
        answer = await raw_request(s.host, "GET", f"{proxy}/in", [("Cookie", cookie)])
        assert answer.status == 200
        first, second = (values(got["headers"], "cookie") for got in echo.received)
        assert (first, second) == (["x=y"], [])
        assert token not in repr(s.events)
        assert [exchange.user_id for exchange in s.exchanges()] == ["user", "user"]


def values(headers: Iterable[tuple[str, str]], name: str) -> list[str]:
    return [value for found, value in headers if found.lower() == name]


async def test_ended_session_is_anonymous_at_the_proxy() -> None:
    async with web_stage(EchoApp()) as s:
        await s.change_app(routes=OPEN)
        token, cookie = await signed_in(s)
        await s.host.sessions.end(token)
        headers = [("Cookie", cookie)]
        assert (await raw_request(s.host, "GET", f"{PROXY}/open", headers)).status == 200
        assert (await raw_request(s.host, "GET", f"{PROXY}/in", headers)).status == 404


ME = "/cloud/user"
WHAT_PROVES = {
    "the header": {"OCS-APIRequest": "true"},
    "the token": {"requesttoken": "TOKEN"},
}


@pytest.mark.parametrize("case", WHAT_PROVES)
async def test_session_with_a_proof_calls_the_ocs_api(case: str) -> None:
    async with web_stage() as s:
        token, cookie = await signed_in(s)
        headers = {
            name: value.replace("TOKEN", request_token(token))
            for name, value in WHAT_PROVES[case].items()
        }
        response = await s.ocs("GET", ME, version=2, headers=headers | {"cookie": cookie})
        assert meta(response) == (200, "OK")
        assert response.json()["ocs"]["data"]["id"] == "user"


@pytest.mark.parametrize("proof", [{}, {"OCS-APIRequest": ""}, {"requesttoken": "made up"}])
async def test_session_without_a_proof_is_refused_as_by_nextcloud(proof: dict[str, str]) -> None:
    async with web_stage() as s:
        token, cookie = await signed_in(s)
        response = await s.ocs("GET", ME, headers=proof | {"cookie": cookie})
        assert response.status_code == 412
        assert response.json() == {"message": "CSRF check failed"}
        [exchange] = s.exchanges()
        assert "needs the header OCS-APIRequest" in exchange.note
        assert token not in repr(s.events)


async def test_session_without_a_proof_is_anonymous_where_everybody_may() -> None:
    async with web_stage() as s:
        _, cookie = await signed_in(s)
        path = "/cloud/capabilities"
        anonymous = await s.data("GET", path, headers={})
        assert await s.data("GET", path, headers={"cookie": cookie}) == anonymous
        proved = {"cookie": cookie, "OCS-APIRequest": "true"}
        assert await s.data("GET", path, headers=proved) != anonymous


async def test_session_is_no_signature_of_an_app() -> None:
    async with web_stage() as s:
        _, cookie = await signed_in(s, "admin")
        headers = {"cookie": cookie, "OCS-APIRequest": "true"}
        path = "/apps/app_api/ex-app/state"
        assert (await s.ocs("GET", path, headers=headers)).status_code == 401
        # And a signature needs no proof, whatever cookies the client kept.
        assert (await s.ocs("GET", path, headers=signed() | {"cookie": cookie})).status_code == 200
