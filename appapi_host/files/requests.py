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
from urllib.parse import parse_qs

from wsgidav.dav_error import get_http_status_string
from wsgidav.request_server import RequestServer

from appapi_host.files.answers import XML_TYPE, Headers
from appapi_host.files.archive import ARCHIVES, archive, chosen
from appapi_host.files.node_resources import FolderResource, node_resource
from appapi_host.files.nodes import not_found, split_path
from appapi_host.files.properties import http_date
from appapi_host.files.refusals import Refusal
from appapi_host.files.resources import Resource
from appapi_host.files.search import filtered, parse_search
from appapi_host.files.tree import Tree, destination, find_resource
from appapi_host.files.work import Environ, Target, work_of
from appapi_host.files.xml import DAV, Element, Multistatus

__all__ = ["BLOCK_BYTES", "METHODS", "XML_METHODS", "Requests"]

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

StartResponse = Callable[[str, Headers], object]

_ONE_RANGE: Final = re.compile(r"bytes=(?:[0-9]+-[0-9]*|-[0-9]+)", re.IGNORECASE)
_MULTISTATUS: Final = "207 Multi-Status"


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
        headers = [("Content-Type", XML_TYPE), ("Content-Length", str(len(body)))]
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
