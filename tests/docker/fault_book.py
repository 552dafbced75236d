"""The faults that the table in docs/reference/faults.md has: what each name does to a scene."""

from collections.abc import Callable

from tests.docker.fault_scene import Scene

__all__ = ["FAULTS", "OWN_ENGINE", "Case", "fault"]

Case = Callable[[Scene], None]
FAULTS: dict[str, Case] = {}
OWN_ENGINE: set[str] = set()
"""Those that need an engine which may be stopped and filled."""


def fault(name: str, engine: str = "") -> Callable[[Case], Case]:
    """Put a case into the table under a name."""

    def add(case: Case) -> Case:
        FAULTS[name] = case
        if engine:
            OWN_ENGINE.add(name)
        return case

    return add
