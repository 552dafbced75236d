"""A file app, from the upload of a file to what the app made of it, over real sockets."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from appapi_host.testing import InstalledApp, TestHost, live_host
from appapi_host.triggers import FileNode

pytestmark = pytest.mark.live
APP = Path(__file__).with_name("file_app")
DAV = "/remote.php/dav/files/user"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # what the ASGI server runs on


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[TestHost]:
    async with live_host(tmp_path / "data") as host:
        yield host


@pytest.fixture
async def app(host: TestHost) -> InstalledApp:
    return await host.install(APP)


@pytest.mark.parametrize("words", ["to be or not to be", "a b " * 400])
async def test_file_is_uploaded_worked_on_and_its_result_fetched(
    host: TestHost, app: InstalledApp, words: str
) -> None:
    auth = httpx.BasicAuth("user", "user")
    async with httpx.AsyncClient(base_url=host.url, auth=auth) as person:
        assert (await person.request("MKCOL", f"{DAV}/My%20texts")).status_code == 201
        put = await person.put(f"{DAV}/My%20texts/be.txt", content=words.encode())
        assert put.status_code == 201

        outcome = await app.trigger_file_action(files=[FileNode.at("/My texts/be.txt")])
        assert outcome.is_success
        assert outcome.notes == ()
        assert outcome.told[0].json() == {"user": "user"}

        result = await person.get(f"{DAV}/My%20texts/words/be.txt.json")
        assert result.status_code == 200
        expected = {word: words.split().count(word) for word in words.split()}
        assert json.loads(result.content) == expected
        listed = await person.request(
            "PROPFIND",
            f"{DAV}/My%20texts/words/be.txt.json",
            content='<d:propfind xmlns:d="DAV:" xmlns:o="http://owncloud.org/ns">'
            "<d:prop><o:favorite/><d:getcontenttype/></d:prop></d:propfind>",
        )
        assert "<oc:favorite>1</oc:favorite>" in listed.text
        assert "<d:getcontenttype>application/json</d:getcontenttype>" in listed.text
    # All that the app asked for files was in the name of the one who clicked.
    asked = [exchange for exchange in app.exchanges if "/remote.php/" in exchange.target]
    assert {exchange.user_id for exchange in asked} == {"user"}
    assert {exchange.method for exchange in asked} >= {"SEARCH", "GET", "MKCOL", "PUT", "PROPPATCH"}
    assert all(exchange.status < 400 or exchange.status in (404, 405) for exchange in asked)
    assert await host.files.names("admin") == []


async def test_action_is_clicked_on_a_file_that_the_user_has(
    host: TestHost, app: InstalledApp
) -> None:
    await host.files.put("user", "a picture.png", b"")
    await host.files.put("user", "a text.txt", "one two two")
    outcome = await app.trigger_file_action()
    assert outcome.is_success
    assert json.loads(await host.files.get("user", "words/a text.txt.json")) == {"one": 1, "two": 2}


async def test_app_that_is_disabled_reaches_no_file(host: TestHost, app: InstalledApp) -> None:
    record = app.record
    await app.disable()
    async with httpx.AsyncClient(base_url=host.url) as client:
        pair = base64.b64encode(b"user:" + record.secret.reveal().encode()).decode()
        answer = await client.request(
            "PROPFIND",
            DAV,
            headers={
                "EX-APP-ID": "file_app",
                "EX-APP-VERSION": "1.0.0",
                "AUTHORIZATION-APP-API": pair,
            },
        )
    assert answer.status_code == 401


def test_the_app_holds_nothing_of_ours() -> None:
    text = (APP / "main.py").read_text(encoding="utf-8")
    assert "exapp_sdk" not in text
    assert "appapi_host" not in text
