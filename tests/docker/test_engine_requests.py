"""What the engine is asked by each operation, beside what the real AppAPI asked it.

docs/explanation/engine-requests.md has the tables: one column is compared with the recordings, the
other one with the log of a real engine.
"""

import itertools
import json
import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from appapi_host.errors import DeployError
from appapi_host.testing import live_host
from tests.docker.conftest import MakeImage
from tests.docker.engines import DockerEngine
from tests.docker.registry import Registry
from tests.docker.test_install import APP, Requests, Stage
from tests.docker.test_occ_recorded import ENGINE_ROWS, REQUESTS, WIRE

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "engine-requests.md"
HEAD = ["AppAPI 32", "here", "why"]
OPERATIONS = {"Update": 35, "Disable": 31, "Enable": 33, "Unregister": 52}
"""Heading of a table → the row of occ.json during which the requests were recorded."""

Requested = list[str]
"""One text for each request: verb and path, without version, names, ids and query."""


def general(method: str, target: str) -> str:
    path = re.sub(r"^/v[0-9.]+", "", target.partition("?")[0])
    path = re.sub(
        r"^/(containers|volumes|exec|images)/(?!create$).+?(?=/[a-z]+$|$)", r"/\1/…", path
    )
    return f"{method} {path}"


def recorded(rows: Iterable[dict[str, Any]]) -> Requested:
    requests: Requested = []
    for row in rows:
        if "target" not in row:  # 146 archive PUTs, one for each certificate
            requests += ["PUT /containers/…/archive"] * int(row["note"].split()[0])
        else:
            requests += [general(row["method"], row["target"])] * row.get("repeated", 1)
    return requests


def recorded_install() -> Requested:
    lines = (WIRE / "docker-install.jsonl").read_text().splitlines()
    requests = recorded(map(json.loads, lines))[2:]  # without the removal before
    upload = requests.index("PUT /containers/…/archive")  # the first of all
    return [*requests[:upload], *[requests[upload]] * 146, *requests[upload + 1 :]]


def recorded_during(row: int) -> Requested:
    start = sum(count for number, count in ENGINE_ROWS.items() if number < row)
    return recorded(REQUESTS[start : start + ENGINE_ROWS[row]])


def table(heading: str) -> list[list[str]]:
    text = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    head, _, *rest = [[cell.strip() for cell in row] for row in rows]
    assert head == HEAD
    return rest


def column(rows: list[list[str]], number: int) -> Requested:
    requests: Requested = []
    for row in rows:
        for name, times in re.findall(r"`([^`]+)`(?: \u00d7 (\d+))?", row[number]):
            requests += [name] * int(times or 1)
    return requests


def shortened(requests: Requested) -> list[tuple[str, int]]:
    return [(name, len(list(same))) for name, same in itertools.groupby(requests)]


@pytest.mark.parametrize("heading", ["Install", *OPERATIONS])
def test_table_says_what_was_recorded_and_why_ours_differs(heading: str) -> None:
    rows = table(heading)
    row = OPERATIONS.get(heading)
    expected = recorded_install() if row is None else recorded_during(row)
    assert shortened(column(rows, 0)) == shortened(expected)
    assert [row for row in rows if row[0] != row[1] and not row[2]] == []


@pytest.fixture
async def stage(tmp_path: Path, engine: DockerEngine, registry: Registry) -> AsyncIterator[Stage]:
    async with live_host(tmp_path / "host") as host:
        yield Stage(host, engine, registry)


@pytest.mark.docker
async def test_table_says_what_our_engine_is_asked(stage: Stage, make_image: MakeImage) -> None:
    image = make_image()
    await stage.daemon()
    host = stage.host.host
    operations = {
        "Install": lambda: host.register(stage.info(image), daemon="docker"),
        "Update": lambda: host.update(stage.info(image, "1.1.0")),
        "Disable": lambda: host.disable(APP),
        "Enable": lambda: host.enable(APP),
        "Unregister": lambda: host.unregister(APP, rm_data=True),
    }
    for heading, operate in operations.items():
        requests = Requests(stage.engine)
        await operate()
        seen = [general(*line.split(" ", 1)) for line in requests.seen()]
        assert (heading, shortened(seen)) == (heading, shortened(column(table(heading), 1)))
    assert len(column(table("Install"), 1)) <= len(recorded_install()) / 3


@pytest.mark.docker
async def test_image_that_is_not_there_changes_nothing_on_the_engine(stage: Stage) -> None:
    await stage.daemon()
    requests = Requests(stage.engine)
    with pytest.raises(DeployError, match="not-there:1-cpu: not in the registry"):
        await stage.host.host.register(stage.info("not-there"), daemon="docker")
    seen = [general(*line.split(" ", 1)) for line in requests.seen()]
    assert shortened(seen) == [("GET /_ping", 1), ("POST /images/create", 3)]
    assert (stage.containers(), stage.volumes()) == ([], [])
