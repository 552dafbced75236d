"""The envelope: codes, JSON and XML, byte for byte."""

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appapi_host.ocs._rendering import chosen_format, render

META_V1 = (
    '{"ocs":{"meta":{"status":"ok","statuscode":100,"message":"OK",'
    '"totalitems":"","itemsperpage":""},"data":%s}}'
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([], "[]"),
        ({}, "[]"),
        ({"a": {"b": {}}}, '{"a":{"b":[]}}'),
        (None, "null"),
        (1, "1"),
        (1.0, "1"),
        (1.5, "1.5"),
        (float("inf"), "null"),
        (True, "true"),
        ("a/b", '"a\\/b"'),
        ("<b>", '"\\u003Cb\\u003E"'),
        ("é😀", '"\\u00e9\\ud83d\\ude00"'),
        ('\\"\n', '"\\\\\\"\\n"'),
        ((), "[]"),
    ],
)
def test_json_is_written_as_php_writes_it(data: Any, text: str) -> None:
    rendered = render(1, 200, "", data, format_name="json")
    assert rendered.body.decode() == META_V1 % text
    assert rendered.content_type == "application/json; charset=utf-8"


def test_v2_leaves_the_counters_out() -> None:
    rendered = render(2, 404, "No such Script", [], format_name="json")
    assert rendered.status == 404
    assert rendered.body.decode() == (
        '{"ocs":{"meta":{"status":"failure","statuscode":404,"message":"No such Script"},'
        '"data":[]}}'
    )


@pytest.mark.parametrize(
    ("code", "v1", "v2"),
    [
        (200, 200, 200),
        (201, 200, 201),
        (400, 200, 400),
        (403, 200, 403),
        (404, 200, 404),
        (429, 200, 429),
        (503, 503, 503),
        (996, 200, 500),
        (997, 401, 401),
        (998, 200, 404),
        (999, 200, 500),
        (101, 200, 400),
        (700, 200, 400),
    ],
)
def test_http_status_follows_the_code(code: int, v1: int, v2: int) -> None:
    assert render(1, code, "", []).status == v1
    assert render(2, code, "", []).status == v2


def test_other_success_is_a_failure_in_v1_only() -> None:
    assert b'"status":"failure","statuscode":201,"message":""' in (
        render(1, 201, "", [], format_name="json").body
    )
    assert b'"status":"ok","statuscode":201,"message":"OK"' in (
        render(2, 201, "", [], format_name="json").body
    )
    assert render(2, 204, "", None).body == b""
    assert render(1, 204, "", None, format_name="json").body.endswith(b'"data":null}}')


def test_xml_is_written_as_php_writes_it() -> None:
    data = {
        "list": [1, "two"],
        "none": None,
        "empty": "",
        "no": False,
        "yes": True,
        "object": {},
        "text": 'a & <b> "c"\r',
        "1 strange key": "\x00kept",
    }
    assert render(1, 200, "", data).body.decode() == (
        '<?xml version="1.0"?>\n'
        "<ocs>\n"
        " <meta>\n"
        "  <status>ok</status>\n"
        "  <statuscode>100</statuscode>\n"
        "  <message>OK</message>\n"
        "  <totalitems></totalitems>\n"
        "  <itemsperpage></itemsperpage>\n"
        " </meta>\n"
        " <data>\n"
        "  <list>\n"
        "   <element>1</element>\n"
        "   <element>two</element>\n"
        "  </list>\n"
        "  <none/>\n"
        "  <empty></empty>\n"
        "  <no></no>\n"
        "  <yes>1</yes>\n"
        "  <object/>\n"
        "  <text>a &amp; &lt;b&gt; &quot;c&quot;&#13;</text>\n"
        "  <element>kept</element>\n"
        " </data>\n"
        "</ocs>\n"
    )
    assert b" <data/>\n" in render(1, 200, "", []).body
    assert b" <data>1</data>\n" in render(1, 200, "", 1).body


def test_xml_that_no_route_made_has_another_content_type() -> None:
    assert render(1, 200, "", []).content_type == "application/xml; charset=utf-8"
    assert render(1, 998, "", [], is_early=True).content_type == "text/xml; charset=UTF-8"


@given(JSON_VALUES)
def test_every_value_gives_well_formed_answers(data: Any) -> None:
    ElementTree.fromstring(render(2, 200, "", data).body)
    assert render(2, 200, "", data, format_name="json").body.isascii()


@pytest.mark.parametrize(
    ("requested", "accept", "chosen"),
    [
        ("json", "application/xml", "json"),
        (None, "application/json", "json"),
        (None, "text/html, Application/JSON; q=0.1, application/xml", "json"),
        (None, "text/html", "xml"),
        (None, "", "xml"),
        (None, "application", "xml"),
        (None, "application/foo", "foo"),
        ("foo", "application/json", "foo"),
        (["json"], "application/json", ""),
    ],
)
def test_parameter_beats_header_in_choosing_the_format(
    requested: object, accept: str, chosen: str
) -> None:
    assert chosen_format(requested, accept) == chosen
