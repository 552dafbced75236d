"""One Docker Engine, or Podman: how it is reached, and what we ask of it.

The only module that knows the library. Its calls block, so they run in worker threads: reads and
waits are left behind when their deadline comes, what changes something runs to its end, which a
socket timeout bounds. Whatever goes wrong comes out as an `EngineError` with cause and remedy.
"""

import base64
import http.client
import json
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import docker
import docker.auth
import docker.errors
import docker.tls
import requests
import urllib3.exceptions

from appapi_host.deploy.docker.faults import EngineError, explain
from appapi_host.deploy.docker.streams import (
    CONNECT_SECONDS,
    Request,
    Stream,
    StreamRefused,
    frames,
    messages,
)
from appapi_host.records import Daemon
from appapi_host.settings import LOOPBACK_ADDRESSES

__all__ = ["Address", "Engine", "EngineError"]

PROXY_USER: Final = "app_api_haproxy_user"
"""The name that AppAPI's socket proxy knows; only its password can be chosen."""

OLDEST_VERSION: Final = (1, 40)
"""First API with `DeviceRequests`; Engine 19.03."""

NEWEST_VERSION: Final = (1, 44)
"""What AppAPI asks for at most since 32.0.3; Engine 29 still accepts it, and nothing older."""

FALLBACK_VERSION: Final = (1, 41)
"""For an engine that does not say: the version of AppAPI 32.0.0."""

REQUEST_SECONDS: Final = 120
"""One request that changes something. A busy engine can take long to start a container."""

SILENCE_SECONDS: Final = 300.0
"""How long a pull or build may say nothing before the connection counts as cut."""

_STREAMS: Final = 200
"""Streams and requests at once on one engine; each has a thread."""

T = TypeVar("T")

Lines = AbstractAsyncContextManager[AsyncIterator[dict[str, Any]]]
"""The messages of an answer as they come, while the block is not left."""

Chunks = AbstractAsyncContextManager[AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Address:
    """How an engine is reached; equal addresses share a connection.

    Args:
        url: `unix:///…`, `http://…` or `https://…`.
        shown: the same for people.
        password: of a socket proxy, else empty.
        ca, cert, key: paths of PEM files, else empty.
    """

    url: str
    shown: str
    password: str = field(default="", repr=False)
    ca: str = ""
    cert: str = ""
    key: str = ""

    @classmethod
    def of(cls, daemon: Daemon, environ: Mapping[str, str]) -> "Address":
        """The address in a daemon config.

        Keys of `deploy_config`: `haproxy_password`, and of ours `tls`: `{ca, cert, key}`, or
        `{cert_path}` for a folder in the layout of `DOCKER_CERT_PATH`. That variable itself counts
        where an https daemon has neither.
        """
        if daemon.host.startswith("/"):
            return cls(f"unix://{daemon.host}", daemon.host)
        config = daemon.deploy_config
        password = str(config.get("haproxy_password") or "")
        url = f"{daemon.protocol}://{daemon.host}"
        tls = dict(config.get("tls") or {})
        if daemon.protocol != "https":
            return cls(url, url, password)
        folder = str(tls.get("cert_path") or "")
        if not tls and not password:
            folder = environ.get("DOCKER_CERT_PATH", "")
        if folder:
            layout = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
            tls = {name: str(Path(folder) / file) for name, file in layout.items()} | {
                name: path for name, path in tls.items() if path
            }
        return cls(
            url, url, password, *(str(tls.get(name) or "") for name in ("ca", "cert", "key"))
        )

    @property
    def is_local(self) -> bool:
        """Whether the engine runs on this machine."""
        name = urlsplit(self.url).hostname or ""
        return self.url.startswith("unix:") or name in LOOPBACK_ADDRESSES or name.startswith("127.")


class Engine:
    """One connection to an engine, made with the first request.

    Args:
        address: how it is reached.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.is_podman = False
        self._client: docker.APIClient | None = None
        self._context: ssl.SSLContext | None = None
        self._connecting = anyio.Lock()
        self._limiter = anyio.CapacityLimiter(_STREAMS)

    @property
    def shown(self) -> str:
        """How the engine is reached, for people."""
        return self.address.shown

    @property
    def is_proxied(self) -> bool:
        """Whether a socket proxy decides what we may ask."""
        return bool(self.address.password)

    async def connect(self) -> None:
        """Reach the engine and agree on a version of its API: one request, once.

        Raises:
            EngineError: it cannot be reached, is none, or is too old.
        """
        async with self._connecting:
            if self._client is None:
                attempt = _Attempt(self.address)
                try:
                    await self._run(attempt.make, wait=True)
                except BaseException:
                    attempt.give_up()
                    raise
                self._client, self._context, self.is_podman = attempt.result()

    async def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            await anyio.to_thread.run_sync(client.close)

    # Images

    async def image(self, reference: str) -> dict[str, Any] | None:
        """What the engine knows about an image that it has, else None."""
        return await self._found("no-image", "inspect_image", reference)

    async def own_images(self, references: list[str], label: str) -> list[str]:
        """Which of some images are there and carry a label."""
        filters = {"label": [label], "reference": references}
        found = await self._ask("images", filters=filters)
        tags = [tag for image in found for tag in image.get("RepoTags") or ()]
        return [reference for reference in references if reference in tags]

    def pull(self, reference: str) -> Lines:
        """Let the engine fetch an image; yields the messages of its stream.

        Credentials are those of the user's own Docker configuration, read anew, so that a
        `docker login` counts at once.
        """
        name, _, tag = reference.rpartition(":")
        if not name or "/" in tag:
            name, tag = reference, "latest"

        def request(client: docker.APIClient) -> Request:
            client.reload_config()
            registry, _ = docker.auth.resolve_repository_name(name)
            header = docker.auth.get_config_header(client, registry)
            return Request(
                "POST",
                _path(client, "/images/create"),
                {"fromImage": name, "tag": tag},
                {"X-Registry-Auth": _header(header)} if header else {},
                silence=SILENCE_SECONDS,
            )

        return self._stream(request, messages)

    def build(
        self,
        context: Iterator[bytes],
        *,
        reference: str,
        dockerfile: str,
        arguments: Mapping[str, str],
        labels: Mapping[str, str],
    ) -> Lines:
        """Let the engine build an image with its classic builder; yields what it says.

        Args:
            context: the tar that it builds from, piece by piece; read in another thread.
            reference: name and tag of the image.
            dockerfile: its path in the context.
            arguments: values for `ARG` instructions.
            labels: of the image.
        """

        def request(client: docker.APIClient) -> Request:
            # Base images may be private: the user's own credentials, as for a pull.
            config: Any = docker.auth.load_config(credstore_env=client.credstore_env)
            credentials = config.get_all_credentials()
            headers = {"Content-Type": "application/x-tar"}
            if credentials:
                headers["X-Registry-Config"] = _header(docker.auth.encode_header(credentials))
            return Request(
                "POST",
                _path(client, "/build"),
                {
                    "t": reference,
                    "dockerfile": dockerfile,
                    "buildargs": json.dumps(dict(arguments)),
                    "labels": json.dumps(dict(labels)),
                    "rm": "1",
                    "forcerm": "1",
                },
                headers,
                context,
                SILENCE_SECONDS,
            )

        return self._stream(request, messages)

    async def remove_image(self, reference: str) -> bool:
        """Take a name from an image, and remove what has none left; whether it was there."""
        return await self._existed("remove_image", reference)

    # Containers

    async def create_volume(self, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
        """Create a volume if there is none of that name; returns what is there then."""
        created: dict[str, Any] = await self._ask("create_volume", name, labels=dict(labels))
        return created

    async def volume(self, name: str) -> dict[str, Any] | None:
        """What the engine knows about a volume, None if it is not there."""
        return await self._found("", "inspect_volume", name)

    async def remove_volume(self, name: str) -> bool:
        """Remove a volume; returns whether it was there."""
        return await self._existed("remove_volume", name)

    async def labelled_containers(self, label: str) -> list[dict[str, Any]]:
        """All containers that carry a label, those that have ended too."""
        found: list[dict[str, Any]] = await self._ask(
            "containers", all=True, filters={"label": [label]}
        )
        return found

    async def labelled_volumes(self, label: str) -> list[dict[str, Any]]:
        """All volumes that carry a label."""
        found = await self._ask("volumes", filters={"label": [label]})
        return list(found.get("Volumes") or ())

    async def create(self, name: str, body: Mapping[str, Any]) -> str:
        """Create a container; returns its id."""
        created = await self._ask("create_container_from_config", dict(body), name)
        return str(created["Id"])

    async def container(self, name: str) -> dict[str, Any] | None:
        """What the engine knows about a container, None if it is not there."""
        return await self._found("no-container", "inspect_container", name)

    async def start(self, container: str) -> bool:
        """Start a container; returns whether it did not run before."""
        await self.connect()
        status = await self._run(_started, self._connected(), container)
        return status != 304

    async def stop(self, container: str, seconds: float) -> bool:
        """Stop a container: SIGTERM, SIGKILL after the limit; returns whether it was there."""
        return await self._existed("stop", container, timeout=max(1, round(seconds)))

    async def remove(self, container: str) -> bool:
        """End and remove a container, not its volumes; returns whether it was there."""
        return await self._existed("remove_container", container, force=True)

    async def rename(self, container: str, name: str) -> None:
        """Give a container another name."""
        await self._ask("rename", container, name)

    async def network(self, name: str) -> dict[str, Any]:
        """What the engine knows about a network."""
        found: dict[str, Any] = await self._ask("inspect_network", name, wait=True)
        return found

    async def archive(self, container: str, path: str) -> bytes | None:
        """A file or folder of a container as tar, None if it is not there."""
        await self.connect()
        try:
            return await self._run(_archive, self._connected(), container, path, wait=True)
        except EngineError as error:
            if error.status == 404:
                return None
            raise

    async def upload(self, container: str, data: bytes) -> None:
        """Unpack a tar at the root of a container."""
        await self._ask("put_archive", container, "/", data)

    async def log(self, container: str, lines: int) -> bytes:
        """The last lines of what a container printed."""
        await self.connect()
        return await self._run(_log, self._connected(), container, lines, wait=True)

    def follow_log(self, container: str, *, tail: int | None = None, follow: bool = True) -> Chunks:
        """What a container prints until it ends, or has printed until now.

        Args:
            container: name or id.
            tail: begin with so many of the last lines; with all if not given.
            follow: wait for more.
        """
        params = {
            "stdout": "1",
            "stderr": "1",
            "follow": str(int(follow)),
            "tail": "all" if tail is None else str(tail),
        }

        def request(client: docker.APIClient) -> Request:
            return Request("GET", _path(client, f"/containers/{container}/logs"), params)

        return self._stream(request, frames)

    async def events(
        self, filters: Mapping[str, list[str]]
    ) -> tuple[Stream, Iterator[dict[str, Any]]]:
        """What happens on the engine, for a thread of the caller's own.

        Returns:
            The stream, to be closed by the caller, and its messages, to be read through it.

        Raises:
            EngineError: it was refused.
        """
        await self.connect()
        path = _path(self._connected(), "/events")
        stream = self._opening(lambda: Request("GET", path, {"filters": json.dumps(filters)}))
        try:
            pieces = await self._run(stream.open, wait=True)
        except BaseException:
            stream.close()
            raise
        return stream, messages(pieces)

    @asynccontextmanager
    async def _stream(
        self,
        request: Callable[[docker.APIClient], Request],
        parse: Callable[[Iterator[bytes]], Iterator[T]],
    ) -> AsyncIterator[AsyncIterator[T]]:
        """An answer that goes on; leaving the block ends the request.

        Args:
            request: what to ask for; runs in a thread.
            parse: takes the pieces of the answer apart.

        Raises:
            EngineError: the request was refused, or the connection cut. Errors that the engine
                tells within the stream are for the caller.
        """
        await self.connect()
        stream = self._opening(partial(request, self._connected()))
        try:
            yield self._each(stream, parse(await self._run(stream.open, wait=True)))
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(stream.close)

    async def _each(self, stream: Stream, items: Iterator[T]) -> AsyncIterator[T]:
        while (item := await self._run(stream.next, items, wait=True)) is not None:
            yield item

    def _opening(self, request: Callable[[], Request]) -> Stream:
        headers = {}
        if self.address.password:
            pair = f"{PROXY_USER}:{self.address.password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return Stream(self.address.url, self._context, headers, request)

    # Requests

    async def _ask(self, method: str, *args: Any, wait: bool = False, **options: Any) -> Any:
        """Call a method of the library."""
        await self.connect()
        return await self._run(
            partial(getattr(self._connected(), method), *args, **options), wait=wait
        )

    async def _found(self, kind: str, method: str, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = await self._ask(method, name, wait=True)
        except EngineError as error:
            if error.status == 404 or (kind and error.kind == kind):
                return None
            raise
        return found

    async def _existed(self, method: str, name: str, **options: Any) -> bool:
        try:
            await self._ask(method, name, **options)
        except EngineError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def _run(self, function: Callable[..., T], *args: Any, wait: bool = False) -> T:
        """Run something that blocks in a thread and translate what it raises.

        Args:
            function: what to run.
            args: its arguments.
            wait: it changes nothing, so a deadline need not wait for it.
        """
        try:
            return await anyio.to_thread.run_sync(
                function, *args, abandon_on_cancel=wait, limiter=self._limiter
            )
        except _FOREIGN as error:
            raise self.translated(error) from error

    def translated(self, error: BaseException) -> EngineError:
        """The same error with cause and remedy."""
        if isinstance(error, EngineError):
            return error
        if isinstance(error, docker.errors.APIError) and error.response is not None:
            said = _said(error.response)
            return explain(self.shown, said, status=error.response.status_code)
        if isinstance(error, StreamRefused):
            return explain(self.shown, _message(error.body), status=error.status)
        return explain(self.shown, _told(error))

    def _connected(self) -> docker.APIClient:
        if self._client is None:
            raise EngineError("closed", f"the connection to {self.shown} was closed")
        return self._client


_FOREIGN: Final = (
    docker.errors.DockerException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,  # of requests too: all its exceptions are
    ValueError,  # an answer that is no JSON, a certificate that is none
    StreamRefused,
)


_Connection = tuple[docker.APIClient, ssl.SSLContext | None, bool]


class _Attempt:
    """A connection that is being made in a thread, and that nobody may want any more."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._made: _Connection | None = None
        self._is_unwanted = False

    def make(self) -> None:
        """Make it, or raise what `_connected()` raises."""
        made = _connected(self._address)
        with self._lock:
            self._made = made
            is_unwanted = self._is_unwanted
        if is_unwanted:
            made[0].close()

    def give_up(self) -> None:
        """Close it, now or as soon as it is there."""
        with self._lock:
            self._is_unwanted = True
            made = self._made
        if made is not None:
            made[0].close()

    def result(self) -> _Connection:
        """What was made."""
        assert self._made is not None
        return self._made


def _connected(address: Address) -> _Connection:
    """A client that speaks the engine's version, TLS for streams, and whether it is Podman."""
    tls: docker.tls.TLSConfig | bool = False
    for file in filter(None, (address.ca, address.cert, address.key)):
        with open(file, "rb"):  # noqa: PTH123  # the error names the file; the library's does not
            pass
    if address.ca or address.cert:
        pair = (address.cert, address.key) if address.cert else None
        tls = docker.tls.TLSConfig(
            client_cert=pair, ca_cert=address.ca or None, verify=address.ca or True
        )
    if address.url.startswith("unix:"):
        # The library does not close a socket that it could not connect.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_SECONDS)
            probe.connect(urlsplit(address.url).path)
    # An explicit version: "auto" would ask GET /version, before the client is set up.
    client = docker.APIClient(
        base_url=address.url,
        version=_text(FALLBACK_VERSION),
        timeout=REQUEST_SECONDS,
        tls=tls,
        max_pool_size=32,
    )
    try:
        # Otherwise REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE win over the daemon's own CA.
        client.trust_env = False
        if address.url.startswith("https:") and not address.ca:
            client.verify = _system_authorities()
        if address.password:
            client.auth = (PROXY_USER, address.password)
        try:
            answer = client.get(f"{client.base_url}/_ping", timeout=(CONNECT_SECONDS, 30.0))
        except requests.ConnectionError as error:
            # In TLS 1.3 a client certificate is looked at after the handshake, and the engine may
            # have hung up before we read why.
            said = _told(error)
            if address.cert and ("EOF" in said or explain(address.shown, said).kind == "dropped"):
                raise explain(address.shown, "alert bad certificate") from error
            raise
        if answer.status_code == 404:
            raise _no_engine(address, answer)
        if answer.status_code >= 400:
            raise explain(address.shown, _said(answer), status=answer.status_code)
        version = _version(address, answer)
        client._version = _text(version)  # type: ignore[attr-defined]  # noqa: SLF001  # no setter
    except BaseException:
        client.close()
        raise
    headers = answer.headers
    is_podman = "Libpod-Api-Version" in headers or "Libpod" in headers.get("Server", "")
    return client, _context(address), is_podman


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


def _path(client: docker.APIClient, path: str) -> str:
    return f"/v{client.api_version}{path}"


def _url(client: docker.APIClient, path: str) -> str:
    return f"{client.base_url}{_path(client, path)}"


def _header(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _raise_for(response: requests.Response) -> None:
    """Raise what the library would, for requests that we make without it."""
    if response.status_code >= 400:
        raise docker.errors.APIError(str(response.status_code), response=response)


def _started(client: docker.APIClient, container: str) -> int:
    response = client.post(_url(client, f"/containers/{container}/start"), timeout=client.timeout)
    _raise_for(response)
    return response.status_code


def _archive(client: docker.APIClient, container: str, path: str) -> bytes:
    url = _url(client, f"/containers/{container}/archive")
    response = client.get(url, params={"path": path}, timeout=client.timeout)
    _raise_for(response)
    return response.content


def _log(client: docker.APIClient, container: str, lines: int) -> bytes:
    url = _url(client, f"/containers/{container}/logs")
    params: dict[str, Any] = {"stdout": 1, "stderr": 1, "tail": lines}
    response = client.get(url, params=params, timeout=client.timeout)
    _raise_for(response)
    return b"".join(frames(iter([response.content])))


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
