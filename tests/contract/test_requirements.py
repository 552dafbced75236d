"""The table of requirements and the tests agree."""

import ast
from pathlib import Path

from tests.contract.requirements import REQUIREMENTS


def shown() -> set[str]:
    found: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "shows":
                found |= {ast.literal_eval(argument) for argument in node.args}
    return found


def test_every_requirement_is_shown_by_a_test() -> None:
    assert shown() == set(REQUIREMENTS)
