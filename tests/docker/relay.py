"""Something between two ends of a connection that holds it up, cuts it, or counts."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

Address = tuple[str, int] | Path

_CRAWL_SECONDS = 0.1
"""Between two pieces of 64 KiB at most: 0.6 MB/s."""


@dataclass
class Relay:
    """A listener that hands everything on to a target.

    Args:
        address: where it listens.
        target: to where it hands on.
        limit: bytes of each answer that are handed on, then `at_limit` decides; None for all.
        at_limit: `cut` ends both connections, `hold` waits until `release` is set, `crawl` hands on
            the rest slowly, in small pieces.
        before: called with the first bytes of each request before they are handed on.
        reached: set as soon as an answer has come to the limit.
        release: ends holding up.
    """

    address: Address
    target: Address
    limit: int | None = None
    at_limit: str = "cut"
    before: Callable[[bytes], None] | None = None
    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    is_severed: bool = False
    _open: set[socket.socket] = field(default_factory=set)

    def sever(self) -> None:
        """Cut all connections, and have no other until `mend()`."""
        self.is_severed = True
        _end(*self._open)

    def mend(self) -> None:
        """Let connections through again."""
        self.is_severed = False

    @property
    def name(self) -> str:
        """Host and port, or the path."""
        if isinstance(self.address, Path):
            return str(self.address)
        return f"localhost:{self.address[1]}"

    def serve(self, client: socket.socket) -> None:
        """One connection, to its end."""
        with client, _socket(self.target) as server, suppress(OSError):
            if self.is_severed:
                return
            server.connect(_plain(self.target))
            self._open |= {client, server}
            back = threading.Thread(target=self._request, args=(client, server), daemon=True)
            back.start()
            self._answer(server, client)
            back.join()
            self._open -= {client, server}

    def _request(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self.before is not None:
                    self.before(data)
                server.sendall(data)
        _end(client, server)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        sent = 0
        with suppress(OSError):
            while data := server.recv(65536):
                limit = self.limit
                if limit is not None and sent + len(data) > limit:
                    client.sendall(data[: max(0, limit - sent)])
                    self.reached.set()
                    if self.at_limit == "cut":
                        break
                    self.release.wait(_CRAWL_SECONDS if self.at_limit == "crawl" else None)
                    data = data[max(0, limit - sent) :]
                client.sendall(data)
                sent += len(data)
        _end(client, server)


@contextmanager
def relay(target: Address, path: Path | None = None, **options: object) -> Iterator[Relay]:
    """A relay that runs inside the block.

    Args:
        target: to where it hands on.
        path: of the unix socket that it listens on; a port of 127.0.0.1 if not given.
        options: see `Relay`.
    """
    with _socket(path or ("", 0)) as listener:
        listener.bind(str(path) if path else ("127.0.0.1", 0))
        listener.listen()
        found = Relay(path or listener.getsockname(), target, **options)  # type: ignore[arg-type]

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=found.serve, args=(client,), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield found
        finally:
            found.release.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            if path:
                path.unlink()


def _socket(address: Address) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM)


def _plain(address: Address) -> str | tuple[str, int]:
    return str(address) if isinstance(address, Path) else address


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
