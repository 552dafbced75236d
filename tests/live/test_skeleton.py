"""The project that newcomers copy, as a process behind a real host."""

import json
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from appapi_host.testing import InstalledApp, TestHost
from exapp_sdk.protocol.auth import Credentials

pytestmark = pytest.mark.live
SKELETON = Path(__file__).resolve().parents[2] / "examples" / "skeleton"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # what the ASGI server runs on


@pytest.fixture
async def skeleton(live_appapi_host: TestHost) -> InstalledApp:
    return await live_appapi_host.install(SKELETON)


def signed(skeleton: InstalledApp, user_id: str) -> list[tuple[str, str]]:
    record = skeleton.record
    credentials = Credentials(record.app_id, record.version, record.secret, user_id)
    return credentials.headers(aa_version="32.0.0")


async def test_skeleton_is_enabled_and_keeps_its_index_where_updates_leave_it(
    skeleton: InstalledApp, live_appapi_host: TestHost
) -> None:
    assert skeleton.enabled
    data_dir = live_appapi_host.host.settings.data_dir
    assert data_dir
    assert (data_dir / "apps" / "skeleton" / "storage" / "fables.sqlite3").is_file()


async def test_page_of_the_skeleton_is_shown_to_users_only(skeleton: InstalledApp) -> None:
    page = await skeleton.get("page", user="user")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert (await skeleton.get("page")).status_code == 404
    script = await skeleton.get("static/page.js", user="user")
    assert "javascript" in script.headers["content-type"]


async def test_websocket_of_the_skeleton_answers_while_a_user_types(
    skeleton: InstalledApp, live_appapi_host: TestHost
) -> None:
    url = live_appapi_host.host.url_of(skeleton.record).replace("http", "ws", 1)
    headers = signed(skeleton, "user")
    async with connect(f"{url}/live", additional_headers=headers, proxy=None) as socket:
        await socket.send("tort")
        answer = json.loads(await socket.recv())
    assert [fable["title"] for fable in answer["found"]] == ["The Hare and the Tortoise"]


async def test_websocket_of_the_skeleton_refuses_who_is_not_signed(
    skeleton: InstalledApp, live_appapi_host: TestHost
) -> None:
    url = live_appapi_host.host.url_of(skeleton.record).replace("http", "ws", 1)
    with pytest.raises(InvalidStatus) as refusal:
        await connect(f"{url}/live", proxy=None)
    assert refusal.value.response.status_code in (401, 403)


async def test_page_of_the_skeleton_names_no_address_that_a_prefix_would_break() -> None:
    page = (SKELETON / "ex_app" / "page" / "index.html").read_text(encoding="utf-8")
    script = (SKELETON / "ex_app" / "page" / "page.js").read_text(encoding="utf-8")
    for text in (page, script):
        for opening in ('="/', '("/', "(`/"):
            assert opening not in text
