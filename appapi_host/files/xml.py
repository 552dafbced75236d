"""The XML of WebDAV: bodies of clients read without harm, answers in Nextcloud's form.

Clients look at prefixes, not only at namespaces (nc_py_api does), so each namespace has the prefix
that the real server gives it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

from lxml import etree

from appapi_host.files.refusals import Refusal

__all__ = [
    "DAV",
    "MAX_XML_BYTES",
    "NC",
    "OC",
    "Element",
    "Fragment",
    "Multistatus",
    "clean",
    "content_of",
    "render_error",
    "text_of",
]

Element = etree._Element  # noqa: SLF001  # the library has no other name for it

DAV: Final = "{DAV:}"
OC: Final = "{http://owncloud.org/ns}"
NC: Final = "{http://nextcloud.org/ns}"

MAX_XML_BYTES: Final = 1024 * 1024
"""Longest body of a question. The longest that clients send, a list of all properties, has 5 kB."""

_PREFIXES: Final[Mapping[str, str]] = {
    "DAV:": "d",
    "http://sabredav.org/ns": "s",
    "http://owncloud.org/ns": "oc",
    "http://nextcloud.org/ns": "nc",
}
_DECLARED: Final = " ".join(f'xmlns:{prefix}="{uri}"' for uri, prefix in _PREFIXES.items())
_INNER_PREFIXES: Final[Mapping[str, str]] = {
    "http://open-collaboration-services.org/ns": "x1",
    "http://open-cloud-mesh.org/ns": "x2",
}
_NO_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_HEAD: Final = '<?xml version="1.0"?>\n'


class Fragment(str):
    """Text that is XML already."""

    __slots__ = ()


Value = str | Fragment
"""Content of a property: text, or XML."""


def clean(body: bytes) -> tuple[Element, bytes]:
    """Read the body of a question.

    Comments and instructions are dropped. A document type, and with it every entity of its own, is
    refused: no client of a file server needs one, and they are how XML hurts.

    Returns:
        The root, and the same document without what was dropped.

    Raises:
        Refusal: it is no such XML.
    """
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
        huge_tree=False,
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise Refusal(400, f"The body is no XML: {error}") from None
    described: Any = root.getroottree().docinfo  # typed without this member
    if described.doctype:
        raise Refusal(400, "The body declares a document type, which is not accepted")
    return root, etree.tostring(root, encoding="utf-8", xml_declaration=True)


def text_of(element: Element | None) -> str:
    """The text of an element and all that is in it, without space around it."""
    return "" if element is None else "".join(map(str, element.itertext())).strip()


def content_of(element: Element) -> str:
    """What is in an element, as XML that can stand on its own."""
    children = [etree.tostring(child, encoding="unicode") for child in element]
    return escape(element.text or "") + "".join(children)


def _escaped(text: str) -> str:
    """Text as content. What XML cannot hold, such as a control character in a name, is replaced."""
    return escape(_NO_XML.sub("\ufffd", text), {'"': "&quot;"})


def _element(name: str, value: Value) -> str:
    """An element, by its name in Clark notation."""
    uri, brace, local = name[1:].partition("}") if name.startswith("{") else ("", "", name)
    declared = ""
    if uri in _PREFIXES:
        tag = f"{_PREFIXES[uri]}:{local}"
    elif brace and uri:
        prefix = _INNER_PREFIXES.get(uri, "x1")
        tag, declared = f"{prefix}:{local}", f' xmlns:{prefix}="{_escaped(uri)}"'
    else:
        tag, declared = local, ' xmlns=""'
    content = value if isinstance(value, Fragment) else _escaped(value)
    return f"<{tag}{declared}>{content}</{tag}>" if content else f"<{tag}{declared}/>"


class Multistatus:
    """An answer about many files: `207 Multi-Status`."""

    def __init__(self) -> None:
        self._parts = [f"{_HEAD}<d:multistatus {_DECLARED}>"]

    def add(
        self, href: str, found: Mapping[str, Value], others: Mapping[str, Iterable[str]]
    ) -> None:
        """Append what is to be said about one file.

        Args:
            href: its path, quoted.
            found: properties by name in Clark notation.
            others: names of other properties by status, for instance `404 Not Found`.
        """
        parts = self._parts
        parts.append(f"<d:response><d:href>{_escaped(href)}</d:href>")
        if found or not any(others.values()):
            parts.append("<d:propstat><d:prop>")
            parts += [_element(name, value) for name, value in found.items()]
            parts.append("</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>")
        for status, names in others.items():
            if names := list(names):
                parts.append("<d:propstat><d:prop>")
                parts += [_element(name, "") for name in names]
                parts.append(f"</d:prop><d:status>HTTP/1.1 {status}</d:status></d:propstat>")
        parts.append("</d:response>")

    def render(self) -> bytes:
        """The document."""
        return "".join((*self._parts, "</d:multistatus>\n")).encode()


def render_error(exception: str, message: str) -> bytes:
    """A refusal in the form of the real server.

    Args:
        exception: the PHP class that it throws.
        message: what a client shows.
    """
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">\n'
        f"  <s:exception>{_escaped(exception)}</s:exception>\n"
        f"  <s:message>{_escaped(message)}</s:message>\n"
        "</d:error>\n"
    ).encode()
