"""One Docker Engine, or Podman: what we ask of it.

The library below blocks, so its calls run in worker threads: reads and waits are left behind when
their deadline comes, what changes something runs to its end, which a socket timeout bounds.
Whatever goes wrong comes out as an `EngineError` with cause and remedy.
"""

import base64
import json
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from appapi_host.deploy.docker.address import Address
from appapi_host.deploy.docker.connection import (
    FOREIGN,
    Attempt,
    Connection,
    translated,
)
from appapi_host.deploy.docker.faults import EngineError
from appapi_host.deploy.docker.streams import Request, Stream, frames, messages
from appapi_host.fronts import PROXY_USER

__all__ = ["Engine", "EngineError"]

PATIENCE_SECONDS: Final = 30.0
"""How long an engine that has gone is waited for where nobody says otherwise."""

_RETRY_SECONDS: Final = 0.25
"""Until an engine that has gone is tried again; the time that it takes to start is longer."""

_CONNECT_SECONDS: Final = 60.0
"""An engine that has not been reached by then is away, whatever the library below waits for."""

_STREAMS: Final = 200
"""Streams and requests at once on one engine; each has a thread."""

T = TypeVar("T")

Lines = AbstractAsyncContextManager[AsyncIterator[dict[str, Any]]]
"""The messages of an answer as they come, while the block is not left."""

Chunks = AbstractAsyncContextManager[AsyncIterator[bytes]]


class Engine:
    """One connection to an engine, made with the first request.

    Args:
        address: how it is reached.
        patience: seconds that it may take to come back when it has gone.
        tell: told that it has gone, and that it is back.
    """

    silence: ClassVar[float] = 300.0
    """Seconds that a pull or build may say nothing before the connection counts as cut."""

    def __init__(
        self,
        address: Address,
        *,
        patience: float = PATIENCE_SECONDS,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.address = address
        self._patience = patience
        self._tell = tell
        self._is_gone = False
        self._returning = anyio.Lock()
        self._waiting = 0
        self._connection: Connection | None = None
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

    @property
    def is_podman(self) -> bool:
        """Whether the engine is Podman, as far as it has been asked."""
        return self._connection is not None and self._connection.is_podman

    async def connect(self) -> None:
        """Reach the engine and agree on a version of its API: one request, once.

        Raises:
            EngineError: it cannot be reached, is none, or is too old.
        """
        async with self._connecting:
            if self._connection is None:
                self._connection = await self._new_connection()

    async def is_there(self) -> bool:
        """Whether the engine accepts connections; the one that we have may outlive its end.

        Raises:
            EngineError: there is another reason that it cannot be used.
        """
        try:
            connection = await self._new_connection()
        except EngineError as error:
            if not error.is_unreachable:
                raise
            return False
        old, self._connection = self._connection, connection
        if old is not None:
            # Nobody waits for its end: it may still be in use in a thread that was left behind.
            threading.Thread(target=old.close, name="engine-closing", daemon=True).start()
        self._answers()
        return True

    def _answers(self) -> None:
        """Tell that it is back if it had gone; whoever noticed that may wait no more."""
        if self._is_gone:
            self._is_gone = False
            self._tell(f"the engine at {self.shown} is back")

    async def _is_there_again(self) -> bool:
        """The same for one that has gone, and may be starting."""
        try:
            return await self.is_there()
        except EngineError as error:
            if error.status or not self._is_gone:
                raise
            # Its socket is there before its group may use it, and a connection that is cut in the
            # middle of TLS looks like a refusal of our certificate.
            return False

    async def is_back(self, *, for_ever: bool = False) -> bool:
        """Wait for an engine that may have gone; returns whether it can be used again.

        Args:
            for_ever: wait as long as it takes.
        """
        self._waiting += 1
        try:
            with anyio.move_on_after(math.inf if for_ever else self._patience):
                async with self._returning:
                    while not await self._is_there_again():
                        if not self._is_gone:
                            self._is_gone = True
                            self._tell(f"the engine at {self.shown} has gone; waiting for it")
                        await anyio.sleep(_RETRY_SECONDS)
                return True
        finally:
            self._waiting -= 1
        if not self._waiting:
            self._is_gone = False  # given up, which is told; the next to wait says so anew
        return False

    def gone(self) -> EngineError:
        """What to say about one that did not come back."""
        return EngineError(
            "gone",
            f"the engine at {self.shown} has gone and was not back within {self._patience:g} s",
            remedy="start the Docker Engine (`systemctl start docker`) and try again",
        )

    async def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await anyio.to_thread.run_sync(connection.close)

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

        def request(connection: Connection) -> Request:
            return Request(
                "POST",
                connection.path("/images/create"),
                {"fromImage": name, "tag": tag},
                connection.credentials(name),
                silence=self.silence,
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

        def request(connection: Connection) -> Request:
            return Request(
                "POST",
                connection.path("/build"),
                {
                    "t": reference,
                    "dockerfile": dockerfile,
                    "buildargs": json.dumps(dict(arguments)),
                    "labels": json.dumps(dict(labels)),
                    "rm": "1",
                    "forcerm": "1",
                },
                {"Content-Type": "application/x-tar", **connection.all_credentials()},
                context,
                self.silence,
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
        return await self._run(self._connected().start, container) != 304

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
            return await self._run(self._connected().archive, container, path, wait=True)
        except EngineError as error:
            if error.status == 404:
                return None
            raise

    async def file(self, container: str, path: str) -> bytes | None:
        """A file of a container that runs, as far as `cat` in it can read it, else None.

        Raises:
            EngineError: the container does not run, or the engine cannot be asked.
        """
        await self.connect()
        try:
            command = await self._run(self._connected().command, container, ["cat", path])

            def start(connection: Connection) -> Request:
                # Its answer ends with the connection, which the library may leave open for long.
                return Request(
                    "POST",
                    connection.path(f"/exec/{command}/start"),
                    headers={"Content-Type": "application/json"},
                    body=[b'{"Detach": false, "Tty": false}'],
                )

            async with self._stream(start, frames) as printed:
                return b"".join([part async for part in printed]) or None
        except EngineError as error:
            if error.kind == "command":
                return None  # there is no `cat`
            raise

    async def upload(self, container: str, data: bytes) -> None:
        """Unpack a tar at the root of a container."""
        await self._ask("put_archive", container, "/", data)

    async def log(self, container: str, lines: int, *, until: str = "") -> bytes:
        """The last lines of what a container printed.

        Args:
            container: name or id.
            lines: how many.
            until: up to when, in seconds since 1970 with nine decimals; up to now if not given.
        """
        await self.connect()
        return await self._run(self._connected().log, container, lines, until, wait=True)

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

        def request(connection: Connection) -> Request:
            return Request("GET", connection.path(f"/containers/{container}/logs"), params)

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
        connection = self._connected()
        request = Request("GET", connection.path("/events"), {"filters": json.dumps(filters)})
        stream = self._opening(connection, lambda: request)
        try:
            pieces = await self._run(stream.open, wait=True)
        except BaseException:
            stream.close()
            raise
        self._answers()
        return stream, messages(pieces)

    @asynccontextmanager
    async def _stream(
        self,
        request: Callable[[Connection], Request],
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
        connection = self._connected()
        stream = self._opening(connection, partial(request, connection))
        try:
            yield self._each(stream, parse(await self._run(stream.open, wait=True)))
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(stream.close)

    async def _each(self, stream: Stream, items: Iterator[T]) -> AsyncIterator[T]:
        while (item := await self._run(stream.next, items, wait=True)) is not None:
            yield item

    def _opening(self, connection: Connection, request: Callable[[], Request]) -> Stream:
        headers = {}
        if self.address.password:
            pair = f"{PROXY_USER}:{self.address.password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return Stream(self.address.url, connection.context, headers, request)

    # Requests

    async def _new_connection(self) -> Connection:
        attempt = Attempt(self.address)
        made, token = anyio.Event(), anyio.lowlevel.current_token()

        def make() -> None:
            attempt.make()
            with suppress(Exception):  # the loop has ended before us
                anyio.from_thread.run_sync(made.set, token=token)

        # Not one of anyio's threads: no process could end before an engine that hangs has answered.
        threading.Thread(target=make, name="engine-connection", daemon=True).start()
        try:
            with anyio.fail_after(_CONNECT_SECONDS):
                await made.wait()
        except BaseException as error:
            attempt.give_up()
            if isinstance(error, TimeoutError):
                raise translated(self.shown, error) from error
            raise
        try:
            return attempt.result()
        except FOREIGN as error:
            raise translated(self.shown, error) from error

    async def _ask(self, method: str, *args: Any, wait: bool = False, **options: Any) -> Any:
        """Call a method of the library."""
        await self.connect()
        call = partial(self._connected().call, method, *args, **options)
        return await self._run(call, wait=wait)

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
        except FOREIGN as error:
            raise translated(self.shown, error) from error

    def _connected(self) -> Connection:
        if self._connection is None:
            raise EngineError("closed", f"the connection to {self.shown} was closed")
        return self._connection
