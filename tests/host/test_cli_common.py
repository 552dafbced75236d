"""Where the state is, who holds it, which port."""

import os
import socket
from pathlib import Path

import pytest

from appapi_host.cli.common import (
    base_url,
    default_data_dir,
    held,
    holder,
    listen,
    parse_environment,
    timeouts,
    timeouts_from,
)
from appapi_host.errors import HostError
from exapp_sdk.errors import ConfigError


def test_data_directory_is_the_named_one_or_the_platforms(tmp_path: Path) -> None:
    assert default_data_dir({"APPAPI_HOST_DATA_DIR": str(tmp_path)}) == tmp_path
    assert default_data_dir({"APPAPI_HOST_DATA_DIR": "here"}) == Path.cwd() / "here"
    assert default_data_dir({"APPAPI_HOST_DATA_DIR": " "}).name == "appapi_host"


def test_limits_keep_their_default_unless_given() -> None:
    assert timeouts(heartbeat=None, init=None).heartbeat == 90
    assert timeouts(heartbeat=5, init=6).heartbeat == 5
    assert timeouts(heartbeat=5, init=6).init == 6


def test_limits_can_be_told_by_the_environment() -> None:
    variables = ("APPAPI_HOST_HEARTBEAT_TIMEOUT", "APPAPI_HOST_INIT_TIMEOUT")
    assert timeouts_from({variables[0]: "1.5"}).heartbeat == 1.5
    assert timeouts_from({variables[1]: "9"}).init == 9
    assert timeouts_from({}) == timeouts(heartbeat=None, init=None)
    with pytest.raises(ConfigError) as caught:
        timeouts_from(dict.fromkeys(variables, "soon"))
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://127.0.0.1:80"),
        ("localhost", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("192.168.1.5", "http://192.168.1.5:80"),
    ],
)
def test_url_is_one_that_this_machine_can_use(bind: str, url: str) -> None:
    assert base_url(bind, 80) == url


def test_lock_is_held_by_one_and_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    assert holder(path) is None
    with held(path, what="it is done", remedy="wait"):
        assert holder(path) == os.getpid()
        with (
            pytest.raises(HostError, match=rf"it is done already, by process {os.getpid()}") as no,
            held(path, what="it is done", remedy="wait"),
        ):
            raise AssertionError("held twice")
        assert no.value.remedy == "wait"
    assert holder(path) is None
    with held(path, what="it is done", remedy="wait"):
        path.write_text("")
        assert holder(path) == 0


def test_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(HostError, match=r"the folder .*file cannot be used"),
        held(tmp_path / "file" / "lock", what="x", remedy=""),
    ):
        raise AssertionError("held in a file")


def test_port_that_nobody_asked_for_is_replaced_if_it_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match=f"port {port} on 127.0.0.1 is in use"):
            listen("127.0.0.1", port)
    listener, is_other = listen("127.0.0.1", None)
    with listener:
        again, is_another = listen("127.0.0.1", None)
        again.close()
        assert is_another
        assert (listener.getsockname()[1] == 8080) is not is_other


def test_address_that_is_not_ours_or_no_address_is_refused() -> None:
    for bind in ("192.0.2.1", "no such host"):
        with pytest.raises(HostError, match="no address of this machine"):
            listen(bind, 0)


def test_variables_are_name_and_value() -> None:
    assert parse_environment(("A=1", "B=x=y", "C=")) == {"A": "1", "B": "x=y", "C": ""}
    for wrong in ("A", "=1", "A B=1", "1A=2"):
        with pytest.raises(ValueError, match="is not NAME=VALUE"):
            parse_environment((wrong,))
