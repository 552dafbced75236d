"""One Docker Engine, or Podman: what we ask of it.

Whatever goes wrong comes out as an `EngineError` with cause and remedy.
"""

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, ClassVar, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from appapi_host.deploy.docker.connection import Connection
from appapi_host.deploy.docker.faults import EngineError
from appapi_host.deploy.docker.link import Link
from appapi_host.deploy.docker.streams import Request, Stream, frames, messages
from appapi_host.fronts import PROXY_USER

__all__ = ["Engine", "EngineError"]

T = TypeVar("T")

Lines = AbstractAsyncContextManager[AsyncIterator[dict[str, Any]]]
"""The messages of an answer as they come, while the block is not left."""

Chunks = AbstractAsyncContextManager[AsyncIterator[bytes]]


class Engine(Link):
    """One engine; made as the link to it is."""

    silence: ClassVar[float] = 300.0
    """Seconds that a pull or build may say nothing before the connection counts as cut."""

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
