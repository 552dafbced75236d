"""Debian's image registry, started for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.docker.engines import accepts, process, until
from tests.ports import free_port


@dataclass(frozen=True)
class Registry:
    """A registry of ours.

    Args:
        address: `localhost:PORT`, as in names of images.
        folder: what it keeps.
    """

    address: str
    folder: Path


@contextmanager
def docker_registry(folder: Path, *, port: int = 0, more: str = "") -> Iterator[Registry]:
    """A registry with files of its own.

    Args:
        folder: for all of them.
        port: to listen on; a free one if not given.
        more: further lines of its configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    configuration, log = folder / "config.yml", folder / "registry.log"
    configuration.write_text(
        f"version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
        f"log: {{level: error}}\n{more}"
    )
    with process(["docker-registry", "serve", configuration], log) as started:
        until(lambda: accepts(("127.0.0.1", port)), started, log)
        yield Registry(f"localhost:{port}", folder / "data")
