"""The engine is stopped at each step of each operation: what a person finds, and how it goes on.

The table in docs/reference/faults.md is what these tests see. `python -m
tests.docker.test_engine_stopped` writes it anew.
"""

import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from appapi_host.errors import DeployError, HostError
from appapi_host.events import Notice
from appapi_host.host import Host
from appapi_host.info_rules import EnvironmentVariable
from appapi_host.info_xml import AppInfo
from appapi_host.operations import Verb
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings, Timeouts
from appapi_host.testing import TestHost, live_host
from exapp_sdk.protocol.lifecycle import State
from tests.docker.engines import remove_everything
from tests.docker.reach import IMAGE, NOWHERE, docker_daemon, plain_info
from tests.docker.stopped_engine import StoppedEngine, stop_at
from tests.fault_page import WRITE, FaultTable, first_cells
from tests.live.cli_shell import Shell
from tests.live.test_faults import STEPS

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]  # an engine takes its time to end

TABLE = FaultTable(
    "tests/docker/test_engine_stopped.py",
    "operation",
    "stopped at the step",
    "what it says",
    "until the engine is back",
    "then",
)

CASES = [(verb, step) for verb, (_, steps) in STEPS.items() for step in steps]
SETTINGS = HostSettings(timeouts=Timeouts(heartbeat=20.0, away=0.5, busy=5.0))


@pytest.fixture(scope="module")
def stopped(short_folder: Path, plain_archive: bytes) -> Iterator[StoppedEngine]:
    engine = StoppedEngine(short_folder / "stop")
    engine.engine.docker("load", stdin=plain_archive)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    with TABLE.seen() as rows:
        yield rows


def quiet_info(app_id: str = IMAGE, mode: str = "quiet") -> AppInfo:
    """An app without an init, so that all steps are in the operation; or in another mode."""
    variables = {"MODE": EnvironmentVariable("MODE", value=mode)}
    return replace(plain_info(app_id), environment_variables=variables)


class Case:
    """One operation on one engine."""

    def __init__(self, host: TestHost, engine: StoppedEngine) -> None:
        self.host = host.host
        self.engine = engine
        self.info = quiet_info()

    async def operate(self, verb: Verb) -> None:
        operations: dict[Verb, Callable[[], Awaitable[object]]] = {
            Verb.REGISTER: lambda: self.host.register(self.info, daemon="docker"),
            Verb.UPDATE: lambda: self.host.update(replace(self.info, version="1.1.0")),
            Verb.ENABLE: lambda: self.host.enable(IMAGE),
            Verb.DISABLE: lambda: self.host.disable(IMAGE),
            Verb.UNREGISTER: lambda: self.host.unregister(IMAGE),
        }
        with anyio.fail_after(30):
            await operations[verb]()

    async def prepare(self, verb: Verb) -> None:
        """What is there before the operation."""
        if verb is not Verb.REGISTER:
            await self.operate(Verb.REGISTER)
        if verb is Verb.ENABLE:
            await self.operate(Verb.DISABLE)

    def general(self, text: str) -> str:
        """A text without what is only here."""
        text = text.replace(str(self.engine.engine.socket), "/run/docker.sock")
        return re.sub(r"\d{5}", "PORT", text).replace("\n", " ")

    async def stored(self) -> str:
        app = await self.host.registry.app(IMAGE)
        if app is None:
            return "not installed"
        reason = f": {app.failure}" if app.failure else ""
        return self.general(f"{app.version}, {app.state}{reason}")

    async def running(self) -> str:
        """The containers on the engine, which must be those that the registry knows of."""
        found = await anyio.to_thread.run_sync(
            self.engine.engine.docker, "ps", "--all", "--format", "{{.Names}} {{.State}}"
        )
        app: AppRecord | None = await self.host.registry.app(IMAGE)
        lines = found.splitlines()
        assert len(lines) <= (app is not None), "at most one, and none that app:list does not show"
        if app is not None and app.state is State.ENABLED:
            assert lines == ["nc_app_plain running"]
        return "no container" if not lines else f"container {lines[0].split()[1]}"

    async def row(self, verb: Verb, step: str) -> str:
        await self.prepare(verb)
        stop_at(self.host.operations, verb, step, self.engine)
        try:
            await self.operate(verb)
            said = "done"
        except HostError as error:
            said = self.general(error.cause)
        away = await self.stored()
        await anyio.to_thread.run_sync(self.engine.start)
        await self.host.recover()
        assert await self.host.operations.all() == []
        then = f"{await self.stored()}; {await self.running()}"
        return f"| {verb.value} | {step} | {said} | {away} | {then} |"

    async def assert_can_be_repeated(self, verb: Verb) -> None:
        """Nobody is stuck: the same again, or what the documentation says instead."""
        app = await self.host.registry.app(IMAGE)
        if verb is Verb.REGISTER and app is not None:
            await self.operate(Verb.ENABLE)
        else:
            await self.operate(verb)
        app = await self.host.registry.app(IMAGE)
        if verb is Verb.UNREGISTER:
            assert app is None
        else:
            assert app is not None
            assert app.state is (State.DISABLED if verb is Verb.DISABLE else State.ENABLED)
            assert app.version == ("1.1.0" if verb is Verb.UPDATE else "1.0.0")
            # It may not listen yet, if the engine has just started it again.
            await self.host.unregister(IMAGE, rm_data=True, force=True)
        assert self.engine.engine.docker("ps", "--all", "--quiet") == ""


@pytest.mark.parametrize(("verb", "step"), CASES, ids=str)
async def test_table_says_what_is_found_when_the_engine_was_stopped(
    verb: Verb, step: str, table: list[str], stopped: StoppedEngine, tmp_path: Path
) -> None:
    await anyio.to_thread.run_sync(stopped.start)
    try:
        async with live_host(tmp_path / "host", SETTINGS) as host:
            await host.host.register_daemon(docker_daemon(host, stopped.engine.socket))
            case = Case(host, stopped)
            row = await case.row(verb, step)
            if WRITE in os.environ:
                table.append(row)
            assert row in table, f"write it anew: python -m {__name__}"
            await case.assert_can_be_repeated(verb)
    finally:
        await anyio.to_thread.run_sync(stopped.start)
        await anyio.to_thread.run_sync(remove_everything, stopped.engine.docker)


async def test_apps_that_have_failed_are_not_started_by_an_engine_that_comes_back(
    stopped: StoppedEngine, tmp_path: Path
) -> None:
    await anyio.to_thread.run_sync(stopped.start)
    modes = ("exit", "brief", "crash")  # at once, after the heartbeat, in the init
    try:
        async with live_host(tmp_path / "host", SETTINGS) as host:
            await host.host.register_daemon(docker_daemon(host, stopped.engine.socket))
            for mode in modes:
                with pytest.raises(HostError, match="the app ended"):
                    await host.host.register(quiet_info(mode, mode), daemon="docker")
            await anyio.to_thread.run_sync(stopped.stop)
            await anyio.to_thread.run_sync(stopped.start)
            names = stopped.engine.docker("ps", "--all", "--format", "{{.Names}} {{.State}}")
            assert sorted(names.splitlines()) == [f"nc_app_{mode} exited" for mode in sorted(modes)]
    finally:
        await anyio.to_thread.run_sync(stopped.start)
        await anyio.to_thread.run_sync(remove_everything, stopped.engine.docker)


@pytest.fixture
async def case(stopped: StoppedEngine, tmp_path: Path) -> AsyncIterator[Case]:
    """An update that the engine's end has left in the middle."""
    await anyio.to_thread.run_sync(stopped.start)
    async with live_host(tmp_path / "host", SETTINGS) as host:
        await host.host.register_daemon(docker_daemon(host, stopped.engine.socket))
        case = Case(host, stopped)
        await case.prepare(Verb.UPDATE)
        stop_at(case.host.operations, Verb.UPDATE, "deploy", stopped)
        with pytest.raises(HostError):
            await case.operate(Verb.UPDATE)
        yield case
        await anyio.to_thread.run_sync(stopped.start)
        await anyio.to_thread.run_sync(remove_everything, stopped.engine.docker)


async def test_what_was_left_goes_on_by_itself_while_a_host_serves(case: Case) -> None:
    case.host.recovery.pause = 0.1
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(case.host.watch)
            await anyio.to_thread.run_sync(case.engine.start)
            await case.host.registry.wait(
                IMAGE, lambda app: app is not None and app.state is State.ENABLED
            )
            group.cancel_scope.cancel()
    assert (await case.host.app(IMAGE)).version == "1.0.0"
    assert await case.running() == "container running"


async def test_app_that_was_left_cannot_be_changed_but_forgotten(case: Case) -> None:
    told: list[str] = []

    def note(event: object) -> None:
        if isinstance(event, Notice) and event.text.endswith("goes on when that has changed"):
            told.append(event.text)

    with case.host.bus.subscribed(note):
        await case.host.recover()
        await case.host.recover()
    assert len(told) == 1
    for verb in (Verb.ENABLE, Verb.UPDATE, Verb.UNREGISTER):
        with pytest.raises(DeployError) as error:
            await case.operate(verb)
        assert "must be settled first: there is no socket" in error.value.cause
        assert "app:unregister --force" in error.value.remedy
    await case.host.unregister(IMAGE, force=True)
    assert await case.host.registry.app(IMAGE) is None
    await anyio.to_thread.run_sync(case.engine.start)
    daemon = await case.host.daemons.find("docker")
    kinds = [one.kind for one in await case.host.backend(daemon).leftovers(daemon, [])]
    assert sorted(kinds) == ["container", "volume"]  # what `repair` shows


async def registered(data_dir: Path, daemon: Daemon, info: AppInfo) -> None:
    async with Host.open(HostSettings(data_dir=data_dir)) as host:
        await host.register_daemon(daemon)
        await host.register(info, daemon=daemon.name)


def test_commands_say_what_is_left_for_later(stopped: StoppedEngine, tmp_path: Path) -> None:
    stopped.start()
    shell = Shell(tmp_path)
    config = {
        "net": "host",
        "nextcloud_url": "http://host.test",  # the app never calls
        "registries": [{"from": NOWHERE, "to": "local"}],
    }
    socket = str(stopped.engine.socket)
    daemon = Daemon("docker", "", "docker-install", "http", socket, config)
    try:
        anyio.run(registered, shell.data_dir, daemon, quiet_info())
        stopped.stop()
        disabled = shell.call("occ", "app_api:app:disable", IMAGE)
        assert (disabled.stdout, disabled.returncode) == ("Failed to disable ExApp plain.\n", 1)
        assert disabled.stderr.splitlines()[-3:] == [
            f"there is no socket {socket}",
            "It is disabled nevertheless, and stopped as soon as that is possible.",
            (
                "Try: start the Docker Engine (`systemctl start docker`), or register the daemon "
                "with the path of its socket"
            ),
        ]
        enabled = shell.call("occ", "app_api:app:enable", IMAGE)
        assert (enabled.stdout, enabled.returncode) == ("Failed to enable ExApp plain.\n", 1)
        assert "disabling was interrupted at the step disabled; there is no" in enabled.stderr
        assert "app:unregister --force forgets the app at once" in enabled.stderr
        stopped.start()
        listed = shell.call("occ", "app_api:app:list")
        assert listed.stdout.splitlines()[1:] == ["plain (Plain App): 1.0.0 [disabled]"]
        assert "disabling was interrupted at the step disabled" in listed.stderr
        assert stopped.engine.docker("ps", "--quiet") == ""
        assert shell.occ("app_api:app:enable", IMAGE)[1] == 0
        assert shell.occ("app_api:app:unregister", IMAGE, "--rm-data")[1] == 0
    finally:
        stopped.start()
        remove_everything(stopped.engine.docker)


def test_table_has_a_row_for_each_step_and_no_other(table: list[str]) -> None:
    assert first_cells(table) == [(verb.value, step) for verb, step in CASES]


if __name__ == "__main__":
    os.environ[WRITE] = "1"
    sys.exit(pytest.main([__file__, "-q"]))
