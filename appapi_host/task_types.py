"""Kinds of tasks that Nextcloud knows, and what goes in and comes out of each.

Source: Nextcloud developer manual, Task processing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from appapi_host.errors import HostError

__all__ = [
    "CORE_TYPES",
    "FILE_TYPES",
    "SHAPE_TYPES",
    "Shape",
    "TaskType",
    "checked",
    "fits",
    "shapes_from_wire",
]

SHAPE_TYPES: Final[Mapping[int, str]] = {
    0: "Number",
    1: "Text",
    2: "Image",
    3: "Audio",
    4: "Video",
    5: "File",
    6: "Enum",
    10: "ListOfNumbers",
    11: "ListOfTexts",
    12: "ListOfImages",
    13: "ListOfAudios",
    14: "ListOfVideos",
    15: "ListOfFiles",
}
"""Number → name, as they stand on the wire at registration and afterwards."""

FILE_TYPES: Final = frozenset(
    {"Image", "Audio", "Video", "File", "ListOfImages", "ListOfAudios", "ListOfVideos"}
    | {"ListOfFiles"}
)
"""Values of these are numbers of files."""

MAX_FILE: Final = 2**53
"""The largest number of a file that JavaScript can hold too."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One value that goes in or comes out.

    Args:
        name: for people.
        description: for people.
        type: one of `SHAPE_TYPES`.
    """

    name: str
    description: str
    type: str

    def to_wire(self) -> dict[str, str]:
        """As it is sent."""
        return {"name": self.name, "description": self.description, "type": self.type}


@dataclass(frozen=True, slots=True)
class TaskType:
    """A kind of task.

    Args:
        id: for instance `core:text2text`.
        name: for people.
        description: for people.
        inputs: by key.
        outputs: by key.
    """

    id: str
    name: str
    description: str
    inputs: Mapping[str, Shape] = field(default_factory=dict)
    outputs: Mapping[str, Shape] = field(default_factory=dict)


def _shapes(described: Mapping[str, str]) -> dict[str, Shape]:
    return {key: Shape(key.replace("_", " ").title(), "", kind) for key, kind in described.items()}


_TEXT: Final = {"input": "Text"}
_RESULT: Final = {"output": "Text"}

# id → name, inputs, outputs.
_CORE: Final[Mapping[str, tuple[str, Mapping[str, str], Mapping[str, str]]]] = {
    "core:text2text": ("Free text to text prompt", _TEXT, _RESULT),
    "core:text2text:chat": (
        "Chat",
        {"system_prompt": "Text", "input": "Text", "history": "ListOfTexts"},
        _RESULT,
    ),
    "core:text2text:chatwithtools": (
        "Chat with tools",
        {
            "system_prompt": "Text",
            "input": "Text",
            "tool_message": "Text",
            "history": "ListOfTexts",
            "tools": "Text",
        },
        {"output": "Text", "tool_calls": "Text"},
    ),
    "core:text2text:changetone": ("Change Tone", {"input": "Text", "tone": "Enum"}, _RESULT),
    "core:text2text:formalization": ("Formalize text", _TEXT, _RESULT),
    "core:text2text:headline": ("Generate a headline", _TEXT, _RESULT),
    "core:text2text:proofread": ("Proofread", _TEXT, _RESULT),
    "core:text2text:reformulation": ("Reformulate text", _TEXT, _RESULT),
    "core:text2text:simplification": ("Simplify text", _TEXT, _RESULT),
    "core:text2text:summary": ("Summarize", _TEXT, _RESULT),
    "core:text2text:topics": ("Extract topics", _TEXT, _RESULT),
    "core:text2text:translate": (
        "Translate",
        {"input": "Text", "origin_language": "Enum", "target_language": "Enum"},
        _RESULT,
    ),
    "core:contextagent:interaction": (
        "ContextAgent",
        {"input": "Text", "confirmation": "Number", "conversation_token": "Text"},
        {"output": "Text", "conversation_token": "Text", "actions": "Text"},
    ),
    "core:contextwrite": (
        "Context write",
        {"style_input": "Text", "source_input": "Text"},
        _RESULT,
    ),
    "core:generateemoji": ("Emoji generator", _TEXT, _RESULT),
    "core:audio2text": ("Transcribe audio", {"input": "Audio"}, _RESULT),
    "core:audio2audio:chat": (
        "Audio chat",
        {"system_prompt": "Text", "input": "Audio", "history": "ListOfTexts"},
        {"input_transcript": "Text", "output": "Audio", "output_transcript": "Text"},
    ),
    "core:text2image": (
        "Generate image",
        {"input": "Text", "numberOfImages": "Number"},
        {"images": "ListOfImages"},
    ),
    "core:text2speech": ("Generate speech", _TEXT, {"speech": "Audio"}),
    "core:analyze-images": (
        "Analyze images",
        {"images": "ListOfImages", "input": "Text"},
        _RESULT,
    ),
}

CORE_TYPES: Final[Mapping[str, TaskType]] = {
    type_id: TaskType(type_id, name, "", _shapes(inputs), _shapes(outputs))
    for type_id, (name, inputs, outputs) in _CORE.items()
}
"""Those that need no registration, by id."""


def shapes_from_wire(listed: Any) -> dict[str, Shape]:
    """Shapes as apps register them: `[{"name", "description", "shape_type"}]`.

    Raises:
        ValueError: they are something else.
    """
    if not isinstance(listed, list):
        raise ValueError("a shape is a list")
    found = {}
    for item in listed:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise ValueError("a shape has a name")
        number = item.get("shape_type")
        kind = SHAPE_TYPES.get(number) if isinstance(number, int) else None
        if kind is None:
            raise ValueError(f"{number!r} is no type of a shape")
        found[item["name"]] = Shape(item["name"], str(item.get("description", "")), kind)
    return found


def checked(
    values: Mapping[str, Any], needed: Mapping[str, Shape], optional: Mapping[str, Shape]
) -> dict[str, Any]:
    """The values that belong to the task, in the right types.

    Raises:
        HostError: one is missing, or of another type.
    """
    if missing := sorted(set(needed) - set(values)):
        raise HostError(f"Missing key: {', '.join(missing)}")
    shapes = {**needed, **optional}
    for key, value in values.items():
        if key in shapes and not fits(value, shapes[key].type):
            raise HostError(f"{key} must be of the type {shapes[key].type}")
    return {key: value for key, value in values.items() if key in shapes}


def fits(value: Any, kind: str) -> bool:
    """Whether a value is of a type, by its name."""
    if kind.startswith("ListOf"):
        single = kind.removeprefix("ListOf").removesuffix("s")
        return isinstance(value, list) and all(fits(item, single) for item in value)
    if kind in ("Text", "Enum"):
        return isinstance(value, str)
    if kind in FILE_TYPES:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_FILE
    return isinstance(value, (int, float)) and not isinstance(value, bool)
