"""Apps as processes: real ones, started, watched, stopped, and found again."""

import gc
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from appapi_host.deploy.base import Deployment
from appapi_host.deploy.process import ProcessBackend, inherited_environment, start_command
from appapi_host.errors import DeployError
from appapi_host.events import Event, EventBus, Notice
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings, Timeouts
from exapp_sdk.protocol.auth import Secret
from tests.ports import free_port

pytestmark = pytest.mark.live

DAEMON = Daemon("local_process", "Here", "process-install", "http", "127.0.0.1")
APP = AppRecord("my_app", "1.0.0", "My app", DAEMON, 23000, Secret("s"))
ENVIRONMENT = {"APP_ID": "my_app", "APP_SECRET": "s", "APP_PORT": "23000"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Stage:
    """A folder of an app, and a backend to start it with."""

    def __init__(self, path: Path, *, stop: float = 5.0) -> None:
        self.source = path / "app"
        self.source.mkdir()
        self.data = path / "data"
        self.settings = HostSettings(data_dir=self.data, timeouts=Timeouts(stop=stop))
        self.bus = EventBus()
        self.reports: list[int] = []
        self.backend = self.another_backend()

    def another_backend(self) -> ProcessBackend:
        return ProcessBackend(self.settings, self.bus)

    @property
    def folder(self) -> Path:
        return self.data / "apps" / "my_app"

    def write(self, code: str, name: str = "main.py") -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code))
        return path

    async def deploy(self, *command: str, **changes: Any) -> Mapping[str, Any]:
        values = {"environment": ENVIRONMENT, "source": self.source, "command": command, **changes}
        return await self.backend.deploy(Deployment(APP, **values), self.report)

    async def report(self, percent: int, detail: str = "") -> None:
        self.reports.append(percent)

    async def first_line(self) -> str:
        async with aclosing(self.backend.output(APP)) as lines:  # type: ignore[type-var]
            async for line in lines:
                return line
        raise AssertionError("the app printed nothing")

    async def lines(self) -> list[str]:
        return [line async for line in self.backend.output(APP)]


@asynccontextmanager
async def staged(path: Path, **settings: float) -> AsyncIterator[Stage]:
    stage = Stage(path, **settings)
    with anyio.fail_after(20):
        try:
            yield stage
        finally:
            await stage.backend.remove(APP, data=True)


def is_gone(pid: int) -> bool:
    """Ended; a child whose parent has not asked for it yet counts as ended too."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


FOREVER = """
    import time
    print("ready", flush=True)
    while True:
        time.sleep(60)
"""


SERVE = """
    import http.server, os, socketserver, sys

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"status": "ok"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    BEFORE
    socketserver.TCPServer.allow_reuse_address = True
    server = http.server.HTTPServer(("ADDRESS", int(os.environ["APP_PORT"])), Answer)
    print(os.getpid(), flush=True)
    server.serve_forever()
"""
DAEMONIZED = """
    import time
    if os.fork():
        time.sleep(60)
    os.setsid()
    if os.fork():
        os._exit(0)
"""


def with_free_port() -> tuple[AppRecord, dict[str, str]]:
    port = free_port()
    return replace(APP, port=port), {**ENVIRONMENT, "APP_PORT": str(port)}


@pytest.mark.parametrize(
    ("address", "before"),
    [("127.0.0.1", ""), ("", ""), ("127.0.0.1", "os.fork() and sys.exit(0)"), ("", DAEMONIZED)],
    ids=["loopback", "everywhere", "a child of its session", "a daemon that has left it"],
)
async def test_who_listens_on_the_apps_port_is_the_app_or_was_started_by_it(
    tmp_path: Path, address: str, before: str
) -> None:
    async with staged(tmp_path) as stage:
        app, environment = with_free_port()
        code = SERVE.replace("ADDRESS", address).replace("BEFORE", before.strip())
        stage.write(code)
        await stage.deploy(environment=environment)
        serving = psutil.Process(int(await stage.first_line()))
        try:
            assert await stage.backend.stranger(app) == ""
        finally:
            serving.kill()  # one that has left the session is not found by `stop()`


async def test_who_listens_in_an_apps_place_is_named(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        app, _ = with_free_port()
        assert await stage.backend.stranger(app) == ""  # it was never deployed
        stage.write(FOREVER)
        await stage.deploy()
        assert await stage.backend.stranger(app) == "nobody any more"
        with socket.create_server(("127.0.0.1", app.port)):
            name = psutil.Process().name()
            assert await stage.backend.stranger(app) == f"process {os.getpid()} ({name})"


async def test_last_words_are_read_though_the_app_is_removed_meanwhile(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write("""
            import signal, time
            signal.signal(signal.SIGTERM, lambda *_: (print("last words", flush=True), 1 / 0))
            print("ready", flush=True)
            time.sleep(60)
        """)
        await stage.deploy()
        async with aclosing(stage.backend.output(APP)) as lines:  # type: ignore[type-var]
            assert await anext(lines) == "ready"
            await stage.backend.remove(APP, data=True)
            assert await anext(lines) == "last words"


async def test_output_is_followed_while_it_is_printed_and_ends_with_the_app(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        stage.write(f"""
            import sys
            print("one")
            open({str(gate)!r}).read()
            sys.stderr.write("two\\nthree without an end")
            sys.exit(3)
        """)
        notes = await stage.deploy()
        assert notes["command"] == [sys.executable, "main.py"]
        assert notes["source"] == str(stage.source)
        assert stage.reports == [95, 99]
        seen = []
        async for line in stage.backend.output(APP):
            seen.append(line)
            if line == "one":
                assert not is_gone(notes["pid"]), "followed live"
                await anyio.Path(gate).write_text("go on")
        assert seen == ["one", "two", "three without an end"]
        assert await stage.backend.exited(APP) == "exit code 3"
        assert await stage.backend.exited(APP) == "exit code 3", "known for good"
        assert await stage.backend.last_output(APP, lines=2) == seen[1:]


async def test_output_that_is_no_text_is_readable_nevertheless(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write("""
            import os
            os.write(1, b"caf\\xc3\\xa9 \\xff\\n10%\\r50%\\r100%\\nwindows\\r\\n\\n")
            os.write(1, b"x" * 200_000 + b"\\nlast\\n")
        """)
        await stage.deploy()
        lines = await stage.lines()
        assert lines[:4] == ["café \ufffd", "100%", "windows", ""]
        assert "".join(lines[4:-1]) == "x" * 200_000, "a line without end does not fill the memory"
        assert lines[-1] == "last"
        tail = await stage.backend.last_output(APP, lines=5)
        assert tail == ["last"], "lines that are not whole any more are left out"
        assert await stage.backend.last_output(APP, lines=0) == []


async def test_without_a_log_there_is_no_output(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        assert await stage.lines() == []
        assert await stage.backend.last_output(APP, lines=5) == []
        assert await stage.backend.exited(APP) == "not running"


async def test_the_environment_is_exactly_what_was_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("APP_SECRET", "AA_VERSION", "HP_SHARED_KEY", "EX_APP_X", "NEXTCLOUD_URL"):
        monkeypatch.setenv(name, "of the host itself")
    monkeypatch.setenv("SSL_CERT_FILE", "/certificates.pem")
    async with staged(tmp_path) as stage:
        await stage.deploy("env", "-0")
        found = dict(
            entry.partition("=")[::2] for entry in "\n".join(await stage.lines()).split("\0")[:-1]
        )
        inherited = await anyio.to_thread.run_sync(inherited_environment, os.environ, stage.source)
        promised = inherited | ENVIRONMENT
        promised["APP_PERSISTENT_STORAGE"] = str(stage.folder / "storage")
        assert found == promised
        assert found["SSL_CERT_FILE"] == "/certificates.pem"
        assert "of the host itself" not in found.values()


def test_only_what_tells_an_exapp_who_it_is_is_kept_back(tmp_path: Path) -> None:
    environ = {
        "HOME": "/home/me",
        "LANG": "C.UTF-8",
        "PATH": "/usr/bin",
        "APPLE": "kept",
        "APP_ID": "x",
        "AA_VERSION": "x",
        "HP_FRP_PORT": "x",
        "EX_APP_ID": "x",
        "NEXTCLOUD_URL": "x",
        "COMPUTE_DEVICE": "x",
    }
    programs = Path(sys.executable).parent
    kept = {"HOME": "/home/me", "LANG": "C.UTF-8", "APPLE": "kept", "PYTHONUNBUFFERED": "1"}
    assert inherited_environment(environ, tmp_path) == kept | {"PATH": f"{programs}:/usr/bin"}
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    first = inherited_environment(environ, tmp_path)["PATH"].split(":")[0]
    assert first == str(tmp_path / ".venv" / "bin")
    assert inherited_environment({}, tmp_path)["PATH"].endswith(os.defpath)


async def test_input_is_empty_and_files_are_private(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write("""
            import sys
            print(repr(sys.stdin.read()))
        """)
        await stage.deploy()
        assert await stage.lines() == ["''"]
        for name in ("output.log", "process.json"):
            assert stat.S_IMODE((stage.folder / name).stat().st_mode) == 0o600
        for folder in (stage.data, stage.folder, stage.folder / "storage"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_the_secret_is_in_no_note(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write(FOREVER)
        notes = await stage.deploy()
        assert set(notes) == {"pid", "created", "command", "source", "log_start"}
        assert json.loads(json.dumps(notes)) == notes


async def test_stopping_ends_children_wherever_they_went(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write("""
            import json, os, subprocess, sys, time
            wait = [sys.executable, "-c", "import time; time.sleep(600)"]
            child = subprocess.Popen(wait)
            with_own_session = subprocess.Popen(wait, start_new_session=True)
            # A grandchild whose parent ends: it belongs to nobody but the session.
            code = f"import subprocess; print(subprocess.Popen({wait!r}).pid)"
            orphan = int(subprocess.check_output([sys.executable, "-c", code], stderr=2))
            print(json.dumps([child.pid, with_own_session.pid, orphan]))
            time.sleep(600)
        """)
        # The orphan keeps its parent's output open, so that is not read to its end.
        stage.source.joinpath("main.py").write_text(
            stage.source.joinpath("main.py")
            .read_text()
            .replace("Popen({wait!r})", "Popen({wait!r}, stdout=2)")
        )
        notes = await stage.deploy()
        pids = json.loads(await stage.first_line())
        assert len(pids) == 3
        assert not any(map(is_gone, pids))
        await stage.backend.stop(APP)
        assert all(map(is_gone, [notes["pid"], *pids]))
        assert await stage.backend.exited(APP) == "killed by SIGTERM"
        await stage.backend.stop(APP)


async def test_children_that_outlive_the_app_are_stopped_too(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write("""
            import subprocess, sys
            wait = [sys.executable, "-c", "import time; time.sleep(600)"]
            print(subprocess.Popen(wait).pid)
        """)
        await stage.deploy()
        child = int(await stage.first_line())
        assert await stage.backend.exited(APP) == "exit code 0"
        assert not is_gone(child)
        await stage.backend.stop(APP)
        assert is_gone(child)


async def test_who_does_not_listen_is_killed_after_the_limit(tmp_path: Path) -> None:
    async with staged(tmp_path, stop=0.2) as stage:
        stage.write("""
            import signal, time
            signal.signal(signal.SIGTERM, lambda *_: print("never", flush=True))
            print("ready")
            while True:
                time.sleep(60)
        """)
        notes = await stage.deploy()
        assert await stage.first_line() == "ready"
        await stage.backend.stop(APP)
        assert is_gone(notes["pid"])
        assert await stage.backend.exited(APP) == "killed by SIGKILL"
        assert await stage.lines() == ["ready", "never"], "asked once, and before"


async def test_a_killed_app_is_noticed_at_once(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write(FOREVER)
        notes = await stage.deploy()
        assert await stage.first_line() == "ready"
        answers: list[str] = []

        async def watch() -> None:
            answers.append(await stage.backend.exited(APP))

        with anyio.fail_after(2):
            async with anyio.create_task_group() as group:
                group.start_soon(watch)
                group.start_soon(watch)
                await anyio.wait_all_tasks_blocked()
                os.kill(notes["pid"], signal.SIGKILL)
        assert answers == ["killed by SIGKILL"] * 2


async def test_the_end_is_noticed_where_the_system_has_no_process_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)  # as on macOS
    async with staged(tmp_path) as stage:
        stage.write(FOREVER)
        notes = await stage.deploy()
        async with anyio.create_task_group() as group:

            async def kill() -> None:
                assert await stage.first_line() == "ready"
                os.kill(notes["pid"], signal.SIGRTMIN + 5)

            group.start_soon(kill)
            assert await stage.backend.exited(APP) == f"killed by signal {signal.SIGRTMIN + 5}"


async def test_an_app_that_ends_at_once_is_no_error_of_the_deployment(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write("import sys; sys.exit('no, I would rather not')")
        await stage.deploy()
        assert await stage.backend.exited(APP) == "exit code 1"
        assert await stage.backend.last_output(APP, lines=20) == ["no, I would rather not"]


def started_by_another_host(stage: Stage) -> dict[str, Any]:
    """Deploy in a host process that dies right after it."""
    code = f"""
        import anyio, json, os
        from pathlib import Path
        from tests.live.test_deploy_process import APP, ENVIRONMENT
        from appapi_host.deploy.base import Deployment
        from appapi_host.deploy.process import ProcessBackend
        from appapi_host.events import EventBus
        from appapi_host.settings import HostSettings

        async def main():
            async def report(percent): pass
            backend = ProcessBackend(HostSettings(data_dir=Path({str(stage.data)!r})), EventBus())
            deployment = Deployment(APP, ENVIRONMENT, source=Path({str(stage.source)!r}))
            print(json.dumps(dict(await backend.deploy(deployment, report))), flush=True)
            os._exit(0)

        anyio.run(main)
    """
    root = Path(__file__).resolve().parents[2]
    answer = subprocess.check_output([sys.executable, "-c", textwrap.dedent(code)], cwd=root)
    notes: dict[str, Any] = json.loads(answer)
    return notes


async def test_an_app_outlives_its_host_and_the_next_one_stops_it(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write(FOREVER)
        notes = await anyio.to_thread.run_sync(started_by_another_host, stage)
        assert not is_gone(notes["pid"])
        assert await stage.first_line() == "ready"
        assert await stage.backend.start(APP) == notes, "it runs, so it is left alone"
        async with anyio.create_task_group() as group:
            group.start_soon(stage.backend.stop, APP)
            assert await stage.backend.exited(APP) == "ended", "the code is its parent's to know"
        assert is_gone(notes["pid"])


async def test_what_an_earlier_host_left_is_replaced(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write(FOREVER)
        left = await anyio.to_thread.run_sync(started_by_another_host, stage)
        events: list[Event] = []
        with stage.bus.subscribed(events.append):
            fresh = await stage.deploy()
        assert fresh["pid"] != left["pid"]
        assert is_gone(left["pid"])
        assert not is_gone(fresh["pid"])
        text = f"process {left['pid']} of an earlier deployment is stopped"
        assert events == [Notice("my_app", text, is_warning=False)]


async def test_a_process_is_found_though_its_host_died_before_it_wrote_it_down(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path) as stage:
        stage.write(FOREVER)
        notes = await stage.deploy()
        assert await stage.first_line() == "ready"
        plan = json.loads((stage.folder / "process.json").read_text())
        (stage.folder / "process.json").write_text(
            json.dumps({**plan, "pid": None, "created": None})
        )
        await stage.another_backend().stop(APP)
        assert is_gone(notes["pid"])
        await stage.another_backend().stop(APP)


async def test_notes_in_the_registry_are_enough_when_the_file_is_lost(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write(FOREVER)
        notes = await stage.deploy()
        (stage.folder / "process.json").write_text("{")
        record = AppRecord(
            "my_app", "1.0.0", "My app", DAEMON, 23000, Secret("s"), deployment=notes
        )
        await stage.backend.stop(record)
        assert is_gone(notes["pid"])
        with pytest.raises(DeployError, match=r"there is no .*process\.json"):
            await stage.backend.start(record)


async def test_another_process_of_the_same_id_is_left_alone(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        wait = [sys.executable, "-c", "import time; time.sleep(600)"]
        async with await anyio.open_process(wait, start_new_session=True) as innocent:
            stale = {"pid": innocent.pid, "created": psutil.Process().create_time() - 1000}
            record = AppRecord(
                "my_app", "1.0.0", "My app", DAEMON, 23000, Secret("s"), deployment=stale
            )
            await stage.backend.stop(record)
            assert await stage.backend.exited(record) == "ended"
            assert not is_gone(innocent.pid)
            innocent.kill()


async def test_a_stopped_app_starts_again_as_it_was_deployed(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write("""
            import os, sys, time
            print(sys.argv[1], os.environ["APP_SECRET"])
            time.sleep(600)
        """)
        first = await stage.deploy("python3", "main.py", "mine")
        assert await stage.first_line() == "mine s"
        assert await stage.backend.start(APP) == first, "it runs already"
        await stage.backend.stop(APP)
        second = await stage.backend.start(APP)
        assert second["pid"] != first["pid"]
        assert second["log_start"] == len("mine s\n"), "the log goes on"
        assert await stage.first_line() == "mine s"
        await stage.backend.stop(APP)
        assert await stage.lines() == ["mine s"], "only what it printed since it was started"
        assert await stage.backend.last_output(APP, lines=9) == ["mine s"]


async def test_a_new_deployment_begins_with_an_empty_log(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write("print('old')")
        await stage.deploy()
        assert await stage.lines() == ["old"]
        stage.write("print('new')")
        await stage.deploy()
        assert await stage.lines() == ["new"]


async def test_a_deployment_that_is_broken_off_leaves_nothing_running(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write(FOREVER)
        pids: list[int] = []
        with anyio.CancelScope() as scope:

            async def report(percent: int, detail: str = "") -> None:
                if percent == 99:
                    plan = await anyio.Path(stage.folder / "process.json").read_text()
                    pids.append(json.loads(plan)["pid"])
                    scope.cancel()
                    await anyio.sleep_forever()

            deployment = Deployment(APP, ENVIRONMENT, source=stage.source)
            await stage.backend.deploy(deployment, report)
        assert scope.cancelled_caught
        assert len(pids) == 1
        assert is_gone(pids[0])


async def test_data_survives_a_removal_unless_it_is_to_go(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write("""
            import os, pathlib
            pathlib.Path(os.environ["APP_PERSISTENT_STORAGE"], "model.bin").write_text("x")
        """)
        await stage.deploy()
        await stage.backend.exited(APP)
        await stage.backend.remove(APP, data=False)
        assert [entry.name for entry in stage.folder.iterdir()] == ["storage"]
        assert (stage.folder / "storage" / "model.bin").read_text() == "x"
        await stage.backend.remove(APP, data=True)
        assert not stage.folder.exists()
        await stage.backend.remove(APP, data=True)


async def test_a_folder_that_cannot_be_removed_is_an_error(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        (stage.folder / "storage").mkdir(parents=True)
        (stage.folder / "somebody's folder").mkdir()
        with pytest.raises(DeployError, match="cannot be removed") as caught:
            await stage.backend.remove(APP, data=False)
        assert str(stage.folder) in caught.value.remedy


async def test_without_a_data_directory_a_private_one_lives_as_long_as_the_backend(
    tmp_path: Path,
) -> None:
    source = tmp_path / "app"
    source.mkdir()
    (source / "main.py").write_text("import os; print(os.environ['APP_PERSISTENT_STORAGE'])")
    backend = ProcessBackend(HostSettings(), EventBus())

    async def report(percent: int, detail: str = "") -> None:
        pass

    with anyio.fail_after(10):
        await backend.deploy(Deployment(APP, ENVIRONMENT, source=source), report)
        lines = [line async for line in backend.output(APP)]
    root = anyio.Path(lines[0]).parents[2]
    assert stat.S_IMODE((await root.stat()).st_mode) == 0o700
    del backend
    gc.collect()
    assert not await root.exists()


async def test_an_app_is_reached_on_loopback(tmp_path: Path) -> None:
    assert Stage(tmp_path).backend.url(APP) == "http://127.0.0.1:23000"


@pytest.mark.parametrize("app_id", ["..", ".", "", "a/b", "a b"])
async def test_an_id_that_is_no_name_of_a_folder_is_refused(tmp_path: Path, app_id: str) -> None:
    record = AppRecord(app_id, "1", "x", DAEMON, 1, Secret("s"))
    with pytest.raises(DeployError, match="name of a folder"):
        await Stage(tmp_path).backend.remove(record, data=True)
    assert await anyio.Path(tmp_path).is_dir()


# What to start


def test_a_command_that_is_given_wins(tmp_path: Path) -> None:
    (tmp_path / "main.py").touch()
    assert start_command(tmp_path, ("uvicorn", "app:app")) == ("uvicorn", "app:app")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("web: python3 'my app.py' --port 5", ("python3", "my app.py", "--port", "5")),
        ("worker: no\nweb:   gunicorn app  \n", ("gunicorn", "app")),
        ("web: gunicorn -b :$APP_PORT app", ("/bin/sh", "-c", "gunicorn -b :$APP_PORT app")),
        ("web: DEBUG=1 python3 x.py", ("/bin/sh", "-c", "DEBUG=1 python3 x.py")),
    ],
)
def test_a_procfile_names_the_command(tmp_path: Path, line: str, expected: tuple[str, ...]) -> None:
    (tmp_path / "Procfile").write_text(line)
    (tmp_path / "main.py").touch()
    assert start_command(tmp_path) == expected


def test_a_procfile_without_web_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("worker: x\nweb:\n")
    (tmp_path / "main.py").touch()
    assert start_command(tmp_path) == (sys.executable, "main.py")


def test_the_layout_of_nextclouds_own_apps_is_known(tmp_path: Path) -> None:
    (tmp_path / "main.py").touch()
    (tmp_path / "ex_app" / "lib").mkdir(parents=True)
    (tmp_path / "ex_app" / "lib" / "main.py").touch()
    assert start_command(tmp_path) == (sys.executable, "ex_app/lib/main.py")


def test_the_folders_own_python_runs_its_app(tmp_path: Path) -> None:
    (tmp_path / "main.py").touch()
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    with pytest.raises(DeployError, match="no working Python") as caught:
        start_command(tmp_path)
    assert "python3 -m venv --clear" in caught.value.remedy
    (programs / "python3").symlink_to(sys.executable)
    assert start_command(tmp_path) == (str(programs / "python3"), "main.py")


def test_an_open_quotation_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: python3 'main.py")
    with pytest.raises(DeployError, match="No closing quotation"):
        start_command(tmp_path)


def test_a_folder_that_declares_nothing_lists_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"Procfile, ex_app/lib/main\.py and main\.py") as caught:
        start_command(tmp_path)
    assert "-- python3" in caught.value.remedy


async def broken(stage: Stage, *command: str, **changes: Any) -> DeployError:
    with pytest.raises(DeployError) as caught:
        await stage.deploy(*command, **changes)
    assert caught.value.remedy
    assert await stage.backend.exited(APP) == "not running"
    return caught.value


async def test_each_command_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        plain = stage.write("echo hi", "plain")
        error = await broken(stage, "no-such-program-anywhere")
        assert "'no-such-program-anywhere' was not found" in error.cause
        error = await broken(stage, "./missing", "--now")
        assert f"{stage.source / 'missing'} does not exist" in error.cause
        error = await broken(stage, "./plain")
        assert "is not executable" in error.cause
        assert "chmod +x" in error.remedy
        plain.chmod(0o755)
        error = await broken(stage, "./plain")
        assert "Exec format error" in error.cause
        assert "#!/usr/bin/env python3" in error.remedy
        plain.write_text("#!/no/such/interpreter\n")
        error = await broken(stage, "./plain")
        assert "cannot be started" in error.cause
        assert "first line" in error.remedy


async def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        missing = tmp_path / "missing"
        assert str(missing) in (await broken(stage, source=missing)).cause
        assert str(missing) in (await broken(stage, "true", source=missing)).cause


async def test_a_command_without_a_folder_runs_in_the_apps_own(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.deploy("pwd", source=None)
        assert await stage.lines() == [str(stage.folder)]


async def test_a_data_directory_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.write(FOREVER)
    stage.data.write_text("a file")
    assert "cannot be used" in (await broken(stage)).cause


async def test_a_procfile_line_for_a_shell_runs_in_one(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        stage.write("web: echo $APP_PORT && python3 -c 'print(2)'\n", "Procfile")
        await stage.deploy()
        assert await stage.lines() == ["23000", "2"]
