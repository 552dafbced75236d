"""Podman in the place of Docker."""

import json
from typing import Any

import pytest

from appapi_host.testing import TestHost
from tests.docker.podman import PodmanEngine
from tests.docker.reach import docker_daemon, installed, notices

pytestmark = pytest.mark.docker


def containers(podman: PodmanEngine) -> list[Any]:
    return list(json.loads(podman.podman("ps", "--all", "--format", "json")))


@pytest.mark.parametrize("net", ["host", "bridge"])
async def test_app_is_installed_on_podman(host: TestHost, podman: PodmanEngine, net: str) -> None:
    daemon = docker_daemon(host, podman.socket, net=net)
    async with installed(host, daemon) as app:
        (container,) = containers(podman)
        assert container["Names"] == ["nc_app_plain"]
        await app.disable()
        assert [c["State"] for c in containers(podman)] == ["exited"]
        await app.enable()
        assert [c["State"] for c in containers(podman)] == ["running"]
        listens = any(f"listens on {podman.gateway} port" in text for text in notices(host))
        assert listens == (net == "bridge")
    assert containers(podman) == []
    assert podman.podman("volume", "ls", "--quiet") == ""
