"""All rows of tests/wire/occ.json, on a real engine and a real registry, one process per line.

Beside what is printed, what each line leaves on the engine is compared with what the real AppAPI
left there, which tests/wire/docker-management.jsonl tells.
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from appapi_host.documents import DocumentStore
from appapi_host.host import REGISTRY_FILE
from appapi_host.registry import Registry as AppRegistry
from appapi_host.values import Values
from tests.docker.conftest import MakeImage
from tests.docker.engines import DockerEngine
from tests.docker.registry import Registry
from tests.live.cli_shell import Running, Shell

WIRE = Path(__file__).parents[1] / "wire"
ROWS: list[dict[str, Any]] = json.loads((WIRE / "occ.json").read_text())
REQUESTS: list[dict[str, Any]] = [
    json.loads(line) for line in (WIRE / "docker-management.jsonl").read_text().splitlines()
]

DIFFERENT = {
    7: "an exception of PHP names a PHP file in its heading, and our usage has two more options",
    24: "each name that was tried is told with its outcome, not the request of an HTTP client",
}
"""Number of a row → why ours prints something else there; the exit code is the same."""

ENGINE_ROWS = {21: 18, 23: 3, 24: 2, 26: 18, 27: 2, 28: 18, 31: 1, 33: 2, 35: 20, 50: 2} | {
    51: 18,
    52: 3,
}
"""Number of a row → how many lines of the recorded requests to the engine are its."""

CONTAINER = "nc_app_skel"
OTHER = "app-skeleton-python"
INFO = """<info><id>{app_id}</id><name>{name}</name><version>{version}</version><external-app>
<docker-install><registry>ghcr.io</registry><image>nextcloud/{image}</image></docker-install>
{more}</external-app></info>"""
VARIABLES = """<environment-variables>
<variable><name>TEST_ENV_1</name><default>0</default></variable>
<variable><name>TEST_ENV_2</name></variable></environment-variables>"""
RECORDED_REGISTRY, RECORDED_SOCKET = "localhost:5000", "/var/run/docker.sock"
RECORDED_HOST = "http://127.0.0.1:8090"


@dataclass
class Left:
    """What is on an engine of the app: its container's state and its volume."""

    container: str = ""
    volume: bool = False
    body: dict[str, Any] = field(default_factory=dict)

    def note(self, request: dict[str, Any]) -> None:
        """Follow a recorded request."""
        path = request.get("target", "").partition("?")[0].partition("/v1.41")[2]
        match request.get("method", ""), path, request.get("status", 0) < 300:
            case "POST", "/volumes/create", True:
                self.volume = True
            case "POST", "/containers/create", True:
                self.container, self.body = "created", json.loads(request["body"])
            case "POST", "/containers/nc_app_skel/start", True:
                self.container = "running"
            case "POST", "/containers/nc_app_skel/stop", True:
                self.container = "exited"
            case "DELETE", "/containers/nc_app_skel", True:
                self.container = ""
            case "DELETE", "/volumes/nc_app_skel_data", True:
                self.volume = False


def recorded_effects() -> dict[int, Left]:
    """What the real one had left after each row that reached the engine."""
    effects: dict[int, Left] = {}
    requests, left = iter(REQUESTS), Left()
    for number, count in ENGINE_ROWS.items():
        for _ in range(count):
            left.note(next(requests))
        effects[number] = Left(left.container, left.volume, left.body)
    assert next(requests, None) is None
    return effects


class Desk:
    """The environment that the recordings describe.

    Args:
        shell: where the files of the rows are.
        engine: of the daemon `rec_docker`.
        registry: which ghcr.io is mapped to.
        url: of the `serve` that the apps report to.
    """

    def __init__(self, shell: Shell, engine: DockerEngine, registry: Registry, url: str) -> None:
        self.shell = shell
        self.engine = engine
        self.registry = registry
        self.names = {
            RECORDED_REGISTRY: registry.address,
            RECORDED_SOCKET: str(engine.socket),
            RECORDED_HOST: url,
            "/srv/occ": str(shell.folder / "occ"),
        }

    def ours(self, text: str) -> str:
        """A recorded text with the addresses of here."""
        for recorded, present in self.names.items():
            text = text.replace(recorded, present)
        return text

    def assert_leaves(self, effect: Left, number: int) -> None:
        """On the engine is what the real one had left there after that row."""
        docker = self.engine.docker
        found = docker("ps", "--all", "--filter", f"name={CONTAINER}", "--format", "{{.State}}")
        volume = f"{CONTAINER}_data" in docker("volume", "ls", "--quiet").split()
        assert (number, found, volume) == (number, effect.container, effect.volume)
        if found:
            body = json.loads(self.ours(json.dumps(effect.body)))
            known = self.inspected(body)
            for name in ("APP_SECRET", "APP_PORT"):  # the latter by what other hosts have given
                index = next(i for i, one in enumerate(body["Env"]) if one.startswith(f"{name}="))
                assert known["Env"][index].startswith(f"{name}=")
                body["Env"][index] = known["Env"][index]
            assert (number, known) == (number, body)

    def inspected(self, body: dict[str, Any]) -> dict[str, Any]:
        """What a recorded body asked for, as the engine knows it of our container."""
        found = json.loads(self.engine.docker("inspect", CONTAINER))[0]
        config, host_config = found["Config"], found["HostConfig"]
        known = config | {
            # The image's own variables come after those that were asked for.
            "Env": config["Env"][: len(body["Env"])],
            "HostConfig": {
                "NetworkMode": host_config["NetworkMode"],
                "Mounts": [{"ReadOnly": False, **one} for one in host_config["Mounts"]],
                "RestartPolicy": {"Name": host_config["RestartPolicy"]["Name"]},
            },
        }
        return {name: known[name] for name in body}


@pytest.fixture
def desk(
    tmp_path: Path, engine: DockerEngine, registry: Registry, make_image: MakeImage
) -> Iterator[Desk]:
    image = make_image("init", name=f"nextcloud/{OTHER}", tag="latest").partition("/")[2]
    infos = {
        "v1": {},
        "v2": {"version": "1.1.0"},
        "vars": {"more": VARIABLES},
        "noimg": {"image": "not-there"},
        "other": {"app_id": OTHER, "name": "App Skeleton", "version": "3.0.3"},
    }
    usual = {"app_id": "skel", "name": "Skel", "version": "1.0.0", "image": image, "more": ""}
    for name, changes in infos.items():
        (tmp_path / f"{name}.xml").write_text(INFO.format(**(usual | changes)))
    (tmp_path / "broken.xml").write_text(INFO.format(**usual)[:60])
    (tmp_path / "occ").write_text("")
    shell = Shell(tmp_path)
    with ExitStack() as stack:
        serve = stack.enter_context(shell.start("serve", "--port", "0"))
        serve.until("http://")
        desk = Desk(shell, engine, registry, serve.url)
        prepare(desk, serve)
        yield desk


def prepare(desk: Desk, serve: Running) -> None:
    """The daemons, the mapping, an app, and what an earlier installation has left."""
    url = serve.url
    occ = desk.shell.occ
    for words in (
        ("daemon:register", "manual_install", "Manual", "manual-install", "http", "localhost"),
        ("daemon:register", "rec_docker", "Rec Docker", "docker-install", "http", RECORDED_SOCKET),
    ):
        port = "http://127.0.0.1:8080" if "manual_install" in words else url
        assert occ(f"app_api:{words[0]}", *map(desk.ours, words[1:]), port)[1] == 0
    mapping = ("--registry-from", "ghcr.io", "--registry-to", desk.registry.address)
    assert occ("app_api:daemon:registry:add", "rec_docker", *mapping)[1] == 0
    words = ("app_api:app:register", OTHER, "rec_docker", "--info-xml", "other.xml")
    assert occ(*words, "--wait-finish")[1] == 0
    anyio.run(remember, desk.shell.data_dir)


async def remember(data_dir: Path) -> None:
    async with await AppRegistry.open(data_dir / REGISTRY_FILE) as registry:
        await Values(DocumentStore(registry)).set("skel", "s", "hidden")


def cells(lines: list[str]) -> list[list[str]]:
    """The words of lines, whatever the width of a table's columns."""
    return [re.split(r"\s*\|\s*", re.sub("-+", "-", line)) for line in lines if line]


def assert_each_form_is_named(said: str, image: str) -> None:
    for form in (f"{image}:latest-cpu", f"{image}-cpu:latest", f"{image}:latest"):
        assert f"{form}: not in the registry" in said
    assert "Try: check registry, image and image-tag" in said


@pytest.mark.docker
@pytest.mark.timeout(600)  # so many processes
def test_recorded_rows_print_return_and_leave_the_same(desk: Desk) -> None:
    effects = recorded_effects()
    differ = []
    for number, row in enumerate(ROWS):
        done = desk.shell.call("occ", *map(desk.ours, row["argv"]))
        said = f"row {number}: {done.stdout}{done.stderr}"
        assert "Traceback" not in said
        assert done.returncode == row["exit_code"], said
        recorded = [desk.ours(line) for line in (*row["stdout"], *row.get("stderr", []))]
        printed = (done.stdout or done.stderr) if recorded else done.stdout
        if cells(printed.splitlines()) != cells(recorded):
            differ.append(number)
            assert number in DIFFERENT, said
        if number == 24:
            assert_each_form_is_named(said, f"{desk.registry.address}/nextcloud/not-there")
        if effect := effects.get(number):
            desk.assert_leaves(effect, number)
    assert differ == list(DIFFERENT)
    assert desk.engine.docker("ps", "--all", "--format", "{{.Names}}") == f"nc_app_{OTHER}"


def test_each_recorded_request_belongs_to_a_row() -> None:
    assert sum(ENGINE_ROWS.values()) == len(REQUESTS)
    assert list(recorded_effects()[52].__dict__.values())[:2] == ["", False]
