"""What a newcomer and a machine of ours must find alike."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SKELETON = ROOT / "examples" / "skeleton"


def readme_commands() -> list[str]:
    """The two lines to paste: the first two shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [block.strip() for block in blocks[:2]]


def test_readme_opens_with_two_commands_of_one_line_each() -> None:
    first, second = readme_commands()
    assert "\n" not in first
    assert "\n" not in second
    assert "appapi_host run examples/skeleton --once" in first
    assert "nox" in second


def test_ci_runs_exactly_the_second_command() -> None:
    script = ROOT / ".ci" / "run"
    lines = script.read_text(encoding="utf-8").splitlines()
    assert readme_commands()[1] in lines
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert os.access(script, os.X_OK)


def test_both_commands_are_valid_shell() -> None:
    for command in readme_commands():
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_the_app_file_of_the_skeleton_stays_a_page() -> None:
    lines = (SKELETON / "ex_app" / "lib" / "main.py").read_text(encoding="utf-8").splitlines()
    assert 0 < len(lines) <= 80
    assert max(map(len, lines)) <= 100


def test_the_skeleton_names_one_image_in_one_version() -> None:
    info = (SKELETON / "appinfo" / "info.xml").read_text(encoding="utf-8")
    version = re.search(r"<version>(.+?)</version>", info)
    tag = re.search(r"<image-tag>(.+?)</image-tag>", info)
    app_id = re.search(r"<id>(.+?)</id>", info)
    assert version
    assert tag
    assert app_id
    assert tag.group(1) == version.group(1)
    dockerfile = (SKELETON / "Dockerfile").read_text(encoding="utf-8")
    assert f"/nc_app_{app_id.group(1)}_data" in dockerfile


def test_the_changelog_begins_with_the_version_at_hand() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\S+?),", changelog, re.MULTILINE)
    assert versions[0] == PROJECT["version"]


def test_the_top_level_holds_nothing_else() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    tops = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    wanted = {
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "appapi_host",
        "docs",
        "exapp_sdk",
        "examples",
        "noxfile.py",
        "pyproject.toml",
        "tests",
    }
    assert {top for top in tops if not top.startswith(".")} <= wanted
