"""Podman in the place of Docker."""

import json
from typing import Any

import pytest

from appapi_host.errors import HostError
from appapi_host.testing import TestHost
from tests.docker.podman import PodmanEngine
from tests.docker.reach import docker_daemon, installed, notices, plain_info

pytestmark = pytest.mark.docker


def containers(podman: PodmanEngine) -> list[Any]:
    return list(json.loads(podman.podman("ps", "--all", "--format", "json")))


@pytest.mark.parametrize("net", ["host", "bridge", "exd-named"])
async def test_app_is_installed_on_podman(host: TestHost, podman: PodmanEngine, net: str) -> None:
    if net == "exd-named":
        podman.podman("network", "create", net)
    daemon = docker_daemon(host, podman.socket, net=net)
    async with installed(host, daemon) as app:
        (container,) = containers(podman)
        assert container["Names"] == ["nc_app_plain"]
        await app.disable()
        assert [c["State"] for c in containers(podman)] == ["exited"]
        await app.enable()
        assert [c["State"] for c in containers(podman)] == ["running"]
        said = [text for text in notices(host) if text.startswith("the host listens on ")]
        assert len(said) == (net != "host")
        if net == "bridge":
            assert said[0].startswith(f"the host listens on {podman.gateway} port")
    assert containers(podman) == []
    assert podman.podman("volume", "ls", "--quiet") == ""


async def test_missing_gpu_is_named_as_such_on_podman(host: TestHost, podman: PodmanEngine) -> None:
    rocm = {"id": "rocm", "label": "ROCm (AMD)"}
    daemon = docker_daemon(host, podman.socket, computeDevice=rocm)
    await host.host.register_daemon(daemon)
    with pytest.raises(HostError, match="the engine has no such compute device") as caught:
        await host.host.register(plain_info(), daemon=daemon.name)
    assert "--compute_device cpu" in caught.value.remedy
    assert containers(podman) == []
    assert podman.podman("volume", "ls", "--quiet") == ""
