"""What the engine is asked by each operation, beside what the real AppAPI asked it.

The recording is in tests/wire/docker-management.jsonl; ours comes from the engine's own log.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appapi_host.errors import DeployError
from appapi_host.info_rules import EnvironmentVariable
from appapi_host.testing import live_host
from exapp_sdk.protocol.lifecycle import State
from tests.docker.conftest import MakeImage
from tests.docker.engines import DockerEngine
from tests.docker.registry import Registry
from tests.docker.test_install import APP, CONTAINER, Requests, Stage

WIRE = Path(__file__).parents[1] / "wire"

# Each operation: what AppAPI asked, what we ask, and why that differs.
WAITING = "AppAPI looks once a second whether it runs and is healthy; events tell us"
TABLE = {
    "disable": (
        ["POST stop"],
        ["POST stop"],
        "",
    ),
    "enable": (
        ["POST start", *["GET json"] * 5],
        ["POST start", "GET json"],
        WAITING,
    ),
    "unregister": (
        ["POST stop", "DELETE container"],
        ["POST stop", "DELETE container"],
        "",
    ),
    "unregister with data": (
        ["POST stop", "DELETE container", "DELETE volume"],
        ["POST stop", "DELETE container", "DELETE volume"],
        "",
    ),
}


def kind(line: str) -> str:
    """Verb and what is meant, without version, names and query."""
    method, _, target = line.partition(" ")
    path = re.sub(r"^/v[0-9.]+", "", target.partition("?")[0])
    parts = path.strip("/").split("/")
    last = parts[-1]
    if parts[0] == "images":
        return f"{method} image {last}"
    if parts[0] == "volumes":
        return f"{method} volume" if method == "DELETE" else f"{method} volume {last}"
    if parts[0] == "containers":
        return f"{method} container" if method == "DELETE" else f"{method} {last}"
    return f"{method} {parts[0]}"


def recorded() -> Iterator[str]:
    for line in (WIRE / "docker-management.jsonl").read_text().splitlines():
        row = json.loads(line)
        if "target" in row:
            yield from [kind(f"{row['method']} {row['target']}")] * row.get("repeated", 1)


RECORDED = list(recorded())


def is_in(part: list[str], whole: list[str]) -> bool:
    return any(whole[n : n + len(part)] == part for n in range(len(whole)))


@pytest.mark.parametrize("operation", TABLE)
def test_table_says_what_was_recorded(operation: str) -> None:
    theirs, ours, why = TABLE[operation]
    assert is_in(theirs, RECORDED)
    assert (theirs == ours) == (not why)


@pytest.fixture
async def stage(tmp_path: Path, engine: DockerEngine, registry: Registry) -> AsyncIterator[Stage]:
    async with live_host(tmp_path / "host") as host:
        yield Stage(host, engine, registry)


@pytest.mark.docker
async def test_operations_ask_what_the_table_says(stage: Stage, make_image: MakeImage) -> None:
    image = make_image()
    await stage.daemon()
    host = stage.host.host
    await host.register(stage.info(image), daemon="docker")

    requests = Requests(stage.engine)
    await host.disable(APP)
    assert [kind(line) for line in requests.seen()] == TABLE["disable"][1]

    requests = Requests(stage.engine)
    await host.enable(APP)
    assert [kind(line) for line in requests.seen()] == TABLE["enable"][1]

    requests = Requests(stage.engine)
    await host.unregister(APP)
    assert [kind(line) for line in requests.seen()] == TABLE["unregister"][1]

    await host.register(stage.info(image), daemon="docker")
    requests = Requests(stage.engine)
    await host.unregister(APP, rm_data=True)
    assert [kind(line) for line in requests.seen()] == TABLE["unregister with data"][1]


@pytest.mark.docker
async def test_update_pulls_first_and_keeps_the_old_container_to_the_end(
    stage: Stage, make_image: MakeImage
) -> None:
    image = make_image()
    await stage.daemon()
    host = stage.host.host
    await host.register(stage.info(image), daemon="docker")
    requests = Requests(stage.engine)
    await host.update(stage.info(image, "1.1.0"))
    seen = [kind(line) for line in requests.seen()]
    theirs = ["POST image create", "POST image create", "GET json", "DELETE container"]
    assert is_in([*theirs, "POST volume create"], RECORDED)  # after a stop, and before any answer
    assert seen[:4] == ["POST image create"] * 3 + ["POST stop"]
    order = ["POST stop", "POST rename", "POST volume create", "POST create", "POST start"]
    assert sorted(order, key=seen.index) == order
    assert seen[-1] == "DELETE container"
    assert len(seen) <= 22


@pytest.mark.docker
async def test_image_that_is_not_there_changes_nothing_on_the_engine(stage: Stage) -> None:
    await stage.daemon()
    requests = Requests(stage.engine)
    with pytest.raises(DeployError, match="not-there:1-cpu: not in the registry"):
        await stage.host.host.register(stage.info("not-there"), daemon="docker")
    assert [kind(line) for line in requests.seen()] == ["GET _ping", *["POST image create"] * 3]
    assert (stage.containers(), stage.volumes()) == ([], [])


@pytest.mark.docker
async def test_variables_and_mounts_reach_the_container(
    stage: Stage, make_image: MakeImage, tmp_path: Path
) -> None:
    info = replace(
        stage.info(make_image()),
        environment_variables={
            "TEST_ENV_1": EnvironmentVariable("TEST_ENV_1", default="0", value="0"),
            "TEST_ENV_2": EnvironmentVariable("TEST_ENV_2"),
        },
    )
    await stage.daemon()
    app = await stage.host.host.register(
        info,
        daemon="docker",
        environment={"TEST_ENV_2": "given"},
        mounts=[(str(tmp_path), "/models", "ro")],
    )
    assert app.state is State.ENABLED
    found = stage.inspect(CONTAINER)
    assert found["Config"]["Env"][10:12] == ["TEST_ENV_1=0", "TEST_ENV_2=given"]
    assert "APP_PERSISTENT_STORAGE=/nc_app_skel_data" in found["Config"]["Env"]
    mounts = {mount["Destination"]: mount["RW"] for mount in found["Mounts"]}
    assert mounts == {"/nc_app_skel_data": True, "/models": False}
