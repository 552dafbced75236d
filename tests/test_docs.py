"""Pages that cannot grow stale: their code runs, their diagram is drawn, nothing is left out.

`python tests/test_docs.py` draws the diagram of the lifecycle into its page.
"""

import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

import appapi_host.errors
import appapi_host.pytest_plugin
import appapi_host.settings
import appapi_host.testing
import exapp_sdk.errors
import exapp_sdk.protocol.environ
import exapp_sdk.testing
from appapi_host.cli import commands as cli
from appapi_host.cli import occ
from exapp_sdk.client import Nextcloud
from exapp_sdk.hooks import Hooks
from exapp_sdk.protocol.lifecycle import TRANSITIONS, State

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LIFECYCLE = DOCS / "explanation" / "lifecycle.md"
PAGES = sorted(
    [ROOT / "README.md", ROOT / "examples" / "skeleton" / "README.md", *DOCS.rglob("*.md")]
)
DIAGRAM = re.compile(r"(?<=<!-- drawn by tests/test_docs.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
BLOCK = re.compile(r"(?:<!-- file: (\S+) -->\n)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s#]*)(#[^)\s]*)?\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def lifecycle_diagram() -> str:
    """The table of states and events as a Mermaid diagram; events of one arrow share a line."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {State.ABSENT}"]
    for state, row in TRANSITIONS.items():
        arrows: dict[str, list[str]] = {}
        for event, following in row.items():
            arrows.setdefault(following, []).append(event)
        lines += [
            f"    {state} --> {following}: {', '.join(events)}"
            for following, events in arrows.items()
        ]
    return "\n".join([*lines, "```", ""])


def blocks(page: Path) -> list[tuple[str, str]]:
    """File name and text of each Python block; a block without a name gets its number."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(name or f"block_{number}.py", text) for number, (name, text) in enumerate(found, 1)]


WITH_CODE = [page for page in PAGES if blocks(page)]


WITHOUT = [f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "schemathesis")]
"""What our own suite needs, readers do not have, and takes most of the time of a start."""


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    modules = []
    for name, text in blocks(page):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if not path.name.startswith("test_"):
            modules.append(path.stem)
    imports = "".join(f"    import {module}\n" for module in modules)
    (tmp_path / "test_imports.py").write_text(
        f"def test_modules_import():\n{imports}    assert 1\n"
    )
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\npythonpath = .\nanyio_mode = auto\nfilterwarnings = error\n", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *WITHOUT, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target, _ in LINK.findall(page.read_text(encoding="utf-8")):
        if target and "://" not in target:
            assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"


def test_readme_shows_an_app_of_ten_lines_and_a_test_of_six() -> None:
    shown = dict(blocks(ROOT / "README.md"))
    assert len(shown["main.py"].splitlines()) <= 10
    assert len(shown["test_main.py"].splitlines()) <= 6


def test_the_diagram_of_the_lifecycle_is_the_table() -> None:
    drawn = DIAGRAM.search(LIFECYCLE.read_text(encoding="utf-8"))
    assert drawn
    assert drawn.group() == lifecycle_diagram(), "draw it again: python tests/test_docs.py"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / ".mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"\S+\.md", navigation))
    assert listed == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}


def reference(name: str) -> str:
    return (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")


def public_members(cls: type) -> set[str]:
    return {name for base in cls.__mro__[:-1] for name in vars(base) if not name.startswith("_")}


def missing(names: set[str], page: str, form: str) -> set[str]:
    """Names that the page shows nowhere in this form, for instance `@app.{}`."""
    text = reference(page)
    return {
        name for name in names if not re.search(form.format(re.escape(name)), text, re.MULTILINE)
    }


def test_every_decorator_has_an_entry() -> None:
    names = public_members(Hooks)
    assert {"init", "enabled", "heartbeat", "get", "route", "websocket", "mount"} <= names
    assert missing(names, "decorators", r"^#+ .*`@?app\.{}\b") == set()


def test_every_method_of_the_client_has_an_entry() -> None:
    names = public_members(Nextcloud)
    assert {"as_user", "call", "status"} <= names
    assert missing(names, "client", r"`(?:await )?{}\b") == set()


@pytest.mark.parametrize(
    "cls",
    [
        exapp_sdk.protocol.environ.Settings,
        appapi_host.settings.HostSettings,
        appapi_host.settings.Timeouts,
    ],
)
def test_every_setting_has_an_entry(cls: type) -> None:
    names = {field.name for field in dataclasses.fields(cls)}
    assert names
    assert missing(names, "settings", r"`{}`") == set()


def test_every_error_has_an_entry() -> None:
    names = {*exapp_sdk.errors.__all__, *appapi_host.errors.__all__}
    assert missing(names, "errors", r"`{}`") == set()


def test_every_verb_and_option_of_the_command_line_has_an_entry() -> None:
    for name, command in cli._group.commands.items():
        assert missing({name}, "command-line", r"^## `{}\b") == set()
        options = {option for parameter in command.params for option in parameter.opts}
        assert missing({name for name in options if name[0] == "-"}, "command-line", "{}") == set()
    for name, described in occ.COMMANDS.items():
        if name.startswith("app_api:"):
            assert missing({name}, "command-line", r"^\| `{}`") == set()
            options = {f"--{option.name}" for option in described.options if not option.hidden}
            assert missing(options, "command-line", "`{}`") == set()


def test_every_module_and_name_of_the_protocol_has_an_entry() -> None:
    for path in (ROOT / "exapp_sdk" / "protocol").glob("[!_]*.py"):
        assert missing({path.stem}, "protocol", r"exapp_sdk\.protocol\.{}\b") == set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                names = set(ast.literal_eval(node.value))
                assert missing(names, "protocol", r"`{}\b") == set()


def test_every_fixture_and_what_it_hands_out_has_an_entry() -> None:
    names = {*appapi_host.pytest_plugin.__all__, *exapp_sdk.testing.__all__}
    names |= public_members(appapi_host.testing.InstalledApp)
    names |= public_members(appapi_host.testing.TestHost)
    assert missing(names, "pytest", r"`(?:await |async with )?{}\b") == set()


if __name__ == "__main__":
    text = LIFECYCLE.read_text(encoding="utf-8")
    LIFECYCLE.write_text(DIAGRAM.sub(lambda _: lifecycle_diagram(), text), encoding="utf-8")
