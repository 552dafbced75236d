"""The OCS envelope as bytes: codes of both versions, JSON and XML as PHP writes them.

Source: Open Collaboration Services; answers recorded from Nextcloud 32.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final

from exapp_sdk.protocol.ocs import (
    NOT_AUTHENTICATED,
    OK_V1,
    OK_V2,
    SERVER_ERROR,
    UNKNOWN_ERROR,
    UNKNOWN_ROUTE,
)

__all__ = ["FORMATS", "Rendered", "as_php", "chosen_format", "render", "render_bare"]

FORMATS: Final = ("json", "xml")

_STATUS_OF: Final = {
    NOT_AUTHENTICATED: 401,
    UNKNOWN_ROUTE: 404,
    SERVER_ERROR: 500,
    UNKNOWN_ERROR: 500,
}
"""HTTP status of the special codes under `/ocs/v2.php`."""

_V1_STATUS_OF: Final = {NOT_AUTHENTICATED: 401, 503: 503}
"""The only codes that show as HTTP status under `/ocs/v1.php`; all others are sent with 200."""

_CONTENT_TYPES: Final = {
    "json": "application/json; charset=utf-8",
    "xml": "application/xml; charset=utf-8",
}
_EARLY_XML: Final = "text/xml; charset=UTF-8"
"""Content type of XML answers that Nextcloud makes outside of a route."""

_XML_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_NOT_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer ready to be sent.

    Args:
        status: HTTP status.
        content_type: value of `Content-Type`.
        body: empty where HTTP wants it so.
    """

    status: int
    content_type: str
    body: bytes


def chosen_format(requested: object, accept: str) -> str:
    """The format that a request asks for, which may be one that does not exist.

    Args:
        requested: the parameter `format`, None if there is none.
        accept: the header; the first `application/...` in it counts, even a later one that is
            preferred by its `q`: so does Nextcloud.
    """
    if requested is not None:
        return requested if isinstance(requested, str) else ""
    for item in accept.split(","):
        kind, slash, subtype = item.partition(";")[0].strip().lower().partition("/")
        if slash and kind == "application":
            return subtype
    return "xml"


def render(
    version: int,
    statuscode: int,
    message: str,
    data: Any,
    *,
    format_name: str = "xml",
    is_early: bool = False,
) -> Rendered:
    """Put data into the envelope.

    Args:
        version: 1 or 2, of `/ocs/v1.php` or `/ocs/v2.php`.
        statuscode: 200 for success, in both versions, or what went wrong.
        message: the words for a failure; success has its own.
        data: JSON values.
        format_name: `json` or `xml`.
        is_early: the answer was made outside of a route, which shows in its content type.
    """
    is_ok = statuscode == OK_V2 if version == 1 else OK_V2 <= statuscode < 300
    meta: dict[str, Any] = {
        "status": "ok" if is_ok else "failure",
        "statuscode": OK_V1 if version == 1 and is_ok else statuscode,
        "message": "OK" if is_ok else message,
    }
    if version == 1:
        meta |= {"totalitems": "", "itemsperpage": ""}
        status = _V1_STATUS_OF.get(statuscode, 200)
    else:
        status = _STATUS_OF.get(statuscode, statuscode if 200 <= statuscode <= 600 else 400)
    content_type = _CONTENT_TYPES[format_name]
    if is_early and format_name == "xml":
        content_type = _EARLY_XML
    if status in (204, 304):
        return Rendered(status, content_type, b"")
    envelope = {"meta": meta, "data": as_php(data)}
    body = _json({"ocs": envelope}) if format_name == "json" else _xml(envelope)
    return Rendered(status, content_type, body)


def render_bare(status: int, data: Any) -> Rendered:
    """An answer that Nextcloud gives without the envelope, always as JSON."""
    return Rendered(status, _CONTENT_TYPES["json"], _json(as_php(data)))


def as_php(value: Any) -> Any:
    """The value after it has been in PHP: one type for lists and objects, `1.0` is `1`."""
    if isinstance(value, dict):
        return {str(key): as_php(member) for key, member in value.items()} or []
    if isinstance(value, (list, tuple)):
        return [as_php(member) for member in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None  # JSON has no word for it
        return int(value) if value.is_integer() else value
    return value


def _json(value: Any) -> bytes:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    # These characters stand in strings only, so replacing them in the whole text is safe.
    text = text.replace("/", "\\/").replace("<", "\\u003C").replace(">", "\\u003E")
    return text.encode("ascii")


def _xml(envelope: dict[str, Any]) -> bytes:
    lines = ['<?xml version="1.0"?>']
    _append_element(lines, "ocs", envelope, depth=0)
    lines.append("")
    return "\n".join(lines).encode()


def _append_element(lines: list[str], name: str, value: Any, *, depth: int) -> None:
    indent = " " * depth
    # Keys of capabilities and the like are free texts; not all of them can be the name of a tag.
    tag = name if _XML_NAME.fullmatch(name) else "element"
    if value is None or value == []:
        lines.append(f"{indent}<{tag}/>")
    elif isinstance(value, (dict, list)):
        lines.append(f"{indent}<{tag}>")
        members = (
            value.items() if isinstance(value, dict) else (("element", item) for item in value)
        )
        for key, member in members:
            _append_element(lines, key, member, depth=depth + 1)
        lines.append(f"{indent}</{tag}>")
    else:
        lines.append(f"{indent}<{tag}>{_xml_text(value)}</{tag}>")


def _xml_text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else ""
    text = _NOT_XML.sub("", str(value))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;").replace("\r", "&#13;")
