"""check and repair: reports about a description, and about what is left."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from appapi_host.host import Host
from appapi_host.info_source import load_info
from appapi_host.operations import Operations, Verb
from appapi_host.records import Daemon
from appapi_host.settings import HostSettings
from tests.live.cli_shell import Shell, processes_of, write_app

pytestmark = pytest.mark.live


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_good_description_is_shown(shell: Shell) -> None:
    folder = write_app(shell.folder / "app")
    for path in (folder, folder / "appinfo" / "info.xml"):
        done = shell.call("check", path)
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert lines[0] == f"{path}: Plain App 1.2.0 (plain)"
        assert "image       ghcr.io/a/b:latest" in lines
        assert "route       ADMIN   GET           ^/admin$" in lines
        assert lines[-1] == "No problems, 0 warnings."


def test_every_problem_has_its_line_and_an_example(shell: Shell) -> None:
    path = shell.folder / "info.xml"
    path.write_text(
        "<info><id>a b</id>\n<name>A</name>\n<external-app><routes>\n"
        "<route><url>^/a</url><verb>GET</verb><access_level>admin</access_level></route>\n"
        "</routes></external-app></info>"
    )
    done = shell.call("check", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("cause:") == 3
    assert "line 1: <id> is 'a b'" in done.stderr
    assert "<access_level>USER</access_level>" in done.stderr


def test_warnings_count_when_they_are_asked_to(shell: Shell) -> None:
    path = shell.folder / "info.xml"
    path.write_text("<info><id>a</id><name>A</name><version>one</version></info>")
    assert shell.call("check", path).returncode == 0
    done = shell.call("check", "--strict", path)
    assert done.returncode == 1
    assert "the version 'one' is not semantic" in done.stdout
    assert done.stdout.endswith("No problems, 1 warning.\n")


def test_folder_without_a_description_is_told(shell: Shell) -> None:
    done = shell.call("check", shell.folder)
    assert done.returncode == 1
    assert "there is no appinfo/info.xml in it" in done.stderr


async def prepare(shell: Shell, *, forget: bool) -> None:
    """An app at work on a daemon; with `forget`, the registry does not know it."""
    async with Host.open(HostSettings(data_dir=shell.data_dir)) as host:
        url = {"nextcloud_url": "http://127.0.0.1:1"}
        daemon = Daemon("local", "Local", "process-install", "http", "127.0.0.1", url)
        await host.register_daemon(daemon)
        info = await load_info(str(shell.folder / "app" / "appinfo" / "info.xml"))
        await host.register(info, daemon="local", source=shell.folder / "app")
        if forget:
            await host.registry.remove_app("plain")


@pytest.fixture
def left_over(shell: Shell) -> Iterator[Shell]:
    write_app(shell.folder / "app")
    anyio.run(lambda: prepare(shell, forget=True))
    assert len(processes_of(shell.data_dir)) == 1
    yield shell
    for process in processes_of(shell.data_dir):
        process.kill()


def test_process_without_an_app_is_shown_and_removed_when_told(left_over: Shell) -> None:
    done = left_over.call("repair")
    assert done.returncode == 1
    assert "left over   process plain of plain on local" in done.stdout
    assert len(processes_of(left_over.data_dir)) == 1

    done = left_over.call("repair", "--remove", "plain")
    assert (done.returncode, done.stderr) == (0, "")
    assert "removed     process plain" in done.stdout
    assert processes_of(left_over.data_dir) == []

    done = left_over.call("repair")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "kept data   folder plain of plain on local",
        "Nothing is left to repair.",
    ]
    assert left_over.call("repair", "--remove-all").returncode == 0
    assert (left_over.data_dir / "apps" / "plain").exists()
    assert left_over.call("repair", "--remove-all", "--data").returncode == 0
    assert not (left_over.data_dir / "apps" / "plain").exists()


def test_what_is_not_there_cannot_be_removed(shell: Shell) -> None:
    done = shell.call("repair", "--remove", "ghost")
    assert done.returncode == 1
    assert "there is nothing ghost to remove" in done.stdout


def test_interrupted_operations_and_failed_apps_are_told(shell: Shell) -> None:
    write_app(shell.folder / "app")

    async def leave() -> None:
        await prepare(shell, forget=False)
        async with Host.open(HostSettings(data_dir=shell.data_dir)) as host:
            gone = Operations(host.registry)
            await gone.begin("plain", Verb.UPDATE, "fetch", {})
            await gone.abandon("plain")
            await host.operations.begin("other", Verb.REGISTER, "fetch", {})
            at_work = shell.call("repair")
            assert "at work     process" in at_work.stdout
            assert "is about to register other (step fetch)" in at_work.stdout
            assert "settled     the update was interrupted at the step fetch" in at_work.stdout

    anyio.run(leave)
    for process in processes_of(shell.data_dir):
        process.kill()
    assert shell.call("occ", "app_api:app:unregister", "plain", "--force").returncode == 0
    assert shell.call("repair").returncode == 0


def test_app_whose_daemon_is_gone_is_told(shell: Shell) -> None:
    write_app(shell.folder / "app")

    async def leave() -> None:
        await prepare(shell, forget=False)
        async with Host.open(HostSettings(data_dir=shell.data_dir)) as host:
            await host.registry.write(lambda connection: connection.execute("DELETE FROM daemons"))

    anyio.run(leave)
    done = shell.call("repair")
    assert done.returncode == 1
    assert "plain: its daemon local is gone" in done.stdout
    for process in processes_of(shell.data_dir):
        process.kill()
