"""What people import from us, and what an installation brings along."""

import ast
import importlib
import importlib.metadata
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("exapp_sdk", "appapi_host")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
CONTRACT = {"Access", "AppAPIAuthMiddleware", "ExApp", "Progress", "Settings"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def defined_names(path: Path) -> set[str]:
    """Public classes and functions at the top of a file; a decorated function is registered."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in tree.body if isinstance(node, kinds)]
    return {
        node.name
        for node in nodes
        if not node.name.startswith("_")
        and (isinstance(node, ast.ClassDef) or not node.decorator_list)
    }


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_public_names_are_listed_sorted_and_there(path: Path) -> None:
    module = importlib.import_module(module_name(path))
    listed = list(getattr(module, "__all__", []))
    assert listed == sorted(set(listed), key=isort_key)
    assert all(hasattr(module, entry) for entry in listed)
    if not path.name.startswith("_"):  # a private module has no public names
        assert defined_names(path) <= set(listed), "public means listed in __all__"


def isort_key(name: str) -> tuple[int, str]:
    """The order that the linter (RUF022) asks for: CONSTANTS, Classes, functions."""
    if name.isupper():
        return (0, name)
    return (1, name) if name[0].isupper() else (2, name)


def test_the_contract_is_importable_from_the_top() -> None:
    sdk = importlib.import_module("exapp_sdk")
    assert set(sdk.__all__) >= CONTRACT
    errors = importlib.import_module("exapp_sdk.errors")
    assert set(sdk.__all__) >= set(errors.__all__)
    assert set(dir(sdk)) >= set(sdk.__all__), "lazily imported names show up for completion"


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_tell_type_checkers_that_they_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def requirements(extra: str = "") -> set[str]:
    """Names of the distributions that an installation with this extra asks for, ours left out."""
    names = set()
    for line in importlib.metadata.requires("exapp-sdk") or []:
        requirement, _, marker = line.partition(";")
        wanted = re.search(r"extra\s*==\s*['\"](\w+)['\"]", marker)
        if (wanted.group(1) if wanted else "") == extra:
            found = re.match(r"[A-Za-z0-9._-]+", requirement)
            assert found
            names.add(found.group(0).lower())
    return names - {"exapp-sdk"}


def test_a_plain_installation_serves_an_app_author_and_nothing_more() -> None:
    assert requirements() == {"anyio", "httpx", "pydantic", "sniffio", "starlette"}


def test_extras_bring_the_server_the_host_and_the_fixtures() -> None:
    assert {"uvicorn", "httptools", "uvloop", "websockets"} <= requirements("server")
    assert {"docker", "lxml", "click", "rich"} <= requirements("host")
    assert "pytest" in requirements("test")


def test_pytest_finds_the_fixtures_without_configuration() -> None:
    found = importlib.metadata.entry_points(group="pytest11")
    assert "appapi_host.pytest_plugin" in {entry.value for entry in found}
