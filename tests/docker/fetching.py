"""Fetches images through the session's engine, and keeps what was told of it."""

from collections.abc import AsyncIterator

import pytest

from appapi_host.deploy.docker.address import Address
from appapi_host.deploy.docker.engine import Engine
from appapi_host.deploy.docker.images import Candidates, fetch
from appapi_host.records import Daemon
from tests.docker.engines import DockerEngine


@pytest.fixture
async def connection(engine: DockerEngine) -> AsyncIterator[Engine]:
    connection = Engine(Address.of(daemon_of_engine(engine), {}))
    yield connection
    await connection.close()


def daemon_of_engine(engine: DockerEngine) -> Daemon:
    return Daemon("docker", "", "docker-install", "http", str(engine.socket), {})


class Fetch:
    """Fetches and keeps what was told."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.percents: list[int] = []
        self.details: list[str] = []
        self.told: list[str] = []

    async def __call__(self, *references: str, is_local: bool = False) -> str:
        async def report(percent: int, detail: str = "") -> None:
            self.percents.append(percent)
            self.details.append(detail)

        wanted = Candidates(references, is_local)
        return await fetch(self._engine, wanted, report, self.told.append)


@pytest.fixture
def fetching(connection: Engine) -> Fetch:
    return Fetch(connection)


def pushed(engine: DockerEngine, base: str, reference: str, *, megabytes: int = 1) -> str:
    """An image with layers of its own in a registry, and not on the engine."""
    lines = [f"FROM {base}"]
    for number in range(2):
        size = megabytes * 1024
        what = f"head -c {size}k /dev/urandom > /{number}.bin"
        lines.append(f"RUN {what} || busybox {what}")
    engine.docker("build", "--tag", reference, "-", stdin="\n".join(lines).encode())
    engine.docker("push", reference)
    engine.docker("rmi", reference)
    engine.docker("image", "prune", "--force")
    return reference
