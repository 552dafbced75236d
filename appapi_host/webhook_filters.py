"""Whether the filter of a webhook lets something that happened through.

A filter is a query in the manner of MongoDB on the whole payload: `{"user.uid": "bob"}`.

Source: Nextcloud administration manual, Webhook Listeners, Filters; where that is silent, what
Nextcloud's own evaluation does.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from appapi_host.patterns import is_found

__all__ = ["matches"]

_REGULAR_EXPRESSION: Final = re.compile(r"/(.*?)/([a-z]*)", re.DOTALL | re.IGNORECASE)
_BARE_SLASH: Final = re.compile(r"(?<!\\)(\\\\)*/")
_FLAGS: Final = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}

_ABSENT: Final = object()


def matches(query: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    """Whether a payload is what a query asks for; an empty query asks for everything.

    Args:
        query: conditions by path (`event.node.path`) or operator (`$or`); all must hold.
        payload: `event`, `user` and `time`.

    Raises:
        ValueError: the query is malformed, has an operator that does not exist, or a regular
            expression that takes too long.
    """
    return _all(query, payload)


def _all(query: object, payload: object) -> bool:
    if isinstance(query, list):
        return all(_all(each, payload) for each in query)
    if not isinstance(query, Mapping):
        raise ValueError(f"{query!r} is no condition")
    return all(_holds(key, condition, payload) for key, condition in query.items())


def _holds(key: str, condition: object, payload: object) -> bool:
    if key == "$not":
        return not _all(condition, payload)
    if key.startswith("$"):
        if key not in ("$and", "$or", "$nor"):
            raise ValueError(f"there is no operator {key}")
        if not isinstance(condition, list) or not condition:
            raise ValueError(f"{key} needs a list of conditions")
        found = (_all(each, payload) for each in condition)
        if key == "$and":
            return all(found)
        return any(found) is (key == "$or")
    return _all_of(condition, key.split("."), payload)


def _all_of(condition: object, path: list[str], payload: object) -> bool:
    """The conditions on one path: a value to be equal to, or values by operator."""
    if not isinstance(condition, Mapping):
        if isinstance(condition, list):
            raise ValueError("a list is no condition: use $in, $all or $and")
        return _compare("$e", condition, path, payload)
    return all(
        not _all_of(value, path, payload)
        if operator == "$not"
        else _compare(operator, value, path, payload)
        for operator, value in condition.items()
    )


def _compare(operator: str, wanted: object, path: list[str], payload: object) -> bool:
    """One operator on the value at a path; on a list on the way there, any item will do."""
    for depth, name in enumerate(path):
        if isinstance(payload, list) and payload:
            return any(_compare(operator, wanted, path[depth:], item) for item in payload)
        payload = payload.get(name) if isinstance(payload, Mapping) else None
        if payload is None:
            payload = _ABSENT
            break
    if operator not in _OPERATORS:
        raise ValueError(f"there is no operator {operator}")
    return _OPERATORS[operator](payload, wanted)


def _equals(value: object, wanted: object) -> bool:
    if isinstance(value, list):
        return value == wanted if isinstance(wanted, list) else wanted in value
    if isinstance(wanted, str) and (found := _REGULAR_EXPRESSION.fullmatch(wanted)):
        if _BARE_SLASH.search(found[1]):
            raise ValueError(f"{wanted} is taken for a regular expression: escape its slashes")
        flags = re.NOFLAG
        for letter in found[2]:
            flags |= _FLAGS.get(letter, re.NOFLAG)
        return is_found(str(value), found[1], flags)
    return type(value) is type(wanted) and value == wanted


def _list(operator: str, wanted: object) -> list[Any]:
    if not isinstance(wanted, list):
        raise ValueError(f"{operator} needs a list")
    return wanted


def _among(value: object, wanted: object) -> bool:
    """Whether a value, or one of a list of values, is in a list; 1 and "1" are the same here."""
    values = value if isinstance(value, list) else [value]
    texts = {str(each) for each in _list("$in", wanted)}
    return any(str(each) in texts for each in values)


def _contains_all(value: object, wanted: object) -> bool:
    values = value if isinstance(value, list) else [value]
    texts = {str(each) for each in values}
    needed = _list("$all", wanted)
    return bool(needed) and all(str(each) in texts for each in needed)


def _is_remainder(value: object, wanted: object) -> bool:
    match _list("$mod", wanted):
        case [int(divisor), int(remainder)] if divisor:
            return isinstance(value, int) and value % divisor == remainder
    raise ValueError("$mod needs a divisor and a remainder")


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[object, object], bool]:
    def compare(value: object, wanted: object) -> bool:
        try:
            return test(float(value), float(wanted))  # type: ignore[arg-type]  # else it is no number
        except (TypeError, ValueError):
            return isinstance(value, str) and isinstance(wanted, str) and test(value, wanted)

    return compare


def _present(test: Callable[[object, object], bool]) -> Callable[[object, object], bool]:
    """The same test, which a value that is not there fails."""
    return lambda value, wanted: value is not _ABSENT and test(value, wanted)


_OPERATORS: Final[Mapping[str, Callable[[object, object], bool]]] = {
    "$e": _present(_equals),
    "$ne": lambda value, wanted: (
        wanted is not None if value is _ABSENT else not _equals(value, wanted)
    ),
    "$lt": _present(_ordered(lambda value, wanted: bool(value < wanted))),
    "$lte": _present(_ordered(lambda value, wanted: bool(value <= wanted))),
    "$gt": _present(_ordered(lambda value, wanted: bool(value > wanted))),
    "$gte": _present(_ordered(lambda value, wanted: bool(value >= wanted))),
    "$in": _present(_among),
    "$nin": lambda value, wanted: value is _ABSENT or not _among(value, wanted),
    "$all": _present(_contains_all),
    "$exists": lambda value, wanted: bool(wanted) is (value is not _ABSENT),
    "$mod": _present(_is_remainder),
}
