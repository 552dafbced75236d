"""An image made with nc_py_api, nothing of ours in it, as people make them."""

import shutil
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import anyio.to_thread
import pytest

from appapi_host.info_rules import DockerInstall
from appapi_host.info_xml import AppInfo
from appapi_host.testing import InstalledApp, TestHost
from exapp_sdk.protocol.lifecycle import State
from tests.docker.engines import DockerEngine, run
from tests.docker.reach import docker_daemon
from tests.docker.registry import Registry
from tests.ports import free_port

pytestmark = pytest.mark.docker

FOLDER = Path(__file__).parents[1] / "live" / "nc_app"
DOCKERFILE = """\
FROM {base}
COPY site /usr/lib/python3/dist-packages
COPY main.py /
CMD ["python3", "/main.py"]
"""


@pytest.fixture(scope="module")
def image(
    session_engine: DockerEngine, registry: Registry, base_image: str, docker_folder: Path
) -> str:
    """Name of the image in the registry, tag 1."""
    context = docker_folder / "nc_app"
    context.mkdir()
    python = "import sys; print('%d.%d' % sys.version_info[:2])"
    python_version = session_engine.docker("run", "--rm", base_image, "python3", "-c", python)
    # Outside of the image, which has no pip: wheels for its Python, which may be another one.
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
    wheels = ["--only-binary=:all:", "--python-version", python_version]
    wanted = f"nc_py_api[app]=={version('nc_py_api')}"
    run(*install, "--target", context / "site", *wheels, wanted)
    shutil.copy(FOLDER / "main.py", context)
    (context / "Dockerfile").write_text(DOCKERFILE.format(base=base_image))
    reference = f"{registry.address}/nc_app:1"
    session_engine.docker("build", "--quiet", "--tag", reference, context)
    session_engine.docker("push", "--quiet", reference)
    shutil.rmtree(context)
    return "nc_app"


async def menu_entries(host: TestHost) -> list[str]:
    found = await host.host.documents.read(lambda documents: documents.find("top-menu"))
    return [one.app_id for one in found]


@pytest.mark.timeout(180)  # the wheels come from a package index
async def test_image_made_with_nc_py_api_lives_its_whole_life(
    host: TestHost, engine: DockerEngine, registry: Registry, image: str
) -> None:
    await host.host.register_daemon(docker_daemon(host, engine.socket))
    info = replace(
        await anyio.to_thread.run_sync(AppInfo.from_folder, FOLDER),
        docker_install=DockerInstall(registry.address, image, "1"),
        port=free_port(),
    )
    app = InstalledApp(host, await host.host.register(info, daemon="docker"))
    assert (app.state, app.progress) == (State.ENABLED, 100)
    assert "PUT /ocs/v1.php/apps/app_api/ex-app/status" in app.sent
    assert await menu_entries(host) == ["nc_app"]
    answer = await app.post("exercise", user="admin", timeout=30)
    assert answer.status_code == 200, answer.text
    # What it downloaded in its init is in the volume.
    assert answer.json()["model"] == "Nextcloud"

    await app.disable()
    assert await menu_entries(host) == []
    await app.enable()
    assert await menu_entries(host) == ["nc_app"]

    updated = await host.host.update(replace(info, version="1.3.0"))
    assert (updated.state, updated.version) == (State.ENABLED, "1.3.0")
    running = engine.docker("ps", "--format", "{{.Names}}")
    assert running == "nc_app_nc_app"

    await app.unregister(rm_data=True)
    assert engine.docker("ps", "--all", "--quiet") == ""
    assert engine.docker("volume", "ls", "--quiet") == ""
