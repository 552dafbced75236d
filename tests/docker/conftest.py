"""An engine, a registry and images for all tests of this folder: started here, and ended here.

An engine that runs on the machine already is left alone.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docker.engines import DockerEngine, docker_engine, remove_everything, run
from tests.docker.fetching import connection, fetching  # noqa: F401  # fixtures
from tests.docker.python_image import python_image
from tests.docker.reach import (  # noqa: F401  # fixtures
    authority,
    bare_tls_engine,
    host,
    loaded_podman,
    loaded_tls_engine,
    plain_archive,
    podman,
    pulled_info,
    short_folder,
    tls_engine,
)
from tests.docker.registry import Registry, docker_registry
from tests.install import PATH, engine_obstacle

PLAIN_APP = Path(__file__).parents[1] / "live" / "plain_app.py"


@pytest.fixture
def anyio_backend() -> str:
    """What serves the host runs on asyncio only."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _docker_tests_can_run(request: pytest.FixtureRequest) -> None:
    """Tests that need no engine run everywhere."""
    if request.node.get_closest_marker("docker"):
        request.getfixturevalue("there_is_what_we_need")


@pytest.fixture(scope="session")
def there_is_what_we_need() -> Iterator[None]:
    """One line says what is missing; in CI that is an error."""
    if reason := engine_obstacle():
        if os.environ.get("CI"):
            pytest.fail(f"docker tests must run in CI: {reason}", pytrace=False)
        pytest.skip(f"docker tests do not run here: {reason}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", PATH)
        # The user's own credentials are nothing for tests; neither is an engine elsewhere.
        folder = tempfile.mkdtemp(prefix="exd-config-")
        patch.setenv("DOCKER_CONFIG", folder)
        for name in ("DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"):
            patch.delenv(name, raising=False)
        yield
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def docker_folder(there_is_what_we_need: None) -> Iterator[Path]:
    """A folder with a short name, because those of unix sockets must be."""
    folder = Path(tempfile.mkdtemp(prefix="exd-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def session_engine(docker_folder: Path) -> Iterator[DockerEngine]:
    """One Docker Engine for the session; its log names every request."""
    bridge = f"exd-{os.getpid()}"  # another session may run beside this one
    with docker_engine(docker_folder / "engine", bridge, free_network(), "--debug") as engine:
        yield engine


def free_network() -> str:
    """The first three numbers of addresses that no interface has."""
    taken = run("ip", "-4", "-oneline", "address")
    return next(
        network
        for network in (f"172.29.{number}" for number in range(100, 200))
        if f" {network}." not in taken
    )


@pytest.fixture(scope="session")
def registry(docker_folder: Path) -> Iterator[Registry]:
    with docker_registry(docker_folder / "registry") as registry:
        yield registry


@pytest.fixture(scope="session")
def base_image(session_engine: DockerEngine, docker_folder: Path) -> str:
    """An image with Python, on the session's engine."""
    archive = python_image(docker_folder / "python")
    change = "ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1"
    session_engine.docker("import", "--change", change, archive, "exd/python:1")
    shutil.rmtree(docker_folder / "python")
    return "exd/python:1"


MakeImage = Callable[..., str]


@pytest.fixture(scope="session")
def make_image(
    session_engine: DockerEngine, registry: Registry, base_image: str, docker_folder: Path
) -> MakeImage:
    """Builds and pushes `plain_app.py` in a mode; returns name and tag without the registry."""
    made: set[str] = set()

    def make(mode: str = "init", *instructions: str, name: str = "", tag: str = "1") -> str:
        name = name or f"plain-{mode}"
        reference = f"{registry.address}/{name}:{tag}"
        if reference in made:
            return name
        context = docker_folder / "context"
        context.mkdir(exist_ok=True)
        shutil.copy(PLAIN_APP, context)
        lines = [
            f"FROM {base_image}",
            "COPY plain_app.py /plain_app.py",
            f"ENV MODE={mode}",
            # Plain Python as process 1 ignores SIGTERM, and KeyboardInterrupt it does not.
            "STOPSIGNAL SIGINT",
            'CMD ["python3", "/plain_app.py"]',
            *instructions,
        ]
        (context / "Dockerfile").write_text("\n".join(lines))
        session_engine.docker("build", "--quiet", "--tag", reference, context)
        session_engine.docker("push", "--quiet", reference)
        made.add(reference)
        return name

    return make


@pytest.fixture
def engine(session_engine: DockerEngine) -> Iterator[DockerEngine]:
    """The session's engine, without anything that a test before has left."""
    yield session_engine
    remove_everything(session_engine.docker)
