"""What we ask the engine to create, compared with what the real AppAPI asked for.

Nothing here needs an engine.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from appapi_host.deploy.base import Deployment
from appapi_host.deploy.docker.address import Address
from appapi_host.deploy.docker.container import (
    Placement,
    app_url,
    container_name,
    create_body,
    labels_of,
)
from appapi_host.deploy.environment import build_environment
from appapi_host.info_rules import EnvironmentVariable
from appapi_host.info_xml import AppInfo
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.auth import Secret

WIRE = Path(__file__).parents[1] / "wire"
HOST = "0123456789abcdef"

# Where we ask for something else, and why.
MORE_THAN_RECORDED = {
    "Labels": "how we find what we made, and leave alone what we did not",
    "ExposedPorts": "goes with PortBindings",
    "HostConfig.PortBindings": "names of containers mean nothing outside of containers, where we "
    "run, so on networks other than the machine's the app's port is published on loopback",
}


def recorded_bodies() -> list[tuple[str, dict[str, Any]]]:
    """Every recorded body with the name of its container, in order."""
    found = []
    for name, key in (("docker-install.jsonl", "request_body"), ("docker-payloads.jsonl", "body")):
        for line in (WIRE / name).read_text().splitlines():
            row = json.loads(line)
            target = urlsplit(row.get("target", ""))
            if target.path.endswith("/containers/create"):
                (container,) = parse_qs(target.query)["name"]
                found.append((container, json.loads(row[key])))
    return found


RECORDED = recorded_bodies()


def deployment_of(body: dict[str, Any], device: str) -> Deployment:
    """A deployment as the one that led to a recorded body."""
    variables = dict(word.split("=", 1) for word in body["Env"])
    automatic = {"AA_VERSION", "NEXTCLOUD_URL", "COMPUTE_DEVICE", "NVIDIA_VISIBLE_DEVICES"}
    automatic |= {"NVIDIA_DRIVER_CAPABILITIES"}
    declared = {
        name: EnvironmentVariable(name, name, "", value, value)
        for name, value in variables.items()
        if name not in automatic and not name.startswith("APP_")
    }
    daemon = Daemon(
        "docker",
        "",
        "docker-install",
        "http",
        "/var/run/docker.sock",
        {
            "net": body["HostConfig"]["NetworkMode"],
            "nextcloud_url": variables["NEXTCLOUD_URL"],
            "computeDevice": {"id": device},
        },
    )
    app = AppRecord(
        variables["APP_ID"],
        variables["APP_VERSION"],
        variables["APP_DISPLAY_NAME"],
        daemon,
        int(variables["APP_PORT"]),
        Secret(variables["APP_SECRET"]),
    )
    info = AppInfo(app.app_id, app.name, app.version, environment_variables=declared)
    environment = build_environment(
        HostSettings(aa_version=variables["AA_VERSION"]), app, info, storage=Path("/elsewhere")
    )
    return Deployment(app, environment, info)


def built(deployment: Deployment, image: str = "registry/app:1", **placement: Any) -> Any:
    daemon = deployment.app.daemon
    return create_body(
        deployment,
        image,
        labels=labels_of(deployment.app, HOST),
        placement=Placement(Address.of(daemon, {}), **placement),
    )


def flat(body: dict[str, Any]) -> dict[str, Any]:
    """The body with the keys of `HostConfig` beside its own."""
    inner = {f"HostConfig.{name}": value for name, value in body["HostConfig"].items()}
    return {name: value for name, value in body.items() if name != "HostConfig"} | inner


@pytest.mark.parametrize(("container", "recorded"), RECORDED, ids=[name for name, _ in RECORDED])
def test_body_is_the_recorded_one_and_what_we_add_to_it(
    container: str, recorded: dict[str, Any]
) -> None:
    device = next((word for word in ("cuda", "rocm") if word in container), "cpu")
    deployment = deployment_of(recorded, device)
    assert container_name(deployment.app.app_id) == container
    ours, theirs = flat(built(deployment, recorded["Image"])), flat(recorded)
    assert {name: ours.get(name) for name in theirs} == theirs
    added = set(ours) - set(theirs)
    is_on_host = recorded["HostConfig"]["NetworkMode"] == "host"
    assert added == {"Labels"} if is_on_host else set(MORE_THAN_RECORDED)


def test_recordings_hold_every_kind_of_network_and_device() -> None:
    networks = {body["HostConfig"]["NetworkMode"] for _, body in RECORDED}
    assert {"host", "bridge"} < networks
    assert len(networks) >= 3
    keys = {name for _, body in RECORDED for name in body["HostConfig"]}
    assert {"DeviceRequests", "Devices"} <= keys


def daemon_of(host: str = "/run/docker.sock", protocol: str = "http", **config: Any) -> Daemon:
    return Daemon("docker", "", "docker-install", protocol, host, config)


def deployed(daemon: Daemon, **options: Any) -> Deployment:
    app = AppRecord("notes", "1.0.0", "Notes", daemon, 23000, Secret("s" * 20))
    return Deployment(app, {"APP_ID": "notes", "COMPUTE_DEVICE": "CPU"}, **options)


def test_port_is_published_on_loopback_only() -> None:
    body = built(deployed(daemon_of(net="bridge")))
    assert body["ExposedPorts"] == {"23000/tcp": {}}
    bindings = [{"HostIp": "127.0.0.1", "HostPort": "23000"}]
    assert body["HostConfig"]["PortBindings"] == {"23000/tcp": bindings}
    assert "NetworkingConfig" not in body
    body = built(deployed(daemon_of(net="bridge")), has_ipv6=True)
    addresses = [b["HostIp"] for b in body["HostConfig"]["PortBindings"]["23000/tcp"]]
    assert addresses == ["127.0.0.1", "::1"]


def test_port_behind_a_proxy_with_tls_is_published_as_by_appapi() -> None:
    daemon = daemon_of("engine.test:2375", "https", net="bridge", haproxy_password="secret")
    body = built(deployed(daemon))
    assert set(body["ExposedPorts"]) == {"23000/tcp", "23000/udp"}
    for bindings in body["HostConfig"]["PortBindings"].values():
        assert [b["HostIp"] for b in bindings] == ["127.0.0.1", "::1"]


def test_mounts_come_after_the_volume_and_are_read_only_for_ro_alone() -> None:
    mounts = (("/srv/models", "/models", "ro"), ("/srv/cache", "/cache", "rw"))
    body = built(deployed(daemon_of(), mounts=mounts))
    volume, *binds = body["HostConfig"]["Mounts"]
    assert (volume["Type"], volume["Target"]) == ("volume", "/nc_app_notes_data")
    assert [(b["Type"], b["Source"], b["Target"], b["ReadOnly"]) for b in binds] == [
        ("bind", "/srv/models", "/models", True),
        ("bind", "/srv/cache", "/cache", False),
    ]


def test_limits_and_restart_policy_come_from_the_daemon() -> None:
    limits = {"memory": 1 << 30, "nanoCPUs": 0}
    body = built(deployed(daemon_of(resourceLimits=limits, restart_policy="always")))
    assert body["HostConfig"]["Memory"] == 1 << 30
    assert "NanoCPUs" not in body["HostConfig"]
    assert body["HostConfig"]["RestartPolicy"] == {"Name": "always"}
    assert "Memory" not in built(deployed(daemon_of(resourceLimits=[])))["HostConfig"]


def test_podman_is_asked_for_gpus_in_its_own_way() -> None:
    body = built(deployed(daemon_of(computeDevice={"id": "cuda"})), is_podman=True)
    requests = [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}]
    assert body["HostConfig"]["DeviceRequests"] == requests
    assert not any(word.startswith("NVIDIA") for word in body["Env"])


def test_labels_say_which_host_made_it_for_which_app_and_version() -> None:
    assert built(deployed(daemon_of()))["Labels"] == {
        "org.nextcloud.appapi.host": HOST,
        "org.nextcloud.appapi.app": "notes",
        "org.nextcloud.appapi.version": "1.0.0",
    }


@pytest.mark.parametrize(
    ("daemon", "url"),
    [
        (daemon_of(net="host"), "http://localhost:23000"),
        (daemon_of(), "http://localhost:23000"),
        (daemon_of(net="bridge"), "http://127.0.0.1:23000"),
        (daemon_of(net="apps"), "http://127.0.0.1:23000"),
        (daemon_of("127.0.0.1:2376", "https", net="bridge"), "http://127.0.0.1:23000"),
        (daemon_of("engine.test:2376", "https", net="bridge"), "http://engine.test:23000"),
        (daemon_of("[2001:db8::1]:2375", net="bridge"), "http://[2001:db8::1]:23000"),
        (
            daemon_of("proxy.test:2375", "https", net="bridge", haproxy_password="x"),
            "https://proxy.test:23000",
        ),
        (
            daemon_of(net="bridge", additional_options={"OVERRIDE_APP_HOST": "192.0.2.7"}),
            "http://192.0.2.7:23000",
        ),
    ],
)
def test_url_of_an_app_follows_engine_and_network(daemon: Daemon, url: str) -> None:
    app = replace(deployed(daemon).app)
    assert app_url(app, Address.of(daemon, {})) == url


def test_address_takes_certificates_from_the_daemon_or_the_usual_folder() -> None:
    tls = {"ca": "/c/a", "cert": "/c/b", "key": "/c/k"}
    address = Address.of(daemon_of("e:2376", "https", tls=tls), {"DOCKER_CERT_PATH": "/other"})
    assert (address.ca, address.cert, address.key) == ("/c/a", "/c/b", "/c/k")
    address = Address.of(daemon_of("e:2376", "https", tls={"cert_path": "/d"}), {})
    assert (address.ca, address.cert, address.key) == ("/d/ca.pem", "/d/cert.pem", "/d/key.pem")
    address = Address.of(daemon_of("e:2376", "https"), {"DOCKER_CERT_PATH": "/d"})
    assert address.ca == "/d/ca.pem"
    proxied = daemon_of("e:2376", "https", haproxy_password="x")
    address = Address.of(proxied, {"DOCKER_CERT_PATH": "/d"})
    assert (address.ca, address.password) == ("", "x")
    assert "password" not in repr(address)
