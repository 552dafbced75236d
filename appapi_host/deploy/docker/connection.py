"""The edge to the engine's library: the only module that knows it, and what it raises.

Everything here blocks, so it is called from worker threads. `FOREIGN` is what may come out of it,
and `translated()` what to say about that.
"""

import http.client
import json
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import docker
import docker.auth
import docker.credentials.errors
import docker.errors
import docker.tls
import docker.transport.unixconn
import requests
import urllib3.exceptions

from appapi_host.deploy.docker.address import Address
from appapi_host.deploy.docker.faults import PROXY_PAGE, PROXY_STATUSES, EngineError, explain
from appapi_host.deploy.docker.streams import CONNECT_SECONDS, StreamRefused, frames
from appapi_host.fronts import PROXY_USER

__all__ = ["FOREIGN", "Attempt", "Connection", "translated"]

OLDEST_VERSION: Final = (1, 40)
"""First API with `DeviceRequests`; Engine 19.03."""

NEWEST_VERSION: Final = (1, 44)
"""What AppAPI asks for at most since 32.0.3; Engine 29 still accepts it, and nothing older."""

FALLBACK_VERSION: Final = (1, 41)
"""For an engine that does not say: the version of AppAPI 32.0.0."""

REQUEST_SECONDS: Final = 120
"""One request that changes something. A busy engine can take long to start a container."""

FOREIGN: Final = (
    docker.errors.DockerException,
    docker.credentials.errors.StoreError,  # of a helper that lists what it has
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,  # of requests too: all its exceptions are
    ValueError,  # an answer that is no JSON, a certificate that is none
    StreamRefused,
)
"""What calls of a connection raise, besides `EngineError`; `translated()` knows what it means."""


class Connection:
    """A client of the engine's library, in the version that the engine speaks.

    Args:
        client: set up and tried.
        context: TLS for connections that the library does not make.
        is_podman: whether the engine is Podman.
    """

    def __init__(
        self, client: docker.APIClient, context: ssl.SSLContext | None, *, is_podman: bool
    ) -> None:
        self._client = client
        self.context = context
        self.is_podman = is_podman

    def close(self) -> None:
        """Close what is open."""
        self._client.close()

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of the library."""
        return getattr(self._client, method)(*args, **options)

    def path(self, path: str) -> str:
        """The same with the version in front."""
        return f"/v{self._client.api_version}{path}"

    def credentials(self, name: str) -> dict[str, str]:
        """The header for a pull: what the user's Docker configuration says, read anew."""
        config = self._config()
        registry, _ = docker.auth.resolve_repository_name(name)
        _check_helpers(config.get_credential_store(registry))
        found = config.resolve_authconfig(registry)
        return {"X-Registry-Auth": _header(docker.auth.encode_header(found))} if found else {}

    def all_credentials(self) -> dict[str, str]:
        """The header for a build, whose base images may be private; read anew."""
        config = self._config()
        _check_helpers(config.creds_store, *config.cred_helpers.values())
        credentials = config.get_all_credentials()
        if not credentials:
            return {}
        return {"X-Registry-Config": _header(docker.auth.encode_header(credentials))}

    def _config(self) -> Any:
        return docker.auth.load_config(credstore_env=self._client.credstore_env)

    def start(self, container: str) -> int:
        """Start a container; returns the status, 304 if it runs already."""
        return self._post(f"/containers/{container}/start").status_code

    def archive(self, container: str, path: str) -> bytes:
        """A file or folder of a container as tar."""
        return self._get(f"/containers/{container}/archive", {"path": path}).content

    def command(self, container: str, words: list[str]) -> str:
        """The id of a command that is to run in a container; it is not started yet."""
        wanted = {"Cmd": words, "AttachStdout": True}
        return str(self._post(f"/containers/{container}/exec", wanted).json()["Id"])

    def log(self, container: str, lines: int, until: str) -> bytes:
        """The last lines of what a container printed, with `until` up to that time."""
        params = {"stdout": 1, "stderr": 1, "tail": lines} | ({"until": until} if until else {})
        response = self._get(f"/containers/{container}/logs", params)
        return b"".join(frames(iter([response.content])))

    def _post(self, path: str, body: Mapping[str, Any] | None = None) -> requests.Response:
        return self._checked(
            self._client.post(self._url(path), json=body, timeout=self._client.timeout)
        )

    def _get(self, path: str, params: Mapping[str, Any]) -> requests.Response:
        url = self._url(path)
        return self._checked(self._client.get(url, params=params, timeout=self._client.timeout))

    def _url(self, path: str) -> str:
        return f"{self._client.base_url}{self.path(path)}"

    def _checked(self, response: requests.Response) -> requests.Response:
        """Raise what the library would, for requests that we make without it."""
        if response.status_code >= 400:
            raise docker.errors.APIError(str(response.status_code), response=response)
        return response


class Attempt:
    """A connection that is being made in a thread, and that nobody may want any more."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._made: Connection | None = None
        self._error: BaseException | None = None
        self._is_unwanted = False

    def make(self) -> None:
        """Make it; what that raises is raised by `result()`."""
        try:
            made = _connected(self._address)
        except BaseException as error:  # noqa: BLE001  # nobody looks at this thread
            self._error = error
            return
        with self._lock:
            self._made = made
            is_unwanted = self._is_unwanted
        if is_unwanted:
            made.close()

    def give_up(self) -> None:
        """Close it, now or as soon as it is there."""
        with self._lock:
            self._is_unwanted = True
            made = self._made
        if made is not None:
            made.close()

    def result(self) -> Connection:
        """What was made.

        Raises:
            BaseException: what `_connected()` raised.
        """
        if self._error is not None:
            raise self._error
        assert self._made is not None
        return self._made


def translated(shown: str, error: BaseException) -> EngineError:
    """An error of the library or of a stream with cause and remedy.

    Args:
        shown: how the engine is reached, for people.
        error: one of `FOREIGN`, or an `EngineError` already.
    """
    if isinstance(error, EngineError):
        return error
    if isinstance(error, docker.errors.APIError) and error.response is not None:
        said = _said(error.response)
        return explain(shown, said, status=error.response.status_code)
    if isinstance(error, StreamRefused):
        return explain(shown, _message(error.body), status=error.status)
    return explain(shown, _told(error))


class _UnixConnection(docker.transport.unixconn.UnixHTTPConnection):
    """The library does not close a socket that it could not connect."""

    def connect(self) -> None:
        connecting = socket.socket(socket.AF_UNIX)
        connecting.settimeout(self.timeout)
        try:
            connecting.connect(self.unix_socket)
        except BaseException:
            connecting.close()
            raise
        self.sock = connecting


def _new_connection(pool: Any) -> _UnixConnection:
    return _UnixConnection(pool.base_url, pool.socket_path, pool.timeout)


class _UnixPool(docker.transport.unixconn.UnixHTTPConnectionPool):
    # Without further parameters, as in the library: urllib3-future, which takes the place of
    # urllib3 beside nc_py_api, tells by that what it has before it.
    _new_conn: Any = _new_connection


class _UnixAdapter(docker.transport.unixconn.UnixHTTPAdapter):
    def get_connection(self, url: Any, proxies: Any = None) -> _UnixPool:
        with self.pools.lock:
            pool = self.pools.get(url)
            if pool is None:
                pool = _UnixPool(url, self.socket_path, self.timeout, maxsize=self.max_pool_size)
                self.pools[url] = pool
        return pool


def _connected(address: Address) -> Connection:
    """A connection whose client speaks the engine's version."""
    tls: docker.tls.TLSConfig | bool = False
    for file in filter(None, (address.ca, address.cert, address.key)):
        _check_readable(address, Path(file))
    if address.ca or address.cert:
        pair = (address.cert, address.key) if address.cert else None
        tls = docker.tls.TLSConfig(
            client_cert=pair, ca_cert=address.ca or None, verify=address.ca or True
        )
    # An explicit version: "auto" would ask GET /version, before the client is set up.
    client = docker.APIClient(
        base_url=address.url,
        version=_text(FALLBACK_VERSION),
        timeout=REQUEST_SECONDS,
        tls=tls,
        max_pool_size=32,
    )
    if address.url.startswith("unix:"):
        path = urlsplit(address.url).path
        client.mount("http+docker://", _UnixAdapter(path, REQUEST_SECONDS, max_pool_size=32))
    try:
        # Otherwise REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE win over the daemon's own CA.
        client.trust_env = False
        if address.url.startswith("https:") and not address.ca:
            client.verify = _system_authorities()
        if address.password:
            client.auth = (PROXY_USER, address.password)
        answer = _pinged(client, address)
        version = _version(address, answer)
        client._version = _text(version)  # type: ignore[attr-defined]  # noqa: SLF001  # no setter
    except BaseException:
        client.close()
        raise
    headers = answer.headers
    is_podman = "Libpod-Api-Version" in headers or "Libpod" in headers.get("Server", "")
    return Connection(client, _context(address), is_podman=is_podman)


def _pinged(client: docker.APIClient, address: Address) -> requests.Response:
    """What an engine says when it is asked whether it is there."""
    try:
        answer = client.get(f"{client.base_url}/_ping", timeout=(CONNECT_SECONDS, 30.0))
    except requests.ConnectionError as error:
        # In TLS 1.3 a client certificate is looked at after the handshake, and the engine may
        # have hung up before we read why.
        said = _told(error)
        if address.cert and ("EOF" in said or explain(address.shown, said).kind == "dropped"):
            raise explain(address.shown, "alert bad certificate") from error
        if address.url.startswith("http:") and _speaks_tls(address):
            # An engine says so; a proxy hangs up on what it cannot read.
            speaks = "HTTP request to an HTTPS server"
            raise explain(address.shown, speaks, status=400) from error
        raise
    if answer.status_code == 404:
        raise _no_engine(address, answer)
    if answer.status_code in PROXY_STATUSES:
        raise explain(address.shown, PROXY_PAGE, status=answer.status_code)
    if answer.status_code >= 400:
        raise explain(address.shown, _said(answer), status=answer.status_code)
    return answer


def _speaks_tls(address: Address) -> bool:
    """Whether TLS is spoken where something else was tried."""
    parts = urlsplit(address.url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent
    try:
        where = parts.hostname or "", parts.port or 80
        with (
            socket.create_connection(where, CONNECT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname),
        ):
            return True
    except OSError:
        return False


def _check_readable(address: Address, path: Path) -> None:
    """See whether a certificate can be read; the library's error does not name the file."""
    try:
        path.open("rb").close()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        why = "is missing" if missing else f"cannot be read ({error.strerror})"
        raise EngineError(
            "certificate-file",
            f"a certificate file for {address.shown} {why}: {path}",
            remedy="check the paths of CA, certificate and key that the daemon was registered with",
        ) from error


def _context(address: Address) -> ssl.SSLContext | None:
    if not address.url.startswith("https:"):
        return None
    context = ssl.create_default_context(cafile=address.ca or None)
    if address.cert:
        context.load_cert_chain(address.cert, address.key or None)
    return context


def _version(address: Address, answer: requests.Response) -> tuple[int, int]:
    named = answer.headers.get("Api-Version", "")
    if not named:
        if answer.text.strip() == "OK":
            return FALLBACK_VERSION  # a proxy may take headers away
        raise _no_engine(address, answer)
    major, _, minor = named.partition(".")
    version = int(major), int(minor or 0)
    if version < OLDEST_VERSION:
        raise EngineError(
            "version",
            f"{address.shown} speaks version {named} of the Docker API, "
            f"{_text(OLDEST_VERSION)} is the oldest that will do",
            remedy="update the Docker Engine to 20.10 or later",
        )
    return min(version, NEWEST_VERSION)


def _no_engine(address: Address, answer: requests.Response) -> EngineError:
    return EngineError(
        "no-engine",
        f"{address.shown} is not a Docker Engine: GET /_ping was answered with "
        f"{answer.status_code} {' '.join(answer.text.split())[:60]!r}",
        remedy="check host and port, or the path of the socket",
    )


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _system_authorities() -> str | bool:
    """The CAs that this machine trusts, instead of those that the library brings."""
    paths = ssl.get_default_verify_paths()
    for path in (paths.cafile, "/etc/ssl/certs/ca-certificates.crt", paths.capath):
        if path and os.path.exists(path):  # noqa: PTH110  # text in, text out
            return path
    return True


def _check_helpers(*names: str | None) -> None:
    """See whether credential helpers are there; the library warns where nobody may look."""
    for name in names:
        if name and shutil.which(f"docker-credential-{name}") is None:
            raise EngineError(
                "credential-helper",
                f"the Docker configuration names a credential helper docker-credential-{name}, "
                "which is not on PATH",
                remedy="install it, or take it out of credsStore and credHelpers in "
                "~/.docker/config.json and sign in again with `docker login`",
            )


def _header(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _said(response: requests.Response) -> str:
    """What an engine, or what stands before it, said about a refusal."""
    return _message(response.content) or response.reason or ""


def _message(body: bytes) -> str:
    try:
        said = json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
    if not isinstance(said, dict):
        return str(said)
    return str(said.get("message") or said.get("cause") or said)


def _told(error: BaseException) -> str:
    """What an error and those that it came from say; the reason is often the innermost."""
    texts: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(texts) < 10:
        texts.append(f"{type(seen).__name__}: {seen}")
        seen = seen.__cause__ or seen.__context__
    return " | ".join(texts)
