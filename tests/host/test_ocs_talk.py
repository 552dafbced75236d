"""Bots: registration, messages to them, and what they say."""

import hashlib
import hmac
import json
from typing import Any

import pytest

from appapi_host.settings import HostSettings
from tests.host.web_stage import EchoApp, WebStage, meta, web_stage

BOT = "/apps/app_api/api/v1/talk_bot"
PROXY = "/apps/app_api/api/v1/talk_proxy/nc_py_api"
TALK = "/apps/spreed/api/v1/bot/room"
RANDOM = "r" * 32


async def register(s: WebStage, **changed: Any) -> dict[str, str]:
    given = {"name": "Echo", "route": "/bot/here", "description": "d"} | changed
    found = await s.data("POST", BOT, json=given)
    assert isinstance(found, dict)
    return found


def signature(secret: str, text: bytes, random: str = RANDOM) -> str:
    return hmac.digest(secret.encode(), random.encode() + text, "sha256").hex()


async def test_secret_stays_while_the_bot_is_renamed() -> None:
    async with web_stage() as s:
        first = await register(s)
        assert first["id"] == hashlib.sha1(b"nc_py_api_bot/here").hexdigest()
        assert len(first["secret"]) == 64
        assert await register(s, name="Other", route="bot/here") == first
        assert (await register(s, route="bot"))["secret"] != first["secret"]
        [stored, _] = await s.host.documents.read(lambda documents: documents.find("talk-bot"))
        assert stored.content["name"] == "Other"
        assert first["secret"] not in json.dumps(dict(stored.content))
        assert await s.data("DELETE", BOT, json={"route": "/bot/here"}) is True
        refused = await s.refusal("DELETE", BOT, json={"route": "/bot/here"})
        assert refused == (404, "Talk bots could not be unregistered")


async def test_older_apps_find_the_secret_in_their_configuration() -> None:
    async with web_stage() as s:
        bot = await register(s)
        stored = {value.key: value for value in await s.host.values.get("nc_py_api")}
        assert stored[bot["id"]].text == bot["secret"]
        assert stored[bot["id"]].is_sensitive
        assert stored[f"talk_bot_route_{bot['id']}"].text == "bot/here"
        await s.data("DELETE", BOT, json={"route": "bot/here"})
        assert await s.host.values.get("nc_py_api") == []
    async with web_stage(settings=HostSettings(nextcloud_version=34)) as s:
        await register(s)
        assert await s.host.values.get("nc_py_api") == []


async def test_message_reaches_the_bot_with_its_route() -> None:
    app = EchoApp()
    async with web_stage(app) as s:
        secret = (await register(s))["secret"]
        body = json.dumps({"type": "Create", "appId": "forged", "route": "forged"}).encode()
        headers = {
            "X-Nextcloud-Talk-Random": RANDOM,
            "X-Nextcloud-Talk-Signature": signature(secret, body),
            "Content-Type": "application/json",
            "Accept": "application/json",
        }
        response = await s.ocs("POST", f"{PROXY}/bot/here", headers=headers, content=body)
        assert meta(response)[0] == 100
        [message] = app.received
        assert (message["method"], message["path"]) == ("POST", "/bot/here")
        assert json.loads(message["body"]) == {
            "type": "Create",
            "appId": "nc_py_api",
            "route": "bot/here",
        }
        assert app.header("authorization-app-api") == ["OjEyMzQ1"]
        assert len(app.header("aa-request-id")[0]) == 20


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        (f"{PROXY}/bot/here", {"X-Nextcloud-Talk-Signature": "00"}),
        (f"{PROXY}/bot/here", {"X-Nextcloud-Talk-Random": "another"}),
        (f"{PROXY}/bot/here", {"X-Nextcloud-Talk-Random": ""}),
        (f"{PROXY}/bot/there", {}),
        ("/apps/app_api/api/v1/talk_proxy/other/bot/here", {}),
    ],
)
async def test_message_that_is_not_signed_for_the_bot_is_not_found(
    path: str, changed: dict[str, str]
) -> None:
    app = EchoApp()
    async with web_stage(app) as s:
        secret = (await register(s))["secret"]
        headers = {
            "X-Nextcloud-Talk-Random": RANDOM,
            "X-Nextcloud-Talk-Signature": signature(secret, b"{}"),
        }
        response = await s.ocs("POST", path, headers=headers | changed, content=b"{}")
        assert meta(response) == (404, "")
        assert app.received == []


@pytest.mark.parametrize(("body", "code"), [(b"[]", 996), (b"x", 996), (b"{}", 500)])
async def test_message_that_cannot_be_handed_over_fails(body: bytes, code: int) -> None:
    async with web_stage() as s:  # nobody listens where the app should be
        secret = (await register(s))["secret"]
        headers = {
            "X-Nextcloud-Talk-Random": RANDOM,
            "X-Nextcloud-Talk-Signature": signature(secret, body),
        }
        response = await s.ocs("POST", f"{PROXY}/bot/here", headers=headers, content=body)
        assert meta(response)[0] == code


async def said(s: WebStage) -> list[Any]:
    found = await s.host.documents.read(
        lambda documents: documents.find("talk-message", label="room")
    )
    return [one.content.get("message", one.content.get("reaction")) for one in found]


async def speak(
    s: WebStage, verb: str, path: str, given: dict[str, Any], signed_text: str, **changed: str
) -> tuple[int, Any]:
    secret = (await register(s))["secret"]
    random = changed.get("random", RANDOM)
    headers = {
        "X-Nextcloud-Talk-Bot-Random": random,
        "X-Nextcloud-Talk-Bot-Signature": signature(secret, signed_text.encode(), random),
    }
    response = await s.ocs(verb, f"{TALK}/{path}", headers=headers, json=given, version=2)
    return response.status_code, response.json()["ocs"]["data"]


async def test_bot_speaks_and_reacts() -> None:
    async with web_stage() as s:
        assert await speak(s, "POST", "message", {"message": "é"}, "é") == (201, None)
        thumb = {"reaction": "👍"}
        assert (await speak(s, "POST", "reaction/5", thumb, "👍"))[0] == 201
        assert (await speak(s, "POST", "reaction/5", thumb, "👍"))[0] == 200
        assert await said(s) == ["é", "👍"]
        assert (await speak(s, "DELETE", "reaction/5", thumb, "👍"))[0] == 200
        assert (await speak(s, "DELETE", "reaction/5", thumb, "👍"))[0] == 404
        assert await said(s) == ["é"]


async def test_what_is_not_signed_by_a_bot_is_not_said() -> None:
    async with web_stage() as s:
        assert (await speak(s, "POST", "message", {"message": "x"}, "y"))[0] == 401
        short = await speak(s, "POST", "message", {"message": "x"}, "x", random="short")
        assert short[0] == 401
        assert (await speak(s, "POST", "message", {"message": ""}, ""))[0] == 400
        long = "x" * 32_001
        assert (await speak(s, "POST", "message", {"message": long}, long))[0] == 413
        secret = (await register(s))["secret"]
        await s.change_app(enabled=False)
        headers = {
            "X-Nextcloud-Talk-Bot-Random": RANDOM,
            "X-Nextcloud-Talk-Bot-Signature": signature(secret, b"x"),
        }
        given = {"message": "x"}
        response = await s.ocs("POST", f"{TALK}/message", headers=headers, json=given, version=2)
        assert response.status_code == 401
        assert await said(s) == []
