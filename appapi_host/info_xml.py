"""What an app says about itself: `appinfo/info.xml`, or the same as JSON.

Both become one raw shape first, plain dicts and lists, whose texts know the line they came from;
one set of rules then reads that shape. A file from the internet may be hostile: no entity, no
document type and no network is ever looked at, and nothing here recurses with the input.

Source: behaviour of AppAPI 35.0.0-dev for routes and environment variables, 32.0.0 for the rest.
"""

import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from lxml import etree

from appapi_host.errors import InfoError
from appapi_host.records import AccessLevel, Route
from exapp_sdk.protocol.auth import Secret

__all__ = ["AppInfo", "DockerInstall", "EnvironmentVariable", "ServiceRole", "load_xml"]

MAX_BYTES: Final = 1024 * 1024
"""Largest description that is read; real ones have a few KiB."""

MAX_PROBLEMS: Final = 50
"""More than that nobody reads; a hostile file could have a hundred thousand."""

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

_SEMANTIC_VERSION: Final = re.compile(r"\d+\.\d+\.\d+(-[\w.-]+)?(\+[\w.-]+)?", re.ASCII)
_MATCHES_ALL: Final = frozenset({".*", "^.*", ".*$", "^.*$", "^/.*", "^/.*$", "/.*"})
_MOVED_KEYS: Final = (
    "docker-install",
    "translations_folder",
    "routes",
    "k8s-service-roles",
    "environment-variables",
)
"""What JSON may say at its root instead of under `external-app`."""


@dataclass(frozen=True, slots=True)
class DockerInstall:
    """Which image to pull.

    Args:
        registry: host of the registry.
        image: name of the image; the app id if the info does not say.
        image_tag: usually the version.
    """

    registry: str
    image: str
    image_tag: str


@dataclass(frozen=True, slots=True)
class EnvironmentVariable:
    """A variable that whoever installs the app may set.

    Args:
        name: of the variable.
        display_name: for people.
        description: for people.
        default: value unless somebody gives another one.
        value: what it has now; variables with an empty value are not passed to the app.
    """

    name: str
    display_name: str = ""
    description: str = ""
    default: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class ServiceRole:
    """A part of an app that Kubernetes runs as a workload of its own; nobody else looks at it.

    Args:
        name: of the role.
        display_name: for people.
        env: one `NAME=VALUE`.
        expose: whether it answers requests.
    """

    name: str
    display_name: str
    env: str = ""
    expose: bool = False


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
        report = _Report(source, is_xml=True)
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
        report = _Report(source, is_xml=False)
        return cls._checked({"id": app_id, **raw, "external-app": external}, report)

    @classmethod
    def _checked(cls, raw: dict[str, Any], report: "_Report") -> Self:
        app_id = report.app_id = _identifier(raw.get("id"), report)
        external = raw["external-app"]
        port = raw.get("port")
        secret = _text(raw.get("secret"), "secret", report, is_shown=False, limit=256)
        made = cls(
            id=app_id,
            name=_name(raw, report),
            version=_version(raw.get("version"), report),
            port=None if port is None or port == "" else _port(port, report),
            secret=Secret(secret) if secret else None,
            daemon_config_name=_text(raw.get("daemon_config_name"), "daemon_config_name", report)
            or None,
            docker_install=_docker_install(external.get("docker-install"), app_id, report),
            environment_variables=_variables(external.get("environment-variables"), report),
            routes=_routes(external.get("routes"), report),
            scopes=_scopes(raw.get("scopes")),
            system=str(raw.get("system") or "0").lower() not in {"0", "false"},
            translations_folder=_text(
                external.get("translations_folder"), "translations_folder", report
            )
            or None,
            service_roles=_roles(external.get("k8s-service-roles"), report),
            mounts=_mounts(external.get("mounts"), report),
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


class _Text(str):
    """A text of an XML file that knows its line."""

    __slots__ = ("line",)
    line: int

    @classmethod
    def at(cls, line: int, text: str) -> "_Text":
        made = cls(text)
        made.line = line
        return made


class _Line(int):
    """A place without a value, for instance that of an empty element."""

    __slots__ = ()

    @property
    def line(self) -> int:
        return int(self)


class _Entry(dict[str, Any]):
    """The children of an XML element, with its line."""

    __slots__ = ("line",)
    line: int


class _Mistake:
    """Stands for a value that was reported already."""


_MISTAKE: Final = _Mistake()


class _Report:
    """Gathers what is wrong, so that one run shows everything."""

    def __init__(self, source: str, *, is_xml: bool) -> None:
        self.source = source
        self.is_xml = is_xml
        self.app_id = ""
        self.warnings: list[str] = []
        self._problems: list[tuple[str, str]] = []
        self._more = 0

    def problem(self, at: object, text: str, *, kind: str = "content", example: str = "") -> None:
        """Something that cannot be used.

        Args:
            at: the value; if it came from XML, it knows its line.
            text: what is wrong.
            kind: see `InfoError`.
            example: what is right.
        """
        if len(self._problems) == MAX_PROBLEMS:
            self._more += 1
            return
        hint = f"; right is for example {example}" if example else ""
        self._problems.append((kind, f"{_place(at)}{text}{hint}"))

    def warning(self, at: object, text: str) -> None:
        """Something that is harmless here."""
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(f"{_place(at)}{text}")

    def example(self, key: str, value: str | int | list[Any]) -> str:
        """How a value is written in this kind of source."""
        if self.is_xml:
            text = value if isinstance(value, str) else json.dumps(value)
            return f"<{key}>{text}</{key}>"
        return f"{json.dumps(key)}: {json.dumps(value)}"

    def shown(self, key: str) -> str:
        """How a key is called in this kind of source."""
        return f"<{key}>" if self.is_xml else f'"{key}"'

    def raise_problems(self) -> None:
        """Raise them all, if there are any."""
        if not self._problems:
            return
        texts = [text for _, text in self._problems]
        if self._more:
            texts.append(f"and {self._more} more")
        headline, kind = "", "content"
        for section, noun in (("routes", "route"), ("environment", "environment variable")):
            first = next((text for of, text in self._problems if of == section), None)
            if first:
                kind = section
                headline = f"ExApp '{self.app_id}' has invalid {noun} definition. {first}"
                break
        raise InfoError(self.source, texts, kind=kind, headline=headline)


def _place(at: object) -> str:
    line = getattr(at, "line", None)
    return "" if line is None else f"line {line}: "


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
            data = data.decode("utf-16").partition("?>")[2].encode()
        except UnicodeDecodeError:
            raise refused("it is no valid UTF-16", remedy="save it as UTF-8") from None
    if b"\0" in data:
        raise refused("it holds zero bytes", remedy="save it as UTF-8")
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


def _raw_from_tree(root: etree._Element, data: bytes, report: _Report) -> dict[str, Any]:
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

    def __init__(self, report: _Report, *, has_cdata: bool) -> None:
        self._report = report
        self._has_cdata = has_cdata

    def leaf(self, children: _Children, key: str) -> _Text | _Mistake | None:
        """The text of the only child of that name; None if there is none or it is empty."""
        element = self._only(children, key)
        return None if element is None else self.text(element)

    def text(self, element: etree._Element) -> _Text | _Mistake | None:
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
            return _MISTAKE
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
        return _Text.at(line, text) if text else None

    def children(self, children: _Children, key: str) -> _Children:
        """The children of the only child of that name."""
        element = self._only(children, key)
        return {} if element is None else _children(element)

    def entries(
        self, children: _Children, path: tuple[str, str], keys: tuple[str, ...]
    ) -> list[_Entry]:
        """The repeated element of a section, each as a mapping of the texts it holds."""
        section, item = path
        entries: list[_Entry] = []
        elements = self.children(children, section).get(item, [])
        if len(elements) > MAX_ENTRIES:
            text = f"<{section}> has more than {MAX_ENTRIES} times <{item}>"
            self._report.problem(
                _line(elements[MAX_ENTRIES]), text, kind=_KINDS.get(item, "content")
            )
        for element in elements[:MAX_ENTRIES]:
            parts = _children(element)
            entry = _Entry(
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


def _line(element: etree._Element) -> "_Line":
    # The stubs do not know the type of this attribute.
    return _Line(getattr(element, "sourceline", None) or 1)


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


# The raw shape to values


def _text(
    value: object,
    key: str,
    report: _Report,
    *,
    kind: str = "content",
    limit: int | None = None,
    is_shown: bool = True,
) -> str:
    """A text, empty if there is none. Numbers of JSON become texts."""
    if value is None or isinstance(value, _Mistake):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        report.problem(value, f"{report.shown(key)} must be a text", kind=kind)
        return ""
    text = str(value)
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        given = f" ({text!r})" if is_shown else ""
        report.problem(value, f"{report.shown(key)} holds a control character{given}", kind=kind)
    elif limit is not None and len(text) > limit:
        report.warning(
            value, f"{report.shown(key)} has more than {limit} characters; most databases refuse it"
        )
    return text


def _identifier(value: object, report: _Report) -> str:
    if value is None:
        report.problem(
            None, f"{report.shown('id')} is missing", example=report.example("id", "my_app")
        )
        return ""
    if isinstance(value, _Mistake):
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    # Two dots would be the folder above; the id names one.
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", text) or text in {".", ".."}:
        report.problem(
            value,
            f"{report.shown('id')} is {text[:64]!r}: it must be 1 to 32 letters, digits, '_', '-'"
            " or '.'",
            example=report.example("id", "my_app"),
        )
    return str(text)


def _name(raw: Mapping[str, Any], report: _Report) -> str:
    value = raw.get("name")
    if "names" in raw:
        names: list[tuple[str, Any]] = raw["names"]
        ranked = sorted(names, key=lambda name: {"": 0, "en": 1}.get(name[0], 2))
        value = ranked[0][1] if ranked else None
        if len(names) > 1:
            report.warning(
                names[1][1],
                "several <name> become 'Array' in AppAPI; here the one without lang counts",
            )
    if value is None:
        report.problem(
            None, f"{report.shown('name')} is missing", example=report.example("name", "My app")
        )
    return _text(value, "name", report, limit=64)


def _version(value: object, report: _Report) -> str:
    example = report.example("version", "1.0.0")
    if value is None or value == "":
        report.problem(None, f"{report.shown('version')} is missing", example=example)
        return ""
    text = _text(value, "version", report, limit=32)
    if not text.isascii():
        # It travels in a header with every request.
        report.problem(value, f"{report.shown('version')} is {text!r}: only ASCII", example=example)
    elif text and not _SEMANTIC_VERSION.fullmatch(text):
        report.warning(value, f"the version {text!r} is not semantic, as 1.0.0 is")
    return text


def _port(value: object, report: _Report) -> int | None:
    if isinstance(value, _Mistake):
        return None
    is_number = isinstance(value, str | int) and not isinstance(value, bool)
    if is_number and re.fullmatch(r"[0-9]{1,5}", str(value)) and 0 < int(str(value)) < 65536:
        return int(str(value))
    report.problem(
        value,
        f"{report.shown('port')} is {str(value)[:64]!r}: it must be a whole number, 1 to 65535",
        example=report.example("port", 9031),
    )
    return None


def _docker_install(value: object, app_id: str, report: _Report) -> DockerInstall:
    parts = value if isinstance(value, dict) else {}
    if value is not None and not isinstance(value, dict):
        report.problem(
            value,
            f"{report.shown('docker-install')} must be an object",
            example='{"registry": "ghcr.io", "image": "acme/my_app", "image-tag": "1.0.0"}',
        )

    def part(key: str, default: str) -> str:
        return _text(parts.get(key), key, report) or default

    return DockerInstall(
        part("registry", "docker.io"), part("image", app_id), part("image-tag", "latest")
    )


def _scopes(value: object) -> tuple[str, ...]:
    return tuple(str(scope) for scope in value) if isinstance(value, list) else ()


def _variables(value: object, report: _Report) -> Mapping[str, EnvironmentVariable]:
    found: dict[str, EnvironmentVariable] = {}
    for index, entry in enumerate(_variable_entries(value, report)):
        if not isinstance(entry, dict):
            report.problem(
                entry,
                f"environment variable {index} must be an object",
                kind="environment",
                example='{"name": "MODEL", "default": "small"}',
            )
        elif variable := _variable(entry, index, report):
            found[variable.name] = variable
    return MappingProxyType(found)


def _variable_entries(value: object, report: _Report) -> list[Any]:
    """The entries of any of the forms: a list, one or many under `variable`, or a map by name."""
    if isinstance(value, dict) and "variable" in value:
        inner = value["variable"]
        value = [inner] if isinstance(inner, dict) else inner
    elif isinstance(value, dict):
        # The form in which AppAPI stores them; their value is given, not their default.
        value = [
            {"name": name, **entry} if isinstance(entry, dict) else entry
            for name, entry in value.items()
        ]
    if value is None:
        return []
    if isinstance(value, list):
        return value
    report.problem(
        value,
        f"{report.shown('environment-variables')} must be an object or a list",
        kind="environment",
        example='{"variable": [{"name": "MODEL", "default": "small"}]}',
    )
    return []


def _variable(entry: dict[str, Any], index: int, report: _Report) -> EnvironmentVariable | None:
    name = entry.get("name")
    if isinstance(name, _Mistake):
        return None
    if not isinstance(name, str) or not name.strip() or "=" in name:
        report.problem(
            name if isinstance(name, _Text) else entry,
            f"environment variable {index}: {report.shown('name')} must be a text that is not"
            " blank, without '='",
            kind="environment",
            example=report.example("name", "MODEL"),
        )
        return None

    def part(*keys: str) -> str:
        # Line breaks are fine in texts for people and in values, a zero byte is fine nowhere.
        value = next((entry[key] for key in keys if entry.get(key) is not None), None)
        if isinstance(value, str) and "\0" not in value:
            return str(value)
        if value == [] and not report.is_xml:
            return ""  # what AppAPI's own reading of an empty XML element looks like
        return _text(value, keys[0], report, kind="environment")

    default = part("default")
    return EnvironmentVariable(
        name=_text(name.strip(), "name", report, kind="environment"),
        display_name=part("display-name", "displayName"),
        description=part("description"),
        default=default,
        value=part("value") if "value" in entry else default,
    )


def _routes(value: object, report: _Report) -> tuple[Route, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        report.problem(
            value,
            f"{report.shown('routes')} must be a list",
            kind="routes",
            example='[{"url": "^/api/.*", "verb": "GET", "access_level": "USER"}]',
        )
        return ()
    found = (_route(entry, index, report) for index, entry in enumerate(value))
    return tuple(route for route in found if route)


def _route(entry: object, index: int, report: _Report) -> Route | None:
    if not isinstance(entry, dict):
        report.problem(
            entry,
            f"route {index} must be an object",
            kind="routes",
            example='{"url": "^/api/.*", "verb": "GET", "access_level": "USER"}',
        )
        return None
    given = entry.get("url")
    label = (
        f"route {given[:64]!r}" if isinstance(given, str) and given.strip() else f"route {index}"
    )

    def text(key: str, example: str, limit: int) -> str:
        value = entry.get(key)
        if isinstance(value, _Mistake):
            return ""
        if not isinstance(value, str) or not value.strip():
            report.problem(
                value if isinstance(value, _Text) else entry,
                f"{label}: {report.shown(key)} must be a text that is not blank",
                kind="routes",
                example=report.example(key, example),
            )
            return ""
        return _text(value, key, report, kind="routes", limit=limit)

    url = text("url", "^/api/.*", 512)
    verb = text("verb", "GET,POST", 64)
    level = _access_level(entry, label, report)
    route = Route(
        url=url,
        verb=verb,
        access_level=AccessLevel.ADMIN if level is None else level,
        headers_to_exclude=tuple(
            _json_list(entry, "headers_to_exclude", _is_text, ["X-Internal"], label, report)
        ),
        bruteforce_protection=tuple(
            _json_list(entry, "bruteforce_protection", _is_integer, [401, 429], label, report)
        ),
    )
    _warn_about_pattern(route, given, report)
    return route


def _access_level(entry: dict[str, Any], label: str, report: _Report) -> AccessLevel | None:
    value = entry.get("access_level")
    if isinstance(value, _Mistake):
        return None
    if isinstance(value, str) and value in AccessLevel.__members__:
        return AccessLevel[value]
    if _is_integer(value) and value in set(AccessLevel):
        return AccessLevel(int(str(value)))
    names = ", ".join(AccessLevel.__members__)
    what = "is missing" if value is None else f"is {str(value)[:64]!r}"
    report.problem(
        entry if value is None else value,
        f"{label}: {report.shown('access_level')} {what}: it must be one of {names}",
        kind="routes",
        example=report.example("access_level", "USER"),
    )
    return None


def _json_list(
    entry: dict[str, Any],
    key: str,
    fits: Callable[[object], bool],
    example: list[Any],
    label: str,
    report: _Report,
) -> list[Any]:
    """A list, as it is in JSON and as JSON text in XML."""
    given = value = entry.get(key)
    if value is None or isinstance(value, _Mistake):
        return []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if isinstance(value, list) and all(fits(item) for item in value):
        return value
    items = "texts" if fits is _is_text else "whole numbers"
    report.problem(
        given,
        f"{label}: {report.shown(key)} must be a JSON list of {items}",
        kind="routes",
        example=report.example(key, example),
    )
    return []


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _warn_about_pattern(route: Route, given: object, report: _Report) -> None:
    try:
        re.compile(route.url)
    except (re.error, RecursionError, OverflowError):
        report.warning(given, f"route {route.url[:64]!r} is no regular expression, nothing matches")
        return
    if route.url in _MATCHES_ALL and route.access_level is not AccessLevel.ADMIN:
        report.warning(
            given,
            f"route {route.url!r} opens everything to {route.access_level.name}, also"
            " /init, /enabled and pages for administrators",
        )


def _roles(value: object, report: _Report) -> tuple[ServiceRole, ...]:
    found: list[ServiceRole] = []
    for entry in value if isinstance(value, list) else ():
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name.strip():
            report.problem(
                entry,
                f"a role of {report.shown('k8s-service-roles')} has no name",
                example=report.example("name", "web"),
            )
            continue
        expose = str(entry.get("expose", "")).strip().lower()
        found.append(
            ServiceRole(
                name=str(name),
                display_name=_text(entry.get("display-name"), "display-name", report) or str(name),
                env=_text(entry.get("env"), "env", report),
                expose=expose in {"true", "1", "yes", "on"},
            )
        )
    return tuple(found)


def _mounts(value: object, report: _Report) -> tuple[tuple[str, str, str], ...]:
    found: list[tuple[str, str, str]] = []
    for entry in value if isinstance(value, list) else ():
        parts = entry if isinstance(entry, dict) else {}
        source, target = parts.get("source"), parts.get("target")
        if isinstance(source, str) and source and isinstance(target, str) and target:
            found.append((source, target, "ro" if parts.get("mode") == "ro" else "rw"))
        else:
            report.problem(
                entry,
                "a mount needs source and target",
                example='{"source": "/srv/models", "target": "/models", "mode": "ro"}',
            )
    return tuple(found)
