"""Regular expressions of strangers: what they mean, and that none takes for ever."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appapi_host.patterns import PatternExhausted, is_found, is_valid, starts_with

LONG = "a" * 5000 + "!"


@pytest.mark.parametrize(
    ("pattern", "is_so"),
    [
        (r"^\/?api\/.*", True),
        (r"^/?(?!admin)\w+", True),
        ("[[a]", True),
        (r"^/\p{Lu}\h*+", True),  # PCRE's
        ("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", True),
        ("a{x}", True),
        ("(", False),
        ("a{9999999999}", False),
        ("(?:(?:(?:a{1000}){1000}){1000}){1000}", False),
        ("a{,300}{300}", False),
        ("(?:" * 3000 + "a" + ")" * 3000, False),
        ("a" * 30_000, False),
        (r"(a)\2", False),
        ("(?V1)[a]", False),
    ],
)
def test_pattern_is_one_if_it_can_be_had(pattern: str, is_so: bool) -> None:
    assert is_valid(pattern) is is_so
    assert is_so or not starts_with("aaaa", pattern, ignores_case=False)
    if not is_so:
        with pytest.raises(ValueError, match="no regular expression"):
            is_found("aaaa", pattern)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(a|aa)+$", "(?:a(?R)?b|a)+c", "(?R)*"])
def test_pattern_that_takes_for_ever_is_given_up(pattern: str) -> None:
    with pytest.raises(PatternExhausted, match="took more than"):
        starts_with(LONG, pattern, ignores_case=True)
    with pytest.raises(PatternExhausted):
        is_found(LONG, pattern)


def test_case_and_flags_count_as_asked_for() -> None:
    assert starts_with("/API", "^/api", ignores_case=True)
    assert not starts_with("/API", "^/api", ignores_case=False)
    assert not is_found("a\nB", "^b")
    assert is_found("a\nB", "^b", re.MULTILINE | re.IGNORECASE)


@given(st.text(), st.text())
def test_no_pattern_is_too_strange(pattern: str, text: str) -> None:
    is_so = is_valid(pattern)
    assert starts_with(pattern + text, re.escape(pattern), ignores_case=False)
    if is_so:
        is_found(text, pattern)
