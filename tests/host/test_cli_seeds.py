"""The command lines that the administrators' documentation prints, as they stand there."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from appapi_host.__main__ import main
from appapi_host.host import REGISTRY_FILE
from appapi_host.records import AppRecord, Daemon
from appapi_host.registry import Registry
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State

Occ = Callable[[str], tuple[list[str], list[str], int]]

DOCKER = (
    'sudo -u www-data php occ app_api:daemon:register docker_local_sock "My Local Docker" '
    'docker-install http /var/run/docker.sock "https://nextcloud.local" --net nextcloud'
)
APP = AppRecord(
    "to_gif_example",
    "1.0.0",
    "To Gif Example",
    Daemon("gone", "", "", "", ""),
    1,
    Secret("12345"),
    State.DISABLED,
)


@pytest.fixture
def occ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Occ:
    def run(line: str) -> tuple[list[str], list[str], int]:
        code = main(["occ", "--data-dir", str(tmp_path), *shlex.split(line)])
        captured = capsys.readouterr()
        return captured.out.splitlines(), captured.err.splitlines(), code

    return run


@pytest.fixture
def app(tmp_path: Path) -> str:
    async def add() -> None:
        async with await Registry.open(tmp_path / REGISTRY_FILE) as registry:
            await registry.add_app(APP)

    anyio.run(add)
    return APP.app_id


def config_of(occ: Occ, name: str) -> dict[str, object]:
    found = json.loads(occ("app_api:daemon:list --output=json")[0][0])
    return next(dict(one["deploy_config"]) for one in found if one["name"] == name)


def test_daemon_of_the_example_is_registered(occ: Occ) -> None:
    out, _, code = occ(DOCKER)
    assert (out, code) == (["Daemon successfully registered."], 0)
    config = config_of(occ, "docker_local_sock")
    assert (config["net"], config["nextcloud_url"]) == ("nextcloud", "https://nextcloud.local")


def test_options_of_the_usage_line_stand_behind_the_arguments(occ: Occ) -> None:
    out, _, code = occ(
        "app_api:daemon:register name display-name manual-install http host http://nc "
        "--net NET --haproxy_password PASSWORD --"
    )
    assert (out, code) == (["Daemon successfully registered."], 0)
    assert config_of(occ, "name")["net"] == "NET"


@pytest.mark.parametrize(("gpu", "device"), [("/dev/dri", "rocm"), ("/dev/nvidia0", "cuda")])
def test_gpu_is_taken_as_a_compute_device(occ: Occ, gpu: str, device: str) -> None:
    out, err, code = occ(
        f"app_api:daemon:register d D manual-install http host http://n --gpu {gpu}"
    )
    assert (out, code) == (["Daemon successfully registered."], 0)
    assert err == [f"--gpu is an older option: it is taken as --compute_device {device}."]
    assert dict(config_of(occ, "d")["computeDevice"])["id"] == device  # type: ignore[call-overload]


def test_listing_has_the_form_of_the_example(occ: Occ, app: str) -> None:
    assert occ("app_api:app:list")[0][1:] == ["to_gif_example (To Gif Example): 1.0.0 [disabled]"]


@pytest.mark.parametrize(
    ("line", "output", "code"),
    [
        (
            "app_api:app:register --force-scopes --info-xml nope.xml -- appid daemon",
            "Failed to read info.xml from nope.xml",
            1,
        ),
        ("app_api:app:register appid daemon --force-scopes --json-info {} --", None, 1),
        (
            "app_api:app:update --info-xml nope.xml --force-update --force-scopes -e -- {app}",
            "Failed to read info.xml from nope.xml",
            1,
        ),
        ("app_api:app:update {app} --enabled", "Failed to get app info for `{app}` from the", 1),
        ("app_api:app:enable nope", "ExApp nope not found. Failed to enable.", 1),
        ("app_api:app:disable {app}", "ExApp {app} already disabled.", 0),
        ("app_api:app:unregister --rm-data --force --silent -- nope", None, 0),
        ("app_api:app:unregister --rm-data --force -- {app}", "Failed to get ExApp {app}", 0),
        ("app_api:app:users:list {app}", "ExApp {app} users:", 0),
        ("app_api:app:scopes:list {app}", "ExApp {app} scopes:", 0),
    ],
)
def test_usage_lines_are_understood(
    occ: Occ, app: str, line: str, output: str | None, code: int
) -> None:
    out, err, found = occ(line.replace("{app}", app))
    assert found == code
    assert not any("option does not exist" in text for text in err)
    if output is not None:
        assert out[0].startswith(output.replace("{app}", app))
