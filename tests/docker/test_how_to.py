"""The commands of docs/how-to/deploy-on-docker.md, on a real engine beside a running host."""

import re
import shlex
from pathlib import Path

import pytest

from tests.docker.conftest import MakeImage
from tests.docker.engines import DockerEngine
from tests.docker.registry import Registry
from tests.live.cli_shell import Shell

pytestmark = pytest.mark.docker

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "deploy-on-docker.md"
BLOCK = re.compile(r"<!-- run: (\S+) -->\n```sh\n(.*?)```", re.DOTALL)
INFO = """<info><id>my_app</id><name>My app</name><version>1.0.0</version><external-app>
<docker-install><registry>{registry}</registry><image>{image}</image><image-tag>1</image-tag>
</docker-install></external-app></info>"""
PRINTED = [
    "Daemon successfully registered.",
    "ExApp my_app successfully registered.",
    "my_app (My app): 1.0.0 [enabled]",
    "switched /enabled?enabled=1",
    "ExApp my_app successfully disabled.",
    "ExApp my_app successfully enabled.",
    "ExApp my_app successfully unregistered.",
    "Daemon config unregistered.",
]
"""What tells that a line of the page has done what the page says."""


def test_commands_of_the_page_work(
    tmp_path: Path, engine: DockerEngine, registry: Registry, make_image: MakeImage
) -> None:
    found = BLOCK.search(PAGE.read_text())
    assert found is not None
    assert found[1] == "tests/docker/test_how_to.py"
    image = make_image("init", name="my_app", tag="1").partition("/")[2]
    (tmp_path / "appinfo").mkdir()
    info = INFO.format(registry=registry.address, image=image.partition(":")[0])
    (tmp_path / "appinfo" / "info.xml").write_text(info)
    shell = Shell(tmp_path)
    occ, *lines = found[2].splitlines()
    with shell.start("serve", "--port", "0") as serve:
        serve.until("http://")
        for line, printed in zip(lines, PRINTED, strict=True):
            ours = line.replace("$occ", occ.partition("=")[2].strip('"'))
            ours = ours.replace("/var/run/docker.sock", str(engine.socket))
            ours = ours.replace("http://127.0.0.1:8080", serve.url)
            words = shlex.split(ours)
            assert words[:3] == ["python", "-m", "appapi_host"]
            done = shell.call(*words[3:])
            assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
            assert printed in done.stdout, line
    assert engine.docker("ps", "--all", "--quiet") == ""
    assert engine.docker("volume", "ls", "--quiet") == ""
