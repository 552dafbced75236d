"""Where the parameters of an OCS call come from, and how PHP turns them into the declared types.

Source: Nextcloud's request dispatcher; casts measured on Nextcloud 32.
"""

import inspect
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

__all__ = ["Parameter", "ParameterError", "declared_parameters", "merged", "parsed_query"]

MAX_FIELDS: Final = 1000
"""Fields of a query or form that are read; PHP's `max_input_vars`."""

MAX_NESTING: Final = 64
"""Depth of `name[a][b]...` that is read; PHP's `max_input_nesting_level`."""

MAX_DEPTH: Final = 200
"""Nesting of JSON that is read. PHP reads 512; what is read must also be written again, and that is
where Python's own limit for recursion would end a request."""

_INT_MAX: Final = 2**63 - 1
_INT_MIN: Final = -(2**63)
_NUMBER: Final = re.compile(
    r"[ \t\n\r\v\f]*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?)", re.IGNORECASE
)
_SUBKEY: Final = re.compile(r"\[([^\]]*)\]")
_REQUIRED: Final = object()


class ParameterError(Exception):
    """A parameter is missing, or cannot be what the endpoint wants."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an endpoint.

    Args:
        name: name in Python.
        wire_name: the same in camel case, taken where the first is not there.
        kind: `int`, `float`, `bool`, `str`, `list`, `dict` or `object` for anything.
        default: value when it is not given, unless it is required.
    """

    name: str
    wire_name: str
    kind: type
    default: Any = _REQUIRED

    @property
    def is_required(self) -> bool:
        """Whether a call without it is refused."""
        return self.default is _REQUIRED

    def taken_from(self, given: Mapping[str, Any]) -> Any:
        """The value in its declared type.

        Raises:
            ParameterError: missing or null although required, or not convertible.
        """
        value = given.get(self.name)
        if value is None:
            value = given.get(self.wire_name)
        if value is None:
            if self.default is _REQUIRED:
                raise ParameterError(f"the required parameter {self.wire_name!r} is missing")
            return self.default
        if self.kind is object:
            return value
        converted = _CASTS[self.kind](value)
        if converted is None:
            raise ParameterError(
                f"the parameter {self.wire_name!r} must be of type {self.kind.__name__}, "
                f"{type(value).__name__} given"
            )
        return converted


def declared_parameters(handler: Callable[..., Any]) -> tuple[Parameter, ...]:
    """The parameters of a handler after its first, which takes the call.

    Raises:
        TypeError: one has no type, or one that cannot come from a request.
    """
    hints = get_type_hints(handler)
    found = []
    for declared in list(inspect.signature(handler).parameters.values())[1:]:
        kind, is_optional = _kind(hints.get(declared.name))
        if kind is None:
            raise TypeError(
                f"{handler.__qualname__}: parameter {declared.name!r} needs one of the types "
                "int, float, bool, str, list, dict or Any"
            )
        default = declared.default
        if default is inspect.Parameter.empty:
            default = None if is_optional else _REQUIRED
        first, *rest = declared.name.split("_")
        wire_name = first + "".join(word.title() for word in rest)
        found.append(Parameter(declared.name, wire_name, kind, default))
    return tuple(found)


def _kind(annotation: Any) -> tuple[type | None, bool]:
    if annotation is Any:
        return object, False
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        kind = _kind(members[0])[0] if len(members) == 1 else None
        return kind, True
    origin = get_origin(annotation) or annotation
    return (origin if origin in _CASTS else None), False


def merged(
    *, path: Mapping[str, str], query: Mapping[str, Any], content_type: str, body: bytes
) -> dict[str, Any]:
    """All parameters of a request: the JSON body beats the path, which beats form and query.

    Args:
        path: placeholders of the route.
        query: what `parsed_query()` made of the query string.
        content_type: the header.
        body: the raw body. What is not valid JSON counts as no parameters at all.
    """
    values = dict(query)
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/x-www-form-urlencoded":
        values |= parsed_query(body)
    values |= path
    if media_type == "application/json" and body:
        values |= _json_object(body)
    return values


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse_constant)
        if "\\ud" in text.lower():
            # Half of a surrogate pair is not Unicode; PHP refuses it, and so would our registry.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict) or _is_too_deep(text, value):
        return {}
    return value


def _is_too_deep(text: str, value: Any) -> bool:
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False  # without a second look at each member of the usual small body
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            member
            for outer in level
            if isinstance(outer, (dict, list))
            for member in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def parsed_query(raw: bytes) -> dict[str, Any]:
    """A query string or form as PHP reads it: `a[]=1&a[]=2` is a list, `a[b]=1` an object."""
    values: dict[str, Any] = {}
    fields = raw.split(b"&", MAX_FIELDS)[:MAX_FIELDS]
    text = b"&".join(fields).decode("utf-8", "replace")
    for name, value in parse_qsl(text, keep_blank_values=True):
        bracket = name.find("[")
        if bracket > 0:
            _store(values, [name[:bracket], *_SUBKEY.findall(name)][:MAX_NESTING], value)
        else:
            values[name] = value
    return {name: _as_list(value) for name, value in values.items()}


def _store(array: dict[str, Any], keys: list[str], value: str) -> None:
    key = keys[0] or _next_index(array)
    if len(keys) == 1:
        array[key] = value
        return
    inner = array.get(key)
    if not isinstance(inner, dict):
        inner = array[key] = {}
    _store(inner, keys[1:], value)


def _next_index(array: Mapping[str, Any]) -> str:
    return str(max((int(key) for key in array if key.isdecimal()), default=-1) + 1)


def _as_list(value: Any) -> Any:
    """An array with the keys 0, 1, 2... as a list."""
    if not isinstance(value, dict):
        return value
    members = [_as_list(member) for member in value.values()]
    if list(value) == [str(index) for index in range(len(value))]:
        return members
    return dict(zip(value, members, strict=True))


# The casts return None for what the type refuses.


def _to_int(value: Any) -> int:
    if isinstance(value, (list, dict)):
        return int(bool(value))
    number = _to_float(value) if isinstance(value, str) and not _is_digits(value) else value
    try:
        return max(_INT_MIN, min(_INT_MAX, int(number)))
    except (OverflowError, ValueError):  # infinite, or more digits than Python reads
        return 0


def _is_digits(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit()


def _to_float(value: Any) -> float:
    if isinstance(value, str):
        found = _NUMBER.match(value)
        return float(found[1]) if found else 0.0
    try:
        return float(bool(value) if isinstance(value, (list, dict)) else value)
    except OverflowError:
        return math.inf


def _to_bool(value: Any) -> bool:
    return value not in ("0", "") and str(value).lower() != "false" and bool(value)


def _to_str(value: Any) -> str | None:
    if isinstance(value, bool):
        return "1" if value else ""
    if isinstance(value, (list, dict)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _to_list(value: Any) -> list[Any] | None:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else None


def _to_dict(value: Any) -> dict[str, Any] | None:
    if isinstance(value, list):
        # PHP has one type for both.
        return {str(index): member for index, member in enumerate(value)}
    return value if isinstance(value, dict) else None


_CASTS: Final[Mapping[Any, Callable[[Any], Any]]] = {
    int: _to_int,
    float: _to_float,
    bool: _to_bool,
    str: _to_str,
    list: _to_list,
    dict: _to_dict,
}
