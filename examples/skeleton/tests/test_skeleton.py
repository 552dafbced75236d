"""The whole life of the app on a local host in memory: no Nextcloud, no network, no container."""

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.anyio


@pytest.fixture
async def skeleton(appapi_host):
    app = runpy.run_path(str(FOLDER / "ex_app" / "lib" / "main.py"))["app"]
    return await appapi_host.install(app, info=FOLDER)


async def test_it_is_enabled_after_it_indexed_every_fable(skeleton):
    assert skeleton.enabled
    assert skeleton.progress == 100
    assert len((await skeleton.get("api/index", user="admin")).json()["titles"]) == 20


async def test_a_user_finds_fables_by_the_beginning_of_words(skeleton):
    answer = (await skeleton.get("api/search?q=sour+gra", user="user")).json()
    assert answer["user"] == "user"
    assert [fable["title"] for fable in answer["found"]] == ["The Fox and the Grapes"]


async def test_no_search_breaks_the_index(skeleton):
    for words in ("", '"', "fox AND", "*", "(", "NEAR/2"):
        answer = await skeleton.get("api/search", params={"q": words}, user="user")
        assert answer.status_code == 200, words


async def test_the_page_and_what_it_loads_are_for_users(skeleton):
    page = await skeleton.get("page", user="user")
    assert "<h1>Fables</h1>" in page.text
    for path in ("static/style.css", "static/page.js"):
        assert path in page.text
        assert (await skeleton.get(path, user="user")).status_code == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("api/about", ["", "user", "admin"]),
        ("api/search", ["user", "admin"]),
        ("api/index", ["admin"]),
    ],
)
async def test_each_path_is_open_to_whom_info_xml_says(skeleton, path, allowed):
    for user in ("", "user", "admin"):
        answer = await skeleton.get(path, user=user)
        assert (answer.status_code == 200) == (user in allowed), user


async def test_it_can_be_switched_off_and_on(skeleton):
    await skeleton.disable()
    assert (await skeleton.get("api/about")).status_code == 404
    await skeleton.enable()
    assert (await skeleton.get("api/about")).status_code == 200
