"""What an engine says about a network, and where that leads its containers."""

from typing import Any

import pytest

from appapi_host.deploy.docker.address import Address
from appapi_host.deploy.docker.engine import Engine
from appapi_host.deploy.docker.networks import _gateway, check_way_back, find_gateway
from appapi_host.errors import HostError

HERE = Engine(Address("unix:///nowhere/engine.sock", "/nowhere/engine.sock"))
ELSEWHERE = Engine(Address("https://engine.test:2376", "https://engine.test:2376"))


@pytest.mark.parametrize(
    ("configs", "address"),
    [
        ([{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}], "172.17.0.1"),
        ([{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1/16"}], "172.17.0.1"),
        ([{"Subnet": "172.17.0.0/16"}], "172.17.0.1"),
        ([{"Gateway": "fd00::1"}, {"Gateway": "10.0.0.1"}], "10.0.0.1"),
        ([{"Subnet": "fd00::/64"}], "fd00::1"),
        ([{}], ""),
        ([], ""),
        (None, ""),
    ],
)
def test_gateway_is_the_first_one_of_version_4(configs: Any, address: str) -> None:
    assert _gateway({"Driver": "bridge", "IPAM": {"Config": configs}}) == address


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan", "overlay", "host", "null"])
def test_other_kinds_of_networks_have_no_gateway_on_this_machine(driver: str) -> None:
    ipam = {"Config": [{"Subnet": "192.0.2.0/24", "Gateway": "192.0.2.1"}]}
    assert _gateway({"Driver": driver, "IPAM": ipam}) == ""


@pytest.mark.parametrize("name", ["host", "none", "", "container:other"])
async def test_networks_without_addresses_of_their_own_are_not_asked_about(name: str) -> None:
    assert await find_gateway(HERE, name) == ""


async def test_gateway_on_another_machine_is_not_ours() -> None:
    assert await find_gateway(ELSEWHERE, "bridge") == ""


def test_loopback_leads_back_from_this_machine_only() -> None:
    check_way_back(HERE, "http://127.0.0.1:8080")
    check_way_back(ELSEWHERE, "http://192.0.2.7:8080")
    with pytest.raises(HostError, match="means that machine itself"):
        check_way_back(ELSEWHERE, "http://localhost:8080")
