"""One registry, many processes."""

import sys
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest

from appapi_host.records import AppRecord, Daemon
from appapi_host.registry import Registry
from exapp_sdk.protocol.auth import Secret

pytestmark = pytest.mark.live

DAEMON = Daemon("here", "Here", "manual-install", "http", "localhost")
APP = AppRecord("my_app", "1.0.0", "My app", DAEMON, 0, Secret("s"))
PROCESSES, CHANGES = 8, 50


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def another_process(code: str, path: Path) -> list[str]:
    """The command of a Python process with the registry open as `registry`."""
    head = f"""
        import anyio, sys
        from dataclasses import replace
        from pathlib import Path
        from appapi_host.records import AppRecord, Daemon
        from appapi_host.registry import Registry
        from exapp_sdk.protocol.auth import Secret

        async def main():
            async with await Registry.open(Path({str(path)!r})) as registry:
                await work(registry)
    """
    parts = (head, code, "anyio.run(main)")
    return [sys.executable, "-c", "\n".join(map(textwrap.dedent, parts))]


async def test_a_waiter_is_woken_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    code = """
        async def work(registry):
            sys.stdin.readline()
            await registry.apply("my_app", lambda app: replace(app, version="2.0.0"))
    """
    with anyio.fail_after(20):
        async with (
            await Registry.open(path) as registry,
            await anyio.open_process(another_process(code, path), stderr=None) as other,
            anyio.create_task_group() as group,
        ):
            await registry.add_app(APP)
            assert other.stdin
            group.start_soon(other.stdin.send, b"go\n")
            app = await registry.wait("my_app", lambda app: bool(app and app.version == "2.0.0"))
            assert app
            assert await other.wait() == 0


async def test_no_change_of_many_processes_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    code = f"""
        async def work(registry):
            def change(app):
                return replace(app, created_time=app.created_time + 1)

            for _ in range({CHANGES}):
                await registry.apply("my_app", change)
    """
    run = partial(anyio.run_process, another_process(code, path), stderr=None)
    with anyio.fail_after(50):
        async with await Registry.open(path) as registry:
            await registry.add_app(APP)
            async with anyio.create_task_group() as group:
                for _ in range(PROCESSES):
                    group.start_soon(run)
            app = await registry.app("my_app")
            assert app
            assert app.created_time == PROCESSES * CHANGES


async def test_processes_that_create_the_same_new_file_at_once_all_succeed(tmp_path: Path) -> None:
    path = tmp_path / "data" / "state.sqlite3"
    code = """
        async def work(registry):
            daemon = Daemon("here", "Here", "manual-install", "http", "localhost")
            app = AppRecord(sys.argv[1], "1.0.0", "App", daemon, 0, Secret("s"))
            await registry.add_app(app)
    """
    command = another_process(code, path)
    with anyio.fail_after(50):
        async with anyio.create_task_group() as group:
            for number in range(PROCESSES):
                start = [*command, f"app_{number}"]
                group.start_soon(partial(anyio.run_process, start, stderr=None))
        async with await Registry.open(path) as registry:
            apps = await registry.apps()
    assert len({app.port for app in apps}) == PROCESSES, "no two got the same port"


async def test_a_writer_that_is_killed_leaves_the_last_whole_state(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    code = """
        async def work(registry):
            def change(app):
                print("inside", flush=True)
                sys.stdin.readline()
                return replace(app, version="half")

            await registry.apply("my_app", change)
    """
    with anyio.fail_after(20):
        async with await Registry.open(path) as registry:
            await registry.add_app(APP)
            stored = await registry.app("my_app")
            async with await anyio.open_process(another_process(code, path)) as other:
                assert other.stdout
                assert (await other.stdout.receive()).startswith(b"inside")
                other.kill()
            changed = await registry.apply("my_app", lambda app: replace(app, name="Whole"))
            assert stored
            assert changed == replace(stored, name="Whole")
