"""One request, from its head to the beginning of its answer.

The protocol itself is WsgiDAV's: conditions, ranges, `PUT`, `MKCOL`, and property updates that
happen all or not at all. Where Nextcloud does something of its own, or the library would answer in
another form, the method is here. `COPY` and `MOVE` are among them, because the library un-escapes
the destination before it takes the URL apart, and so loses names with `?` and `;` in them.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from wsgidav.dav_error import DAVError, get_http_status_string
from wsgidav.dav_provider import DAVProvider
from wsgidav.request_server import RequestServer

from appapi_host.files.archive import ARCHIVES, archive, chosen
from appapi_host.files.node_resources import FolderResource, node_resource
from appapi_host.files.nodes import not_found, split_path
from appapi_host.files.properties import http_date
from appapi_host.files.refusals import Refusal, translated
from appapi_host.files.resources import Collection, Resource
from appapi_host.files.search import filtered, parse_search
from appapi_host.files.systemtags import find_relation, find_tag
from appapi_host.files.trashbin import find_trashed
from appapi_host.files.uploads import find_upload
from appapi_host.files.versions import find_version
from appapi_host.files.work import Environ, Target, work_of
from appapi_host.files.xml import DAV, Element, Multistatus, clean, render_error

__all__ = [
    "BLOCK_BYTES",
    "METHODS",
    "SERVED",
    "XML_METHODS",
    "Requests",
    "Tree",
    "destination",
    "find_resource",
    "render",
]

# It logs what it refuses, with tracebacks; what matters of that is in the host's own output.
logging.getLogger("wsgidav").setLevel(logging.CRITICAL + 1)

BLOCK_BYTES: Final = 256 * 1024
"""How much of a file is in memory at once."""

METHODS: Final = (
    "OPTIONS",
    "GET",
    "HEAD",
    "PUT",
    "DELETE",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "POST",
    "SEARCH",
    "REPORT",
)
XML_METHODS: Final = frozenset({"PROPFIND", "PROPPATCH", "SEARCH", "REPORT"})
"""Methods whose body, if there is one, is XML."""

Headers = list[tuple[str, str]]
StartResponse = Callable[[str, Headers], object]

_ONE_RANGE: Final = re.compile(r"bytes=(?:[0-9]+-[0-9]*|-[0-9]+)", re.IGNORECASE)
_MULTISTATUS: Final = "207 Multi-Status"
_XML_TYPE: Final = "application/xml; charset=utf-8"


class Tree(DAVProvider):
    """Finds the resource of a path."""

    def __init__(self) -> None:
        super().__init__()
        self.verbose = 0

    def get_resource_inst(self, path: str, environ: Environ) -> Resource | None:
        """The resource of a path, None if there is none."""
        return find_resource(environ, split_path(path))


def find_resource(environ: Environ, names: tuple[str, ...]) -> Resource | None:
    """The resource of a path, None if there is none, or if it is another user's."""
    work = work_of(environ)
    user_id = work.owner.user_id
    if not names:
        return Collection(
            environ,
            (),
            lambda: (
                found
                for name in (*_OF_USERS, "systemtags")
                if (found := find_resource(environ, (name,)))
            ),
        )
    if names[0] == "systemtags":
        return find_tag(environ, names)
    if names[0] == "systemtags-relations":
        return find_relation(environ, names)
    find = _OF_USERS.get(names[0])
    if find is None:
        return None
    if len(names) == 1:
        return Collection(environ, names, lambda: iter(_present(find(environ, (*names, user_id)))))
    return find(environ, names) if names[1] == user_id else None


def _present(resource: Resource | None) -> list[Resource]:
    return [] if resource is None else [resource]


def _find_file(environ: Environ, names: tuple[str, ...]) -> Resource | None:
    work = work_of(environ)
    node = work.store.find(work.owner.user_id, names[2:])
    return None if node is None else node_resource(environ, names, node)


_OF_USERS: Final = {
    "files": _find_file,
    "trashbin": find_trashed,
    "uploads": find_upload,
    "versions": find_version,
}
"""First part of a path → what finds the rest, all of the user whom the second part names."""

SERVED: Final = frozenset({*_OF_USERS, "systemtags", "systemtags-relations"})
"""First parts of the paths of this host; the real one has calendars, comments and more."""


def destination(header: str, base: str, legacy: tuple[str, ...]) -> tuple[str, ...]:
    """The path that a `Destination` header names.

    Which host it names does not matter: apps reach this one under names of their own.

    Args:
        header: an absolute URL, or its path.
        base: the part of the URL in front of the path, of the request itself.
        legacy: what comes in front of a path below `/remote.php/webdav`.

    Raises:
        Refusal: it leads elsewhere.
    """
    try:
        path = urlsplit(header, allow_fragments=False).path
        text = unquote_to_bytes(path).decode()
    except ValueError:
        raise Refusal(400, "The destination is no URL") from None
    text = text.removeprefix("/index.php")
    for root, prefix in (("/remote.php/dav", ()), ("/remote.php/webdav", legacy)):
        if text == root or text.startswith(f"{root}/"):
            return (*prefix, *split_path(text[len(root) :]))
    raise Refusal(403, f"Requested uri ({text}) is out of base uri ({base}/)")


class Requests(RequestServer):
    """Answers one request."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree)
        self._possible_methods = list(METHODS)

    def _existing(self, environ: Environ) -> Resource:
        resource = self._davProvider.get_resource_inst(environ["PATH_INFO"], environ)
        if resource is None:
            raise not_found(split_path(environ["PATH_INFO"])[2:])
        assert isinstance(resource, Resource)
        return resource

    def _answer(
        self, start_response: StartResponse, status: int, headers: Iterable[tuple[str, str]] = ()
    ) -> list[bytes]:
        start_response(get_http_status_string(status), [("Content-Length", "0"), *headers])
        return [b""]

    # Reading

    def do_OPTIONS(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        """Say what can be done."""
        headers = [
            ("Allow", ", ".join(METHODS)),
            ("DAV", "1, 3"),
            ("DASL", "<DAV:basicsearch>"),
            ("MS-Author-Via", "DAV"),
            ("Accept-Ranges", "bytes"),
        ]
        return self._answer(start_response, 200, headers)

    def do_GET(self, environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        """Hand out a file, or a folder as an archive."""
        resource = self._existing(environ)
        if resource.is_collection:
            return self._folder(resource, environ, start_response)
        # The library takes a body that comes with it for an error.
        environ["CONTENT_LENGTH"] = "0"
        if not _ONE_RANGE.fullmatch(environ.get("HTTP_RANGE", "")):
            # Of several ranges it would answer the last; the real server answers everything.
            environ.pop("HTTP_RANGE", None)
        found: Iterator[bytes] = super().do_GET(environ, start_response)
        return found

    def do_HEAD(self, environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        """The same without the content."""
        resource = self._existing(environ)
        if resource.is_collection:
            headers = []
            if isinstance(resource, FolderResource):
                headers = [
                    ("OC-ETag", f'"{resource.node.etag}"'),
                    ("Last-Modified", http_date(resource.node.mtime)),
                ]
            return iter(self._answer(start_response, 200, headers))
        environ["CONTENT_LENGTH"] = "0"
        found: Iterator[bytes] = super().do_HEAD(environ, start_response)
        return found

    def _folder(
        self, resource: Resource, environ: Environ, start_response: StartResponse
    ) -> Iterator[bytes]:
        query = parse_qs(environ["QUERY_STRING"])
        accepted = query.get("accept", environ.get("HTTP_ACCEPT", "").split(","))
        kinds = [ARCHIVES[text.strip()] for text in accepted if text.strip() in ARCHIVES]
        if not kinds or not isinstance(resource, FolderResource):
            text = (
                b"This is the WebDAV interface. It can only be accessed by WebDAV clients such as "
                b"the Nextcloud desktop sync client."
            )
            headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
            start_response("200 OK", headers)
            return iter([text])
        work = resource.work
        names = query.get("files", [environ.get("HTTP_X_NC_FILES", "")])[0]
        nodes = chosen(work.store, resource.node, names)
        name = f"{resource.node.name or 'download'}.{kinds[0]}"
        plain = name.encode("ascii", "replace").decode().replace('"', "_").replace("\\", "_")
        kind = "application/zip" if kinds[0] == "zip" else "application/x-tar"
        headers = [
            ("Content-Type", kind),
            ("Content-Disposition", f'attachment; filename="{plain}"'),
        ]
        start_response("200 OK", headers)
        return archive(kinds[0], work.store, resource.node, nodes)

    def do_PROPFIND(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        """List properties, of a folder also those of what is in it."""
        resource = self._existing(environ)
        self._evaluate_if_headers(resource, environ)
        depth = environ.get("HTTP_DEPTH", "1")
        if depth not in ("0", "infinity"):
            depth = "1"  # for anything else too, as the real server does
        root = self._body(environ)
        names: tuple[str, ...] | None = None
        kind = "allprop"
        if root is not None:
            if root.tag != f"{DAV}propfind":
                raise Refusal(400, f"Expected a propfind, not {root.tag}")
            for child in root:
                if child.tag == f"{DAV}prop":
                    names, kind = tuple(prop.tag for prop in child), "prop"
                elif child.tag == f"{DAV}propname":
                    kind = "propname"
        answer = Multistatus()
        for found in resource.descendants(depth):
            if kind == "propname":
                answer.add(found.get_href(), dict.fromkeys(found.property_names(), ""), {})
            else:
                _add(answer, found, names)
        return self._multistatus(answer.render(), start_response)

    def do_SEARCH(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        """Find files."""
        work = work_of(environ)
        query = parse_search(self._required_body(environ))
        answer = Multistatus()
        for node in query.run(work.store, work.owner.user_id):
            names = ("files", work.owner.user_id, *node.names)
            _add(answer, node_resource(environ, names, node), query.select or None)
        return self._multistatus(answer.render(), start_response)

    def do_REPORT(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        """Find favorites and files with a tag."""
        resource = self._existing(environ)
        if not isinstance(resource, FolderResource):
            raise Refusal(415, "Reports are about folders of files")
        work = resource.work
        names, nodes = filtered(self._required_body(environ), work.store, resource.node)
        answer = Multistatus()
        for node in nodes:
            path = ("files", work.owner.user_id, *node.names)
            _add(answer, node_resource(environ, path, node), names or None)
        return self._multistatus(answer.render(), start_response)

    def _multistatus(self, body: bytes, start_response: StartResponse) -> list[bytes]:
        headers = [("Content-Type", _XML_TYPE), ("Content-Length", str(len(body)))]
        start_response(_MULTISTATUS, [*headers, ("Vary", "Brief,Prefer"), ("DAV", "1, 3")])
        return [body]

    def _body(self, environ: Environ) -> Element | None:
        root = environ.get("appapi_host.xml")
        assert root is None or isinstance(root, Element)
        return root

    def _required_body(self, environ: Environ) -> Element:
        root = self._body(environ)
        if root is None:
            raise Refusal(400, "The request has no body")
        return root

    # Writing

    def do_PUT(self, environ: Environ, start_response: StartResponse) -> Any:
        """Store a file; see the library for the rest."""
        path = environ["PATH_INFO"]
        resource = self._davProvider.get_resource_inst(path, environ)
        names = split_path(path)
        if names[:1] == ("systemtags-relations",) and len(names) == 4:
            return self._answer(start_response, self._existing(environ).put_relation())
        if resource is None:
            parent = find_resource(environ, names[:-1])
            if parent is None or not parent.is_collection:
                raise Refusal(409, "Files cannot be created in non-existent collections")
            if "HTTP_IF_MATCH" in environ:
                raise Refusal(
                    412,
                    "An If-Match header was specified and the resource did not exist",
                )
        elif resource.is_collection:
            raise Refusal(409, "PUT is not allowed on non-files.")
        return super().do_PUT(environ, start_response)

    def do_MKCOL(self, environ: Environ, start_response: StartResponse) -> Any:
        """Make a folder; see the library for the rest."""
        names = split_path(environ["PATH_INFO"])
        if find_resource(environ, names) is not None:
            raise Refusal(405, "The resource you tried to create already exists")
        parent = find_resource(environ, names[:-1])
        if parent is None or not parent.is_collection:
            raise Refusal(409, "Parent node does not exist")
        return super().do_MKCOL(environ, start_response)

    def do_DELETE(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        """Delete something: a file goes to the trash."""
        resource = self._existing(environ)
        self._evaluate_if_headers(resource, environ)
        resource.remove()
        return self._answer(start_response, 204)

    def do_POST(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        """Make a tag."""
        resource = self._existing(environ)
        body = environ["appapi_host.body"]
        status = resource.post(body, environ.get("CONTENT_TYPE", ""))
        return self._answer(start_response, status)

    def _copy_or_move(
        self,
        environ: Environ,
        start_response: StartResponse,
        is_move: bool,  # noqa: FBT001  # as the library calls it
    ) -> list[bytes]:
        resource = self._existing(environ)
        if "HTTP_DESTINATION" not in environ:
            raise Refusal(400, "The destination header was not supplied")
        overwrite = environ.get("HTTP_OVERWRITE", "T")
        if overwrite not in ("T", "F"):
            raise Refusal(400, "The HTTP Overwrite header should be either T or F")
        depth = environ.get("HTTP_DEPTH", "infinity")
        if depth not in ("0", "infinity"):
            raise Refusal(400, "The HTTP Depth header may only be 0 or infinity")
        work = work_of(environ)
        target = Target(
            destination(environ["HTTP_DESTINATION"], work.base, ("files", work.owner.user_id)),
            overwrite=overwrite == "T",
            is_shallow=depth == "0",
        )
        self._evaluate_if_headers(resource, environ)
        is_new = resource.move_to(target) if is_move else resource.copy_to(target)
        return self._answer(start_response, 201 if is_new else 204)


def _add(answer: Multistatus, resource: Resource, names: Sequence[str] | None) -> None:
    """Append the properties of a resource, those that are asked for or the usual ones."""
    wanted = resource.defaults if names is None else names
    values = {name: resource.value(name) for name in dict.fromkeys(wanted)}
    found = {name: value for name, value in values.items() if value is not None}
    missing = [] if names is None else [name for name in values if name not in found]
    answer.add(resource.get_href(), found, {"404 Not Found": missing})


def render(server: Requests, environ: Environ) -> tuple[int, Headers, Iterable[bytes], str]:
    """Answer a request, whatever it is.

    Returns:
        Status, headers, pieces of the body, and why it was refused, for the host's own output.
    """
    work = work_of(environ)
    started: list[tuple[str, Headers]] = []

    def start_response(status: str, headers: Headers, _error: object = None) -> None:
        started.append((status, headers))

    try:
        with translated():
            pieces = iter(server(environ, start_response))
            first = next(pieces, b"")
    except (DAVError, Refusal) as error:
        return _refused(error, environ)
    status, headers = started[0]
    code = int(status[:3])
    if code in (200, 206) and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
        return code, headers, _chained(first, pieces), ""
    body = b"".join((first, *pieces))
    if code == 207 and environ["REQUEST_METHOD"] == "PROPPATCH":
        body = _prefixed(body)
        headers = [("Content-Type", _XML_TYPE), ("Content-Length", str(len(body)))]
    elif code != 207:
        # The library says in HTML that all is well.
        kept = [pair for pair in headers if pair[0] not in ("Content-Type", "Content-Length")]
        body, headers = b"", [*kept, ("Content-Length", "0")]
    return code, [*headers, *work.headers], [body], ""


def _chained(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield first
        yield from pieces
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


def _refused(
    error: DAVError | Refusal, environ: Environ
) -> tuple[int, Headers, Iterable[bytes], str]:
    refusal = _as_refusal(error) if isinstance(error, DAVError) else error
    if refusal.status == 304:
        return 304, [], [], ""
    body = render_error(refusal.exception, refusal.message)
    headers = [("Content-Type", _XML_TYPE), ("Content-Length", str(len(body)))]
    if refusal.status == 416 and isinstance(error, DAVError):
        headers += error.add_headers or []
    shown = b"" if environ["REQUEST_METHOD"] == "HEAD" else body
    return refusal.status, headers, [shown], refusal.note


def _as_refusal(error: DAVError) -> Refusal:
    """What the library made of an error, unmade if it was one of ours."""
    if error.src_exception is not None:
        try:
            with translated():
                raise error.src_exception
        except Refusal as refusal:
            return refusal
    return Refusal(error.value, error.context_info or get_http_status_string(error))


def _prefixed(body: bytes) -> bytes:
    """The library's answer to a property update, with the prefixes of the real server."""
    root, _ = clean(body)
    answer = Multistatus()
    for response in root.iterfind(f"{DAV}response"):
        href = response.findtext(f"{DAV}href") or ""
        found: dict[str, str] = {}
        others: dict[str, list[str]] = {}
        for propstat in response.iterfind(f"{DAV}propstat"):
            status = (propstat.findtext(f"{DAV}status") or "").removeprefix("HTTP/1.1 ")
            names = [prop.tag for prop in propstat.iterfind(f"{DAV}prop/*")]
            if status.startswith("200"):
                found |= dict.fromkeys(names, "")
            else:
                others[status] = names
        answer.add(href, found, others)
    return answer.render()
