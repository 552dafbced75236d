"""The rows of tests/wire/occ.json that this version's commands and daemons allow.

They are played in order, as they were recorded. The daemon `rec_docker` starts processes here, so
"container" reads "process"; everything else must be equal.
"""

import json
import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from appapi_host.__main__ import main
from appapi_host.cli.occ import COMMANDS
from appapi_host.documents import DocumentStore
from appapi_host.host import REGISTRY_FILE
from appapi_host.records import AppRecord, Daemon
from appapi_host.registry import Registry
from appapi_host.values import Values
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State
from tests.live.cli_shell import processes_of

pytestmark = pytest.mark.live

HERE = Path(__file__).parent
ROWS: list[dict[str, Any]] = json.loads((HERE.parent / "wire" / "occ.json").read_text())
INFO = """<info><id>skel</id><name>Skel</name><version>{version}</version><external-app>
<docker-install><registry>localhost:5000</registry><image>nextcloud/skel</image></docker-install>
{more}</external-app></info>"""
VARIABLES = """<environment-variables>
<variable><name>TEST_ENV_1</name><default>0</default></variable>
<variable><name>TEST_ENV_2</name></variable></environment-variables>"""

# Rows that cannot be played, and why.
LEFT_OUT = {
    1: "the daemons are others here; see test_list_of_daemons_is_drawn_as_recorded",
    7: "played in tests/host: the heading of an exception names a PHP file",
    24: "an image that cannot be pulled",
}
WARNED = {
    4: "a daemon with a deploy id that nobody knows; the real one says so with its first app",
}


def occ(data_dir: Path, *words: str) -> int:
    return main(["occ", "--data-dir", str(data_dir), *words])


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment that the recordings describe."""
    monkeypatch.chdir(tmp_path)
    Path("v1.xml").write_text(INFO.format(version="1.0.0", more=""))
    Path("v2.xml").write_text(INFO.format(version="1.1.0", more=""))
    Path("vars.xml").write_text(INFO.format(version="1.0.0", more=VARIABLES))
    Path("broken.xml").write_text(INFO.format(version="1.0.0", more="")[:60])
    Path("main.py").write_text((HERE / "plain_app.py").read_text())
    data_dir = tmp_path / "data"
    anyio.run(prepare, data_dir)
    return data_dir


async def prepare(data_dir: Path) -> None:
    async with await Registry.open(data_dir / REGISTRY_FILE) as registry:
        url = {"nextcloud_url": "http://127.0.0.1:8090"}
        await registry.add_daemon(
            Daemon("manual_install", "Manual", "manual-install", "http", "localhost", url)
        )
        mapping = {"registries": [{"from": "ghcr.io", "to": "localhost:5000"}]}
        daemon = Daemon(
            "rec_docker", "Rec Docker", "process-install", "http", "127.0.0.1", {**url, **mapping}
        )
        await registry.add_daemon(daemon)
        await registry.add_app(
            AppRecord(
                "app-skeleton-python",
                "3.0.3",
                "App Skeleton",
                daemon,
                23000,
                Secret("x"),
                State.ENABLED,
                enabled=True,
            )
        )
        # Left behind by an earlier installation, as the recording shows.
        await Values(DocumentStore(registry)).set("skel", "s", "hidden")


def test_recorded_rows_print_and_return_the_same(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    played = 0
    for number, row in enumerate(ROWS):
        if number in LEFT_OUT:
            continue
        code = occ(data_dir, *row["argv"])
        captured = capsys.readouterr()
        expected = [line.replace("container", "process") for line in row["stdout"]]
        assert (number, captured.out.splitlines(), code) == (number, expected, row["exit_code"])
        if code == 0:
            assert (number, captured.err != "") == (number, number in WARNED)
        played += 1
    assert played == len(ROWS) - len(LEFT_OUT)
    assert processes_of(data_dir) == []


def test_every_recorded_command_is_there() -> None:
    assert {row["argv"][0] for row in ROWS} <= set(COMMANDS)


def test_list_of_daemons_is_drawn_as_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The socket of the recording was longer than the one that it shows.
    socket = "/var/run/rec/docker.sock"[: len("/var/run/docker.sock") + 2]
    for words in (
        ("manual_install", "Manual", "manual-install", "http", "localhost"),
        ("rec_docker", "Rec Docker", "docker-install", "http", socket.ljust(22, "x")),
    ):
        port = 8080 if words[0] == "manual_install" else 8090
        url = f"http://127.0.0.1:{port}/"
        assert occ(tmp_path, "app_api:daemon:register", *words, url) == 0
    capsys.readouterr()
    assert occ(tmp_path, "app_api:daemon:list") == 0
    printed = capsys.readouterr().out.replace(socket.ljust(22, "x"), "/var/run/docker.sock")
    assert printed.splitlines() == ROWS[1]["stdout"]


def test_recorded_error_of_an_exception_equals_ours_but_for_its_heading(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = ROWS[7]
    assert occ(tmp_path, *row["argv"]) == row["exit_code"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"In \w+\.php line \d+:", row["stderr"][0])
    ours = r" \[--(tls-\w+ TLS-\w+|memory MEMORY|cpus CPUS|no-name-suffix)\]"
    printed = re.sub(ours, "", captured.err)
    assert [line for line in printed.splitlines() if line] == row["stderr"][1:]
