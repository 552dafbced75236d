"""The login page, its session and its end."""

import anyio
import httpx
import pytest

from appapi_host.identity import cookie_name
from appapi_host.pages.visit import is_own_path
from appapi_host.sessions import LIFETIME, is_valid_token
from appapi_host.settings import HostSettings
from appapi_host.throttling import LOGIN
from tests.host.browsing import cookie_attributes, fields, sign_in
from tests.host.web_stage import WebStage, raw_request, web_stage

ME = "/ocs/v2.php/cloud/user?format=json"


async def who(s: WebStage) -> str:
    """Whom the host takes the client for."""
    response = await s.client.get(ME, headers={"OCS-APIRequest": "true"})
    return str(response.json()["ocs"]["data"]["id"]) if response.status_code == 200 else ""


@pytest.mark.parametrize("path", ["/login", "/index.php/login"])
async def test_login_page_is_a_form(path: str) -> None:
    async with web_stage() as s:
        response = await s.client.get(path)
        assert response.status_code == 200
        assert "www-authenticate" not in response.headers
        assert response.headers["cache-control"] == "no-cache, no-store, must-revalidate"
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script" not in policy
        assert '<label for="password">Password</label>' in response.text
        assert fields(response.text)["redirect_url"] == "/"


async def test_person_signs_in_and_out() -> None:
    async with web_stage() as s:
        response = await sign_in(s, "admin")
        assert (response.status_code, response.headers["location"]) == (303, "/")
        cookie = cookie_attributes(response, cookie_name(s.host))
        assert cookie.pop("value")
        assert cookie == {
            "name": cookie_name(s.host),
            "httponly": True,
            "max-age": str(LIFETIME),
            "path": "/",
            "samesite": "lax",
        }
        assert await who(s) == "admin"
        again = await s.client.get("/login", params={"redirect_url": "/x"})
        assert (again.status_code, again.headers["location"]) == (303, "/x")

        page = await s.client.get("/")
        assert "Administrator" in page.text
        response = await s.client.post("/index.php/logout", data=fields(page.text))
        assert (response.status_code, response.headers["location"]) == (303, "/")
        assert cookie_attributes(response, cookie_name(s.host))["max-age"] == "0"
        assert "storage" in response.headers["clear-site-data"]
        assert await who(s) == ""
        assert "Sign in" in (await s.client.get("/")).text


async def test_ended_session_is_over_for_whoever_kept_the_cookie() -> None:
    async with web_stage() as s:
        response = await sign_in(s)
        kept = cookie_attributes(response, cookie_name(s.host))["value"]
        await s.client.post("/logout", data=fields((await s.client.get("/")).text))
        s.client.cookies.set(cookie_name(s.host), kept)
        assert await who(s) == ""


async def test_signing_in_again_ends_the_session_before() -> None:
    async with web_stage() as s:
        first = cookie_attributes(await sign_in(s), cookie_name(s.host))["value"]
        form = fields((await s.client.get("/login", headers={"cookie": ""})).text)
        given = form | {"user": "admin", "password": "admin"}
        response = await s.client.post("/login", data=given)
        assert response.status_code == 303
        assert await who(s) == "admin"
        assert await s.host.sessions.user(first) is None


NOBODY = {
    "wrong password": ("user", "wrong"),
    "unknown user": ("nobody", "nobody"),
    "disabled user": ("gone", "gone"),
    "no password": ("user", ""),
    "no user": ("", "user"),
    "long password": ("user", "x" * 5000),
    "strange user": ("\x00<b>\U0001f600", "x"),
}


@pytest.mark.parametrize("case", NOBODY)
async def test_whoever_cannot_sign_in_reads_the_same(case: str) -> None:
    user, password = NOBODY[case]
    async with web_stage() as s:
        response = await sign_in(s, user, password, target="/x")
        assert response.status_code == 403
        assert '<p class="complaint" role="alert">Wrong user or password.</p>' in response.text
        assert cookie_attributes(response, cookie_name(s.host)) == {}
        assert "<b>" not in response.text
        assert "value" not in response.text.partition('type="password"')[2]
        # And can try again at once.
        given = fields(response.text) | {"user": "user", "password": "user"}
        response = await s.client.post("/login", data=given)
        assert (response.status_code, response.headers["location"]) == (303, "/x")


async def test_form_without_its_cookie_or_token_signs_nobody_in() -> None:
    right = {"user": "user", "password": "user"}
    async with web_stage() as s:
        form = fields((await s.client.get("/login")).text)
        for given, headers in (
            (right, {}),
            (right | {"requesttoken": "made up"}, {}),
            (right | form, {"cookie": ""}),
            (right | form, {"origin": "http://evil.example"}),
            (right | form, {"origin": "null"}),
        ):
            response = await s.client.post("/login", data=given, headers=headers)
            assert response.status_code == 412, (given, headers)
            assert "too old" in response.text
            assert cookie_attributes(response, cookie_name(s.host)) == {}
        first, second = s.notices()
        assert "came from a page of http://evil.example, but the host was asked as host" in first
        assert "page of null" in second


@pytest.mark.parametrize(
    ("target", "is_own"),
    [
        ("/", True),
        ("/index.php/apps/app_api/embedded/a/b?x=1#y", True),
        ("/a//b", True),
        ("", False),
        ("apps", False),
        ("https://evil.example/", False),
        ("//evil.example/", False),
        ("/\\evil.example/", False),
        ("\\\\evil.example", False),
        ("/\t/evil.example", False),
        ("/\n/evil.example", False),
        (" /x", False),
        ("javascript:alert(1)", False),
    ],
)
async def test_login_leads_to_pages_of_the_host_only(target: str, *, is_own: bool) -> None:
    assert is_own_path(target) is is_own
    async with web_stage() as s:
        response = await sign_in(s, target=target)
        assert response.headers["location"] == (target if is_own else "/")


async def test_basic_auth_goes_on_working_on_pages() -> None:
    async with web_stage() as s:
        response = await s.client.get("/login", auth=("user", "user"))
        assert (response.status_code, response.headers["location"]) == (303, "/")
        response = await s.client.get("/login", auth=("user", "no"))
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Basic ")
        page = await s.client.get("/", auth=("admin", "admin"))
        assert "Administrator" in page.text
        assert "Sign out" not in page.text, "there is no session to end"


async def test_cookie_is_secure_where_the_host_is_reached_by_https() -> None:
    settings = HostSettings(public_url="https://cloud.example")
    async with web_stage(settings=settings) as s:
        s.client.base_url = httpx.URL("https://cloud.example")
        form = fields((await s.client.get("/login")).text)
        given = form | {"user": "user", "password": "user"}
        headers = {"origin": "https://cloud.example"}
        response = await s.client.post("/login", data=given, headers=headers)
        assert cookie_attributes(response, cookie_name(s.host))["secure"] is True


async def test_logout_by_address_asks_first() -> None:
    async with web_stage() as s:
        assert (await s.client.get("/logout")).headers["location"] == "/"
        await sign_in(s)
        response = await s.client.get("/index.php/logout")
        assert response.status_code == 200
        assert "Sign out" in response.text
        for headers in ({"origin": "http://evil.example"}, {}):
            await s.client.post("/logout", data={"requesttoken": "x"}, headers=headers)
            assert await who(s) == "user"
        # Nextcloud's own links carry the token in the address.
        token = fields(response.text)["requesttoken"]
        response = await s.client.get("/logout", params={"requesttoken": token})
        assert response.status_code == 303
        assert await who(s) == ""


async def test_scripts_get_a_fresh_token_for_their_own_session() -> None:
    async with web_stage() as s:
        assert (await s.client.get("/csrftoken")).status_code == 403
        cookie = cookie_attributes(await sign_in(s), cookie_name(s.host))["value"]
        response = await s.client.get("/index.php/csrftoken")
        token = response.json()["token"]
        assert is_valid_token(cookie, token)
        calls = await s.client.get(ME, headers={"requesttoken": token})
        assert calls.status_code == 200
        headers = {"sec-fetch-site": "same-site"}
        assert (await s.client.get("/csrftoken", headers=headers)).status_code == 403


async def test_form_that_is_too_long_is_refused() -> None:
    async with web_stage() as s:
        answer = await raw_request(s.host, "POST", "/login", body=b"x" * 300_000)
        assert answer.status == 413
        answer = await raw_request(s.host, "POST", "/login", body=b"a=b&" * 2000)
        assert answer.status == 412


async def test_browser_that_goes_away_while_it_sends_the_form_is_no_failure() -> None:
    from appapi_host.asgi import create_app

    async def receive() -> dict[str, str]:
        await anyio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        raise AssertionError(message)

    async with web_stage() as s:
        scope = {"type": "http", "method": "POST", "path": "/login", "headers": []}
        await create_app(s.host)(scope, receive, send)


async def test_neither_password_nor_session_is_ever_told() -> None:
    async with web_stage() as s:
        await s.host.users.add_group("x")
        response = await sign_in(s, "user", "secret-and-wrong")
        session = cookie_attributes(await sign_in(s), cookie_name(s.host))["value"]
        await who(s)
        told = repr(s.events) + response.text
        assert "secret-and-wrong" not in told
        assert session not in told


async def test_address_that_failed_too_often_has_to_wait() -> None:
    async with web_stage(settings=HostSettings(throttling=True)) as s:
        form = fields((await s.client.get("/login")).text)
        given = form | {"user": "user", "password": "wrong"}
        assert (await s.client.post("/login", data=given)).status_code == 403
        for _ in range(10):
            s.host.throttle.failed(LOGIN, "127.0.0.1")
        response = await sign_in(s)
        assert response.status_code == 429
        assert "Please wait" in response.text
        assert (await s.client.get("/", auth=("user", "user"))).status_code == 429
