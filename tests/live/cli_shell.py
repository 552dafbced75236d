"""Runs the command line as a person does: real processes, read line by line."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

HERE = Path(__file__).parent
INFO = """<?xml version="1.0"?>
<info>
  <id>{app_id}</id><name>Plain App</name><version>1.2.0</version>
  <external-app>
    <docker-install><registry>ghcr.io</registry><image>a/b</image></docker-install>
    <routes>
      <route><url>^/public/.*</url><verb>GET</verb><access_level>PUBLIC</access_level></route>
      <route><url>^/die$</url><verb>GET</verb><access_level>PUBLIC</access_level></route>
      <route><url>^/ui/.*</url><verb>GET,POST</verb><access_level>USER</access_level></route>
      <route><url>^/admin$</url><verb>GET</verb><access_level>ADMIN</access_level></route>
    </routes>
  </external-app>
</info>
"""


def write_app(folder: Path, app_id: str = "plain") -> Path:
    """A folder with the plain app in it."""
    (folder / "appinfo").mkdir(parents=True)
    (folder / "appinfo" / "info.xml").write_text(INFO.format(app_id=app_id))
    shutil.copy(HERE / "plain_app.py", folder / "main.py")
    return folder


class Running:
    """A command that runs; what it prints can be waited for."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []

    def until(self, pattern: str) -> re.Match[str]:
        """The first line, from here on, that holds the pattern; the test's own limit ends this."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"{pattern!r} was not printed:\n" + "\n".join(self.lines))

    def until_all(self, *patterns: str) -> None:
        """The same for several lines that may come in any order."""
        missing = set(patterns)
        while missing:
            found = self.until("|".join(f"(?:{pattern})" for pattern in sorted(missing)))
            missing = {p for p in missing if not re.search(p, found.string)}

    def rest(self) -> str:
        """Wait for the end; everything it printed, from the beginning."""
        assert self.process.stdout is not None
        self.lines += self.process.stdout.read().splitlines()
        self.process.wait()
        return "\n".join(self.lines)

    def stop(self, number: int) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        self.rest()
        return self.process.returncode

    @property
    def url(self) -> str:
        return next(
            found[0] for line in self.lines if (found := re.search(r"http://[\d.:]+", line))
        )


class Shell:
    """Where commands are run, with a data directory of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "APPAPI_HOST_DATA_DIR": str(self.data_dir), "TERM": "dumb", **more}

    def call(self, *words: object, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "appapi_host", *map(str, words)],
            env=self.environment(**more),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def at_terminal(self, *words: object) -> tuple[str, int]:
        """Run a command whose standard output is a terminal; what that got, and the exit code."""
        master, slave = pty.openpty()
        with (
            os.fdopen(master, "rb", buffering=0) as screen,
            subprocess.Popen(
                [sys.executable, "-m", "appapi_host", *map(str, words)],
                env=self.environment(TERM="xterm-256color", COLUMNS="100"),
                cwd=self.folder,
                stdout=slave,
                stderr=slave,
            ) as process,
        ):
            os.close(slave)
            shown = b""
            with suppress(OSError):  # how a terminal says that nobody writes any more
                while part := screen.read(65536):
                    shown += part
            process.wait()
        return shown.decode(), process.returncode

    def occ(self, *words: object) -> tuple[list[str], int]:
        """Run an occ command; its standard output and its exit code."""
        done = self.call("occ", *words)
        assert "Traceback" not in done.stderr
        return done.stdout.splitlines(), done.returncode

    @contextmanager
    def start(self, *words: object, **more: str) -> Iterator[Running]:
        """Run a command beside the test, and nothing of it afterwards."""
        with subprocess.Popen(
            [sys.executable, "-m", "appapi_host", *map(str, words)],
            env=self.environment(PYTHONFAULTHANDLER="1", **more),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            running = Running(process)
            try:
                yield running
            except BaseException as error:
                _kill_children(process.pid)
                # What it was at when the test gave up, thread by thread.
                process.send_signal(signal.SIGABRT)
                error.add_note(f"what the command printed:\n{running.rest()}")
                raise
            finally:
                _kill_children(process.pid)
                process.kill()


def _kill_children(pid: int) -> None:
    with suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            child.kill()


def get(url: str, user: str = "", *, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Fetch a page as a person would."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    if user:
        passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
        passwords.add_password(None, url, user, user, is_authenticated=True)
        opener.add_handler(urllib.request.HTTPBasicAuthHandler(passwords))
    try:
        with opener.open(urllib.request.Request(url, headers=dict(headers or {}))) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may stay visible until somebody asks how."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return False


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """Every process that was told to keep its data in that directory."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            storage = process.environ().get("APP_PERSISTENT_STORAGE", "")
            if storage.startswith(str(data_dir)) and is_alive(process.pid):
                found.append(process)
    return found
