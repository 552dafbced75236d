"""The host as a library: what is imported from the top, and that nothing of occ is missing."""

import inspect
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio.to_thread
import pytest

import appapi_host
from appapi_host import Host, HostError, HostSettings, NotFoundError, build_daemon, load_info
from appapi_host.cli import occ
from tests.live.cli_shell import write_app
from tests.test_docs import blocks
from tests.test_layers import HEAVY, loaded_by

pytestmark = pytest.mark.live

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "library.md"
ROW = re.compile(r"^\| `([a-z_:]+)` \| (`host\..*) \|$", re.MULTILINE)
CALL = re.compile(r"`host\.([\w.]+)\(([^`]*?)\)(?:\.[^`]*)?`")
REMOVED = {"app_api:app:users:list", "app_api:app:scopes:list", "app_api:scopes:list"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_importing_it_costs_nothing() -> None:
    loaded = loaded_by("import appapi_host") - loaded_by("")  # coverage has a database, too
    assert "appapi_host" in loaded
    assert not loaded & (HEAVY | {"anyio", "sqlite3", "starlette"})


def test_every_name_is_there_and_shown() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in appapi_host.__all__:
        assert getattr(appapi_host, name).__name__ == name
        assert f"`{name}`" in text
    assert set(dir(appapi_host)) >= set(appapi_host.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        appapi_host.nothing  # noqa: B018  # that it raises is the point


async def test_each_command_of_occ_is_a_call(host: Host) -> None:
    rows = dict(ROW.findall(PAGE.read_text(encoding="utf-8")))
    assert set(rows) == {*occ.COMMANDS, "serve", "repair", "logs"} - REMOVED - {"list", "help"}
    for command, cell in rows.items():
        calls = CALL.findall(cell)
        assert calls, command
        for path, words in calls:
            method: object = host
            for name in path.split("."):
                method = getattr(method, name)
            assert isinstance(method, Callable)  # type: ignore[arg-type]
            known = inspect.signature(method).parameters  # type: ignore[arg-type]
            for word in re.findall(r"(\w+)=", re.sub(r"\(.*?\)", "", words)):
                assert word in known, f"{path} takes no {word}"


async def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    names: dict[str, object] = {}
    exec(dict(blocks(PAGE))["library_example.py"], names)
    folder = await anyio.to_thread.run_sync(write_app, tmp_path / "app")
    seen = await names["try_app"](folder, tmp_path / "state")  # type: ignore[operator]
    assert re.fullmatch(r"Plain App 1\.2\.0 listens on port 23\d\d\d", seen[0])
    assert seen[1:] == ["it is disabled", "switched /enabled?enabled=1", "0 apps are left"]
    await anyio.to_thread.run_sync((folder / "main.py").write_text, "raise SystemExit('no model')")
    cause, _, last = await names["try_app"](folder, tmp_path / "other")  # type: ignore[operator]
    assert (cause, last) == ("the app ended: exit code 1", "no model")


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with Host.open(HostSettings(data_dir=tmp_path)) as host:
        yield host


async def test_daemons_and_their_mappings(host: Host) -> None:
    daemon = build_daemon("one", "docker-install", nextcloud_url="http://h/", host="/docker.sock")
    assert (daemon.nextcloud_url, daemon.display_name) == ("http://h", "one")
    await host.register_daemon(daemon, set_default=True)
    assert await host.daemons.all() == [daemon]
    assert await host.daemons.default() == "one"
    await host.daemons.add_mapping("one", "ghcr.io", "local")
    assert await host.daemons.mappings("one") == {"ghcr.io": "local"}
    await host.daemons.remove_mapping("one", "ghcr.io", "local")
    assert await host.daemons.mappings("one") == {}
    await host.daemons.unregister("one")
    assert await host.daemons.all() == []
    with pytest.raises(NotFoundError, match="'one'"):
        await host.daemons.mappings("one")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"protocol": "ftp"}, "The protocol must be"),
        ({"compute_device": "tpu"}, "Invalid compute device"),
        ({"name": ""}, "1 to 64 characters"),
        ({"host": "http://localhost"}, "without a scheme"),
    ],
)
def test_daemon_that_would_be_refused_is_not_built(changes: dict[str, str], problem: str) -> None:
    words = {"name": "one", "deploy_id": "manual-install", "nextcloud_url": "http://h", **changes}
    with pytest.raises(HostError, match=problem):
        build_daemon(**words)


async def test_users_sign_in_until_they_are_switched_off(host: Host) -> None:
    await host.users.add("alice", "secret", display_name="Alice")
    assert [user.display_name for user in await host.users.all()] == ["Alice"]
    assert await host.users.authenticate("alice", "secret")
    await host.users.switch("alice", enabled=False)
    alice = await host.users.find("alice")
    assert alice
    assert not alice.is_enabled
    assert await host.users.authenticate("alice", "secret") is None
    with pytest.raises(NotFoundError, match="'bob'"):
        await host.users.switch("bob", enabled=True)


async def test_apps_are_listed_and_described(host: Host, tmp_path: Path) -> None:
    info = await load_info(await anyio.to_thread.run_sync(write_app, tmp_path / "app"))
    assert (info.id, info.version) == ("plain", "1.2.0")
    assert await host.apps() == []
    with pytest.raises(NotFoundError):
        await host.app("plain")
