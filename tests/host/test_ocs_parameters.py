"""Where parameters come from, and what becomes of them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appapi_host.ocs._parameters import (
    MAX_FIELDS,
    Parameter,
    ParameterError,
    declared_parameters,
    merged,
    parsed_query,
)
from appapi_host.ocs._rendering import render

JSON = "application/json; charset=utf-8"
FORM = "application/x-www-form-urlencoded"
KINDS = [int, float, bool, str, list, dict, object]
JSON_VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def cast(kind: type, value: Any) -> Any:
    return Parameter("x", "x", kind).taken_from({"x": value})


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("abc", 0),
        ("50.7", 50),
        (50.7, 50),
        (-0.5, 0),
        (True, 1),
        ([5], 1),
        ([], 0),
        ({"a": 1}, 1),
        (" 12abc", 12),
        ("-7", -7),
        ("1e3", 1000),
        (".5", 0),
        ("1e999", 0),
        (float("inf"), 0),
        (10**30, 2**63 - 1),
        (str(-(10**30)), -(2**63)),
        ("9" * 5000, 0),
        ("\u0663", 0),
    ],
)
def test_int_is_made_as_php_makes_it(value: Any, number: int) -> None:
    converted = cast(int, value)
    assert converted == number
    assert type(converted) is int


@pytest.mark.parametrize(
    ("kind", "value", "converted"),
    [
        (str, True, "1"),
        (str, False, ""),
        (str, 5, "5"),
        (str, 1.0, "1"),
        (str, 1.5, "1.5"),
        (float, "1.5x", 1.5),
        (float, "x", 0.0),
        (float, [1], 1.0),
        (float, 10**400, float("inf")),
        (bool, "0", False),
        (bool, "", False),
        (bool, "False", False),
        (bool, "no", True),
        (bool, 0, False),
        (bool, [], False),
        (bool, [0], True),
        (list, {"0": "a", "1": "b"}, ["a", "b"]),
        (list, [1], [1]),
        (dict, ["a"], {"0": "a"}),
        (dict, {"a": 1}, {"a": 1}),
        (object, {"a": [1]}, {"a": [1]}),
    ],
)
def test_other_types_are_made_as_php_makes_them(kind: type, value: Any, converted: Any) -> None:
    assert cast(kind, value) == converted


@pytest.mark.parametrize(
    ("kind", "value"), [(str, []), (str, {}), (list, "x"), (list, 1), (dict, "x"), (dict, None)]
)
def test_what_php_cannot_make_is_refused_by_name(kind: type, value: Any) -> None:
    with pytest.raises(ParameterError, match="'x'"):
        cast(kind, value)


@given(st.sampled_from(KINDS), JSON_VALUES)
def test_cast_gives_the_declared_type_or_refuses(kind: type, value: Any) -> None:
    try:
        assert isinstance(cast(kind, value), kind)
    except ParameterError:
        assert kind in (str, list, dict)


def test_handler_declares_its_parameters() -> None:
    async def handler(
        call: Any,
        app_id: str,
        progress: int,
        error: str = "",
        extra: list[str] | None = None,
        value: Any = None,
    ) -> None: ...

    app_id, progress, error, extra, value = declared_parameters(handler)
    assert (value.kind, value.taken_from({"value": [1]})) == (object, [1])
    assert (app_id.name, app_id.wire_name, app_id.kind) == ("app_id", "appId", str)
    assert progress.kind is int
    assert extra.kind is list
    assert app_id.taken_from({"appId": "x"}) == "x"
    assert app_id.taken_from({"app_id": "y", "appId": "x"}) == "y"
    assert error.taken_from({"error": None}) == ""
    assert extra.taken_from({}) is None
    with pytest.raises(ParameterError, match="'appId' is missing"):
        app_id.taken_from({"appId": None})


def test_handler_with_a_parameter_of_no_use_is_refused_where_it_is_written() -> None:
    async def untyped(call: Any, level) -> None: ...  # type: ignore[no-untyped-def]  # the point

    async def odd(call: Any, level: set[int]) -> None: ...

    async def either(call: Any, level: int | str) -> None: ...

    for handler in (untyped, odd, either):
        with pytest.raises(TypeError, match="'level' needs one of the types"):
            declared_parameters(handler)


def test_json_beats_path_which_beats_form_and_query() -> None:
    query = dict.fromkeys("abcd", "query")
    values = merged(
        path={"b": "path", "a": "path"}, query=query, content_type=JSON, body=b'{"a":1}'
    )
    assert values == {"a": 1, "b": "path", "c": "query", "d": "query"}
    values = merged(path={"b": "path"}, query=query, content_type=FORM, body=b"c=form&b=form")
    assert values == {"a": "query", "b": "path", "c": "form", "d": "query"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b"7",
        b"\xff{}",
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 200 + b"]" * 200 + b"}",
    ],
)
def test_malformed_json_is_no_parameters(body: bytes) -> None:
    assert merged(path={}, query={"q": "1"}, content_type=JSON, body=body) == {"q": "1"}


def test_whole_surrogate_pairs_are_text() -> None:
    body = json.dumps({"a": "😀"}).encode()
    assert merged(path={}, query={}, content_type=JSON, body=body) == {"a": "😀"}


def test_deep_json_is_read_up_to_a_limit_that_can_be_written_again() -> None:
    body = b'{"a":' + b"[" * 198 + b"]" * 198 + b', "b":' + b"[[],[]]" + b"}"
    values = merged(path={}, query={}, content_type=JSON, body=body)
    assert values["b"] == [[], []]
    assert b"[[[[" in render(1, 200, "", values, format_name="json").body
    assert b"<element>" in render(1, 200, "", values).body


def test_body_of_another_type_is_not_looked_at() -> None:
    assert merged(path={}, query={}, content_type="text/plain", body=b'{"a": 1}') == {}


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        (b"a=1&a=2", {"a": "2"}),
        (b"a[]=1&a[]=2", {"a": ["1", "2"]}),
        (b"a[b]=1&a[c][]=2", {"a": {"b": "1", "c": ["2"]}}),
        (b"a%5B0%5D=x", {"a": ["x"]}),
        (b"a[5]=x&a[]=y", {"a": {"5": "x", "6": "y"}}),
        (b"a[1]=x&a[]=y", {"a": {"1": "x", "2": "y"}}),
        (b"a=1&a[b]=2", {"a": {"b": "2"}}),
        (b"[a]=1", {"[a]": "1"}),
        (b"e=&f&g=%C3%A9+x", {"e": "", "f": "", "g": "é x"}),
        (b"\xff=%ff", {"\ufffd": "\ufffd"}),
    ],
)
def test_query_is_read_as_php_reads_it(raw: bytes, values: dict[str, Any]) -> None:
    assert parsed_query(raw) == values


@given(st.binary())
def test_no_query_is_too_strange(raw: bytes) -> None:
    assert isinstance(parsed_query(raw), dict)


def test_query_is_read_up_to_a_limit() -> None:
    raw = b"&".join(b"a[]=%d" % index for index in range(3 * MAX_FIELDS))
    assert len(parsed_query(raw)["a"]) == MAX_FIELDS
    assert parsed_query(b"a" + b"[b]" * 5000 + b"=1")
