"""The order of versions is PHP's."""

from itertools import pairwise

import pytest

from appapi_host.versions import is_newer

ASCENDING = ["zzz", "1.0-dev", "1.0-alpha1", "1.0b2", "1.0RC1", "1.0", "1.0.0", "1.0.1", "1.0pl1"]


@pytest.mark.parametrize(("lower", "higher"), list(pairwise(ASCENDING)))
def test_versions_are_ordered_as_php_orders_them(lower: str, higher: str) -> None:
    assert is_newer(higher, lower)
    assert not is_newer(lower, higher)


@pytest.mark.parametrize(("one", "other"), [("1.9", "1.10"), ("1.2.3", "2.0"), ("0.9", "1")])
def test_numbers_compare_as_numbers(one: str, other: str) -> None:
    assert is_newer(other, one)
    assert not is_newer(one, other)


@pytest.mark.parametrize("same", ["1.0.0", "", "zzz", "1-0+0"])
def test_version_is_not_newer_than_itself(same: str) -> None:
    assert not is_newer(same, same)
