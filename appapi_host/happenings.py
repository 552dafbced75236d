"""What happens on the host, in the words of Nextcloud's events.

Source: Nextcloud administration manual, Webhook Listeners.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from appapi_host.records import User

__all__ = ["NODE_EVENTS", "Happening"]

NODE_EVENTS: Final = "OCP\\Files\\Events\\Node\\"
"""The namespace of what happens to files and folders."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened.

    Args:
        event: name of the class of the event.
        data: its members, for instance `{"node": {"id": 7, "path": "/bob/files/a.txt"}}`.
        user_id: who did it, empty for nobody.
        time: when, in unix seconds.
    """

    event: str
    data: Mapping[str, Any]
    user_id: str = ""
    time: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of_node(
        cls, name: str, path: str, *, number: int | None = None, user_id: str = ""
    ) -> "Happening":
        """Something that happened to a file or folder.

        Args:
            name: what, for instance `NodeWrittenEvent`.
            path: behind the data folder: `/bob/files/a.txt`.
            number: its id; None if there is none yet, or not any more.
            user_id: who did it.
        """
        return cls(NODE_EVENTS + name, {"node": _node(path, number)}, user_id)

    @classmethod
    def of_two_nodes(
        cls,
        name: str,
        source: str,
        target: str,
        *,
        source_number: int | None = None,
        target_number: int | None = None,
        user_id: str = "",
    ) -> "Happening":
        """Something that led from one file or folder to another: renamed, copied, restored.

        Args:
            name: what, for instance `NodeRenamedEvent`.
            source: path of the one.
            target: path of the other.
            source_number: id of the one; None if it is not there any more.
            target_number: id of the other; None if it is not there yet.
            user_id: who did it.
        """
        data = {"source": _node(source, source_number), "target": _node(target, target_number)}
        return cls(NODE_EVENTS + name, data, user_id)

    def payload(self, user: User | None) -> dict[str, Any]:
        """What is sent, and what filters look at."""
        shown = None
        if user is not None:
            shown = {"uid": user.user_id, "displayName": user.display_name or user.user_id}
        return {"event": {"class": self.event, **self.data}, "user": shown, "time": self.time}


def _node(path: str, number: int | None) -> dict[str, Any]:
    return {"path": path} if number is None else {"id": number, "path": path}
