"""What nc_py_api offers besides ExApps and files, as far as this host serves it."""

from collections.abc import AsyncIterator

import pytest
from nc_py_api import AsyncNextcloud, NextcloudException, NextcloudMissingCapabilities

from appapi_host.events import Notice
from appapi_host.testing import TestHost, live_host

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"  # what the ASGI server and the client run on


@pytest.fixture(scope="module")
async def host(
    tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[TestHost]:
    async with live_host(tmp_path_factory.mktemp("people") / "data") as host:
        yield host


@pytest.fixture
async def nc(host: TestHost) -> AsyncIterator[AsyncNextcloud]:
    nc = AsyncNextcloud(nextcloud_url=host.url, nc_auth_user="admin", nc_auth_pass="admin")
    yield nc
    await nc._session.adapter.close()
    await nc._session.adapter_dav.close()


async def test_users_and_groups(nc: AsyncNextcloud) -> None:
    await nc.users_groups.create("team", display_name="Team")
    with pytest.raises(NextcloudException, match="group exists"):
        await nc.users_groups.create("team")
    await nc.users_groups.edit("team", "A-Team")
    await nc.users.create("bob", display_name="Bob", password="s3cr3t", groups=["team"])
    assert await nc.users.get_list() == ["admin", "bob", "user"]
    assert await nc.users.get_list(mask="bo", limit=1) == ["bob"]
    bob = await nc.users.get_user("bob")
    assert (bob.display_name, bob.groups, bob.enabled) == ("Bob", ["team"], True)
    assert bob.quota["used"] == 0
    await nc.users.edit("bob", displayname="Robert")
    await nc.users.add_to_group("bob", "admin")
    await nc.users.disable("bob")
    bob = await nc.users.get_user("bob")
    assert (bob.display_name, bob.groups, bob.enabled) == ("Robert", ["admin", "team"], False)
    assert [
        (group.display_name, group.user_count, group.disabled)
        for group in await nc.users_groups.get_details()
    ] == [("admin", 2, 1), ("A-Team", 1, 1)]
    await nc.users.enable("bob")
    await nc.users.remove_from_group("bob", "admin")
    assert await nc.users_groups.get_members("team") == ["bob"]
    await nc.users.delete("bob")
    await nc.users_groups.delete("team")
    assert await nc.users_groups.get_list() == ["admin"]
    assert "displayname" in await nc.users.editable_fields()


async def test_apps(nc: AsyncNextcloud) -> None:
    assert "files" in await nc.apps.get_list(enabled=True)
    assert await nc.apps.is_enabled("files")
    assert not await nc.apps.is_disabled("files")
    assert await nc.apps.ex_app_get_list() == []


async def test_statuses(nc: AsyncNextcloud) -> None:
    await nc.user_status.set_status("busy", status_icon="🎈")
    found = await nc.user_status.get_current()
    assert (found.status_message, found.status_icon) == ("busy", "🎈")
    await nc.user_status.set_predefined("meeting")
    await nc.user_status.set_status_type("away")
    assert [one.user_id for one in await nc.user_status.get_list()] == ["admin"]
    found = await nc.user_status.get("admin")
    assert found is not None
    assert (found.status_type, found.status_message) == ("away", "In a meeting")
    assert "meeting" in [one.status_id for one in await nc.user_status.get_predefined()]
    await nc.user_status.set_status()
    assert not (await nc.user_status.get_current()).status_message


async def test_what_is_not_served_fails_at_once_and_the_host_names_it(
    host: TestHost, nc: AsyncNextcloud
) -> None:
    for missing in (
        nc.weather_status.get_location,
        nc.notes.get_list,
        nc.teams.get_list,
        nc.files.sharing.get_list,
    ):
        with pytest.raises(NextcloudMissingCapabilities):
            await missing()
    before = len(host.events)
    for called in (
        nc.talk.get_user_conversations,
        nc.files.sharing.get_pending,
        nc.activity.get_filters,
    ):
        with pytest.raises(NextcloudException, match="404"):
            await called()
    notices = [event.text for event in host.events[before:] if isinstance(event, Notice)]
    assert notices == [
        f"somebody asked for GET {path}, which this host does not serve"
        for path in (
            "/ocs/v2.php/apps/spreed/api/v4/room",
            "/ocs/v1.php/apps/files_sharing/api/v1/shares/pending",
            "/ocs/v1.php/apps/activity/api/v2/activity/filters",
        )
    ]
