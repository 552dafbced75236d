"""The one way from a request to the OCS API to its answer."""

import logging
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from appapi_host.callers import claimed_app, tell_unserved
from appapi_host.events import Direction, Exchange, masked_headers
from appapi_host.host import Host
from appapi_host.ocs._authentication import Caller, OCSRefusal, authenticate
from appapi_host.ocs._endpoints import Answer, Call, Endpoint, Family, File
from appapi_host.ocs._openapi import PATH as DESCRIPTION_PATH
from appapi_host.ocs._openapi import description
from appapi_host.ocs._parameters import (
    ParameterError,
    merged,
    parsed_query,
)
from appapi_host.ocs._rendering import FORMATS, Rendered, chosen_format, render, render_bare
from appapi_host.throttling import Throttled, client_address
from exapp_sdk.errors import OCSError, RemoteProtocolError
from exapp_sdk.protocol.ocs import SERVER_ERROR, UNKNOWN_ROUTE

__all__ = ["OCSApplication"]

logger = logging.getLogger(__name__)

SHOWN_BYTES: Final = 4096
"""How much of a body an `Exchange` keeps."""

_PATH: Final = re.compile(r"/ocs/v([12])\.php(/.*)", re.DOTALL)
_PLACEHOLDER: Final = re.compile(r"\\\{(\w+)(:path)?\\\}")
_NO_CACHE: Final = ("Cache-Control", "no-cache, no-store, must-revalidate")
_UNKNOWN_MESSAGE: Final = (
    "Invalid query, please check the syntax. API specifications are here: "
    "http://www.freedesktop.org/wiki/Specifications/open-collaboration-services.\n"
)
_SERVER_ERROR_MESSAGE: Final = "Internal Server Error\n"


def _segment(placeholder: re.Match[str]) -> str:
    return f"(?P<{placeholder[1]}>{'.+' if placeholder[2] else '[^/]+'})"


class _Table:
    """Finds the endpoint of a path: by name where it is fixed, by pattern where it is not."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._fixed: dict[str, dict[str, Endpoint]] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], dict[str, Endpoint]]] = {}
        for endpoint in endpoints:
            if "{" in endpoint.path:
                pattern = re.compile(_PLACEHOLDER.sub(_segment, re.escape(endpoint.path)))
                _, verbs = self._patterns.setdefault(endpoint.path, (pattern, {}))
            else:
                verbs = self._fixed.setdefault(endpoint.path, {})
            if endpoint.method in verbs:
                raise ValueError(f"{endpoint.method} {endpoint.path} is declared twice")
            verbs[endpoint.method] = endpoint

    def find(self, path: str) -> tuple[Mapping[str, Endpoint], dict[str, str]]:
        """The endpoints of a path by verb, none if it is unknown, and its placeholders.

        Where a fixed path has the form of a pattern too, its verbs are its own: no route of
        AppAPI needs the others.
        """
        if path in self._fixed:
            return self._fixed[path], {}
        for pattern, verbs in self._patterns.values():
            if found := pattern.fullmatch(path):
                return verbs, found.groupdict()
        return {}, {}


class _Reply:
    """What is known of a request while it is being answered."""

    __slots__ = (
        "accept",
        "body",
        "caller",
        "format",
        "headers",
        "is_unknown",
        "note",
        "query",
        "request",
        "version",
    )

    def __init__(self, request: Request, version: int) -> None:
        self.request = request
        self.version = version
        self.caller = Caller()
        self.body = b""
        self.note = ""
        self.is_unknown = False
        self.headers: list[tuple[str, str]] = [_NO_CACHE]
        self.accept = request.headers.get("accept", "")
        self.query = parsed_query(request.scope.get("query_string", b""))
        self.format = chosen_format(self.query.get("format"), self.accept)


class OCSApplication:
    """The ASGI application of everything below `/ocs/`.

    Args:
        host: whose API this is.
        families: whose endpoints are served.
    """

    def __init__(self, host: Host, families: Iterable[Family]) -> None:
        self._host = host
        version = host.settings.nextcloud_version
        self._endpoints = [
            endpoint
            for family in families
            for endpoint in family.endpoints
            if endpoint.rules.since <= version <= endpoint.rules.until
        ]
        self._table = _Table(self._endpoints)
        self._description: Response | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever it is."""
        if scope["path"] == DESCRIPTION_PATH and scope["method"] in ("GET", "HEAD"):
            await self._described()(scope, receive, send)
            return
        started = time.perf_counter()
        at = time.time()
        found = _PATH.fullmatch(scope["path"])
        reply = _Reply(Request(scope, receive), int(found[1]) if found else 1)
        rendered = Rendered(0, "", b"")
        try:
            rendered = await self._answered(reply, found[2] if found else "")
        except ClientDisconnect:
            reply.note = "the client went away before its request was complete"
            return
        finally:
            await self._emit(reply, rendered, time.perf_counter() - started, at)
        headers = [*reply.headers, ("Content-Type", rendered.content_type)]
        if rendered.status not in (204, 304):
            headers.append(("Content-Length", str(len(rendered.body))))
        await send(
            {
                "type": "http.response.start",
                "status": rendered.status,
                "headers": [
                    (name.encode("ascii"), value.encode("utf-8")) for name, value in headers
                ],
            }
        )
        shown = b"" if scope["method"] == "HEAD" else rendered.body
        await send({"type": "http.response.body", "body": shown})

    def _described(self) -> Response:
        if self._description is None:
            version = self._host.settings.aa_version
            self._description = JSONResponse(description(self._endpoints, version=version))
        return self._description

    async def _answered(self, reply: _Reply, path: str) -> Rendered:
        verbs, path_values = self._table.find(path)
        method = "GET" if reply.request.method == "HEAD" else reply.request.method
        if verbs and method not in verbs:
            served = ", ".join(sorted(verbs))
            reply.headers.append(("Allow", served))
            reply.note = f"{method} is not served here, only {served}"
            return Rendered(405, "text/xml; charset=UTF-8", b"")
        answer = await self._answer(reply, verbs.get(method), path_values)
        if isinstance(answer, File):
            return Rendered(200, answer.content_type, answer.content)
        message = ""
        if isinstance(answer, OCSRefusal):
            message = answer.message
            reply.note = answer.note
            if answer.is_bare:
                return render_bare(answer.statuscode, answer.data)
        reply.headers[1:1] = answer.headers  # in front of X-User-Id, as recorded
        format_name = reply.format if reply.format in FORMATS else "xml"
        is_early = answer.statuscode in (SERVER_ERROR, UNKNOWN_ROUTE)
        return render(
            reply.version,
            answer.statuscode,
            message,
            answer.data,
            format_name=format_name,
            is_early=is_early,
        )

    async def _answer(
        self, reply: _Reply, endpoint: Endpoint | None, path_values: Mapping[str, str]
    ) -> Answer | File | OCSRefusal:
        """Every way in which a call can end, as a value."""
        try:
            if endpoint is None:
                reply.is_unknown = True
                raise OCSRefusal(UNKNOWN_ROUTE, _UNKNOWN_MESSAGE, note="no such route")
            return await self._called(reply, endpoint, path_values)
        except OCSRefusal as refusal:
            return refusal
        except (ParameterError, RemoteProtocolError) as error:
            # A server in debug mode appends the text; a host for developers is always in it.
            return OCSRefusal(SERVER_ERROR, f"{_SERVER_ERROR_MESSAGE}{error}", note=str(error))
        except OCSError as error:
            return OCSRefusal(error.statuscode, error.message)
        except Throttled as error:
            return OCSRefusal(429, Throttled.MESSAGE, note=str(error))
        except ClientDisconnect:
            raise
        except Exception as error:
            # The one broad except of the web side: a bug of ours in one endpoint must neither end
            # the host nor leave the app without an answer.
            logger.exception("%s %s failed", reply.request.method, reply.request.url.path)
            note = f"{type(error).__name__}: {error}"
            return OCSRefusal(SERVER_ERROR, f"{_SERVER_ERROR_MESSAGE}{note}", note=note)

    async def _called(
        self, reply: _Reply, endpoint: Endpoint, path_values: Mapping[str, str]
    ) -> Answer | File:
        request = reply.request
        rules = endpoint.rules
        reply.caller = caller = await authenticate(
            self._host,
            request.scope["headers"],
            rules.auth,
            rules.while_disabled,
            address=client_address(request.scope),
        )
        if caller.user is not None:
            reply.headers.append(("X-User-Id", caller.user.user_id))
        reply.body = await _read_body(request, rules.max_body)
        given = merged(
            path=path_values,
            query=reply.query,
            content_type=request.headers.get("content-type", ""),
            body=reply.body,
        )
        reply.format = chosen_format(given.get("format"), reply.accept)
        if reply.format not in FORMATS:
            raise ParameterError(f"No responder registered for format {reply.format}!")
        arguments = {
            parameter.name: parameter.taken_from(given) for parameter in endpoint.parameters
        }
        call = Call(self._host, request, reply.body, caller.user, caller.app, path_values)
        result = await endpoint.handler(call, **arguments)
        answer = result if isinstance(result, (Answer, File)) else Answer(result)
        if isinstance(answer, Answer):
            etag = dict(answer.headers).get("ETag")
            if etag and request.headers.get("if-none-match", "").strip() == etag:
                # In v1 a failure of that code with the data, in v2 the HTTP status without any.
                return replace(answer, statuscode=304)
        return answer

    async def _emit(self, reply: _Reply, rendered: Rendered, seconds: float, at: float) -> None:
        request = reply.request
        app = reply.caller.app
        app_id = app.app_id if app else await claimed_app(self._host, request.headers)
        query = request.scope.get("query_string", b"")
        path = request.scope.get("raw_path") or request.scope["path"].encode()
        self._host.bus.emit(
            Exchange(
                Direction.APP_TO_HOST,
                app_id,
                request.method,
                (path + b"?" + query if query else path).decode("latin-1"),
                rendered.status,
                seconds,
                user_id=reply.caller.user.user_id if reply.caller.user else "",
                request_headers=masked_headers(
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in request.scope["headers"]
                ),
                request_body=reply.body[:SHOWN_BYTES],
                response_body=rendered.body[:SHOWN_BYTES],
                note=reply.note,
                at=at,
            )
        )
        if reply.is_unknown:
            tell_unserved(self._host, app_id, request.method, path.decode("latin-1"))


async def _read_body(request: Request, limit: int) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            raise OCSRefusal(
                413,
                "Request Entity Too Large",
                note=f"the body is longer than {limit} bytes",
                headers=[("Connection", "close")],  # the rest of the body is not read
            )
    return bytes(body)
