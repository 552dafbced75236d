"""What the parts of an app's description mean, whichever source they come from.

The source was made into one raw shape before: dicts, lists and texts as in JSON; those that come
from XML know their line. A `Report` gathers what is wrong, so that one run shows everything.

Source: behaviour of AppAPI 35.0.0-dev for routes and environment variables, 32.0.0 for the rest.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from appapi_host.info_report import Mistake, Report, XMLText
from appapi_host.patterns import PatternExhausted, is_valid, starts_with
from appapi_host.records import AccessLevel, Route

__all__ = [
    "DockerInstall",
    "EnvironmentVariable",
    "ServiceRole",
    "read_docker_install",
    "read_identifier",
    "read_mounts",
    "read_name",
    "read_port",
    "read_roles",
    "read_routes",
    "read_scopes",
    "read_text",
    "read_variables",
    "read_version",
]

_SEMANTIC_VERSION: Final = re.compile(r"\d+\.\d+\.\d+(-[\w.-]+)?(\+[\w.-]+)?", re.ASCII)
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Would end a header or a line, or cannot be stored at all."""

_FOR_THE_HOST: Final = ("/heartbeat", "/init", "/enabled", "/trigger", "/setup_checks")
"""Paths that the host calls by itself, and users have no business with."""

_MATCHES_ALL: Final = frozenset({".*", "^.*", ".*$", "^.*$", "^/.*", "^/.*$", "/.*"})


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


def read_text(
    value: object,
    key: str,
    report: Report,
    *,
    kind: str = "content",
    limit: int | None = None,
    is_shown: bool = True,
) -> str:
    """A text, empty if there is none. Numbers of JSON become texts."""
    if value is None or isinstance(value, Mistake):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        report.problem(value, f"{report.shown(key)} must be a text", kind=kind)
        return ""
    text = str(value)
    if _UNPRINTABLE.search(text):
        given = f" ({text!r})" if is_shown else ""
        report.problem(
            value, f"{report.shown(key)} holds a character that cannot be shown{given}", kind=kind
        )
    elif limit is not None and len(text) > limit:
        report.warning(
            value, f"{report.shown(key)} has more than {limit} characters; most databases refuse it"
        )
    return text


def read_identifier(value: object, report: Report) -> str:
    """`id`."""
    if value is None:
        report.problem(
            None, f"{report.shown('id')} is missing", example=report.example("id", "my_app")
        )
        return ""
    if isinstance(value, Mistake):
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


def read_name(raw: Mapping[str, Any], report: Report) -> str:
    """`name`, in XML one of several: the one without language, else the English one."""
    value = raw.get("name")
    if report.is_xml:
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
    return read_text(value, "name", report, limit=64)


def read_version(value: object, report: Report) -> str:
    """`version`."""
    example = report.example("version", "1.0.0")
    if value is None or value == "":
        report.problem(None, f"{report.shown('version')} is missing", example=example)
        return ""
    text = read_text(value, "version", report, limit=32)
    if not text.isascii():
        # It travels in a header with every request.
        report.problem(value, f"{report.shown('version')} is {text!r}: only ASCII", example=example)
    elif text and not _SEMANTIC_VERSION.fullmatch(text):
        report.warning(value, f"the version {text!r} is not semantic, as 1.0.0 is")
    return text


def read_port(value: object, report: Report) -> int | None:
    """`port`; None if there is none."""
    if isinstance(value, Mistake):
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


def read_docker_install(value: object, app_id: str, report: Report) -> DockerInstall:
    """`docker-install`, with what AppAPI takes for parts that are missing."""
    parts = value if isinstance(value, dict) else {}
    if value is not None and not isinstance(value, dict):
        report.problem(
            value,
            f"{report.shown('docker-install')} must be an object",
            example='{"registry": "ghcr.io", "image": "acme/my_app", "image-tag": "1.0.0"}',
        )

    def part(key: str, default: str) -> str:
        return read_text(parts.get(key), key, report) or default

    return DockerInstall(
        part("registry", "docker.io"), part("image", app_id), part("image-tag", "latest")
    )


def read_scopes(value: object) -> tuple[str, ...]:
    """`scopes`; anything goes, since nothing follows from it."""
    return tuple(str(scope) for scope in value) if isinstance(value, list) else ()


def read_variables(value: object, report: Report) -> Mapping[str, EnvironmentVariable]:
    """`environment-variables`: by name, the last of a name wins."""
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


def _variable_entries(value: object, report: Report) -> list[Any]:
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


def _variable(entry: dict[str, Any], index: int, report: Report) -> EnvironmentVariable | None:
    name = entry.get("name")
    if isinstance(name, Mistake):
        return None
    if not isinstance(name, str) or not name.strip() or "=" in name:
        report.problem(
            name if isinstance(name, XMLText) else entry,
            f"environment variable {index}: {report.shown('name')} must be a text that is not"
            " blank, without '='",
            kind="environment",
            example=report.example("name", "MODEL"),
        )
        return None

    def part(*keys: str) -> str:
        value = next((entry[key] for key in keys if entry.get(key) is not None), None)
        if isinstance(value, str) and not _UNPRINTABLE.search(re.sub(r"[\t\r\n]", "", value)):
            return str(value)  # line breaks are fine in texts for people and in values
        if value == [] and not report.is_xml:
            return ""  # what AppAPI's own reading of an empty XML element looks like
        return read_text(value, keys[0], report, kind="environment")

    default = part("default")
    return EnvironmentVariable(
        name=read_text(name.strip(), "name", report, kind="environment"),
        display_name=part("display-name", "displayName"),
        description=part("description"),
        default=default,
        value=part("value") if "value" in entry else default,
    )


def read_routes(value: object, report: Report) -> tuple[Route, ...]:
    """`routes`, in order."""
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


def _route(entry: object, index: int, report: Report) -> Route | None:
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
        if isinstance(value, Mistake):
            return ""
        if not isinstance(value, str) or not value.strip():
            report.problem(
                value if isinstance(value, XMLText) else entry,
                f"{label}: {report.shown(key)} must be a text that is not blank",
                kind="routes",
                example=report.example(key, example),
            )
            return ""
        return read_text(value, key, report, kind="routes", limit=limit)

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


def _access_level(entry: dict[str, Any], label: str, report: Report) -> AccessLevel | None:
    value = entry.get("access_level")
    if isinstance(value, Mistake):
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
    report: Report,
) -> list[Any]:
    """A list, as it is in JSON and as JSON text in XML."""
    given = value = entry.get(key)
    if value is None or isinstance(value, Mistake):
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


def _warn_about_pattern(route: Route, given: object, report: Report) -> None:
    if not is_valid(route.url):
        report.warning(given, f"route {route.url[:64]!r} is no regular expression, nothing matches")
        return
    if route.url in _MATCHES_ALL and route.access_level is not AccessLevel.ADMIN:
        report.warning(
            given,
            f"route {route.url!r} opens everything to {route.access_level.name}, also"
            " /init, /enabled and pages for administrators",
        )
        return
    opened = [path for path in _FOR_THE_HOST if _is_opened(path, route.url)]
    if opened and route.access_level is not AccessLevel.ADMIN:
        report.warning(
            given,
            f"route {route.url[:64]!r} matches {', '.join(opened)}, which only the host should"
            f" call; AppAPI lets {route.access_level.name} through",
        )


def _is_opened(path: str, pattern: str) -> bool:
    """Whether AppAPI's proxy finds a pattern in a path: also without the slash, in either case."""
    try:
        return any(starts_with(text, pattern, ignores_case=True) for text in (path, path[1:]))
    except PatternExhausted:
        return False


def read_roles(value: object, report: Report) -> tuple[ServiceRole, ...]:
    """`k8s-service-roles`."""
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
                display_name=read_text(entry.get("display-name"), "display-name", report)
                or str(name),
                env=read_text(entry.get("env"), "env", report),
                expose=expose in {"true", "1", "yes", "on"},
            )
        )
    return tuple(found)


def read_mounts(value: object, report: Report) -> tuple[tuple[str, str, str], ...]:
    """`mounts`: `(source, target, mode)` each."""
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
