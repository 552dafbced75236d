"""Apps that the developer starts, and what an app of any kind is told."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from appapi_host.deploy import BACKENDS, load
from appapi_host.deploy.base import Deployment
from appapi_host.deploy.environment import bind_address, build_environment
from appapi_host.deploy.manual import ManualBackend
from appapi_host.deploy.process import ProcessBackend
from appapi_host.errors import NotFoundError
from appapi_host.events import EventBus
from appapi_host.info_xml import AppInfo, DockerInstall, EnvironmentVariable
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.auth import Secret

SETTINGS = HostSettings(port=8081, aa_version="32.0.0")
INFO = AppInfo("my_app", "My app", "1.0.0", DockerInstall("docker.io", "my_app", "latest"))


def daemon(host: str = "localhost", deploy_id: str = "manual-install", **config: Any) -> Daemon:
    return Daemon("here", "Here", deploy_id, "http", host, config)


def app_on(place: Daemon) -> AppRecord:
    return AppRecord("my_app", "1.0.0", "My app", place, 9031, Secret("s"))


@pytest.mark.parametrize(
    ("host", "override", "expected"),
    [
        ("localhost", None, "http://localhost:9031"),
        ("app.local:8780", None, "http://app.local:9031"),
        ("[::1]:8780", None, "http://[::1]:9031"),
        ("::1", None, "http://[::1]:9031"),
        ("[::1", None, "http://[::1:9031"),
        ("localhost", "192.0.2.7", "http://192.0.2.7:9031"),
        ("localhost", "0.0.0.0", "http://localhost:9031"),
        ("localhost", "::1", "http://localhost:9031"),
        ("localhost", "", "http://localhost:9031"),
    ],
)
def test_a_manual_app_is_reached_at_the_daemons_host(
    host: str, override: str | None, expected: str
) -> None:
    options = {} if override is None else {"OVERRIDE_APP_HOST": override}
    backend = ManualBackend(SETTINGS, EventBus())
    assert backend.url(app_on(daemon(host, additional_options=options))) == expected


async def test_a_manual_backend_leaves_everything_to_the_developer() -> None:
    backend = ManualBackend(SETTINGS, EventBus())
    app = app_on(daemon())
    reports: list[int] = []

    async def report(percent: int) -> None:
        reports.append(percent)

    assert await backend.deploy(Deployment(app, {}), report) == {}
    assert await backend.start(app) == {}
    await backend.stop(app)
    await backend.remove(app, data=True)
    assert [line async for line in backend.output(app)] == []
    assert await backend.last_output(app, lines=5) == []
    with anyio.move_on_after(0.01) as scope:
        await backend.exited(app)
    assert scope.cancelled_caught


def test_short_names_lead_to_backends_with_that_deploy_id() -> None:
    assert {deploy_id: load(deploy_id).deploy_id for deploy_id in BACKENDS} == {
        deploy_id: deploy_id for deploy_id in BACKENDS
    }


def test_a_backend_from_elsewhere_is_named_by_module_and_class() -> None:
    assert load("appapi_host.deploy.process:ProcessBackend") is ProcessBackend


@pytest.mark.parametrize(
    "deploy_id", ["kubernetes-install", "", "no.such.module:Backend", "anyio:Backend", ":x"]
)
def test_an_unknown_backend_is_an_error_that_lists_the_known_ones(deploy_id: str) -> None:
    with pytest.raises(NotFoundError, match="deploy backend") as caught:
        load(deploy_id)
    assert "manual-install, process-install" in caught.value.remedy


def environment(config: Mapping[str, Any], **arguments: Any) -> dict[str, str]:
    app = app_on(daemon(**config))
    return build_environment(SETTINGS, app, arguments.pop("info", INFO), **arguments)


def test_an_app_is_told_who_it_is_in_the_documented_order() -> None:
    told = environment({"nextcloud_url": "http://host/index.php"}, storage=Path("/data"))
    assert list(told.items()) == [
        ("AA_VERSION", "32.0.0"),
        ("APP_SECRET", "s"),
        ("APP_ID", "my_app"),
        ("APP_DISPLAY_NAME", "My app"),
        ("APP_VERSION", "1.0.0"),
        ("APP_HOST", "127.0.0.1"),
        ("APP_PORT", "9031"),
        ("APP_PERSISTENT_STORAGE", "/data"),
        ("NEXTCLOUD_URL", "http://host/index.php"),
        ("COMPUTE_DEVICE", "CPU"),
    ]


def test_without_an_address_of_the_host_its_own_port_is_used() -> None:
    assert environment({})["NEXTCLOUD_URL"] == "http://127.0.0.1:8081"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:8081", "http://172.17.0.1:8081"),
        ("http://localhost:8081/index.php", "http://172.17.0.1:8081/index.php"),
        ("http://127.1.2.3", "http://172.17.0.1"),
        ("http://[::1]:8081", "http://172.17.0.1:8081"),
        ("https://cloud.test", "https://cloud.test"),
        ("http://192.0.2.7:8081", "http://192.0.2.7:8081"),
        ("http://[::", "http://[::"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_gateway_stands_in_for_a_loopback_address_only(url: str, told: str) -> None:
    assert environment({"nextcloud_url": url}, gateway="172.17.0.1")["NEXTCLOUD_URL"] == told
    assert environment({"nextcloud_url": url})["NEXTCLOUD_URL"] == url


def test_a_gateway_may_be_an_address_of_version_6() -> None:
    assert environment({}, gateway="fd00::1")["NEXTCLOUD_URL"] == "http://[fd00::1]:8081"


def test_the_compute_device_and_the_address_to_bind_come_from_the_daemon() -> None:
    told = environment({"computeDevice": {"id": "cuda", "label": "CUDA (NVIDIA)"}}, app_host="::")
    assert told["COMPUTE_DEVICE"] == "CUDA"
    assert told["APP_HOST"] == "::"


def test_only_declared_variables_with_a_value_are_passed_in_their_order() -> None:
    variables = [
        EnvironmentVariable("MODEL", default="small", value="small"),
        EnvironmentVariable("TOKEN"),
        EnvironmentVariable("EMPTY"),
        EnvironmentVariable("ZERO", value="0"),
        EnvironmentVariable("DROPPED", value="x"),
    ]
    info = replace(INFO, environment_variables={item.name: item for item in variables})
    told = environment({}, info=info, overrides={"TOKEN": "abc", "UNDECLARED": "1", "DROPPED": ""})
    assert list(told.items())[10:] == [("MODEL", "small"), ("TOKEN", "abc"), ("ZERO", "0")]


@pytest.mark.parametrize(
    ("deploy_id", "config", "expected"),
    [
        ("process-install", {}, "127.0.0.1"),
        ("docker-install", {"net": "host"}, "127.0.0.1"),
        ("docker-install", {"net": "nextcloud"}, "0.0.0.0"),
        ("docker-install", {"additional_options": {"OVERRIDE_APP_HOST": ""}}, ""),
        ("docker-install", {"additional_options": {"OVERRIDE_APP_HOST": "::"}}, "::"),
        ("docker-install", {"additional_options": []}, "0.0.0.0"),
    ],
)
def test_where_an_app_listens_follows_from_its_network(
    deploy_id: str, config: dict[str, Any], expected: str
) -> None:
    assert bind_address(daemon(deploy_id=deploy_id, **config)) == expected
