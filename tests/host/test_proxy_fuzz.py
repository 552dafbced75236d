"""Whatever is asked of an app through the proxy: an answer, our signature, and no way around."""

from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from appapi_host.asgi import create_app
from appapi_host.records import Route
from exapp_sdk.protocol.lifecycle import LIFECYCLE_PATHS
from tests.host.proxy_stage import BASE, PUBLIC, RECORD, SHORT
from tests.host.web_stage import EchoApp, raw_request, web_stage

OPEN = replace(RECORD, routes=(*RECORD.routes, Route(".*", "GET,POST", PUBLIC)))
BASES = (BASE, SHORT, "/exapps/nc_py_api", "/exapps/NC_PY_API", "/exapps/", f"{BASE}%2f")
SEGMENTS = (
    *("..", ".", "%2e", "%2E%2e", "%252e", "%5c", "\\", "%2f", "", ";", ";a=b", "..;", "%3b"),
    *("init", "INIT", "%69nit", "enabled", "heartbeat", "public", "user", "admin", "x.html"),
    *("%", "%zz", "%00", "%ff", "%3f", "%23", "é", "\x7f", "?a=../init", "a" * 300),
)
HEADERS = {
    "cookie": ("a;=;;b=\xe9", "exapp_host_x=1"),
    "authorization": ("Basic ", "Basic !", "Basic OjEyMzQ1", "Basic dXNlcjp1c2Vy", "Bearer x"),
    "connection": ("close, host, x-origin-ip, authorization-app-api", ";,,"),
    "authorization-app-api": ("OjEyMzQ1", ""),
    "authorization_app-api": ("x",),
    "ex_app_id": ("x",),
    "x-origin-ip": ("10.0.0.1",),
    "origin": ("null", "http://[::1", "http://host"),
    "content-length": ("-1", "x", "10"),
    "transfer-encoding": ("chunked", "x"),
    "host": ("", "host", "\xe9"),
    "upgrade": ("websocket",),
}
PAIRS = st.sampled_from([(name, value) for name, values in HEADERS.items() for value in values])


@st.composite
def requests(draw: Any) -> tuple[str, str, list[tuple[str, str]], bytes]:
    parts = draw(st.lists(st.sampled_from(SEGMENTS) | st.just("/"), max_size=8))
    target = draw(st.sampled_from(BASES)) + "/" * draw(st.booleans()) + "".join(parts)
    method = draw(st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "X"]))
    return method, target, draw(st.lists(PAIRS, max_size=4)), draw(st.sampled_from([b"", b"0\r\n"]))


# Few hosts, many requests to each: it is the host that takes time.
@settings(max_examples=8, deadline=None)
@given(st.lists(requests(), min_size=50, max_size=80))
def test_no_request_is_too_strange_and_none_leads_around_the_rules(asked: list[Any]) -> None:
    anyio.run(_answers, asked)


async def _answers(asked: list[Any]) -> None:
    app = EchoApp()
    async with web_stage(app, record=OPEN) as s:
        application = create_app(s.host)
        for request in asked:
            answer = await raw_request(s.host, *request, application=application)
            assert answer.status < 500, request
            assert "12345" not in repr(s.exchanges()[-1:]), request
        for received in app.received:
            names = [name for name, _ in received["headers"]]
            assert names.count("authorization-app-api") == 1
            assert not [name for name in names if "_" in name]
            path = received["path"]
            for _ in range(5):
                path = unquote(path)
            parts = [part.partition(";")[0] for part in path.replace("\\", "/").split("/")]
            assert not {".", ".."} & set(parts), received["path"]
            assert "/" + "/".join(filter(None, parts)).lower() not in LIFECYCLE_PATHS
