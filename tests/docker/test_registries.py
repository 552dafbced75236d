"""Registries that want credentials, or do not want to be asked any more."""

import base64
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from appapi_host.deploy.docker.engine import Engine, EngineError
from appapi_host.errors import DeployError
from tests.docker.engines import DockerEngine, accepts, process, until
from tests.docker.fetching import Fetch, pushed
from tests.docker.registry import Registry, docker_registry
from tests.ports import free_port

pytestmark = pytest.mark.docker

# `secret` in bcrypt, the only form that the registry reads.
SECRET = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"


@pytest.fixture(scope="session")
def private_registry(docker_folder: Path) -> Iterator[Registry]:
    folder = docker_folder / "private"
    folder.mkdir()
    (folder / "htpasswd").write_text(f"ann:{SECRET}\n")
    more = f"auth: {{htpasswd: {{realm: test, path: {folder / 'htpasswd'}}}}}\n"
    with docker_registry(folder, more=more) as registry:
        yield registry


Configure = Callable[..., None]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Writes the user's own Docker configuration."""
    folder = tmp_path / "config"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))

    def write(**config: Any) -> None:
        (folder / "config.json").write_text(json.dumps(config))

    return write


def signed_in(registry: Registry, pair: bytes) -> dict[str, Any]:
    return {registry.address: {"auth": base64.b64encode(pair).decode()}}


async def test_credentials_of_the_user_are_sent(
    engine: DockerEngine,
    private_registry: Registry,
    base_image: str,
    fetching: Fetch,
    configure: Configure,
) -> None:
    reference = f"{private_registry.address}/private:1"
    engine.docker("tag", base_image, reference)
    configure(auths=signed_in(private_registry, b"ann:secret"))
    engine.docker("push", "--quiet", reference)
    engine.docker("rmi", reference)
    configure()
    with pytest.raises(DeployError, match="no basic auth credentials") as caught:
        await fetching(reference)
    assert "docker login" in caught.value.remedy
    configure(auths=signed_in(private_registry, b"ann:wrong"))
    with pytest.raises(DeployError, match="the registry wants other credentials"):
        await fetching(reference)
    configure(auths=signed_in(private_registry, b"ann:secret"))
    assert await fetching(reference) == reference


@pytest.mark.parametrize("setting", ["credHelpers", "credsStore"])
async def test_credential_helpers_are_asked(
    engine: DockerEngine,
    private_registry: Registry,
    base_image: str,
    connection: Engine,
    fetching: Fetch,
    configure: Configure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
) -> None:
    address = private_registry.address
    answer = {"ServerURL": address, "Username": "ann", "Secret": "secret"}
    helper = tmp_path / "docker-credential-exd"
    # What a store has is listed for a build, and got for a pull.
    helper.write_text(
        "#!/bin/sh\nread server\n"
        f"if [ $1 = list ]; then echo '{json.dumps({address: 'ann'})}'; exit; fi\n"
        f"[ $1 = get ] && [ $server = {address} ] && echo '{json.dumps(answer)}' && exit\n"
        "echo credentials not found in native keychain; exit 1\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    configure(**{setting: {address: "exd"} if setting == "credHelpers" else "exd"})
    reference = f"{address}/{setting.lower()}:1"
    engine.docker("tag", base_image, reference)
    engine.docker("push", "--quiet", reference)
    engine.docker("rmi", reference)
    assert await fetching(reference) == reference
    helper.write_text("#!/bin/sh\necho broken vault; exit 1\n")
    with pytest.raises(DeployError, match="credential helper") as caught:
        await fetching(reference)
    assert "broken vault" in caught.value.cause
    build = connection.build(iter(()), reference="x", dockerfile="", arguments={}, labels={})
    with pytest.raises(EngineError, match="broken vault"):
        await build.__aenter__()
    helper.unlink()
    with pytest.raises(DeployError, match=r"docker-credential-exd, which is not on PATH") as caught:
        await fetching(reference)
    assert "config.json" in caught.value.remedy


async def test_registry_without_credentials_is_asked_although_there_is_a_store(
    engine: DockerEngine,
    registry: Registry,
    base_image: str,
    fetching: Fetch,
    configure: Configure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helper = tmp_path / "docker-credential-exd"
    helper.write_text("#!/bin/sh\necho credentials not found in native keychain; exit 1\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    configure(credsStore="exd")
    reference = f"{registry.address}/stored:1"
    engine.docker("tag", base_image, reference)
    engine.docker("push", "--quiet", reference)
    engine.docker("rmi", reference)
    assert await fetching(reference) == reference


@pytest.mark.parametrize(
    ("what", "kind", "body"),
    [
        (
            "manifests",
            "application/json",
            '{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull limit."}]}',
        ),
        ("manifests", "text/html", "<h1>Too Many Requests</h1>"),
        ("manifests", "text/plain", "later"),
        ("blobs", "text/plain", "later"),
    ],
    ids=["as Docker Hub says it", "as a proxy says it", "in other words", "in the middle"],
)
async def test_registry_that_allows_no_more_pulls_is_named(
    engine: DockerEngine,
    registry: Registry,
    base_image: str,
    fetching: Fetch,
    tmp_path: Path,
    what: str,
    kind: str,
    body: str,
) -> None:
    if what == "blobs":
        pushed(engine, base_image, f"{registry.address}/limited:1")
    with limiting_proxy(tmp_path, registry, what, kind, body) as port:
        name = f"localhost:{port}/limited"
        with anyio.fail_after(50), pytest.raises(DeployError) as caught:
            await fetching(f"{name}:1", f"{name}:2")
    assert f"{name}:1: the registry allows no more pulls for now" in caught.value.cause
    assert f"{name}:2" not in caught.value.cause, "no other name would do"
    assert "docker login" in caught.value.remedy


@contextmanager
def limiting_proxy(
    folder: Path, registry: Registry, what: str, kind: str, body: str
) -> Iterator[int]:
    """In front of a registry, and has had enough of requests for `what`."""
    port, path, log = free_port(), folder / "limit.cfg", folder / "limit.log"
    answer = folder / "answer"
    answer.write_text(body)
    path.write_text(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
        f"frontend limited\n  bind 127.0.0.1:{port}\n"
        f"  http-request return status 429 content-type {kind} file {answer}"
        f" if {{ path_sub /{what}/ }}\n"
        "  default_backend registry\n"
        f"backend registry\n  server registry 127.0.0.1:{registry.address.rpartition(':')[2]}\n"
    )
    with process(["haproxy", "-db", "-f", path], log) as started:
        until(lambda: accepts(("127.0.0.1", port)), started, log)
        yield port
