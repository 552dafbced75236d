"""What the library answers, in the form of the real server."""

from collections.abc import Iterable, Iterator
from typing import Final

from wsgidav.dav_error import DAVError, get_http_status_string
from wsgidav.request_server import RequestServer

from appapi_host.files.refusals import Refusal, translated
from appapi_host.files.work import Environ, work_of
from appapi_host.files.xml import DAV, Multistatus, clean, render_error

__all__ = ["XML_TYPE", "Headers", "render"]

Headers = list[tuple[str, str]]

XML_TYPE: Final = "application/xml; charset=utf-8"


def render(server: RequestServer, environ: Environ) -> tuple[int, Headers, Iterable[bytes], str]:
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
        headers = [("Content-Type", XML_TYPE), ("Content-Length", str(len(body)))]
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
    headers = [("Content-Type", XML_TYPE), ("Content-Length", str(len(body)))]
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
