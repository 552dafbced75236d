"""What a person sees when something goes wrong with an engine, a registry, an image or an app.

The table in docs/reference/faults.md is what these tests see; `python -m
tests.docker.test_fault_table` writes it anew.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# The order is that of the table.
from tests.docker import faults_of_apps, faults_of_engines  # noqa: F401
from tests.docker.engines import DockerEngine
from tests.docker.fault_book import FAULTS, OWN_ENGINE
from tests.docker.fault_scene import Scene
from tests.docker.reach import TLSEngine
from tests.docker.registry import Registry
from tests.docker.stoppable import StoppableEngine, stoppable_engine

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(180),  # an engine takes its time to end, and hosts to start
    # The engine's library leaves a socket to the garbage collector that it could not connect.
    pytest.mark.filterwarnings("ignore:.*socket.socket.*family=1.*:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:.*socket.socket.*family=1:pytest.PytestUnraisableExceptionWarning"
    ),
]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"
TABLE = re.compile(
    r"(?<=<!-- seen by tests/docker/test_fault_table.py -->\n).*?(?=<!-- end -->)", re.DOTALL
)
HEAD = [
    "| what goes wrong | what is printed | what remains | exit code |",
    "|---|---|---|---|",
]
WRITES = "EXD_WRITE_FAULTS"


@pytest.fixture(scope="module")
def own_engine(short_folder: Path) -> Iterator[StoppableEngine]:
    with stoppable_engine(short_folder / "own") as engine:
        yield engine


@pytest.fixture
def scene(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    engine: DockerEngine,
    bare_tls_engine: TLSEngine,
    registry: Registry,
    make_image: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    monkeypatch.setenv("APPAPI_HOST_DATA_DIR", str(tmp_path / "data"))
    scene = Scene(tmp_path, engine, registry, make_image, monkeypatch)
    scene.tls = bare_tls_engine
    if request.node.callspec.params["name"] in OWN_ENGINE:
        scene.own = request.getfixturevalue("own_engine")
        scene.own.restore()
    yield scene
    if scene.own is not None:
        scene.own.restore()


@pytest.fixture(scope="module")
def table() -> list[str]:
    found = TABLE.search(PAGE.read_text(encoding="utf-8"))
    assert found
    return found.group().strip().splitlines()


@pytest.mark.parametrize("name", FAULTS)
def test_table_says_what_is_seen(name: str, scene: Scene, table: list[str]) -> None:
    FAULTS[name](scene)
    row = scene.row(name)
    if os.environ.get(WRITES):
        _write(name, row)
    else:
        assert row in table, "write it anew: python -m tests.docker.test_fault_table"


def test_table_has_a_row_for_each_fault_and_no_other(table: list[str]) -> None:
    assert table[:2] == HEAD
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[2:]] == list(FAULTS)


def _write(name: str, row: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = TABLE.search(text)
    assert found
    rows = {
        line.split(" | ")[0].removeprefix("| "): line
        for line in found.group().strip().splitlines()[2:]
    } | {name: row}
    drawn = "\n".join([*HEAD, *(rows[key] for key in FAULTS if key in rows), ""])
    PAGE.write_text(TABLE.sub(lambda _: drawn, text), encoding="utf-8")


if __name__ == "__main__":
    os.environ[WRITES] = "1"
    sys.exit(pytest.main([__file__, "-q"]))
