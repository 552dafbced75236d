"""What stands before an app, and what is shown to it."""

import pytest

from appapi_host.fronts import Front, front_of
from appapi_host.records import AppRecord, Daemon
from exapp_sdk.protocol.auth import Secret

BASIC = "Basic YXBwX2FwaV9oYXByb3h5X3VzZXI6cGFzcy13b3JkMQ=="
"""`app_api_haproxy_user:pass-word1`."""


def app_on(host: str, *, deploy_id: str = "docker-install", **config: object) -> AppRecord:
    daemon = Daemon("d", "D", deploy_id, "https", host, config)
    return AppRecord("skel", "1.0.0", "Skeleton", daemon, 23000, Secret("12345"))


def test_proxy_with_tls_is_shown_its_password() -> None:
    app = app_on("engine.example:2375", haproxy_password="pass-word1", tls={"ca": "/ca.pem"})
    front = front_of(app, "https://engine.example:23000")
    assert front == Front(BASIC, "/ca.pem")
    assert "YXBw" not in repr(front)


@pytest.mark.parametrize(
    ("app", "url"),
    [
        (app_on("engine.example:2376"), "https://engine.example:23000"),
        (app_on("e:2375", haproxy_password="pass-word1"), "http://127.0.0.1:23000"),
        (app_on("e:2375", haproxy_password="pass-word1"), "https://192.0.2.7:23000"),
        (app_on("e", deploy_id="manual-install", haproxy_password="p"), "https://e:23000"),
    ],
    ids=["no password", "reached directly", "reached at another host", "not deployed by us"],
)
def test_nobody_else_is(app: AppRecord, url: str) -> None:
    assert front_of(app, url) is None


def test_header_for_the_app_travels_under_another_name() -> None:
    front = Front(BASIC)
    assert front.headers([("Accept", "x"), ("Authorization", "Bearer mine")]) == [
        ("Accept", "x"),
        ("X-Original-Authorization", "Bearer mine"),
        ("Authorization", BASIC),
    ]
    assert front.raw_headers([(b"authorization", b"Bearer mine")]) == [
        (b"x-original-authorization", b"Bearer mine"),
        (b"authorization", BASIC.encode()),
    ]
