"""The files of the users over HTTP: everything below `/remote.php/`.

Source: Nextcloud developer manual, WebDAV; AppAPI documentation, Authentication.
"""

import logging
import re
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

import anyio
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from appapi_host.callers import Caller, claimed_app, identify_caller, tell_unserved
from appapi_host.events import Direction, Exchange, masked_headers
from appapi_host.files.answers import render
from appapi_host.files.nodes import split_path
from appapi_host.files.properties import Owner
from appapi_host.files.refusals import Refusal
from appapi_host.files.requests import BLOCK_BYTES, METHODS, XML_METHODS, Requests
from appapi_host.files.store import Store
from appapi_host.files.tree import SERVED, Tree
from appapi_host.files.work import Upload, Work
from appapi_host.files.wsgi import Body, Gone, in_thread, send_answer
from appapi_host.files.xml import MAX_XML_BYTES, clean, render_error
from appapi_host.host import Host
from appapi_host.records import User
from appapi_host.throttling import Throttled, client_address

__all__ = ["FilesApplication"]

logger = logging.getLogger(__name__)

DAV_BASE: Final = "/remote.php/dav"
LEGACY_BASE: Final = "/remote.php/webdav"
"""The same files without the user in the path, as it was before there was anything but files."""

MAX_BODY_BYTES: Final = 64 * 1024
"""Longest body of a request that needs none."""

WORKERS: Final = 40
"""Requests for files at once, each in a thread; more than that wait."""

SHOWN_BYTES: Final = 4096

_CHALLENGE: Final = ("WWW-Authenticate", 'Basic realm="Nextcloud", charset="UTF-8"')
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS: Final = (
    # What users uploaded is shown by nobody as a page of this host.
    ("Content-Security-Policy", "default-src 'none';"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store, must-revalidate"),
)
_TIMES: Final = re.compile(r"\s*[0-9]{1,11}(?:\.[0-9]+)?\s*")


@dataclass(slots=True)
class _Request:
    """What is known of a request while it is being answered."""

    scope: Scope
    caller: Caller = field(default_factory=Caller)
    status: int = 0
    seconds: float = 0.0
    note: str = ""
    is_unserved: bool = False
    request_body: bytes = b""
    response_body: bytes = b""


class FilesApplication:
    """The ASGI application of the files.

    Args:
        host: whose files.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._workers: anyio.CapacityLimiter | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever it is."""
        started, at = time.perf_counter(), time.time()
        request = _Request(scope)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
                request.seconds = time.perf_counter() - started
            await send(message)

        try:
            await self._answer(request, receive, watched)
        except Gone:
            request.note = "the client went away before its request was complete"
        finally:
            await self._emit(request, at)

    async def _answer(self, request: _Request, receive: Receive, send: Send) -> None:
        try:
            user = await self._user(request)
            base, names = self._path(request, user.user_id)
            store = await self._host.files.store()
            body, is_complete = await self._body(request, receive)
        except Refusal as refusal:
            await self._refuse(request, send, refusal)
            return
        if self._workers is None:
            self._workers = anyio.CapacityLimiter(WORKERS)
        await in_thread(
            partial(
                self._work,
                request,
                store,
                user,
                base,
                names,
                Body(receive, body, is_complete=is_complete),
                send,
            ),
            self._workers,
        )

    def _path(self, request: _Request, user_id: str) -> tuple[str, tuple[str, ...]]:
        """The part of the URL in front of the path, and the names of the path.

        Raises:
            Refusal: it is no path, or none of this host.
        """
        found = _path(request.scope, user_id)
        if found is None or (found[1] and found[1][0] not in SERVED):
            request.is_unserved = True
            raise Refusal(404, "Path not found.")
        return found

    async def _user(self, request: _Request) -> User:
        """Who asks.

        Raises:
            Refusal: nobody who may.
        """
        scope = request.scope
        try:
            request.caller = caller = await identify_caller(
                self._host, scope["headers"], address=client_address(scope)
            )
        except Throttled as error:
            raise Refusal(
                500,
                error.MESSAGE,
                exception="OCP\\Security\\Bruteforce\\MaxDelayReached",
                note=str(error),
            ) from None
        if caller.refusal:
            raise Refusal(401, "Username or password was incorrect", note=caller.refusal)
        if caller.user is None:
            raise Refusal(
                401,
                "No public access to this resource., No 'Authorization: Basic' header found. "
                "Either the client didn't send one, or the server is misconfigured",
                note="files need a user, and there is none",
            )
        if not caller.has_proof and scope["method"] not in _SAFE:
            raise Refusal(
                401,
                "CSRF check not passed.",
                note="a request by session needs the header OCS-APIRequest or a valid requesttoken",
            )
        return caller.user

    async def _body(self, request: _Request, receive: Receive) -> tuple[bytes, bool]:
        """The body, for requests in which it is short.

        Returns:
            What was read, and whether that is all.

        Raises:
            Refusal: it is too long.
        """
        if request.scope["method"] == "PUT":
            return b"", False
        is_xml = request.scope["method"] in XML_METHODS
        limit = MAX_XML_BYTES if is_xml else MAX_BODY_BYTES
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > limit:
                raise Refusal(413, f"The body is longer than {limit} bytes")
        request.request_body = bytes(body[:SHOWN_BYTES])
        return bytes(body), True

    async def _refuse(self, request: _Request, send: Send, refusal: Refusal) -> None:
        status, headers, body = _refusal_answer(request, refusal)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers],
            }
        )
        await send({"type": "http.response.body", "body": body})

    def _work(
        self,
        request: _Request,
        store: Store,
        user: User,
        base: str,
        names: tuple[str, ...],
        body: Body,
        send: Send,
    ) -> None:
        """Answer from a worker thread."""
        work: Work | None = None
        has_begun = False

        def begun() -> None:
            nonlocal has_begun
            has_begun = True

        try:
            environ = _environ(request.scope, names, body)
            work = Work(
                store,
                Owner(user.user_id, user.display_name or user.user_id),
                is_admin=user.is_admin,
                base=base,
                upload=_upload(request.scope),
                is_legacy=base == LEGACY_BASE,
                skip_trash=environ.get("HTTP_X_NC_SKIP_TRASHBIN") == "true",
            )
            environ["appapi_host.work"] = work
            server = _server(request.scope, environ)
            status, headers, pieces, request.note = render(server, environ)
            if isinstance(pieces, list):
                request.response_body = b"".join(pieces)[:SHOWN_BYTES]
            send_answer(send, status, [*headers, *_HEADERS], pieces, has_begun=begun)
        except Refusal as refusal:
            status, headers, content = _refusal_answer(request, refusal)
            send_answer(send, status, headers, [content])
        except Gone:
            raise
        except Exception as error:
            # The one broad except here: a bug of ours must not leave the client without an answer.
            if has_begun:
                raise
            logger.exception("%s %s failed", request.scope["method"], request.scope["path"])
            broken = Refusal(500, f"{type(error).__name__}: {error}")
            status, headers, content = _refusal_answer(request, broken)
            send_answer(send, status, headers, [content])
        finally:
            for part in work.parts if work is not None else ():
                part.discard()

    async def _emit(self, request: _Request, at: float) -> None:
        scope, caller = request.scope, request.caller
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]]
        path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        query: bytes = scope.get("query_string", b"")
        app_id = (
            caller.app.app_id if caller.app else await claimed_app(self._host, Headers(scope=scope))
        )
        self._host.bus.emit(
            Exchange(
                Direction.APP_TO_HOST,
                app_id,
                scope["method"],
                (path + b"?" + query if query else path).decode("latin-1"),
                request.status,
                request.seconds,
                user_id=caller.user.user_id if caller.user else "",
                request_headers=masked_headers(headers),
                request_body=request.request_body,
                response_body=request.response_body,
                note=request.note,
                at=at,
            )
        )
        if request.is_unserved:
            tell_unserved(self._host, app_id, scope["method"], path.decode("latin-1"))


def _path(scope: Scope, user_id: str) -> tuple[str, tuple[str, ...]] | None:
    """The part of a URL in front of the path, and the names of the path; None if there is neither.

    Raises:
        Refusal: it is no path at all.
    """
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    try:
        path = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise Refusal(400, "The path is no valid text") from None
    for base, prefix in ((DAV_BASE, ()), (LEGACY_BASE, ("files", user_id))):
        if path == base or path.startswith(f"{base}/"):
            return base, (*prefix, *split_path(path[len(base) :]))
    return None


def _server(scope: Scope, environ: dict[str, Any]) -> Requests:

    method = scope["method"]
    if method not in METHODS:
        raise Refusal(
            501,
            f"There was no plugin in the system that was willing to handle this {method} method.",
        )
    if method != "PUT":
        data = environ["wsgi.input"].read()
        if method in XML_METHODS and data.strip():
            environ["appapi_host.xml"], data = clean(data)
        environ["appapi_host.body"] = data
        environ["wsgi.input"] = _Read(data)
        environ["CONTENT_LENGTH"] = str(len(data))
    return Requests(Tree())


class _Read:
    """What was read already, as a file."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int = -1) -> bytes:
        taken, self._data = self._data, b""
        return taken


def _environ(scope: Scope, names: tuple[str, ...], body: Body) -> dict[str, Any]:
    """The request as the library wants it.

    Source: PEP 3333, except that the path is text.
    """
    environ: dict[str, Any] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").upper().replace("-", "_")
        value = raw_value.decode("latin-1")
        key = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
        environ[key] = f"{environ[key]}, {value}" if key in environ else value

    tree_config = {"block_size": BLOCK_BYTES, "hotfixes": {}, "mutable_live_props": []}
    environ |= {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": "/" + "/".join(names),
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": body,
        "wsgidav.auth.user_name": "user",
        "wsgidav.config": tree_config,
        "wsgidav.provider": None,
        "wsgidav.verbose": 0,
    }
    return environ


def _upload(scope: Scope) -> Upload:
    """What the headers say of the content.

    Raises:
        Refusal: one of them cannot be read.
    """
    headers = Headers(scope=scope)

    def number(name: str) -> int | None:
        text = headers.get(name)
        if text is None or scope["method"] not in ("PUT", "MOVE"):
            return None
        if not (text.isascii() and text.strip().isdecimal() and len(text) < 19):
            raise Refusal(400, f"{name} is no number of bytes")
        return int(text)

    def seconds(name: str) -> float | None:
        text = headers.get(name)
        if text is None:
            return None
        if not _TIMES.fullmatch(text):
            raise Refusal(
                400, f'{name} header must be a valid integer (unix timestamp), got "{text}".'
            )
        return float(text)

    created = seconds("X-OC-CTime")
    return Upload(
        mtime=seconds("X-OC-MTime"),
        created=None if created is None else int(created),
        checksum=headers.get("OC-Checksum", "")[:255],
        length=number("Content-Length") if scope["method"] == "PUT" else None,
        total=number("OC-Total-Length"),
    )


def _refusal_answer(
    request: _Request, refusal: Refusal
) -> tuple[int, list[tuple[str, str]], bytes]:

    request.note = refusal.note
    body = render_error(refusal.exception, refusal.message)
    request.response_body = body[:SHOWN_BYTES]
    headers = [
        ("Content-Type", "application/xml; charset=utf-8"),
        ("Content-Length", str(len(body))),
        *_HEADERS,
    ]
    if refusal.status == 401:
        headers.append(_CHALLENGE)
    if refusal.status == 413:
        headers.append(("Connection", "close"))  # the rest of the body is not read
    return refusal.status, headers, b"" if request.scope["method"] == "HEAD" else body
