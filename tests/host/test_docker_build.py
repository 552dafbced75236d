"""What is known of a build before an engine is asked: instructions, names, addresses."""

from pathlib import Path

import pytest

from appapi_host.cli.target_docker import DEFAULT_SOCKET, DockerOptions, DockerTarget
from appapi_host.cli.target_docker import engine_address as address_of
from appapi_host.deploy.docker.address import Address
from appapi_host.deploy.docker.build import (
    Builder,
    BuildError,
    BuildStep,
    Instruction,
    image_name,
    instructions,
)
from appapi_host.deploy.docker.engine import Engine
from appapi_host.errors import HostError
from appapi_host.info_xml import AppInfo


def test_lines_of_instructions_are_found() -> None:
    text = (
        "# syntax=docker/dockerfile:1\n"
        "\n"
        "ARG BASE=x\n"
        "FROM $BASE  \n"
        "  # a comment\n"
        "RUN one && \\\n"
        "    # between the lines\n"
        "\n"
        "    two \\\n"
        "  three\n"
        'CMD ["x"]\n'
    )
    assert instructions(text) == [
        Instruction(3, "ARG BASE=x"),
        Instruction(4, "FROM $BASE"),
        Instruction(6, "RUN one && two three"),
        Instruction(11, 'CMD ["x"]'),
    ]


def test_another_escape_character_is_respected() -> None:
    text = "# escape=`\nFROM x\nRUN dir c:\\\nCOPY a `\n  b\n"
    assert instructions(text) == [
        Instruction(2, "FROM x"),
        Instruction(3, "RUN dir c:\\"),
        Instruction(4, "COPY a b"),
    ]


def test_instruction_without_an_end_counts() -> None:
    assert instructions("FROM x\nRUN a \\\n") == [
        Instruction(1, "FROM x"),
        Instruction(2, "RUN a"),
    ]


@pytest.mark.parametrize(
    ("app_id", "version", "expected"),
    [
        ("notes", "1.2.0", ("exapp/notes", "1.2.0")),
        ("My_App", "1.0.0-rc.1+build 5", ("exapp/my-app", "1.0.0-rc.1-build-5")),
        ("__", "+", ("exapp/app", "latest")),
    ],
)
def test_name_of_an_image_is_always_valid(
    app_id: str, version: str, expected: tuple[str, str]
) -> None:
    assert image_name(AppInfo(id=app_id, name="x", version=version)) == expected


def test_progress_of_a_step_is_what_was_done_before() -> None:
    assert [BuildStep(number, 4, "").percent for number in (1, 2, 4)] == [0, 25, 75]


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("", {}, ("http", DEFAULT_SOCKET)),
        ("", {"DOCKER_HOST": "unix:///run/x.sock"}, ("http", "/run/x.sock")),
        ("/run/y.sock", {"DOCKER_HOST": "unix:///run/x.sock"}, ("http", "/run/y.sock")),
        ("box:2375", {}, ("http", "box:2375")),
        ("", {"DOCKER_HOST": "tcp://box:2376", "DOCKER_TLS_VERIFY": "1"}, ("https", "box:2376")),
        ("https://box:2376/", {}, ("https", "box:2376")),
        ("http://box:2375", {"DOCKER_TLS_VERIFY": "1"}, ("http", "box:2375")),
    ],
)
def test_engine_is_found_where_the_docker_command_finds_it(
    text: str, environ: dict[str, str], expected: tuple[str, str]
) -> None:
    assert address_of(text, environ) == expected


@pytest.mark.parametrize("text", ["ssh://root@box", "npipe:////./pipe/docker", "tcp://", "unix://"])
def test_address_that_cannot_be_used_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(HostError, match="is no address of an engine that can be used") as caught:
        address_of(text, {})
    assert "--daemon-host" in caught.value.remedy


def test_daemon_of_a_run_has_what_was_chosen_and_no_restarts() -> None:
    daemon = DockerTarget(Path("/x"), DockerOptions("box:2375", net="apps"), {}).daemon("http://h")
    assert (daemon.accepts_deploy_id, daemon.protocol, daemon.host) == (
        "docker-install",
        "http",
        "box:2375",
    )
    assert daemon.nextcloud_url == "http://h"
    assert (daemon.deploy_config["net"], daemon.deploy_config["restart_policy"]) == ("apps", "no")


def builder(folder: Path) -> Builder:
    return Builder(
        Engine(Address("unix:///nowhere", "/nowhere")),
        folder,
        reference="localhost/exapp/x:1",
        labels={},
        arguments={},
        on_step=lambda _: None,
    )


async def test_folder_without_a_dockerfile_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=f"there is no {tmp_path}/Dockerfile") as caught:
        await builder(tmp_path).context()
    assert "FROM python:3.11-slim" in caught.value.remedy


async def test_dockerfile_that_is_empty_or_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("# nothing\n")
    with pytest.raises(BuildError, match="Dockerfile is empty"):
        await builder(tmp_path).context()
    (tmp_path / "Dockerfile").unlink()
    (tmp_path / "Dockerfile").mkdir()
    with pytest.raises(BuildError, match="Dockerfile cannot be read: Is a directory"):
        await builder(tmp_path).context()
