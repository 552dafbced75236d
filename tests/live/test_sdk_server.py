"""`app.run()` in a process of its own, with the real server."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from exapp_sdk import Settings
from exapp_sdk.testing import signed_headers

pytestmark = pytest.mark.live

SCRIPT = """
import os
from exapp_sdk import Access, ExApp

app = ExApp()

@app.get("/process", access=Access.PUBLIC)
async def process(request):
    return os.getpid()

@app.websocket("/live")
async def live(websocket):
    await websocket.accept()

if __name__ == "__main__":
    app.run(%s)
"""
ENVIRON = {
    "APP_ID": "served",
    "APP_SECRET": "s3cr3t",
    "APP_VERSION": "1.0.0",
    "APP_HOST": "127.0.0.1",
    "NEXTCLOUD_URL": "http://127.0.0.1:1",
}
SIGNED = signed_headers(Settings.from_environ(ENVIRON))


@pytest.fixture
def port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        number: int = listener.getsockname()[1]
        return number


@contextmanager
def serving(
    folder: Path, environ: dict[str, str], options: str = ""
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The script, once it says that it is ready, and what it has said until then."""
    script = folder / "main.py"
    script.write_text(SCRIPT % options)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env=clean | ENVIRON | environ,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    said: list[str] = []
    try:
        assert process.stderr
        for line in process.stderr:
            said.append(line)
            if "Application startup complete" in line or "Uvicorn running" in line:
                break
        yield process, said
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers too
        process.communicate()


def ask(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> bytes:
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return f"{answer.status} ".encode() + answer.read()


def test_app_listens_where_the_host_wants_it_and_ends_when_told(tmp_path: Path, port: int) -> None:
    with serving(tmp_path, {"APP_PORT": str(port)}) as (process, _):
        assert process.stderr
        while "Uvicorn running" not in (line := process.stderr.readline()):
            assert line, "the server ended"
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            assert ask(connection, "/heartbeat", {}) == b'200 {"status":"ok"}'
            assert ask(connection, "/process", {}).startswith(b"401 ")
            assert ask(connection, "/process", SIGNED) == f"200 {process.pid}".encode()
            upgrade = {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            }
            refused = ask(connection, "/live", upgrade)
            assert refused == b'401 {"error":"AppAPI authentication failed"}'
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, -signal.SIGTERM)


def test_app_listens_on_the_socket_of_harp(tmp_path: Path) -> None:
    path = tmp_path / "exapp.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    environ = {"HP_SHARED_KEY": "key", "HP_EXAPP_SOCK": str(path)}
    with serving(tmp_path, environ) as (process, _):
        assert process.stderr
        while "Uvicorn running" not in (line := process.stderr.readline()):
            assert line, "the server ended"
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(path))
        with closing(connection):
            assert ask(connection, "/heartbeat", {}) == b'200 {"status":"ok"}'


def test_a_port_in_use_ends_the_app_with_the_servers_words(tmp_path: Path) -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as taken,
        serving(tmp_path, {"APP_PORT": str(taken.getsockname()[1])}) as (process, said),
    ):
        assert process.stderr
        words = "".join(said) + process.stderr.read()
        assert process.wait(10) == 1
    assert "address already in use" in words
    assert "Traceback" not in words


def test_missing_variables_end_the_app_without_a_traceback(tmp_path: Path) -> None:
    with serving(tmp_path, {"APP_ID": "", "APP_PORT": "x"}) as (process, said):
        assert process.wait(10) == 2
    assert "APP_ID is empty; APP_PORT is 'x'" in "".join(said)
    assert "Traceback" not in "".join(said)


def test_several_workers_serve_the_app_of_a_script(tmp_path: Path, port: int) -> None:
    with serving(tmp_path, {"APP_PORT": str(port)}, "workers=2") as (process, said):
        assert process.stderr
        while not any("Application startup complete" in line for line in said):
            said.append(process.stderr.readline())
            assert said[-1], "the server ended"
        listened = False
        while not listened:  # a worker says that it is ready a moment before it listens
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                listened = True
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            status, worker = ask(connection, "/process", SIGNED).split()
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    assert (status, int(worker) != process.pid) == (b"200", True)
