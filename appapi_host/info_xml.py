"""What an app says about itself: `appinfo/info.xml`, or the same as JSON.

Both become one raw shape first, which `appapi_host.info_rules` then reads. A file from the internet
may be hostile: no entity, no document type and no network is ever looked at, and nothing here
recurses with the input.
"""

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from lxml import etree

from appapi_host.errors import InfoError
from appapi_host.info_report import MISTAKE, Line, Mistake, Report, XMLEntry, XMLText
from appapi_host.info_rules import (
    DockerInstall,
    EnvironmentVariable,
    ServiceRole,
    read_docker_install,
    read_identifier,
    read_mounts,
    read_name,
    read_port,
    read_roles,
    read_routes,
    read_scopes,
    read_text,
    read_variables,
    read_version,
)
from appapi_host.records import Route
from exapp_sdk.protocol.auth import Secret

__all__ = ["AppInfo", "DockerInstall", "EnvironmentVariable", "ServiceRole", "load_xml"]

MAX_BYTES: Final = 1024 * 1024
"""Largest description that is read; real ones have a few KiB."""

MAX_ENTRIES: Final = 1000
"""Most routes, variables or roles."""

INFO_PATH: Final = Path("appinfo/info.xml")

_ENCODINGS: Final = frozenset(
    {b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1", b"iso-8859-15", b"windows-1252"}
)
"""All agree on ASCII, so that a document type can be found before the parser sees it."""

_CATEGORIES: Final = frozenset(
    {"ai", "customization", "dashboard", "files", "games", "integration", "monitoring"}
    | {"multimedia", "office", "organization", "search", "security", "social", "tools", "workflow"}
)
"""Source: schema of the App Store."""

_MOVED_KEYS: Final = (
    "docker-install",
    "translations_folder",
    "routes",
    "k8s-service-roles",
    "environment-variables",
)
"""What JSON may say at its root instead of under `external-app`."""


@dataclass(frozen=True, slots=True)
class AppInfo:
    """The description of an app.

    Args:
        id: at most 32 letters, digits, `_`, `-` and `.`.
        name: for people.
        version: as the app states it.
        docker_install: which image to pull; read from a file or JSON it is always there.
        port: where the app listens; None leaves it to the host.
        secret: None leaves it to the host.
        daemon_config_name: stored as the app's daemon, if given.
        environment_variables: by name, in order of declaration.
        routes: what users may reach, in order.
        scopes: of old descriptions; they have no effect since AppAPI 3.2.0.
        system: the same, since 3.0.0.
        translations_folder: where translations are, on the host.
        service_roles: for Kubernetes only.
        mounts: `(source, target, mode)` each; JSON only.
        warnings: what is harmless here, but maybe not meant so or not understood by AppAPI.
    """

    id: str
    name: str
    version: str
    docker_install: DockerInstall | None = None
    port: int | None = None
    secret: Secret | None = None
    daemon_config_name: str | None = None
    environment_variables: Mapping[str, EnvironmentVariable] = field(
        default_factory=lambda: MappingProxyType({})
    )
    routes: tuple[Route, ...] = ()
    scopes: tuple[str, ...] = ()
    system: bool = False
    translations_folder: str | None = None
    service_roles: tuple[ServiceRole, ...] = ()
    mounts: tuple[tuple[str, str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_xml(cls, data: bytes, source: str) -> Self:
        """Read an info.xml.

        Args:
            data: the file.
            source: what to call it in messages.

        Raises:
            InfoError: with all problems, each with its line.
        """
        report = Report(source, is_xml=True)
        return cls._checked(_raw_from_tree(_parsed(data, source), data, report), report)

    @classmethod
    def from_folder(cls, path: Path) -> Self:
        """Read `appinfo/info.xml` of an app's folder.

        Raises:
            InfoError: see `from_xml()`, or there is none.
        """
        source = path / INFO_PATH
        if not source.is_file():
            what = f"there is no {INFO_PATH} in it" if path.is_dir() else "there is no such folder"
            raise InfoError(
                str(path),
                [what],
                remedy=f"give the folder of an app: the one that holds {INFO_PATH}",
                kind="read",
                headline=f"Failed to read info.xml from {source}",
            )
        return cls.from_xml(_contents(str(source)), str(source))

    @classmethod
    def from_json(cls, text: str, *, app_id: str, source: str = "--json-info") -> Self:
        """Read the description that `app_api:app:register --json-info` takes.

        Args:
            text: a JSON object.
            app_id: stands in where the object has no `id`.
            source: what to call it in messages.

        Raises:
            InfoError: with all problems.
        """
        raw = _decoded(text, source)
        external = raw.get("external-app")
        external = {**external} if isinstance(external, dict) else {}
        external.update({key: raw[key] for key in _MOVED_KEYS if key in raw})
        report = Report(source, is_xml=False)
        return cls._checked({"id": app_id, **raw, "external-app": external}, report)

    @classmethod
    def _checked(cls, raw: dict[str, Any], report: Report) -> Self:
        app_id = report.app_id = read_identifier(raw.get("id"), report)
        external = raw["external-app"]
        port = raw.get("port")
        secret = read_text(raw.get("secret"), "secret", report, is_shown=False, limit=256)
        made = cls(
            id=app_id,
            name=read_name(raw, report),
            version=read_version(raw.get("version"), report),
            port=None if port is None or port == "" else read_port(port, report),
            secret=Secret(secret) if secret else None,
            daemon_config_name=read_text(
                raw.get("daemon_config_name"), "daemon_config_name", report
            )
            or None,
            docker_install=read_docker_install(external.get("docker-install"), app_id, report),
            environment_variables=read_variables(external.get("environment-variables"), report),
            routes=read_routes(external.get("routes"), report),
            scopes=read_scopes(raw.get("scopes")),
            system=str(raw.get("system") or "0").lower() not in {"0", "false"},
            translations_folder=read_text(
                external.get("translations_folder"), "translations_folder", report
            )
            or None,
            service_roles=read_roles(external.get("k8s-service-roles"), report),
            mounts=read_mounts(external.get("mounts"), report),
        )
        report.raise_problems()
        return replace(made, warnings=tuple(report.warnings))


def load_xml(source: str) -> AppInfo:
    """Read an info.xml from a path.

    Raises:
        InfoError: see `AppInfo.from_xml()`, or it cannot be read.
    """
    return AppInfo.from_xml(_contents(source), source)


def _contents(source: str) -> bytes:
    try:
        with Path(source).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InfoError(
            source,
            [reason],
            remedy="give the path of an info.xml file",
            kind="read",
            headline=f"Failed to read info.xml from {source}",
        ) from error


# XML to the raw shape


def _parsed(data: bytes, source: str) -> etree._Element:
    def refused(*problems: str, remedy: str = "") -> InfoError:
        return InfoError(
            source,
            problems,
            remedy=remedy or "make it well-formed XML: <info><id>my_app</id>…</info>",
            kind="load",
            headline=f"Failed to load info.xml from {source}",
        )

    if len(data) > MAX_BYTES:
        raise refused(f"it is larger than {MAX_BYTES} bytes", remedy="is it an info.xml at all?")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            data = re.sub(r"\A<\?xml[^>]*\?>", "", data.decode("utf-16")).encode()
        except UnicodeDecodeError:
            raise refused("it is no valid UTF-16", remedy="save it as UTF-8") from None
    if b"\0" in data:
        raise refused("it holds zero bytes", remedy="save it as UTF-8")
    if not data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        # Also what the parser would take for an encoding in which we cannot look for DOCTYPE.
        raise refused("it does not begin with '<'" if data.strip() else "it is empty")
    declared = re.match(rb"(?:\xef\xbb\xbf)?<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)", data)
    if declared and declared[1].lower() not in _ENCODINGS:
        encoding = declared[1].decode("ascii", "replace")
        raise refused(f"the encoding {encoding!r} is not supported", remedy="save it as UTF-8")
    line = _line_of_doctype(data)
    if line:
        raise refused(
            f"line {line}: a document type (<!DOCTYPE) is not accepted, it could define entities",
            remedy="remove it; info.xml needs none",
        )
    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        strip_cdata=False,  # to say what AppAPI would not see
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        found = [f"line {entry.line}: {entry.message}" for entry in parser.error_log][:5]
        raise refused(*found or [str(error)]) from error
    if _tag(root).lower() == "html":
        raise refused("it is a web page", remedy="is the address right, and open to everybody?")
    return root


def _line_of_doctype(data: bytes) -> int:
    """Where the document type begins, 0 if there is none: it must come before the first element."""
    position = 0
    while True:
        position = data.find(b"<", position)
        if position < 0:
            return 0
        if data.startswith(b"<!DOCTYPE", position):
            return data.count(b"\n", 0, position) + 1
        if data.startswith(b"<!--", position):
            position = data.find(b"-->", position + 4)
        elif data.startswith(b"<?", position):
            position = data.find(b"?>", position + 2)
        else:
            return 0
        if position < 0:
            return 0


def _raw_from_tree(root: etree._Element, data: bytes, report: Report) -> dict[str, Any]:
    reader = _TreeReader(report, has_cdata=b"<![CDATA[" in data)
    if _tag(root) != "info":
        report.warning(_line(root), f"the first element is <{_tag(root)}>, it should be <info>")
    children = _children(root)
    names = [name for child in children.pop("name", []) if (name := _named(child, reader))]
    raw: dict[str, Any] = {"names": names}
    for key in ("id", "version", "port", "secret", "daemon_config_name", "system"):
        raw[key] = reader.leaf(children, key)
    raw["scopes"] = [
        value.text.strip()
        for scopes in children.get("scopes", [])
        for value in itertools.islice(scopes.iter("{*}value"), MAX_ENTRIES)
        if value.text
    ]
    for category in children.get("category", []):
        text = (category.text or "").strip()
        if text not in _CATEGORIES:
            report.warning(_line(category), f"the App Store knows no category {text!r}")
    external = reader.children(children, "external-app")
    docker = reader.children(external, "docker-install")
    raw["external-app"] = {
        "docker-install": {
            key: reader.leaf(docker, key) for key in ("registry", "image", "image-tag")
        },
        "translations_folder": reader.leaf(external, "translations_folder"),
        "environment-variables": reader.entries(
            external,
            ("environment-variables", "variable"),
            ("name", "display-name", "description", "default"),
        ),
        "routes": reader.entries(
            external,
            ("routes", "route"),
            ("url", "verb", "access_level", "bruteforce_protection", "headers_to_exclude"),
        ),
        "k8s-service-roles": reader.entries(
            external, ("k8s-service-roles", "role"), ("name", "display-name", "env", "expose")
        ),
    }
    return raw


_Children = dict[str, list["etree._Element"]]  # noqa: SLF001  # the class has no public name


_KNOWN: Final = tuple(
    # A namespace makes no difference, as in AppAPI.
    f"{{*}}{name}"
    for name in (
        *("id", "name", "version", "port", "secret", "daemon_config_name", "system", "scopes"),
        *("category", "external-app", *_MOVED_KEYS, "registry", "image", "image-tag"),
        *("variable", "display-name", "description", "default", "route", "url", "verb"),
        *("access_level", "bruteforce_protection", "headers_to_exclude", "role", "env", "expose"),
    )
)
_KINDS: Final = {"route": "routes", "variable": "environment"}
"""Element → kind of its problems, where that is not `content`."""


class _TreeReader:
    """Takes the parts that we know out of a tree."""

    def __init__(self, report: Report, *, has_cdata: bool) -> None:
        self._report = report
        self._has_cdata = has_cdata

    def leaf(self, children: _Children, key: str) -> XMLText | Mistake | None:
        """The text of the only child of that name; None if there is none or it is empty."""
        element = self._only(children, key)
        return None if element is None else self.text(element)

    def text(self, element: etree._Element) -> XMLText | Mistake | None:
        """The text of an element without the white space around it."""
        key, line = _tag(element), _line(element)
        if len(element):
            hint = ""
            if key in {"bruteforce_protection", "headers_to_exclude"}:
                example = [401, 429] if key == "bruteforce_protection" else ["X-Internal"]
                hint = f", a JSON list; right is for example {self._report.example(key, example)}"
            kind = _KINDS.get(_tag(element.getparent()), "content")
            text = f"<{key}> must hold text, not elements{hint}"
            self._report.problem(line, text, kind=kind)
            return MISTAKE
        whole = element.text or ""
        text = whole.strip()
        if self._has_cdata and b"<![CDATA[" in etree.tostring(element, with_tail=False):
            self._report.warning(
                line, f"<{key}> uses CDATA, which AppAPI reads as nothing; write plain text"
            )
        elif text and text != whole:
            self._report.warning(line, f"<{key}> has white space around its text, AppAPI keeps it")
        if key == "default" and not text:
            self._report.warning(
                line, "an empty <default> becomes the text 'Array' in AppAPI up to 34; leave it out"
            )
        return XMLText.at(line, text) if text else None

    def children(self, children: _Children, key: str) -> _Children:
        """The children of the only child of that name."""
        element = self._only(children, key)
        return {} if element is None else _children(element)

    def entries(
        self, children: _Children, path: tuple[str, str], keys: tuple[str, ...]
    ) -> list[XMLEntry]:
        """The repeated element of a section, each as a mapping of the texts it holds."""
        section, item = path
        entries: list[XMLEntry] = []
        elements = self.children(children, section).get(item, [])
        if len(elements) > MAX_ENTRIES:
            text = f"<{section}> has more than {MAX_ENTRIES} times <{item}>"
            self._report.problem(
                _line(elements[MAX_ENTRIES]), text, kind=_KINDS.get(item, "content")
            )
        for element in elements[:MAX_ENTRIES]:
            parts = _children(element)
            entry = XMLEntry(
                {key: value for key in keys if (value := self.leaf(parts, key)) is not None}
            )
            entry.line = _line(element)
            entries.append(entry)
        return entries

    def _only(self, children: _Children, key: str) -> etree._Element | None:
        found = children.get(key)
        if not found:
            return None
        if len(found) > 1:
            self._report.warning(_line(found[1]), f"<{key}> is given again; the first one counts")
        return found[0]


def _named(element: etree._Element, reader: _TreeReader) -> tuple[str, Any] | None:
    text = reader.text(element)
    attributes = (element.get("lang"), element.get("{http://www.w3.org/XML/1998/namespace}lang"))
    return None if text is None else (next(filter(None, attributes), ""), text)


def _children(element: etree._Element) -> _Children:
    """The children that we know, by name; of a name that fills the file, only the first ones."""
    found: _Children = {}
    for child in element.iterchildren(*_KNOWN):
        same = found.setdefault(_tag(child), [])
        if len(same) <= MAX_ENTRIES:
            same.append(child)
    return found


def _tag(element: etree._Element | None) -> str:
    if element is None:
        return ""
    return str(element.tag).rpartition("}")[2]


def _line(element: etree._Element) -> Line:
    # The stubs do not know the type of this attribute.
    return Line(getattr(element, "sourceline", None) or 1)


# JSON to the raw shape


def _decoded(text: str, source: str) -> dict[str, Any]:
    problem = "it must be a JSON object that is not empty"
    decoded: object = None
    if len(text) > MAX_BYTES:
        problem = f"it is longer than {MAX_BYTES} characters"
    else:
        try:
            decoded = json.loads(text)
        except ValueError as error:
            problem = str(error)
        except RecursionError:
            problem = "it is nested too deeply"
    if isinstance(decoded, dict) and decoded:
        return decoded
    raise InfoError(
        source,
        [problem],
        remedy='write for example {"id": "my_app", "name": "My app", "version": "1.0.0"}',
        kind="json",
        headline="Invalid app info provided in JSON format",
    )
