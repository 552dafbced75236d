"""What apps can do: the providers of task processing, as apps register them.

Source: AppAPI documentation, Task processing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from appapi_host.documents import Document
from appapi_host.task_types import CORE_TYPES, FILE_TYPES, TaskType, fits, shapes_from_wire

__all__ = [
    "PROVIDER",
    "Provider",
    "check_provider",
    "custom_type_of",
    "files_in",
    "provider_of",
    "task_type_of",
]

PROVIDER: Final = "task-provider"

_PROVIDER_TEXTS: Final = ("id", "name", "task_type")
_PROVIDER_SHAPES: Final = ("optional_input_shape", "optional_output_shape")
_PROVIDER_OBJECTS: Final = (
    "input_shape_enum_values",
    "input_shape_defaults",
    "optional_input_shape_enum_values",
    "optional_input_shape_defaults",
    "output_shape_enum_values",
    "optional_output_shape_enum_values",
)


@dataclass(frozen=True, slots=True)
class Provider:
    """What one app can do.

    Args:
        app_id: the app.
        name: its id for this.
        task_type: id of the kind of task.
        expected_runtime: seconds.
        registered: the registration as it was sent.
        custom_type: the kind of task, if the app brought it along.
    """

    app_id: str
    name: str
    task_type: str
    expected_runtime: int
    registered: Mapping[str, Any]
    custom_type: TaskType | None = None


def provider_of(stored: Document) -> Provider:
    """A registration as it was stored."""
    registered = stored.content["provider"]
    custom = stored.content["custom_type"]
    return Provider(
        stored.app_id,
        stored.name,
        registered["task_type"],
        int(registered["expected_runtime"]),
        registered,
        custom_type_of(custom) if custom else None,
    )


def check_provider(registered: Mapping[str, Any]) -> None:
    """Refuse a registration that lacks something.

    Raises:
        ValueError: what it lacks.
    """
    for name in _PROVIDER_TEXTS:
        if not isinstance(registered.get(name), str):
            raise ValueError(f"{name} must be a text")
    if not isinstance(registered.get("expected_runtime"), int):
        raise ValueError("expected_runtime must be a whole number of seconds")
    for name in _PROVIDER_SHAPES:
        shapes_from_wire(registered.get(name))
    for name in _PROVIDER_OBJECTS:
        value = registered.get(name)
        if not isinstance(value, dict) and value != []:
            raise ValueError(f"{name} must be an object")


def custom_type_of(described: Mapping[str, Any]) -> TaskType:
    """The kind of task that an app brought along.

    Raises:
        ValueError: it is malformed.
    """
    for name in ("id", "name", "description"):
        if not isinstance(described.get(name), str):
            raise ValueError(f"{name} of the task type must be a text")
    return TaskType(
        described["id"],
        described["name"],
        described["description"],
        shapes_from_wire(described.get("input_shape")),
        shapes_from_wire(described.get("output_shape")),
    )


def files_in(provider: Provider, values: Mapping[str, Any]) -> set[int]:
    """The numbers of files in an input."""
    task_type = task_type_of(provider)
    shapes = {
        **(task_type.inputs if task_type else {}),
        **shapes_from_wire(provider.registered["optional_input_shape"]),
    }
    found: set[int] = set()
    for key, value in values.items():
        if key in shapes and shapes[key].type in FILE_TYPES:
            items = value if isinstance(value, list) else [value]
            found |= {item for item in items if fits(item, "File")}
    return found


def task_type_of(provider: Provider) -> TaskType | None:
    """The kind of task that a provider does; None if nobody described it."""
    return provider.custom_type or CORE_TYPES.get(provider.task_type)
