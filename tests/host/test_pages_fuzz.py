"""Whatever is asked of the pages, by whomever: an answer, and never a failure of the host."""

from typing import Any
from urllib.parse import quote

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from appapi_host.identity import cookie_name
from appapi_host.sessions import request_token
from tests.host.web_stage import raw_request, web_stage

ENTRY = "/apps/app_api/api/v1/ui/top-menu"
FORMS = "/apps/app_api/api/v1/ui/settings"
FORM = {"id": "f", "fields": [{"id": "a", "type": "radio", "options": ["x", 5]}]}
PATHS = ("/", "/login", "/logout", "/settings", "/csrftoken", "/status.php", "/core/js/oc.js")
LINE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="?#"))
FRONT = st.sampled_from(["", "/index.php"])
NAMES = st.sampled_from(["user", "password", "requesttoken", "redirect_url", "form", "field-0"])
PAIRS = st.dictionaries(NAMES, st.sampled_from(["user", "nc_py_api/f", "x", "TOKEN", "/\\x", ""]))


@st.composite
def requests(draw: Any) -> dict[str, Any]:
    embedded = st.builds("/apps/app_api/embedded/{}/{}".format, st.just("nc_py_api") | LINE, LINE)
    path = draw(st.sampled_from(PATHS) | embedded | st.builds("/{}".format, LINE))
    pairs = "&".join(f"{name}={value}" for name, value in draw(PAIRS).items())
    return {
        "method": draw(st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS"])),
        "target": f"{draw(FRONT)}{path}?{draw(LINE | st.just(pairs))}",
        "headers": draw(
            st.lists(
                st.sampled_from(
                    [
                        ("accept", "text/html"),
                        ("authorization", "Basic dXNlcjp1c2Vy"),
                        ("authorization", "Basic \xff"),
                        ("cookie", "SESSION"),
                        ("cookie", "a;=;;b=\xe9"),
                        ("host", "host"),
                        ("origin", "http://host"),
                        ("origin", "http://["),
                        ("sec-fetch-site", "same-origin"),
                    ]
                ),
                max_size=5,
                unique=True,
            )
        ),
        "body": draw(st.binary(max_size=40)) if draw(st.booleans()) else pairs.encode(),
    }


# Few hosts, many requests to each: it is the host that takes time.
@settings(max_examples=40, deadline=None)
@given(st.lists(requests(), min_size=5, max_size=25))
def test_no_request_for_a_page_is_too_strange(asked: list[dict[str, Any]]) -> None:
    anyio.run(_answers, asked)


async def _answers(asked: list[dict[str, Any]]) -> None:
    async with web_stage() as s:
        await s.data("POST", ENTRY, json={"name": "main", "displayName": "Main"})
        await s.data("POST", FORMS, json={"formScheme": FORM})
        user = await s.host.registry.user("admin")
        assert user
        token = await s.host.sessions.begin(user)
        for request in asked:
            headers = [
                (name, value.replace("SESSION", f"{cookie_name(s.host)}={token}"))
                for name, value in request["headers"]
            ]
            body = request["body"].replace(b"TOKEN", quote(request_token(token)).encode())
            answer = await raw_request(s.host, request["method"], request["target"], headers, body)
            assert answer.status < 500
            assert all("\r" not in value and "\n" not in value for _, value in answer.headers)
            assert token not in repr(s.events)
