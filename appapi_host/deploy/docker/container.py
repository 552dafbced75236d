"""What we ask an engine to create for an app: names, labels and the body of the request.

Pure functions, so that the body can be compared with a recorded one. Beyond what AppAPI sends there
are labels, by which we find what we made, and on networks other than `host` the app's port on
loopback: we run outside of containers, where their names mean nothing.

Source: AppAPI 32.0.0 and 35.0.0-dev, as recorded; Docker Engine API, ContainerCreate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from appapi_host.deploy.base import Deployment
from appapi_host.deploy.docker.address import Address
from appapi_host.deploy.environment import reachable_override
from appapi_host.records import AppRecord, Daemon

__all__ = [
    "APP_LABEL",
    "HOST_LABEL",
    "VERSION_LABEL",
    "Placement",
    "app_url",
    "body_of",
    "container_name",
    "create_body",
    "earlier_body",
    "labels_of",
    "network_of",
    "previous_name",
    "storage_path",
    "volume_name",
]

HOST_LABEL: Final = "org.nextcloud.appapi.host"
APP_LABEL: Final = "org.nextcloud.appapi.app"
VERSION_LABEL: Final = "org.nextcloud.appapi.version"

DEFAULT_RESTART_POLICY: Final = "unless-stopped"

_GPU_VARIABLES: Final = {
    "NVIDIA_VISIBLE_DEVICES": "all",
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
}
_ROCM_DEVICES: Final = ("/dev/kfd", "/dev/dri")

_KEPT: Final = (
    *("NetworkMode", "Mounts", "RestartPolicy", "PortBindings"),
    *("DeviceRequests", "Devices", "Memory", "NanoCpus"),
)
"""What we set of a container's `HostConfig`, in the words of an inspection."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What must be known of an engine to place a container on it.

    Args:
        address: how the engine is reached.
        is_podman: GPUs are asked for in another way there.
        has_ipv6: whether a port can be published on `::1`.
    """

    address: Address
    is_podman: bool = False
    has_ipv6: bool = False


def container_name(app_id: str) -> str:
    """Name of an app's container, the same as AppAPI's."""
    return f"nc_app_{app_id}"


def previous_name(app_id: str) -> str:
    """Name of a container that was set aside during an update."""
    return f"{container_name(app_id)}_previous"


def volume_name(app_id: str) -> str:
    """Name of the volume with an app's data."""
    return f"nc_app_{app_id}_data"


def storage_path(app_id: str) -> str:
    """Where the volume is mounted: `APP_PERSISTENT_STORAGE`."""
    return f"/{volume_name(app_id)}"


def network_of(daemon: Daemon) -> str:
    """The daemon's network, for instance `host` or `bridge`."""
    return str(daemon.deploy_config.get("net") or "host")


def labels_of(app: AppRecord, instance: str) -> dict[str, str]:
    """What marks everything that a host made for an app."""
    return {HOST_LABEL: instance, APP_LABEL: app.app_id, VERSION_LABEL: app.version}


def create_body(
    deployment: Deployment, image: str, *, labels: Mapping[str, str], placement: Placement
) -> dict[str, Any]:
    """The body of `POST /containers/create`.

    Args:
        deployment: app, environment and mounts.
        image: reference of the image.
        labels: of the container.
        placement: about the engine.
    """
    app = deployment.app
    daemon = app.daemon
    network = network_of(daemon)
    host_config: dict[str, Any] = {
        "NetworkMode": network,
        "Mounts": _mounts(deployment),
        "RestartPolicy": {
            "Name": str(daemon.deploy_config.get("restart_policy") or DEFAULT_RESTART_POLICY)
        },
        **_devices(daemon, placement),
        **_limits(daemon),
    }
    body: dict[str, Any] = {
        "Image": image,
        "Hostname": app.app_id,
        "Labels": dict(labels),
        "HostConfig": host_config,
        "Env": [f"{name}={value}" for name, value in _environment(deployment, placement).items()],
    }
    if network != "host":
        ports = [f"{app.port}/tcp"]
        if _is_fronted(daemon, placement.address):
            ports.append(f"{app.port}/udp")
        bindings = [
            {"HostIp": address, "HostPort": str(app.port)}
            for address in _published_on(daemon, placement)
        ]
        body["ExposedPorts"] = {port: {} for port in ports}
        host_config["PortBindings"] = dict.fromkeys(ports, bindings)
    if network not in ("host", "bridge"):
        body["NetworkingConfig"] = {"EndpointsConfig": {network: {"Aliases": [app.app_id]}}}
    return body


def body_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """The body for a container like one that is there.

    Args:
        found: what the engine says about that.
    """
    config = found["Config"]
    wanted = ("Image", "Hostname", "Labels", "Env", "ExposedPorts")
    body = {name: config[name] for name in wanted if config.get(name)}
    # Not all of it: a socket proxy refuses what so much as names privileges.
    host_config = found["HostConfig"]
    body["HostConfig"] = {name: host_config[name] for name in _KEPT if host_config.get(name)}
    networks = (found.get("NetworkSettings") or {}).get("Networks") or {}
    aliases = {
        name: {"Aliases": network["Aliases"]}
        for name, network in networks.items()
        if network.get("Aliases")
    }
    if aliases:
        body["NetworkingConfig"] = {"EndpointsConfig": aliases}
    return body


def earlier_body(found: Mapping[str, Any], image: str, version: str) -> dict[str, Any]:
    """The body for a container of another version than the one that is there.

    Args:
        found: what the engine says about that.
        image: of the other version.
        version: the other version.
    """
    body = body_of(found)
    body["Image"] = image
    body["Labels"] = {**body["Labels"], VERSION_LABEL: version}
    body["Env"] = [
        f"APP_VERSION={version}" if pair.startswith("APP_VERSION=") else pair
        for pair in body["Env"]
    ]
    return body


def app_url(app: AppRecord, address: Address) -> str:
    """Where this machine reaches an app, without a trailing slash."""
    daemon = app.daemon
    if override := reachable_override(daemon):
        return f"{daemon.protocol}://{override}:{app.port}"
    if not address.is_local:
        protocol = "https" if _is_fronted(daemon, address) else "http"
        name = urlsplit(address.url).hostname or ""
        return f"{protocol}://{f'[{name}]' if ':' in name else name}:{app.port}"
    name = "localhost" if network_of(daemon) == "host" else "127.0.0.1"
    return f"http://{name}:{app.port}"


def _is_fronted(daemon: Daemon, address: Address) -> bool:
    """Whether apps are reached through the socket proxy, which speaks TLS for them."""
    return daemon.protocol == "https" and bool(address.password) and not address.cert


def _published_on(daemon: Daemon, placement: Placement) -> list[str]:
    """Addresses of the engine's machine on which the port is published."""
    if _is_fronted(daemon, placement.address):
        return ["127.0.0.1", "::1"]
    if not placement.address.is_local:
        return ["0.0.0.0"]  # only so do we reach it; the app answers nobody who does not sign
    return ["127.0.0.1", "::1"] if placement.has_ipv6 else ["127.0.0.1"]


def _device(daemon: Daemon) -> str:
    device = daemon.deploy_config.get("computeDevice")
    return str(device.get("id") or "cpu") if isinstance(device, Mapping) else "cpu"


def _environment(deployment: Deployment, placement: Placement) -> dict[str, str]:
    """The deployment's variables in order; the storage is where we mount the volume."""
    app = deployment.app
    variables: dict[str, str] = {}
    for name, value in deployment.environment.items():
        if name == "APP_PERSISTENT_STORAGE":
            value = storage_path(app.app_id)
        variables[name] = value
        if name == "COMPUTE_DEVICE" and _device(app.daemon) == "cuda" and not placement.is_podman:
            variables |= _GPU_VARIABLES
    return variables


def _mounts(deployment: Deployment) -> list[dict[str, Any]]:
    app_id = deployment.app.app_id
    data = {
        "Type": "volume",
        "Source": volume_name(app_id),
        "Target": storage_path(app_id),
        "ReadOnly": False,
    }
    binds = [
        {"Source": source, "Target": target, "Type": "bind", "ReadOnly": mode == "ro"}
        for source, target, mode in deployment.mounts
    ]
    return [data, *binds]


def _devices(daemon: Daemon, placement: Placement) -> dict[str, Any]:
    device = _device(daemon)
    if device == "rocm":
        return {
            "Devices": [
                {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"}
                for path in _ROCM_DEVICES
            ]
        }
    if device != "cuda":
        return {}
    if placement.is_podman:
        return {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}]}
    return {
        "DeviceRequests": [
            {"Driver": "nvidia", "Count": -1, "Capabilities": [["compute", "utility"]]}
        ]
    }


def _limits(daemon: Daemon) -> dict[str, int]:
    limits = daemon.deploy_config.get("resourceLimits")
    if not isinstance(limits, Mapping):
        return {}
    wanted = {"Memory": limits.get("memory"), "NanoCPUs": limits.get("nanoCPUs")}
    return {name: int(value) for name, value in wanted.items() if value and int(value) > 0}
