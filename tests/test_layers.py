"""The arrow between the packages, held by a table: who may import what."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("exapp_sdk", "appapi_host")
WORDS = ("exapp_sdk.errors", "exapp_sdk.protocol")

# Module, or package with all that is in it (the longest name counts) → what of ours it may import.
OURS: dict[str, tuple[str, ...]] = {
    "exapp_sdk.errors": (),
    "exapp_sdk.protocol": WORDS,
    "exapp_sdk.client": WORDS,
    "exapp_sdk.auth": WORDS,
    "exapp_sdk.server": WORDS,
    "exapp_sdk.lifespan": WORDS,
    "exapp_sdk.jobs": (*WORDS, "exapp_sdk.client"),
    "exapp_sdk.hooks": (*WORDS, "exapp_sdk.auth", "exapp_sdk.client", "exapp_sdk.jobs"),
    "exapp_sdk": ("exapp_sdk",),
    "appapi_host.errors": WORDS,
    "appapi_host.settings": WORDS,
    "appapi_host.events": WORDS,
    "appapi_host.records": WORDS,
    "appapi_host.patterns": (),
    "appapi_host.info_report": (*WORDS, "appapi_host.errors"),
    "appapi_host.info_rules": (
        *WORDS,
        "appapi_host.info_report",
        "appapi_host.patterns",
        "appapi_host.records",
    ),
    "appapi_host.info_xml": (
        *WORDS,
        "appapi_host.errors",
        "appapi_host.info_report",
        "appapi_host.info_rules",
        "appapi_host.records",
    ),
    "appapi_host.documents": (),
    "appapi_host.throttling": (),
    "appapi_host.registry": (
        *WORDS,
        "appapi_host.documents",
        "appapi_host.errors",
        "appapi_host.records",
        "appapi_host.registry",
        "appapi_host.settings",
    ),
    "appapi_host.users": (
        *WORDS,
        "appapi_host.errors",
        "appapi_host.records",
        "appapi_host.registry",
        "appapi_host.settings",
        "appapi_host.throttling",
    ),
    "appapi_host.values": (
        *WORDS,
        "appapi_host.documents",
        "appapi_host.errors",
    ),
    "appapi_host.setup_checks": (
        *WORDS,
        "appapi_host.app_client",
        "appapi_host.documents",
        "appapi_host.errors",
        "appapi_host.events",
        "appapi_host.records",
        "appapi_host.registry",
    ),
    "appapi_host.happenings": ("appapi_host.records",),
    "appapi_host.webhook_filters": ("appapi_host.patterns",),
    "appapi_host.webhooks": (
        *WORDS,
        "appapi_host.app_client",
        "appapi_host.documents",
        "appapi_host.errors",
        "appapi_host.events",
        "appapi_host.happenings",
        "appapi_host.records",
        "appapi_host.registry",
        "appapi_host.values",
        "appapi_host.webhook_filters",
    ),
    "appapi_host.task_types": ("appapi_host.errors",),
    "appapi_host.task_providers": ("appapi_host.documents", "appapi_host.task_types"),
    "appapi_host.tasks": (
        *WORDS,
        "appapi_host.documents",
        "appapi_host.errors",
        "appapi_host.task_providers",
        "appapi_host.task_types",
    ),
    "appapi_host.fronts": (*WORDS, "appapi_host.records"),
    "appapi_host.app_client": (
        *WORDS,
        "appapi_host.app_client",
        "appapi_host.app_connections",
        "appapi_host.app_streams",
        "appapi_host.errors",
        "appapi_host.events",
        "appapi_host.fronts",
        "appapi_host.records",
        "appapi_host.settings",
    ),
    "appapi_host.app_connections": WORDS,
    "appapi_host.app_exchange": (*WORDS, "appapi_host.app_connections"),
    "appapi_host.app_streams": (
        *WORDS,
        "appapi_host.app_connections",
        "appapi_host.app_exchange",
    ),
    "appapi_host.app_sockets": (*WORDS, "appapi_host.app_connections"),
    "appapi_host.deploy": (
        *WORDS,
        "appapi_host.deploy",
        "appapi_host.errors",
        "appapi_host.events",
        "appapi_host.fronts",
        "appapi_host.info_rules",
        "appapi_host.info_xml",
        "appapi_host.records",
        "appapi_host.settings",
    ),
    "appapi_host.files": (
        *WORDS,
        "appapi_host.errors",
        "appapi_host.files",
        "appapi_host.happenings",
        "appapi_host.records",
        "appapi_host.registry",
    ),
    "appapi_host.files.entrance": ("appapi_host.files", "appapi_host.host"),
    "appapi_host.files.web": (
        *WORDS,
        "appapi_host.callers",
        "appapi_host.events",
        "appapi_host.files",
        "appapi_host.host",
        "appapi_host.records",
        "appapi_host.throttling",
    ),
    "appapi_host.handshake": (
        *WORDS,
        "appapi_host.app_client",
        "appapi_host.deploy",
        "appapi_host.errors",
        "appapi_host.events",
        "appapi_host.heartbeat",
        "appapi_host.records",
        "appapi_host.registry",
        "appapi_host.settings",
    ),
    "appapi_host.heartbeat": (
        *WORDS,
        "appapi_host.app_client",
        "appapi_host.deploy",
        "appapi_host.errors",
        "appapi_host.records",
        "appapi_host.settings",
    ),
    "appapi_host.cli": (*WORDS, "appapi_host"),
    # The fixtures put a real app beside the host.
    "appapi_host.pytest_plugin": ("exapp_sdk", "appapi_host"),
    "appapi_host.testing": ("exapp_sdk", "appapi_host"),
    "appapi_host": (*WORDS, "appapi_host"),
}

# What points the other way, whatever the table above says.
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "exapp_sdk": ("appapi_host",),
    "appapi_host.ocs": ("appapi_host.cli", "appapi_host.asgi", "appapi_host.proxy"),
    "appapi_host.proxy": ("appapi_host.cli", "appapi_host.asgi", "appapi_host.ocs"),
    "appapi_host.errands": (
        "appapi_host.cli",
        "appapi_host.asgi",
        "appapi_host.host",
        "appapi_host.ocs",
    ),
    "appapi_host.host": (
        "appapi_host.cli",
        "appapi_host.asgi",
        "appapi_host.gateways",
        "appapi_host.ocs",
    ),
    "appapi_host.asgi": ("appapi_host.cli", "appapi_host.gateways"),
    "appapi_host.gateways": ("appapi_host.cli",),
}

# Library → the only modules (packages with all that is in them) that may import it. A library that
# is missing here is imported nowhere.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "anyio": ("exapp_sdk", "appapi_host"),
    "pydantic": ("exapp_sdk.protocol", "exapp_sdk.client", "appapi_host"),
    "starlette": ("exapp_sdk", "appapi_host"),
    "httpx": ("exapp_sdk.client", "appapi_host.app_client.library"),
    "httpcore": ("appapi_host.app_client.library",),  # for the time of its import only
    # The parser below uvicorn: for what passes through the host a general client is too slow.
    "httptools": ("appapi_host.app_exchange",),
    "websockets": ("appapi_host.app_sockets",),
    "uvicorn": ("exapp_sdk.server", "exapp_sdk.app", "appapi_host.asgi"),
    "cryptography": ("appapi_host.values",),
    # Two that parse what comes from outside, each with a parser that it is careful to set up.
    "lxml": ("appapi_host.info_xml", "appapi_host.files.xml"),
    "docker": ("appapi_host.deploy.docker.connection",),
    # Below the engine's library, which lets their errors through.
    "requests": ("appapi_host.deploy.docker.connection",),
    "urllib3": ("appapi_host.deploy.docker.connection",),
    # Python's own engine cannot be told to give up.
    "regex": ("appapi_host.patterns",),
    "psutil": ("appapi_host.deploy", "appapi_host.cli", "appapi_host.operations"),
    "click": ("appapi_host.cli",),
    "rich": ("appapi_host.cli",),
    "platformdirs": ("appapi_host.cli",),
    "watchfiles": ("appapi_host.cli.watch",),
    "wsgidav": ("appapi_host.files",),
    "pytest": ("appapi_host.pytest_plugin",),
}
PURE = ("exapp_sdk.errors", "exapp_sdk.protocol")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import"
            assert node.module
            for alias in node.names:
                # `from package import module` imports the module, not a name of the package.
                name = f"{node.module}.{alias.name}"
                yield (
                    name
                    if (ROOT / name.replace(".", "/")).with_suffix(".py").exists()
                    else node.module
                )


def is_inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def row_of(module: str) -> str:
    return max((name for name in OURS if is_inside(module, name)), key=len)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_each_module_imports_only_what_its_layer_allows(path: Path) -> None:
    module = module_name(path)
    for name in imports(path):
        top = name.partition(".")[0]
        if top in PACKAGES:
            allowed = OURS[row_of(module)]
            assert any(is_inside(name, entry) for entry in allowed), (
                f"{module} must not import {name}: its layer may import {allowed}"
            )
            for layer, names in FORBIDDEN.items():
                if is_inside(module, layer):
                    assert not any(is_inside(name, entry) for entry in names), (
                        f"{module} must not import {name}: the arrow points the other way"
                    )
        elif top not in sys.stdlib_module_names:
            assert any(is_inside(module, entry) for entry in LIBRARIES.get(top, ())), (
                f"{module} must not import {top}; that is for {LIBRARIES.get(top, 'nobody')}"
            )


def test_every_row_of_the_table_is_about_a_module_that_exists() -> None:
    modules = {module_name(path) for path in FILES}
    named = {*OURS, *FORBIDDEN, *(name for names in LIBRARIES.values() for name in names)}
    assert named <= modules


def test_shared_words_import_only_pydantic_and_the_standard_library() -> None:
    for path in FILES:
        if any(is_inside(module_name(path), name) for name in PURE):
            tops = {name.partition(".")[0] for name in imports(path)}
            assert tops <= {"exapp_sdk", "pydantic", *sys.stdlib_module_names}, path


def test_only_one_module_of_each_package_knows_the_http_client() -> None:
    knowing = {
        module_name(path)
        for path in FILES
        if any(is_inside(name, "httpx") for name in imports(path))
    }
    assert knowing == {"exapp_sdk.client", "appapi_host.app_client.library"}


def loaded_by(code: str) -> set[str]:
    """Names of the top-level modules that a fresh interpreter holds after running `code`."""
    report = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, check=True, text=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


HEAVY = {
    "click",
    "cryptography",
    "docker",
    "httpx",
    "lxml",
    "pydantic",
    "rich",
    "uvicorn",
    "websockets",
    "wsgidav",
}


def test_an_exapp_costs_no_import_that_it_does_not_use() -> None:
    loaded = loaded_by(
        "from exapp_sdk import Access, ExApp, Progress\n"
        "app = ExApp()\n"
        "@app.init\n"
        "async def prepare(progress: Progress) -> None: ...\n"
        "@app.get('/hello', access=Access.USER)\n"
        "async def hello(request): return {}\n"
    )
    assert "exapp_sdk" in loaded
    assert not loaded & HEAVY


def test_the_pytest_plugin_costs_other_projects_nothing() -> None:
    loaded = loaded_by("import appapi_host.pytest_plugin")
    assert not loaded & (HEAVY - {"pydantic"})


def test_a_command_that_asks_no_app_does_without_what_asks_them() -> None:
    loaded = loaded_by(
        "import sys, tempfile\n"
        "from appapi_host.cli import main\n"
        "from appapi_host.cli.common import DATA_DIR_VARIABLE\n"
        "import os\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    os.environ[DATA_DIR_VARIABLE] = folder\n"
        "    assert main(['occ', '-q', 'app_api:app:list']) == 0\n"
    )
    assert "sqlite3" in loaded
    assert not loaded & {"cryptography", "docker", "httpx", "rich", "starlette", "trio", "uvicorn"}
