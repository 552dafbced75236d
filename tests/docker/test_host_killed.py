"""The host is killed between two requests to the engine: what the next process makes of it.

The table in docs/reference/faults.md is what these tests see. `python -m
tests.docker.test_host_killed` writes it anew.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio.to_thread
import pytest

from appapi_host.host import Host
from appapi_host.info_rules import DockerInstall
from appapi_host.info_xml import AppInfo
from appapi_host.operations import Verb
from appapi_host.records import Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.lifecycle import State
from tests.docker.conftest import MakeImage
from tests.docker.engines import DockerEngine
from tests.docker.registry import Registry
from tests.fault_page import WRITE, FaultTable, first_cells
from tests.live.cli_shell import Shell
from tests.ports import free_port

pytestmark = pytest.mark.docker

TABLE = FaultTable(
    "tests/docker/test_host_killed.py",
    "operation",
    "killed after",
    "the next `occ` leaves",
    "on the engine",
)

APP = "plain"
INFO = """<info><id>plain</id><name>Plain</name><version>{version}</version><external-app>
<docker-install><registry>{registry}</registry><image>{image}</image><image-tag>1</image-tag>
</docker-install></external-app></info>"""
REQUESTS = {
    "create_volume": "creating the volume",
    "create": "creating the container",
    "start": "starting it",
    "rename": "renaming the old container",
    "remove": "removing the container",
    "remove_volume": "removing the volume",
}
"""Method of `Engine` → what the table calls it."""

CASES = [
    *((Verb.REGISTER, method) for method in ("create_volume", "create", "start")),
    *((Verb.UPDATE, method) for method in ("rename", "create", "start", "remove")),
    *((Verb.UNREGISTER, method) for method in ("remove", "remove_volume")),
]
COMMANDS = {
    Verb.REGISTER: ("app_api:app:register", APP, "docker", "--info-xml", "old.xml"),
    Verb.UPDATE: ("app_api:app:update", APP, "--info-xml", "new.xml"),
    Verb.UNREGISTER: ("app_api:app:unregister", APP, "--rm-data"),
}


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    with TABLE.seen() as rows:
        yield rows


def killed(shell: Shell, verb: Verb, method: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.docker.killed_after", method, "occ", *COMMANDS[verb]],
        env=shell.environment(PYTHONPATH=str(Path(__file__).parents[2])),
        cwd=shell.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, done.stdout + done.stderr


async def leaves(host: Host, engine: DockerEngine) -> str:
    """What there is in the registry and on the engine."""
    app = await host.registry.app(APP)
    found = await anyio.to_thread.run_sync(
        engine.docker, "ps", "--all", "--format", "{{.Names}} {{.State}}"
    )
    volumes = await anyio.to_thread.run_sync(engine.docker, "volume", "ls", "--quiet")
    things = [*found.splitlines(), *(["volume"] if volumes else [])]
    running = "nc_app_plain running" in things
    assert running == (app is not None and app.state is State.ENABLED)
    there = ", ".join(thing.replace("nc_app_plain ", "container ") for thing in things) or "nothing"
    if app is None:
        return f"nothing | {there}"
    reason = f": {app.failure}" if app.failure else ""
    return f"{app.version}, {app.state}{reason} | {there}"


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("verb", "method"), CASES, ids=str)
async def test_table_says_what_is_found_after_a_kill(
    verb: Verb,
    method: str,
    table: list[str],
    engine: DockerEngine,
    registry: Registry,
    make_image: MakeImage,
    tmp_path: Path,
) -> None:
    image = make_image("quiet")
    for name, version in (("old", "1.0.0"), ("new", "1.1.0")):
        text = INFO.format(version=version, registry=registry.address, image=image)
        (tmp_path / f"{name}.xml").write_text(text)
    shell = Shell(tmp_path)
    settings = HostSettings(data_dir=shell.data_dir)
    # The app never calls, so nobody has to listen there.
    config = {"net": "host", "nextcloud_url": "http://host.test"}
    daemon = Daemon("docker", "", "docker-install", "http", str(engine.socket), config)
    install = DockerInstall(registry.address, image, "1")
    info = AppInfo(APP, "Plain", "1.0.0", docker_install=install, port=free_port())
    async with Host.open(settings) as host:
        await host.register_daemon(daemon)
        if verb is not Verb.REGISTER:
            await host.register(info, daemon="docker")
    await anyio.to_thread.run_sync(killed, shell, verb, method)
    async with Host.open(settings) as host:
        await host.recover()
        assert await host.operations.all() == []
        row = f"| {verb.value} | {REQUESTS[method]} | {await leaves(host, engine)} |"
        if WRITE in os.environ:
            table.append(row)
        assert row in table, f"write it anew: python -m {__name__}"
        # Nobody is stuck.
        if await host.registry.app(APP):
            await host.unregister(APP, rm_data=True)
        await host.register(replace(info, version="2.0.0"), daemon="docker")
        await host.unregister(APP, rm_data=True)
        assert await host.backend(daemon).leftovers(daemon, []) == []


def test_table_has_a_row_for_each_request_and_no_other(table: list[str]) -> None:
    assert first_cells(table) == [(verb.value, REQUESTS[method]) for verb, method in CASES]


if __name__ == "__main__":
    os.environ[WRITE] = "1"
    sys.exit(pytest.main([__file__, "-q"]))
