"""The networks of an engine, as far as apps need them to find the machine that it runs on."""

import ipaddress
from typing import Any, Final

from appapi_host.deploy.docker.engine import Engine
from appapi_host.deploy.docker.faults import EngineError
from appapi_host.deploy.environment import is_loopback_url

__all__ = ["check_way_back", "find_gateway"]

_WITHOUT_GATEWAY: Final = ("host", "none")
_BY_CONTAINER: Final = "container:"


async def find_gateway(engine: Engine, name: str) -> str:
    """Where containers of a network find the machine of the engine.

    Args:
        engine: asked about the network.
        name: the daemon's `net`.

    Returns:
        An address of this machine; empty if the network is none that has one: that of the machine
        itself, that of an engine elsewhere, or one that puts containers beside the machine.

    Raises:
        EngineError: the network does not exist, the engine cannot be reached, or a socket proxy
            does not let us look.
    """
    if not name or name in _WITHOUT_GATEWAY or name.startswith(_BY_CONTAINER):
        return ""
    if not engine.address.is_local:
        return ""
    try:
        network = await engine.network(name)
    except EngineError as error:
        if error.kind != "forbidden":
            raise
        raise EngineError(
            "network-hidden",
            f"the socket proxy at {engine.shown} does not tell where containers of the network "
            f"{name} find this machine",
            remedy="register the daemon with a URL of the host that is valid in these containers "
            "(`docker network inspect` shows the gateway; start the host with --bind), or with "
            "--net host",
            status=error.status,
        ) from error
    return _gateway(network)


def check_way_back(engine: Engine, url: str) -> None:
    """See whether apps on an engine can make anything of the host's URL.

    Raises:
        EngineError: it means another machine to them. An installation is not refused for that,
            because a tunnel may lead back.
    """
    if is_loopback_url(url) and not engine.address.is_local:
        raise EngineError(
            "way-back",
            f"{url} is where apps on {engine.shown} shall find the host, but there it means that "
            "machine itself",
            remedy="register the daemon with a URL that is valid there, and start the host with a "
            "--bind that fits, unless a tunnel leads back",
        )


def _gateway(network: dict[str, Any]) -> str:
    """The first IPv4 gateway of a bridge, else its first of all."""
    if network.get("Driver") != "bridge":
        return ""
    found = []
    for config in (network.get("IPAM") or {}).get("Config") or ():
        address = config.get("Gateway", "").partition("/")[0]
        if not address and config.get("Subnet"):
            # Some engines do not say it before the first container is on their default bridge.
            address = str(next(ipaddress.ip_network(config["Subnet"]).hosts()))
        if address:
            found.append(address)
    return min(found, key=lambda address: ":" in address, default="")
