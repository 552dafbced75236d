"""Which images are tried, and how they are pulled."""

import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from appapi_host.deploy.docker import images
from appapi_host.deploy.docker.address import Address
from appapi_host.deploy.docker.engine import Engine
from appapi_host.deploy.docker.images import Candidates, PullProgress, candidates
from appapi_host.errors import DeployError
from appapi_host.info_rules import DockerInstall
from appapi_host.records import Daemon
from tests.docker.engines import DockerEngine
from tests.docker.fetching import Fetch, daemon_of_engine, pushed
from tests.docker.registry import Registry
from tests.ports import free_port

WIRE = Path(__file__).parents[1] / "wire"


def daemon_of(**config: Any) -> Daemon:
    return Daemon("docker", "", "docker-install", "http", "/run/docker.sock", config)


def names(registry: str = "ghcr.io", **config: Any) -> Candidates:
    return candidates(DockerInstall(registry, "acme/notes", "1.4"), daemon_of(**config))


CPU = {"computeDevice": {"id": "cpu", "label": "CPU"}}


def test_names_of_every_appapi_are_tried_in_order() -> None:
    assert names(**CPU) == Candidates(
        ("ghcr.io/acme/notes:1.4-cpu", "ghcr.io/acme/notes-cpu:1.4", "ghcr.io/acme/notes:1.4")
    )
    assert names(**CPU, name_suffix=False).references == (
        "ghcr.io/acme/notes:1.4-cpu",
        "ghcr.io/acme/notes:1.4",
    )
    assert names().references == ("ghcr.io/acme/notes:1.4",)
    cuda = names(computeDevice={"id": "cuda"}).references
    assert cuda[:2] == ("ghcr.io/acme/notes:1.4-cuda", "ghcr.io/acme/notes-cuda:1.4")


def test_first_mapping_of_a_registry_counts_unless_one_says_local() -> None:
    mirror = {"from": "ghcr.io", "to": "mirror.test/proxy/"}
    other = {"from": "ghcr.io", "to": "other.test"}
    foreign = {"from": "docker.io", "to": "elsewhere.test"}
    assert names(registries=[foreign, mirror, other]).references == (
        "mirror.test/proxy/acme/notes:1.4",
    )
    local = names(registries=[mirror, {"from": "ghcr.io", "to": "local"}])
    assert local == Candidates(("ghcr.io/acme/notes:1.4",), is_local=True)


def test_image_that_we_built_is_never_looked_for_in_a_registry() -> None:
    assert names("localhost", **CPU) == Candidates(("localhost/acme/notes:1.4",), is_local=True)


def test_progress_counts_bytes_and_never_goes_back() -> None:
    progress = PullProgress()

    def layer(name: str, status: str, current: int = 0, total: int = 0) -> int:
        detail = {"current": current, "total": total} if total else {}
        progress.note({"id": name, "status": status, "progressDetail": detail})
        return progress.percent

    assert not progress.has_begun
    assert progress.detail == ""
    progress.note({"id": "1.4", "status": "Pulling from acme/notes"})
    assert layer("there", "Already exists") == 0
    assert [layer(name, "Pulling fs layer") for name in ("a", "b")] == [0, 0]
    assert layer("a", "Downloading", 500_000, 1_000_000) == 18  # half of 80 % of one layer of two
    assert progress.detail == "0.5 MB, 0 of 2 layers"
    assert layer("b", "Downloading", 0, 9_000_000) == 18  # the other one turns out to be large
    assert layer("a", "Download complete") == 18
    assert layer("b", "Downloading", 9_000_000, 9_000_000) == 75
    assert layer("a", "Extracting", 1_000_000, 1_000_000) == 77
    assert layer("a", "Pull complete") == 77
    assert progress.detail == "10.0 of 10.0 MB, 1 of 2 layers"
    assert layer("b", "Pull complete") == 94
    assert not progress.is_complete
    progress.note({"status": "Digest: sha256:00"})
    progress.note({"status": "Status: Downloaded newer image for acme/notes:1.4"})
    assert progress.is_complete
    assert progress.percent == 94
    assert progress.summary.startswith("pulled, 2 layers, 10.0 MB in ")


def test_recorded_pull_of_what_is_there_is_complete() -> None:
    rows = [json.loads(line) for line in (WIRE / "docker-install.jsonl").read_text().splitlines()]
    (text,) = [
        row["response_body"]
        for row in rows
        if "images/create" in row["target"] and row["status"] == 200
    ]
    progress = PullProgress()
    for line in text.splitlines():
        progress.note(json.loads(line))
    assert progress.is_complete
    assert progress.summary == "up to date"


# On a real engine.


@pytest.mark.docker
async def test_pull_tells_each_name_and_how_far_it_is(
    engine: DockerEngine, registry: Registry, base_image: str, fetching: Fetch
) -> None:
    name = f"{registry.address}/fetched"
    reference = pushed(engine, base_image, f"{name}:1", megabytes=4)
    with anyio.fail_after(60):
        assert await fetching(f"{name}:1-cpu", f"{name}-cpu:1", reference) == reference
    assert fetching.told[:2] == [
        f"image {name}:1-cpu: not in the registry",
        f"image {name}-cpu:1: not in the registry",
    ]
    assert fetching.told[2].startswith(f"image {reference}: pulled, 2 layers, 8.")
    assert fetching.percents == sorted(fetching.percents)
    assert fetching.percents[-1] == 94
    assert len(set(fetching.percents)) > 3
    megabytes = [float(text.split()[0]) for text in fetching.details if text]
    assert megabytes == sorted(megabytes)
    assert re.fullmatch(r"8\.\d of 8\.\d MB, [12] of 2 layers", fetching.details[-2])
    assert await fetching(reference) == reference
    assert fetching.told[-1] == f"image {reference}: up to date"


@pytest.mark.docker
async def test_image_in_no_form_names_all_that_was_tried(
    registry: Registry, fetching: Fetch
) -> None:
    name = f"{registry.address}/nowhere"
    with pytest.raises(DeployError) as caught:
        await fetching(f"{name}:1-cpu", f"{name}:1")
    assert caught.value.cause == (
        f"no image could be had: {name}:1-cpu: not in the registry; {name}:1: not in the registry"
    )
    assert "image-tag" in caught.value.remedy


@pytest.mark.docker
async def test_local_image_is_used_without_asking_a_registry(
    engine: DockerEngine, base_image: str, fetching: Fetch
) -> None:
    engine.docker("tag", base_image, "nowhere.test/local:1")
    wanted = ("nowhere.test/local:1-cpu", "nowhere.test/local:1")
    assert await fetching(*wanted, is_local=True) == wanted[1]
    assert fetching.percents == [94]
    engine.docker("rmi", wanted[1])
    with pytest.raises(DeployError, match=r"nowhere\.test/local:1-cpu") as caught:
        await fetching(*wanted, is_local=True)
    assert "never pulled" in caught.value.remedy


@pytest.mark.docker
async def test_registry_that_is_down_does_not_matter_for_what_is_there(
    engine: DockerEngine, base_image: str, fetching: Fetch
) -> None:
    name = f"localhost:{free_port()}/gone"
    engine.docker("tag", base_image, f"{name}:1")
    assert await fetching(f"{name}:1-cpu", f"{name}:1") == f"{name}:1"
    assert "the registry cannot be reached" in fetching.told[0]
    engine.docker("rmi", f"{name}:1")
    with pytest.raises(DeployError, match="connection refused") as caught:
        await fetching(f"{name}:1-cpu", f"{name}:1")
    assert "see whether it runs" in caught.value.remedy


@pytest.mark.docker
async def test_error_within_the_stream_is_recognised(
    engine: DockerEngine,
    registry: Registry,
    base_image: str,
    fetching: Fetch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(images, "_FIRST_PAUSE", 0.001)
    reference = pushed(engine, base_image, f"{registry.address}/broken:1")
    manifests = registry.folder / "docker/registry/v2/repositories/broken/_layers/sha256"
    for link in sorted(manifests.iterdir()):
        digest = (link / "link").read_text().removeprefix("sha256:")
        blob = registry.folder / f"docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data"
        if 500_000 < blob.stat().st_size < 2_000_000:
            blob.unlink()
            shutil.rmtree(link)
    with anyio.fail_after(60), pytest.raises(DeployError, match="unknown blob"):
        await fetching(reference)


@pytest.mark.docker
async def test_pull_that_is_cut_is_taken_up_again(
    engine: DockerEngine,
    registry: Registry,
    base_image: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(images, "_FIRST_PAUSE", 0.001)
    reference = pushed(engine, base_image, f"{registry.address}/cut:1")
    with cutting_proxy(tmp_path, engine.socket, cuts=2) as path:
        connection = Engine(Address.of(replace(daemon_of_engine(engine), host=str(path)), {}))
        fetching = Fetch(connection)
        with anyio.fail_after(60):
            assert await fetching(reference) == reference
        await connection.close()
    again = [text for text in fetching.told if "trying again" in text]
    assert [text.rpartition("; ")[2] for text in again] == [
        "trying again (1 of 3)",
        "trying again (2 of 3)",
    ]


@contextmanager
def cutting_proxy(folder: Path, target: Path, *, cuts: int) -> Iterator[Path]:
    """A socket in front of an engine's that ends the first pulls in the middle of their answer."""
    path = folder / "cut.sock"
    left = [cuts]

    def pipe(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        sent = 0
        with suppress(OSError):
            while data := source.recv(65536):
                if limit is not None:
                    data = data[: limit - sent]
                sink.sendall(data)
                sent += len(data)
                if limit is not None and sent >= limit:
                    break
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(str(target))
            first = client.recv(65536)
            limit = None
            if b"/images/create" in first and left[0]:
                left[0] -= 1
                limit = 400  # bytes of the answer: its head and the first message
            server.sendall(first)
            back = threading.Thread(target=pipe, args=(client, server, None), daemon=True)
            back.start()
            pipe(server, client, limit)
            back.join()

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        accepting = threading.Thread(target=accept, args=(listener,), daemon=True)
        accepting.start()
        try:
            yield path
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
