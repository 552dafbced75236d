"""Finding files: what a `SEARCH` or a `REPORT` asks for.

Source: RFC 5323; Nextcloud developer manual, WebDAV Search and Listing favorites.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from appapi_host.files.nodes import Node, not_found, split_path
from appapi_host.files.refusals import Refusal
from appapi_host.files.store import Store
from appapi_host.files.xml import DAV, OC, Element, text_of

__all__ = ["Query", "filtered", "parse_search"]

MAX_DEPTH: Final = 50
"""Conditions within conditions."""

Condition = Callable[[Node], bool]

_NUMBER: Final = re.compile(r"\s*(-?[0-9]+)")


@dataclass(frozen=True, slots=True)
class Query:
    """A search.

    Args:
        select: names of the properties to be answered.
        scope: path of the folder to look in, relative to the root of all resources.
        depth: `0`, `1` or `infinity`.
        condition: what is wanted.
        order: what to sort by, and whether in descending order; the first matters most.
        limit: most results, None for all.
        offset: results to leave out at the beginning.
    """

    select: tuple[str, ...]
    scope: tuple[str, ...]
    depth: str
    condition: Condition
    order: tuple[tuple[str, bool], ...]
    limit: int | None
    offset: int

    def run(self, store: Store, user_id: str) -> list[Node]:
        """The nodes that are wanted.

        Raises:
            Refusal: the folder is not there, or not among the user's files.
        """
        if self.scope[:2] != ("files", user_id):
            raise Refusal(404, "Search is only supported on the files of the user")
        top = store.get(user_id, self.scope[2:])
        if not top.is_folder:
            raise not_found(self.scope[2:])
        found = [node for node in self._candidates(store, top) if self.condition(node)]
        for name, is_descending in reversed(self.order):
            found.sort(key=_PROPERTIES[name].value, reverse=is_descending)
        end = None if self.limit is None else self.offset + self.limit
        return found[self.offset : end]

    def _candidates(self, store: Store, top: Node) -> Iterator[Node]:
        if self.depth == "infinity":
            yield from store.walk(top)
            return
        yield top
        if self.depth == "1":
            yield from store.children(top)


@dataclass(frozen=True, slots=True)
class _Property:
    """How a property is compared.

    Args:
        value: of a node.
        literal: the value that a client wrote.
    """

    value: Callable[[Node], Any]
    literal: Callable[[str], Any]


def _integer(text: str) -> int:
    # As PHP reads a number: 00000012ocabc is 12.
    found = _NUMBER.match(text)
    return int(found[1][:20]) if found else 0


def _time(text: str) -> int:
    if _NUMBER.fullmatch(text.strip()):
        return max(0, _integer(text))
    try:
        parsed = datetime.fromisoformat(text.strip())
    except ValueError:
        return 0
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())


_PROPERTIES: Final[Mapping[str, _Property]] = {
    f"{DAV}displayname": _Property(lambda node: node.name, str),
    f"{DAV}getcontenttype": _Property(lambda node: node.mime, str),
    f"{DAV}getlastmodified": _Property(lambda node: node.mtime, _time),
    f"{DAV}creationdate": _Property(lambda node: node.entry.created, _time),
    "{http://nextcloud.org/ns}upload_time": _Property(lambda node: node.entry.uploaded, _time),
    f"{OC}size": _Property(lambda node: node.size, _integer),
    f"{OC}fileid": _Property(lambda node: node.fileid, _integer),
    f"{OC}owner-id": _Property(lambda node: node.user_id, str),
    f"{OC}favorite": _Property(
        lambda node: node.entry.favorite,
        lambda text: text.strip().lower() in ("1", "true", "yes"),
    ),
}
"""What can be searched for."""

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    f"{DAV}eq": lambda value, wanted: bool(value == wanted),
    f"{DAV}gt": lambda value, wanted: bool(value > wanted),
    f"{DAV}gte": lambda value, wanted: bool(value >= wanted),
    f"{DAV}lt": lambda value, wanted: bool(value < wanted),
    f"{DAV}lte": lambda value, wanted: bool(value <= wanted),
}


def parse_search(root: Element) -> Query:
    """Read the body of a `SEARCH`.

    Raises:
        Refusal: it is none, or asks for what cannot be searched.
    """
    basic = root.find(f"{DAV}basicsearch")
    if root.tag != f"{DAV}searchrequest" or basic is None:
        raise Refusal(400, "Expected a basicsearch in a searchrequest")
    scopes = basic.findall(f"{DAV}from/{DAV}scope")
    if len(scopes) != 1:
        raise Refusal(400, "Exactly one scope is supported")
    depth = text_of(scopes[0].find(f"{DAV}depth")).lower() or "infinity"
    if depth not in ("0", "1", "infinity"):
        raise Refusal(400, f"Invalid depth {depth!r}")
    where = basic.find(f"{DAV}where")
    conditions = [] if where is None else [_condition(child, 0) for child in where]
    select = basic.find(f"{DAV}select/{DAV}prop")
    return Query(
        select=tuple(child.tag for child in select) if select is not None else (),
        scope=split_path(_scope(text_of(scopes[0].find(f"{DAV}href")))),
        depth=depth,
        condition=lambda node: all(condition(node) for condition in conditions),
        order=tuple(_order(basic.find(f"{DAV}orderby"))),
        limit=_limit(basic, "nresults"),
        offset=_limit(basic, "firstresult") or 0,
    )


def _scope(href: str) -> str:
    for prefix in ("/remote.php/dav/", "remote.php/dav/"):
        if href.startswith(prefix):
            return href.removeprefix(prefix)
    return href


def _order(element: Element | None) -> Iterator[tuple[str, bool]]:
    if element is None:
        return
    orders = element.findall(f"{DAV}order")
    # nc's documentation leaves out the element `order`.
    for order in orders or ([element] if len(element) else []):
        name = _property_of(order)
        yield name, order.find(f"{DAV}descending") is not None


def _limit(basic: Element, name: str) -> int | None:
    for child in basic.iterfind(f"{DAV}limit/*"):
        if child.tag.rpartition("}")[2] == name:
            text = text_of(child)
            if not (text.isascii() and text.isdecimal() and len(text) < 10):
                raise Refusal(400, f"{name} is no number")
            return int(text)
    return None


def _property_of(element: Element) -> str:
    prop = element.find(f"{DAV}prop")
    names = [] if prop is None else [child.tag for child in prop]
    if len(names) != 1:
        raise Refusal(400, "A condition is about one property")
    if names[0] not in _PROPERTIES:
        raise Refusal(400, f"requested property is not searchable: {names[0]}")
    return str(names[0])


def _condition(element: Element, depth: int) -> Condition:
    if depth > MAX_DEPTH:
        raise Refusal(400, "The conditions are nested too deeply")
    operator = element.tag
    if operator in (f"{DAV}and", f"{DAV}or"):
        inner = [_condition(child, depth + 1) for child in element]
        combine = all if operator == f"{DAV}and" else any
        return lambda node: combine(condition(node) for condition in inner)
    if operator == f"{DAV}not":
        if len(element) != 1:
            raise Refusal(400, "not is about one condition")
        negated = _condition(element[0], depth + 1)
        return lambda node: not negated(node)
    if operator == f"{DAV}is-collection":
        return lambda node: node.is_folder
    if operator == f"{DAV}is-defined":
        _property_of(element)
        return lambda _node: True
    if operator == f"{DAV}like":
        return _like(element)
    compare = _COMPARISONS.get(operator)
    if compare is None:
        raise Refusal(400, f"The operator {operator} is not supported")
    described = _PROPERTIES[_property_of(element)]
    wanted = described.literal(_literal(element))
    return lambda node: compare(described.value(node), wanted)


def _literal(element: Element) -> str:
    literal = element.find(f"{DAV}literal")
    if literal is None:
        raise Refusal(400, "A condition has a literal")
    return literal.text or ""


def _like(element: Element) -> Condition:
    """`%` stands for any text and `_` for one character, whatever the case of letters."""
    described = _PROPERTIES[_property_of(element)]
    wanted = _literal(element)
    # The documentation's own example of a search by id says "like".
    if described.literal is not str:
        exact = described.literal(wanted)
        return lambda node: bool(described.value(node) == exact)
    pieces = [piece for piece in re.split(r"([%_])", wanted.lower()) if piece]
    return lambda node: _is_like(described.value(node).lower(), pieces)


def _is_like(text: str, pieces: list[str]) -> bool:
    """Whether a text has a form.

    Keeps the ends that are possible after each piece, instead of trying every way as a pattern
    would: the form comes from outside.
    """
    ends = {0}
    for piece in pieces:
        if piece == "%":
            ends = set(range(min(ends), len(text) + 1))
        elif piece == "_":
            ends = {end + 1 for end in ends if end < len(text)}
        else:
            ends = {end + len(piece) for end in ends if text.startswith(piece, end)}
        if not ends:
            return False
    return len(text) in ends


def filtered(root: Element, store: Store, top: Node) -> tuple[tuple[str, ...], list[Node]]:
    """Answer a `REPORT` that filters files by favorite and by tags that all users share.

    Returns:
        Names of the properties that are wanted, and the files below `top`, sorted by path.

    Raises:
        Refusal: it is no such report.
    """
    if root.tag != f"{OC}filter-files":
        raise Refusal(415, f"The {root.tag} REPORT is not supported")
    rules = root.find(f"{OC}filter-rules")
    if rules is None or not len(rules):
        raise Refusal(400, "Missing filter rules in the report")
    paths: set[str] | None = None
    for rule in rules:
        if rule.tag == f"{OC}favorite":
            found = set(store.index.favorites(top.user_id))
        elif rule.tag == f"{OC}systemtag":
            tag = store.index.tag(_integer(text_of(rule)))
            if tag is None or not tag.is_visible:
                raise Refusal(412, "Cannot filter by non-existing tag")
            found = set(store.index.paths_tagged(top.user_id, tag.tag_id))
        else:
            raise Refusal(400, f"The filter {rule.tag} is not supported")
        paths = found if paths is None else paths & found
    wanted = root.find(f"{DAV}prop")
    names = tuple(child.tag for child in wanted) if wanted is not None else ()
    prefix = f"{top.path}/" if top.path else ""
    nodes = [
        node
        for path in sorted(paths or ())
        if path.startswith(prefix) and (node := store.find(top.user_id, split_path(path)))
    ]
    return names, nodes
