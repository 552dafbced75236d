"""The host, asked by the app: the only place of this package that speaks HTTP.

Source: AppAPI documentation, Authentication; behaviour of nc_py_api 0.30.3 on the wire.
"""

import http.cookiejar
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import parse_qsl, quote

import anyio
import anyio.to_thread
import httpx
from pydantic import TypeAdapter, ValidationError

from exapp_sdk.errors import (
    ExAppError,
    LocalProtocolError,
    OCSError,
    RemoteProtocolError,
    TransportError,
)
from exapp_sdk.protocol.capabilities import GET_CAPABILITIES
from exapp_sdk.protocol.environ import Settings
from exapp_sdk.protocol.log import WRITE_LOG, LogLevel
from exapp_sdk.protocol.ocs import THROTTLED, Endpoint, Envelope
from exapp_sdk.protocol.status import GET_STATE, REPORT_STATUS
from exapp_sdk.protocol.users import LIST_USERS

__all__ = ["FAILURES", "Failure", "Nextcloud", "Retry", "Transport", "tls_context"]

DataT = TypeVar("DataT")
Transport = httpx.AsyncBaseTransport

_TIMEOUT: Final = 30.0
"""Seconds without a byte from the host; what nc_py_api waits."""

_ENABLE_TIMEOUT: Final = 150.0
"""Seconds for the report of 100: the host asks for a heartbeat (30) and enables the app (60) within
it, and may have to start a container before."""

_IDLE: Final = 4.0
"""Seconds that an idle connection is kept: less than the 5 after which Apache and uvicorn close."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_GATEWAY: Final = frozenset({502, 503, 504})
_PASSING: Final = _GATEWAY | {THROTTLED}
"""Answers that may be different a moment later."""

_CA_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, CentOS, AlmaLinux
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS, FreeBSD
)
"""Where the operating systems keep the certificates they trust. AppAPI adds those of the instance
there, and a Python that was built elsewhere does not look there."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What an error of the HTTP client means.

    Args:
        error: our class for it.
        reason: in words; the client's own words are appended where there are any.
        was_sent: the host may have received the request.
    """

    error: type[ExAppError]
    reason: str
    was_sent: bool = False


FAILURES: Final[Mapping[type[Exception], Failure]] = {
    httpx.HTTPError: Failure(TransportError, "the request failed", was_sent=True),
    httpx.RequestError: Failure(TransportError, "the request failed", was_sent=True),
    httpx.TransportError: Failure(TransportError, "the request failed", was_sent=True),
    httpx.TimeoutException: Failure(TransportError, "timed out", was_sent=True),
    httpx.ConnectTimeout: Failure(TransportError, "no connection in time"),
    httpx.PoolTimeout: Failure(TransportError, "no connection was free in time"),
    httpx.ReadTimeout: Failure(TransportError, "no answer in time", was_sent=True),
    httpx.WriteTimeout: Failure(TransportError, "sending took too long", was_sent=True),
    httpx.NetworkError: Failure(TransportError, "the network failed", was_sent=True),
    httpx.ConnectError: Failure(TransportError, "could not connect"),
    httpx.ReadError: Failure(TransportError, "the connection broke", was_sent=True),
    httpx.WriteError: Failure(TransportError, "the connection broke", was_sent=True),
    httpx.CloseError: Failure(TransportError, "the connection broke", was_sent=True),
    httpx.ProxyError: Failure(TransportError, "the proxy failed"),
    httpx.ProtocolError: Failure(TransportError, "HTTP was broken", was_sent=True),
    # What a closed keep-alive connection looks like, too: hence no RemoteProtocolError of ours.
    httpx.RemoteProtocolError: Failure(TransportError, "the connection broke", was_sent=True),
    httpx.LocalProtocolError: Failure(LocalProtocolError, "the request breaks HTTP"),
    httpx.UnsupportedProtocol: Failure(LocalProtocolError, "the address is no http(s) address"),
    httpx.InvalidURL: Failure(LocalProtocolError, "the address is malformed"),
    httpx.CookieConflict: Failure(LocalProtocolError, "cookies are not used"),
    httpx.StreamError: Failure(LocalProtocolError, "the body was used wrongly"),
    httpx.StreamConsumed: Failure(LocalProtocolError, "the body was used wrongly"),
    httpx.StreamClosed: Failure(LocalProtocolError, "the body was used wrongly"),
    httpx.RequestNotRead: Failure(LocalProtocolError, "the body was used wrongly"),
    httpx.ResponseNotRead: Failure(LocalProtocolError, "the body was used wrongly"),
    httpx.DecodingError: Failure(RemoteProtocolError, "the answer cannot be decoded"),
    httpx.TooManyRedirects: Failure(RemoteProtocolError, "the answer is a redirect"),
    httpx.HTTPStatusError: Failure(RemoteProtocolError, "the answer is an error"),
}
"""Every exception of the HTTP client; a test compares the two."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How calls are repeated that may be repeated.

    Args:
        pauses: seconds before each repetition; the first is short, because a connection that the
            host had closed meanwhile is all that is wrong with it.
        longest: seconds that a `Retry-After` is obeyed at most.
        sleep: how to wait.
    """

    pauses: tuple[float, ...] = (0.05, 0.5)
    longest: float = 5.0
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep


class Nextcloud:
    """Asks the host in the name of the app, or of one of its users.

    One pool of connections per app, opened when it is first needed and closed with the app.

    Args:
        settings: who the app is, and where the host.
        transport: instead of the network, for tests.
        retry: how to repeat calls.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        transport: Transport | None = None,
        retry: Retry | None = None,
    ) -> None:
        self._pool = _Pool(settings, transport, retry or Retry())
        self._user_id = ""

    @property
    def user_id(self) -> str:
        """In whose name calls are made; empty for the app itself."""
        return self._user_id

    def as_user(self, user_id: str) -> "Nextcloud":
        """The same client in a user's name; shares the connections.

        Args:
            user_id: of an existing user; empty for the app itself.

        Raises:
            ValueError: user ids contain no colon.
        """
        if ":" in user_id:
            raise ValueError(f"a user id contains no colon, {user_id!r} does")
        other = object.__new__(Nextcloud)
        other._pool, other._user_id = self._pool, user_id
        return other

    async def aclose(self) -> None:
        """Close all connections, those of `as_user()` too. The app does this when it stops."""
        await self._pool.close()

    async def status(self, progress: int, *, error: str = "") -> None:
        """Report how far init has come. Handlers use `Progress`, which calls this.

        Args:
            progress: 0 to 100; 0 starts over; 100 ends init, and the host enables the app before
                it answers.
            error: why init failed; empty if it did not.

        Raises:
            LocalProtocolError: progress is out of range.
            OCSError: the host refuses, for instance because the app is disabled.
            TransportError: `outcome_unknown` when the host may have received it.

        Source: AppAPI documentation, App Installation Flow, Init.
        """
        if not 0 <= progress <= 100:
            raise LocalProtocolError(f"progress must be within 0..100, not {progress!r}")
        timeout = _ENABLE_TIMEOUT if progress == 100 else _TIMEOUT
        await self._call(REPORT_STATUS, {"progress": progress, "error": error}, timeout)

    async def state(self) -> bool:
        """Ask whether the host has the app enabled; it says yes during init, too.

        Raises:
            ExAppError: as for `call()`. A host that cannot be reached has not said no.
        """
        enabled = await self.call(GET_STATE)
        return bool(enabled)

    async def log(self, level: LogLevel, message: str) -> None:
        """Write a line into the log of the host.

        Raises:
            ExAppError: as for `call()`.

        Source: AppAPI documentation, Logging.
        """
        await self.call(WRITE_LOG, level=int(level), message=message)

    async def capabilities(self) -> dict[str, Any]:
        """What the host is and can do: `{"version": {...}, "capabilities": {...}}`.

        Raises:
            ExAppError: as for `call()`.
        """
        return await self.call(GET_CAPABILITIES)

    async def users(self) -> list[str]:
        """Ids of all users.

        Raises:
            ExAppError: as for `call()`.

        Source: AppAPI documentation, Users.
        """
        return await self.call(LIST_USERS)

    async def call(self, endpoint: Endpoint[DataT], **params: Any) -> DataT:
        """Make a call that is described by a value.

        Args:
            endpoint: the call.
            params: by name; those in the path fill it, the others go into the query of a `GET` or
                `DELETE` and into the JSON body otherwise.

        Raises:
            OCSError: the host refused.
            TransportError: the host could not be reached, or did not answer.
            RemoteProtocolError: the answer is no OCS answer, or its data have another type.
            LocalProtocolError: a parameter of the path is missing, or the app does not run.
        """
        return await self._call(endpoint, params, _TIMEOUT)

    async def ocs(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        version: int = 1,
    ) -> Any:
        """Make any OCS call, and return its data unchecked.

        Args:
            method: HTTP verb; `GET` is repeated after failures, everything else only when it was
                not sent.
            path: behind `/ocs/v1.php`, for instance `/cloud/user`.
            params: the query; lists as PHP wants them, None is left out.
            json: the body.
            version: 1 or 2, of the OCS protocol.

        Raises:
            ExAppError: as for `call()`.
        """
        if not path.startswith("/") or version not in (1, 2):
            raise LocalProtocolError(f"no OCS path, or no version of OCS: {path!r}, {version!r}")
        request = _Request(method.upper(), f"/ocs/v{version}.php{path}", params or {}, json)
        return await self._pool.send(request, self._user_id, repeatable=request.method in _SAFE)

    async def _call(
        self, endpoint: Endpoint[DataT], params: Mapping[str, Any], seconds: float
    ) -> DataT:
        rest = dict(params)
        try:
            path = _fill(endpoint.path, rest)
        except KeyError as missing:
            raise LocalProtocolError(f"{endpoint.path} needs {missing}") from None
        in_query = endpoint.method in _SAFE or endpoint.method == "DELETE"
        request = _Request(
            endpoint.method,
            f"/ocs/v1.php{path}",
            rest if in_query else {},
            None if in_query or not rest else rest,
            seconds,
        )
        repeatable = endpoint.idempotent or endpoint.method in _SAFE
        data = await self._pool.send(request, self._user_id, repeatable=repeatable)
        return _check(endpoint, data)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    params: Mapping[str, Any]
    json: Any = None
    timeout: float = _TIMEOUT


class _Pool:
    """The connections, and what every request on them has in common."""

    def __init__(self, settings: Settings, transport: Transport | None, retry: Retry) -> None:
        self._settings = settings
        self._transport = transport
        self._retry = retry
        self._opening = anyio.Lock()
        self._client: httpx.AsyncClient | None = None
        self._is_closed = False

    async def send(self, request: _Request, user_id: str, *, repeatable: bool) -> Any:
        """Send a request, again where that is safe, and unwrap the answer."""
        target = f"{request.method} {self._settings.nextcloud_url}{request.path}"
        pauses = iter(self._retry.pauses)
        while True:
            response = None
            try:
                response = await self._send_once(request, user_id, target)
                return self._unwrap(response, target)
            except (OCSError, TransportError) as error:
                pause = next(pauses, None)
                if pause is None or not _may_repeat(error, repeatable=repeatable):
                    raise
                asked = response.headers.get("retry-after", "") if response is not None else ""
            wished = float(asked) if asked.isascii() and asked.isdigit() else 0.0
            await self._retry.sleep(max(pause, min(wished, self._retry.longest)))

    async def _send_once(self, request: _Request, user_id: str, target: str) -> httpx.Response:
        client = await self._open()
        credentials = replace(self._settings.credentials, user_id=user_id)
        headers = {
            # As bytes, because the client refuses text outside ASCII, which a version may contain.
            name.encode(): value.encode()
            for name, value in credentials.headers(aa_version=self._settings.aa_version)
        }
        path, _, query = request.path.partition("?")
        pairs = (("format", "json"), *parse_qsl(query), *_query(request.params))
        try:
            return await client.request(
                request.method,
                self._settings.nextcloud_url + path,
                params=pairs,
                json=request.json,
                headers=headers,
                timeout=request.timeout,
            )
        except tuple(FAILURES) as error:
            raise self._translate(error, target) from error

    async def _open(self) -> httpx.AsyncClient:
        if self._is_closed:
            raise LocalProtocolError("the client was closed together with the app")
        async with self._opening:
            if self._client is None:
                self._client = self._make_client(self._transport or await self._network())
            return self._client

    async def _network(self) -> Transport:
        verify: ssl.SSLContext | bool = False  # reading certificates takes a while
        if self._settings.nextcloud_url.lower().startswith("https:"):
            verify = await anyio.to_thread.run_sync(tls_context)
        limits = httpx.Limits(
            max_connections=100, max_keepalive_connections=20, keepalive_expiry=_IDLE
        )
        return httpx.AsyncHTTPTransport(verify=verify, limits=limits, trust_env=False)

    def _make_client(self, transport: Transport) -> httpx.AsyncClient:
        settings = self._settings
        agent = f"ExApp/{settings.app_id}/{settings.app_version}"
        # The host sets session cookies with every answer. They are worth nothing to an app, and
        # would travel from one user's call to another's.
        no_cookies = http.cookiejar.CookieJar(
            http.cookiejar.DefaultCookiePolicy(allowed_domains=())
        )
        return httpx.AsyncClient(
            transport=transport,
            trust_env=False,
            cookies=no_cookies,
            headers={
                b"user-agent": f"{agent} (exapp-sdk/{_OWN_VERSION})".encode(),
                b"ocs-apirequest": b"true",
                b"accept": b"application/json",
            },
        )

    def _translate(self, error: Exception, target: str) -> ExAppError:
        kind = next(kind for kind in type(error).__mro__ if kind in FAILURES)
        failure = FAILURES[kind]
        words = self._settings.app_secret.mask(" ".join(str(error).split()))
        reason = f"{failure.reason} ({words})" if words else failure.reason
        if failure.error is TransportError:
            return TransportError(target, reason, outcome_unknown=failure.was_sent)
        return failure.error(f"{target}: {reason}")

    def _unwrap(self, response: httpx.Response, target: str) -> Any:
        status = response.status_code
        if status == 204:
            return []
        if response.has_redirect_location:
            raise RemoteProtocolError(
                f"{target} leads to {response.headers['location']}: "
                "NEXTCLOUD_URL must be the address where the host itself answers"
            )
        try:
            envelope = Envelope.from_json(response.content)
        except RemoteProtocolError as error:
            raise self._without_envelope(response, target, error) from None
        if not envelope.is_success:
            raise OCSError(envelope.statuscode, envelope.message, target=target)
        return envelope.data

    def _without_envelope(
        self, response: httpx.Response, target: str, error: RemoteProtocolError
    ) -> ExAppError:
        """What stands between us and the host says no, or the host outside of OCS."""
        status = response.status_code
        if status in _GATEWAY:
            return TransportError(target, f"answered with {status}", outcome_unknown=True)
        if status == 304 or status == THROTTLED:
            return OCSError(status, response.reason_phrase, target=target)
        try:
            message = response.json()["message"]
        except (ValueError, KeyError, TypeError):
            words = self._settings.app_secret.mask(str(error))
            return RemoteProtocolError(f"{target} answered with {status}: {words}")
        return OCSError(status, str(message), target=target)

    async def close(self) -> None:
        self._is_closed = True
        if self._client is not None:
            await self._client.aclose()


def _may_repeat(error: OCSError | TransportError, *, repeatable: bool) -> bool:
    if isinstance(error, OCSError):
        return repeatable and error.statuscode in _PASSING
    if not error.outcome_unknown:
        return True  # it never left
    # Who has waited for half a minute wants to hear of it, not to wait twice more.
    return repeatable and not isinstance(error.__cause__, httpx.TimeoutException)


def _fill(path: str, params: dict[str, Any]) -> str:
    """Fill `{name}` in a path, and take those parameters away."""
    return re.sub(r"\{(\w+)\}", lambda found: quote(str(params.pop(found[1])), safe=""), path)


def _query(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs as PHP reads them: lists as `name[]`, booleans as 1 and 0, no None."""
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        if isinstance(value, (list, tuple)):
            pairs += [(f"{name}[]", _text(entry)) for entry in value]
        elif value is not None:
            pairs.append((name, _text(value)))
    return pairs


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


@lru_cache(maxsize=256)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _check(endpoint: Endpoint[DataT], data: Any) -> DataT:
    adapter: TypeAdapter[DataT] = _adapter(cast("Any", endpoint.data))
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        if data == []:  # PHP has one type for both, so this may be an empty object
            try:
                return adapter.validate_python({})
            except ValidationError:
                pass
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in ("data", *problem["loc"]))
        raise RemoteProtocolError(
            f"{endpoint.method} {endpoint.path} was answered with other data than it should be: "
            f"{where}: {problem['msg']}"
        ) from error


def _own_version() -> str:
    try:
        return distribution_version("exapp-sdk")
    except PackageNotFoundError:  # copied into an image without its metadata
        return "0"


# With the module, which is imported in a thread: both look through the files of what is installed,
# pydantic once per process.
_OWN_VERSION: Final = _own_version()
TypeAdapter(int)


def tls_context(bundles: Iterable[str] = _CA_BUNDLES) -> ssl.SSLContext:
    """Trust what the operating system trusts, or what `SSL_CERT_FILE` names.

    Args:
        bundles: files to try when this Python does not know where the system keeps them.
    """
    context = ssl.create_default_context()
    known = ssl.get_default_verify_paths()  # names only what exists
    if not (known.cafile or known.capath):
        for bundle in bundles:
            if Path(bundle).is_file():
                context.load_verify_locations(bundle)
                break
    return context
