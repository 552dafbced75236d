"""What is known of a daemon: how its config is made, and what the real service would refuse."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from appapi_host.errors import HostError
from appapi_host.records import Daemon

__all__ = [
    "COMPUTE_DEVICES",
    "build_daemon",
    "certificates_in",
    "daemon_problem",
    "mappings_of",
    "parse_size",
]

COMPUTE_DEVICES: Final = {"cpu": "CPU", "cuda": "CUDA (NVIDIA)", "rocm": "ROCm (AMD)"}
"""Id → label, as AppAPI stores them."""

_NOT_A_HOST: Final = re.compile(r"(https?|tcp|udp|ssh)://")


_CERTIFICATES: Final = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
"""The layout of `DOCKER_CERT_PATH`."""

_SIZE: Final = re.compile(r"([0-9]+)([bkmg]?)b?", re.IGNORECASE)
_UNITS: Final = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def build_daemon(
    name: str,
    deploy_id: str,
    *,
    nextcloud_url: str,
    host: str = "127.0.0.1",
    display_name: str = "",
    protocol: str = "http",
    net: str = "host",
    compute_device: str = "cpu",
    haproxy_password: str = "",
    tls: Mapping[str, str | Path] | None = None,
    memory: int = 0,
    cpus: float = 0.0,
    name_suffix: bool = True,
    harp: Mapping[str, Any] | None = None,
) -> Daemon:
    """A daemon as AppAPI would store it.

    Args:
        name: unique, at most 64 characters.
        deploy_id: `process-install`, `docker-install` or `manual-install`.
        nextcloud_url: where its apps reach the host.
        host: where the engine or the apps are: a host name, `host:port`, or the path of a socket.
        display_name: for people; the name if not given.
        protocol: `http` or `https`.
        net: network of the engine for the apps.
        compute_device: `cpu`, `cuda` or `rocm`.
        haproxy_password: of a socket proxy, or the key shared with HaRP.
        tls: files of an engine with TLS: `ca`, `cert` and `key`; see `certificates_in()`.
        memory: how many bytes each of its apps may use; 0 for any.
        cpus: how many processors each may use, for instance 1.5; 0 for all.
        name_suffix: try `image-cpu:tag` too, as AppAPI did until Nextcloud 31.
        harp: `frp_address`, `docker_socket_port`, `exapp_direct` of a HaRP.

    Raises:
        HostError: it could not be registered.
    """
    config: dict[str, Any] = {
        "net": net,
        "nextcloud_url": nextcloud_url.rstrip("/"),
        "haproxy_password": haproxy_password,
        "computeDevice": {"id": compute_device, "label": COMPUTE_DEVICES.get(compute_device, "")},
        "harp": dict(harp) if harp else None,
    }
    if tls:
        config["tls"] = {
            part: str(Path(path).expanduser().absolute()) for part, path in tls.items()
        }
    limits = {"memory": memory, "nanoCPUs": round(cpus * 1e9)}
    if limits := {limit: value for limit, value in limits.items() if value}:
        config["resourceLimits"] = limits
    if not name_suffix:
        config["name_suffix"] = False
    daemon = Daemon(name, display_name or name, deploy_id, protocol, host, config)
    if problem := daemon_problem(daemon):
        raise HostError(problem)
    return daemon


def daemon_problem(daemon: Daemon) -> str:
    """Why the real service would refuse a daemon, empty if it would not."""
    if daemon.protocol not in ("http", "https"):
        return "The protocol must be `http` or `https`."
    if daemon.deploy_config["computeDevice"]["id"] not in COMPUTE_DEVICES:
        return "Invalid compute device value."
    if not daemon.name or len(daemon.name) > 64 or not daemon.name.isprintable():
        return "The name must have 1 to 64 characters and none that cannot be printed."
    harp: Mapping[str, Any] = daemon.deploy_config["harp"] or {}
    for value in (daemon.host, harp.get("frp_address", "")):
        if _NOT_A_HOST.match(value):
            return f"{value} must be a host, host:port or the path of a socket, without a scheme."
    return ""


def certificates_in(folder: Path) -> dict[str, str | Path]:
    """The files of a folder in the layout of `DOCKER_CERT_PATH`, for `build_daemon()`.

    Raises:
        HostError: there is none of them.
    """
    paths = {part: folder.expanduser() / name for part, name in _CERTIFICATES.items()}
    found: dict[str, str | Path] = {part: path for part, path in paths.items() if path.exists()}
    if not found:
        raise HostError(
            f"there are no certificates in {folder}",
            remedy="the folder holds ca.pem, the engine's authority, and cert.pem and key.pem, "
            "what it shall be shown",
        )
    return found


def parse_size(text: str) -> int:
    """Bytes of a text like `512m`, as the docker command reads it.

    Raises:
        ValueError: it is none.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size: give bytes, or a number with k, m or g")
    return int(found[1]) * _UNITS[found[2].lower()]


def mappings_of(daemon: Daemon) -> list[dict[str, str]]:
    """The registry mappings `{"from": …, "to": …}` of a daemon, as AppAPI stores them."""
    found = daemon.deploy_config.get("registries")
    return [dict(pair) for pair in found] if isinstance(found, list) else []
