"""What is stored is found again, by everybody who looks."""

import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from appapi_host.errors import AlreadyExistsError, HostError, NotFoundError
from appapi_host.records import AccessLevel, AppRecord, Daemon, Route, User
from appapi_host.registry import APPLICATION_ID, MIGRATIONS, PORTS, Registry
from exapp_sdk.errors import LocalProtocolError
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import Event, State
from exapp_sdk.protocol.status import Status

DAEMON = Daemon("here", "Here", "manual-install", "http", "localhost", {"net": "host"})
APP = AppRecord(
    "my_app",
    "1.0.0",
    "My äpp",
    DAEMON,
    9031,
    Secret("very-secret"),
    state=State.INITIALIZING,
    enabled=True,
    status=Status(deploy=100, init=7, action="init", init_start_time=1760000000),
    routes=(
        Route("^/a", "GET,POST", AccessLevel.PUBLIC, ("X-One",), (401, 429)),
        Route("^/b", "GET", AccessLevel.ADMIN),
    ),
    created_time=1760000000,
    failure="none yet",
    deployment={"pid": 5, "nested": {"command": ["python3", "main.py"]}},
)


@pytest.fixture(params=["memory", "file"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "data" / "state.sqlite3" if request.param == "file" else None


@asynccontextmanager
async def opened(path: Path | None, *, lock_timeout: float = 10) -> AsyncIterator[Registry]:
    with anyio.fail_after(10):
        async with await Registry.open(path, lock_timeout=lock_timeout) as registry:
            yield registry


@asynccontextmanager
async def stocked(path: Path | None) -> AsyncIterator[Registry]:
    async with opened(path) as registry:
        await registry.add_daemon(DAEMON)
        await registry.add_app(APP)
        yield registry


async def test_an_app_is_read_as_it_was_written(path: Path | None) -> None:
    async with opened(path) as registry:
        await registry.add_daemon(DAEMON)
        assert await registry.add_app(APP) == APP
        assert await registry.app("my_app") == APP
        assert await registry.app("other") is None
        await registry.add_app(replace(APP, app_id="a_first", port=9032))
        assert [app.app_id for app in await registry.apps()] == ["a_first", "my_app"]


async def test_state_outlives_the_registry_object(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    async with stocked(path):
        pass
    async with opened(path) as registry:
        assert await registry.app("my_app") == APP
        assert await registry.daemons() == [DAEMON]


async def test_an_app_whose_daemon_is_gone_is_still_readable(path: Path | None) -> None:
    async with opened(path) as registry:
        await registry.add_app(APP)
        app = await registry.app("my_app")
        assert app
        assert app.daemon == Daemon("here", "", "", "", "")


async def test_editing_a_daemon_changes_where_its_apps_are(path: Path | None) -> None:
    async with stocked(path) as registry:
        await registry.remove_app("my_app")
        await registry.remove_daemon("here")
        await registry.add_daemon(replace(DAEMON, host="elsewhere"))
        added = await registry.add_app(APP)
        assert added.daemon.host == "elsewhere"


async def test_daemons_keep_their_order_and_their_names_are_unique(path: Path | None) -> None:
    async with opened(path) as registry:
        for name in ("z", "a", "m"):
            await registry.add_daemon(replace(DAEMON, name=name))
        assert [daemon.name for daemon in await registry.daemons()] == ["z", "a", "m"]
        assert await registry.daemon("a") == replace(DAEMON, name="a")
        assert await registry.daemon("x") is None
        with pytest.raises(AlreadyExistsError, match="'a'"):
            await registry.add_daemon(replace(DAEMON, name="a"))


async def test_a_daemon_with_apps_stays(path: Path | None) -> None:
    async with stocked(path) as registry:
        with pytest.raises(HostError, match="my_app"):
            await registry.remove_daemon("here")
        await registry.remove_app("my_app")
        await registry.remove_daemon("here")
        with pytest.raises(NotFoundError, match="'here'"):
            await registry.remove_daemon("here")


async def test_ids_are_unique_and_ports_too_on_one_daemon(path: Path | None) -> None:
    async with stocked(path) as registry:
        with pytest.raises(AlreadyExistsError, match="'my_app' is registered already"):
            await registry.add_app(replace(APP, port=9999))
        other = replace(APP, app_id="other")
        with pytest.raises(AlreadyExistsError, match="port 9031"):
            await registry.add_app(other)
        elsewhere = replace(DAEMON, name="elsewhere")
        await registry.add_app(replace(other, daemon=elsewhere))
        with pytest.raises(AlreadyExistsError, match="port 9031"):
            await registry.apply("other", lambda app: replace(app, daemon=DAEMON))


async def test_removing_an_unknown_app_is_an_error(path: Path | None) -> None:
    async with opened(path) as registry:
        with pytest.raises(NotFoundError, match="'my_app'"):
            await registry.remove_app("my_app")


async def test_a_change_reads_and_writes_in_one_step(path: Path | None) -> None:
    async with stocked(path) as registry:
        changed = await registry.apply("my_app", lambda app: app.after(Event.INIT_FINISHED))
        assert changed.state is State.ENABLING
        assert await registry.app("my_app") == changed
        with pytest.raises(NotFoundError, match="'other'"):
            await registry.apply("other", lambda app: app)


async def test_what_a_change_raises_passes_through_and_nothing_is_written(
    path: Path | None,
) -> None:
    async with stocked(path) as registry:
        with pytest.raises(LocalProtocolError, match="must not happen"):
            await registry.apply("my_app", lambda app: app.after(Event.DEPLOYED))
        with pytest.raises(LocalProtocolError, match="id of a registered app"):
            await registry.apply("my_app", lambda app: replace(app, app_id="other"))
        assert await registry.app("my_app") == APP


async def test_concurrent_changes_all_count(path: Path | None) -> None:
    async with stocked(path) as registry, anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(registry.apply, "my_app", lambda app: replace(app, port=app.port + 1))
    if path:
        async with opened(path) as registry:
            app = await registry.app("my_app")
            assert app
            assert app.port == APP.port + 20


async def test_two_objects_on_one_file_see_each_other(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    async with stocked(path) as one, opened(path) as two:
        for registry in (one, two) * 5:
            await registry.apply("my_app", lambda app: replace(app, port=app.port + 1))
        assert (await one.apps()) == (await two.apps())
        assert (await one.apps())[0].port == APP.port + 10


async def test_waiting_returns_at_once_when_it_is_so_already(path: Path | None) -> None:
    async with stocked(path) as registry:
        assert await registry.wait("my_app", lambda app: app == APP) == APP
        assert await registry.wait("other", lambda app: app is None) is None


async def test_a_waiter_is_woken_by_a_change_through_the_same_object(path: Path | None) -> None:
    async with stocked(path) as registry:
        seen: list[AppRecord | None] = []

        def is_enabled(app: AppRecord | None) -> bool:
            seen.append(app)
            return app is not None and app.state is State.ENABLED

        async with anyio.create_task_group() as group:

            async def work() -> None:
                await registry.apply("my_app", lambda app: app.after(Event.INIT_FINISHED))
                await registry.apply("my_app", lambda app: app.after(Event.ENABLE_ACCEPTED))

            group.start_soon(work)
            app = await registry.wait("my_app", is_enabled)
        assert app
        assert app.state is State.ENABLED
        assert len(seen) <= 4, "woken by changes, not by the clock"


async def test_a_waiter_sleeps_while_other_apps_change() -> None:
    async with stocked(None) as registry:
        await registry.add_app(replace(APP, app_id="other", port=APP.port + 1))
        seen: list[int] = []

        def is_moved(app: AppRecord | None) -> bool:
            assert app is not None
            seen.append(app.port)
            return app.port != APP.port

        async with anyio.create_task_group() as group:
            group.start_soon(registry.wait, "my_app", is_moved)
            await anyio.wait_all_tasks_blocked()
            for port in range(9100, 9110):
                await registry.apply("other", partial(at_port, port))
                await anyio.wait_all_tasks_blocked()
            await registry.apply("my_app", partial(at_port, 9200))
        assert seen == [APP.port, 9200]


def at_port(port: int, app: AppRecord) -> AppRecord:
    return replace(app, port=port)


async def test_a_waiter_learns_that_the_app_is_gone(path: Path | None) -> None:
    async with stocked(path) as registry, anyio.create_task_group() as group:
        group.start_soon(registry.remove_app, "my_app")
        assert await registry.wait("my_app", lambda app: app is None) is None


async def test_each_change_is_the_next_one_once(path: Path | None) -> None:
    async with stocked(path) as registry:
        seen = await registry.next_change()
        changes: list[object] = []
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                changes.append(await registry.next_change(seen))

            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert changes == []
            await registry.set_setting("any", "thing")
        (change,) = changes
        assert change == await registry.next_change(seen)
        assert change == await registry.next_change()
        assert change != seen


async def test_next_change_may_be_one_of_another_object_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    async with stocked(path) as registry, opened(path) as other:
        seen = await registry.next_change()
        await other.set_setting("any", "thing")
        with anyio.fail_after(20):
            assert await registry.next_change(seen) != seen


async def test_a_waiter_sees_changes_of_another_object_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    async with stocked(path) as one, opened(path) as two, anyio.create_task_group() as group:

        async def work() -> None:
            await two.set_setting("unrelated", "wakes it for nothing")
            await two.apply("my_app", lambda app: replace(app, version="2.0.0"))

        group.start_soon(work)
        app = await one.wait("my_app", lambda app: app is not None and app.version == "2.0.0")
        assert app


async def test_a_change_that_changes_nothing_wakes_nobody_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    async with stocked(path) as registry:
        with sqlite3.connect(path) as other:
            before = other.execute("PRAGMA data_version").fetchone()
            await registry.apply("my_app", replace)
            assert other.execute("PRAGMA data_version").fetchone() == before
        other.close()


async def test_when_all_ports_are_given_away_the_error_says_what_to_do() -> None:
    async with opened(None) as registry:
        async with anyio.create_task_group() as group:
            for port in PORTS:
                app = replace(APP, app_id=f"app_{port}", port=port)
                group.start_soon(registry.add_app, app)
        with pytest.raises(HostError, match="no port from 23000 to 23999") as caught:
            await registry.add_app(replace(APP, port=0))
        assert "unregister" in caught.value.remedy


async def test_users_are_kept_and_replaced(path: Path | None) -> None:
    alice = User("alice", "Alice", "hash", is_admin=True)
    async with opened(path) as registry:
        await registry.add_user(alice)
        await registry.add_user(User("aaron"))
        assert await registry.users() == [User("aaron"), alice]
        assert await registry.user("alice") == alice
        assert await registry.user("bob") is None
        with pytest.raises(AlreadyExistsError, match="'alice'"):
            await registry.add_user(alice)
        await registry.replace_user(replace(alice, is_enabled=False))
        assert await registry.user("alice") == replace(alice, is_enabled=False)


async def test_settings_are_kept(path: Path | None) -> None:
    async with opened(path) as registry:
        assert await registry.setting("default_daemon_config") is None
        await registry.set_setting("default_daemon_config", "one")
        await registry.set_setting("default_daemon_config", "two")
        assert await registry.setting("default_daemon_config") == "two"


async def test_a_closed_registry_says_so_and_closes_twice() -> None:
    async with opened(None) as registry:
        await registry.close()
        with pytest.raises(LocalProtocolError, match="closed"):
            await registry.apps()


async def test_nobody_else_can_read_the_files(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.sqlite3"
    async with stocked(path):
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {
        "state.sqlite3": 0o600,
        "state.sqlite3-wal": 0o600,
        "state.sqlite3-shm": 0o600,
    }
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    path.touch(0o644)
    async with opened(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def refused(path: Path) -> HostError:
    with pytest.raises(HostError) as caught:
        async with opened(path, lock_timeout=0.05):
            pass
    assert caught.value.remedy
    return caught.value


async def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    (tmp_path / "state.sqlite3").symlink_to(target)
    error = await refused(tmp_path / "state.sqlite3")
    assert "state.sqlite3 cannot be used" in error.cause
    assert target.read_text() == "precious"


async def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert "cannot be used" in (await refused(tmp_path / "data" / "state.sqlite3")).cause


async def test_a_file_that_is_no_database_is_an_error_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    path.write_bytes(b"this is no database " * 100)
    error = await refused(path)
    assert "file is not a database" in error.cause
    assert "move the file away" in error.remedy
    assert path.read_bytes().startswith(b"this is no database")


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    assert "another program" in (await refused(path)).cause


async def test_a_newer_schema_is_an_error_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    async with opened(path):
        pass
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    error = await refused(path)
    assert "newer version" in error.cause
    assert "schema 99" in error.cause
    assert "update" in error.remedy


async def test_a_damaged_row_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    async with stocked(path) as registry:
        with sqlite3.connect(path) as other:
            other.execute("UPDATE apps SET state = 'confused'")
            other.execute("UPDATE daemons SET deploy_config = '{'")
        other.close()
        with pytest.raises(HostError, match="row of app 'my_app'"):
            await registry.apps()
        with pytest.raises(HostError, match="row of daemon 'here'"):
            await registry.daemons()
        await registry.remove_app("my_app")


async def test_a_damaged_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    async with stocked(path):
        pass
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(HostError, match="malformed") as caught:
        async with opened(path) as registry:
            await registry.apps()
    assert "move the file away" in caught.value.remedy


async def test_a_file_held_by_somebody_else_is_an_error_after_a_while(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    async with opened(path, lock_timeout=0.05) as registry:
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(HostError, match="locked") as caught:
                await registry.set_setting("a", "b")
            assert "another process" in caught.value.remedy
            assert await registry.setting("a") is None, "reading goes on"
        other.close()


async def test_short_queries_do_not_wait_for_who_writes(path: Path | None) -> None:
    async with stocked(path) as registry:
        began, go_on = threading.Event(), threading.Event()

        def slow(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE apps SET version = '2.0.0'")
            began.set()
            go_on.wait(5)

        async with anyio.create_task_group() as group:
            group.start_soon(registry.write, slow)
            await anyio.to_thread.run_sync(began.wait, 5)
            if path:
                found = await registry.app("my_app")
                assert found
                assert found.version == "1.0.0", "what is not written yet is not seen"
            else:  # in memory there is only one connection, so this one waits
                group.start_soon(registry.app, "my_app")
            go_on.set()
        found = await registry.app("my_app")
        assert found
        assert found.version == "2.0.0"


async def test_short_queries_cannot_write(tmp_path: Path) -> None:
    async with opened(tmp_path / "state.sqlite3") as registry:
        with pytest.raises(HostError, match="readonly"):
            await registry.look(lambda connection: connection.execute("DELETE FROM apps"))


async def test_short_queries_give_way_to_a_thread_when_they_would_have_to_wait(
    tmp_path: Path,
) -> None:
    async with stocked(tmp_path / "state.sqlite3") as registry:
        reader = registry._reader

        def busy_at_first(connection: sqlite3.Connection) -> str:
            if connection is reader:
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error
            return "in a thread"

        assert await registry.look(busy_at_first) == "in a thread"


async def test_all_apps_are_read_anew_after_each_change_only(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    async with stocked(path) as registry, opened(path) as other:
        before = await registry.apps()
        before.clear()
        await registry.set_setting("something", "else")
        [first] = await registry.apps()
        assert first == APP
        await other.apply("my_app", lambda app: replace(app, version="2.0.0"))
        assert [app.version for app in await registry.apps()] == ["2.0.0"]
        await other.apply_daemon("here", lambda daemon: replace(daemon, display_name="There"))
        assert [app.daemon.display_name for app in await registry.apps()] == ["There"]
        await other.remove_app("my_app")
        assert await registry.apps() == []


async def test_a_new_file_held_by_somebody_else_is_an_error_after_a_while(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "locked" in (await refused(path)).cause
    other.close()


async def test_the_file_says_whose_it_is_and_which_schema_it_has(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    async with opened(path):
        pass
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert other.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
