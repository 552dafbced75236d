"""The host's OCS API in the words of OpenAPI, made from the endpoints themselves.

Source: OpenAPI Specification 3.1.
"""

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from appapi_host.ocs._authentication import Auth
from appapi_host.ocs._parameters import Parameter

__all__ = ["PATH", "description"]

PATH: Final = "/ocs/openapi.json"
"""Where the host serves it."""

_PLACEHOLDER: Final = re.compile(r"\{(\w+)(?::path)?\}")
_TYPES: Final[Mapping[type, dict[str, Any]]] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    str: {"type": "string"},
    list: {"type": "array", "items": {}},
    dict: {"type": "object"},
    object: {},
}

_SIGNED: Final[dict[str, list[str]]] = {"exAppId": [], "exAppVersion": [], "signature": []}
_BASIC: Final[dict[str, list[str]]] = {"basic": []}
_SECURITY: Final[Mapping[Auth, list[dict[str, list[str]]]]] = {
    Auth.PUBLIC: [{}, _SIGNED, _BASIC],
    Auth.APP: [_SIGNED],
    Auth.APP_USER: [_SIGNED],
    Auth.EX_APP: [_SIGNED],
    Auth.EX_APP_OR_ADMIN: [_SIGNED, _BASIC],
    Auth.USER: [_SIGNED, _BASIC],
    Auth.ADMIN: [_SIGNED, _BASIC],
}
_WHO: Final[Mapping[Auth, str]] = {
    Auth.PUBLIC: "Anybody.",
    Auth.APP: "An app, in anybody's name or in nobody's.",
    Auth.APP_USER: "An app, in the name of a user.",
    Auth.EX_APP: "An app, in anybody's name or in nobody's; others get 412 without the envelope.",
    Auth.EX_APP_OR_ADMIN: "An app in nobody's name, or an administrator.",
    Auth.USER: "A user, by password or through an app that acts for them.",
    Auth.ADMIN: "An administrator, by password or through an app that acts for them.",
}

_META: Final = {
    "type": "object",
    "required": ["status", "statuscode", "message"],
    "properties": {
        "status": {"enum": ["ok", "failure"]},
        "statuscode": {"type": "integer"},
        "message": {"type": "string"},
        "totalitems": {"type": ["string", "integer"]},
        "itemsperpage": {"type": ["string", "integer"]},
    },
}
_COMPONENTS: Final = {
    "securitySchemes": {
        "exAppId": {"type": "apiKey", "in": "header", "name": "EX-APP-ID"},
        "exAppVersion": {"type": "apiKey", "in": "header", "name": "EX-APP-VERSION"},
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": "AUTHORIZATION-APP-API",
            "description": "base64 of the user id, which may be empty, a colon, and the secret",
        },
        "basic": {"type": "http", "scheme": "basic"},
    },
    "parameters": {
        "format": {
            "name": "format",
            "in": "query",
            "description": "Without it the header Accept decides, and XML is the default.",
            "schema": {"enum": ["json", "xml"]},
        }
    },
    "schemas": {
        "Envelope": {
            "type": "object",
            "required": ["ocs"],
            "properties": {
                "ocs": {
                    "type": "object",
                    "required": ["meta", "data"],
                    "properties": {"meta": _META, "data": {}},
                }
            },
        }
    },
    "responses": {
        "Any": {
            "description": "The envelope; `meta.statuscode` says how it went.",
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Envelope"}},
                "application/xml": {},
            },
        }
    },
}
_ABOUT: Final = (
    "What the host serves to apps. Parameters may come in path, query, form or JSON body of every "
    "verb, and are cast as PHP casts them. Below `v1.php` nearly all answers have the HTTP status "
    "200, and `ocs.meta.statuscode` is 100 for success; below `v2.php` the two are equal, but for "
    "996 (a parameter is missing or of a wrong type: 500), 997 (401) and 998 (404)."
)


class _Rules(Protocol):
    @property
    def auth(self) -> Auth: ...


class _Endpoint(Protocol):
    """What is needed of an endpoint, which stands above this module."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def rules(self) -> _Rules: ...
    @property
    def handler(self) -> Any: ...
    @property
    def parameters(self) -> tuple[Parameter, ...]: ...


def description(endpoints: Iterable[_Endpoint], *, version: str) -> dict[str, Any]:
    """The OpenAPI document of these endpoints.

    Args:
        endpoints: those that are served.
        version: of the AppAPI that the host stands for.
    """
    paths: dict[str, dict[str, Any]] = {}
    names: Counter[str] = Counter()
    for endpoint in endpoints:
        path = _PLACEHOLDER.sub(r"{\1}", endpoint.path)
        operation = _operation(endpoint)
        name = operation["operationId"]
        names[name] += 1
        if names[name] > 1:  # one function behind two paths
            operation["operationId"] = f"{name}_{names[name]}"
        paths.setdefault(path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "OCS API of appapi_host", "version": version, "description": _ABOUT},
        "servers": [{"url": "/ocs/v1.php"}, {"url": "/ocs/v2.php"}],
        "paths": paths,
        "components": _COMPONENTS,
    }


def _operation(endpoint: _Endpoint) -> dict[str, Any]:
    family = endpoint.handler.__module__.rpartition(".")[2]
    summary, _, more = (inspect.getdoc(endpoint.handler) or "").partition("\n\n")
    in_path = _PLACEHOLDER.findall(endpoint.path)
    kinds = {parameter.wire_name: parameter.kind for parameter in endpoint.parameters}
    listed: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": _TYPES[kinds.get(name, str)],
        }
        for name in in_path
    ]
    operation: dict[str, Any] = {
        "operationId": f"{family}_{endpoint.handler.__name__}",
        "tags": [family],
        "summary": " ".join(summary.split()),
        "description": "\n\n".join(filter(None, [more, _WHO[endpoint.rules.auth]])),
        "security": _SECURITY[endpoint.rules.auth],
        "responses": {"default": {"$ref": "#/components/responses/Any"}},
    }
    others = [each for each in endpoint.parameters if each.wire_name not in in_path]
    if endpoint.method in ("GET", "DELETE"):
        listed += [_in_query(parameter) for parameter in others]
    elif others:
        operation["requestBody"] = _body(others)
    operation["parameters"] = [*listed, {"$ref": "#/components/parameters/format"}]
    return operation


def _in_query(parameter: Parameter) -> dict[str, Any]:
    # PHP tells lists by the brackets behind their name.
    name = f"{parameter.wire_name}[]" if parameter.kind is list else parameter.wire_name
    return {
        "name": name,
        "in": "query",
        "required": parameter.is_required,
        "schema": _TYPES[parameter.kind],
    }


def _body(parameters: list[Parameter]) -> dict[str, Any]:
    required = [each.wire_name for each in parameters if each.is_required]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {each.wire_name: _schema(each) for each in parameters},
    }
    if required:
        schema["required"] = required
    return {"required": bool(required), "content": {"application/json": {"schema": schema}}}


def _schema(parameter: Parameter) -> dict[str, Any]:
    schema = _TYPES[parameter.kind]
    if parameter.is_required or "type" not in schema:
        return schema
    if parameter.default is None:
        return {**schema, "type": [schema["type"], "null"]}
    return {**schema, "default": parameter.default}
