"""Keys at a terminal, and changes of files: what makes `run` install an app anew."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import anyio
import pytest

from appapi_host.cli.keys import Keys
from appapi_host.cli.watch import watch

READER = """
import os, sys, termios, anyio
sys.path.insert(0, {root!r})
from appapi_host.cli.keys import Keys

async def main():
    before = termios.tcgetattr(0)
    with Keys(sys.stdin) as keys:
        print("ready", keys.is_read, flush=True)
        with anyio.fail_after(20):
            async for key in keys.pressed():
                print("key", key, flush=True)
                if key == "q":
                    break
    print("restored", termios.tcgetattr(0) == before, flush=True)

anyio.run(main)
"""

# The first process of a session may make a terminal the one that controls it.
IN_SESSION = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "


@pytest.fixture
def terminal() -> Iterator[tuple[TextIO, int]]:
    """A terminal as a program sees it, and the descriptor of the person's side."""
    person, program = pty.openpty()
    with os.fdopen(program, "r") as stream:
        yield stream, person
    os.close(person)


def test_keys_arrive_one_by_one_and_the_terminal_is_put_back() -> None:
    person, program = pty.openpty()
    code = IN_SESSION + READER.format(root=str(Path(__file__).parents[2]))
    with (
        os.fdopen(person, "wb", buffering=0) as keyboard,
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=program,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        os.close(program)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready True\n"
        keyboard.write("rüq".encode())
        assert process.stdout.read() == "key r\nkey ü\nkey q\nrestored True\n"
        assert process.wait() == 0


async def test_terminal_that_is_not_ours_is_left_alone(terminal: tuple[TextIO, int]) -> None:
    stream, _ = terminal
    with Keys(stream) as keys:
        assert not keys.is_read
        assert [key async for key in keys.pressed()] == []


async def test_file_is_no_keyboard(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("r")
    with path.open() as stream, Keys(stream) as keys:
        assert not keys.is_read
    stream.close()
    with Keys(stream) as keys:
        assert not keys.is_read


async def test_changes_that_belong_together_are_told_once(tmp_path: Path) -> None:
    folder, data = tmp_path / "app", tmp_path / "app" / "data"
    (folder / "sub").mkdir(parents=True)
    for ignored in (".git", ".venv", "__pycache__", "data"):
        (folder / ignored).mkdir()
    (folder / "main.py").write_text("1")
    seen: list[list[str]] = []
    told = anyio.Event()

    def changed(paths: list[str]) -> None:
        seen.append(paths)
        told.set()

    async def change_until_told() -> None:
        # Nobody tells when the watching has begun.
        number = 0
        while not told.is_set():
            number += 1
            for path in (".git/x", ".venv/x", "__pycache__/x", "data/x", "a.log", "main.py"):
                (folder / path).write_text(str(number))
            (folder / "sub" / "b.txt").write_text(str(number))
            with anyio.move_on_after(1):
                await told.wait()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(change_until_told)
            group.start_soon(
                lambda: watch(
                    folder, changed, is_input=lambda path: path != "a.log", besides=[data]
                )
            )
            await told.wait()
            group.cancel_scope.cancel()
    assert seen == [["main.py", "sub/b.txt"]]


async def test_watching_ends_soon_after_it_was_cancelled(tmp_path: Path) -> None:
    with anyio.fail_after(3):
        with anyio.move_on_after(0.2) as scope:
            await watch(tmp_path, lambda _: None, is_input=lambda _: True)
    assert scope.cancelled_caught
