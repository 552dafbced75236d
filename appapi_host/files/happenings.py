"""What is done to files, as Nextcloud's webhooks hear of it.

Where Nextcloud has an event before and one after, both are told afterwards: whoever listens cannot
prevent anything, and what failed did not happen. A folder that is moved, copied or deleted with all
that is in it is one event, a folder that is made is created and written like a file.

Source: Nextcloud administration manual, Webhook Listeners; order as the server has it.
"""

from appapi_host.happenings import Happening

__all__ = ["copied", "deleted", "moved", "read", "restored", "tagged", "touched", "written"]


def _place(user_id: str, path: str) -> str:
    return f"/{user_id}/files/{path}"


def _about(user_id: str, name: str, path: str, fileid: int | None = None) -> Happening:
    return Happening.of_node(name, _place(user_id, path), number=fileid, user_id=user_id)


def written(user_id: str, path: str, fileid: int, *, is_new: bool) -> list[Happening]:
    """A file got content, or a folder was made."""
    before = None if is_new else fileid
    happened = [_about(user_id, "BeforeNodeWrittenEvent", path, before)]
    if is_new:
        happened.insert(0, _about(user_id, "BeforeNodeCreatedEvent", path))
        happened.append(_about(user_id, "NodeCreatedEvent", path, fileid))
    return [*happened, _about(user_id, "NodeWrittenEvent", path, fileid)]


def deleted(user_id: str, path: str, fileid: int) -> list[Happening]:
    """Something went to the trash, or for good."""
    return [
        _about(user_id, "BeforeNodeDeletedEvent", path, fileid),
        _about(user_id, "NodeDeletedEvent", path),
    ]


def touched(user_id: str, path: str, fileid: int) -> list[Happening]:
    """Its time was set."""
    return [
        _about(user_id, "BeforeNodeTouchedEvent", path, fileid),
        _about(user_id, "NodeTouchedEvent", path, fileid),
    ]


def read(user_id: str, path: str, fileid: int) -> list[Happening]:
    """A file is about to be read."""
    return [_about(user_id, "BeforeNodeReadEvent", path, fileid)]


def moved(user_id: str, source: str, target: str, fileid: int) -> list[Happening]:
    """Something got another path."""
    paths = _place(user_id, source), _place(user_id, target)
    return [
        Happening.of_two_nodes(
            "BeforeNodeRenamedEvent", *paths, source_number=fileid, user_id=user_id
        ),
        Happening.of_two_nodes("NodeRenamedEvent", *paths, target_number=fileid, user_id=user_id),
    ]


def copied(
    user_id: str, source: str, source_id: int, target: str, target_id: int, *, is_new: bool
) -> list[Happening]:
    """Something was copied, which writes the target too."""
    paths = _place(user_id, source), _place(user_id, target)
    around = written(user_id, target, target_id, is_new=is_new)
    half = len(around) // 2
    return [
        Happening.of_two_nodes(
            "BeforeNodeCopiedEvent",
            *paths,
            source_number=source_id,
            target_number=None if is_new else target_id,
            user_id=user_id,
        ),
        *around[:half],
        Happening.of_two_nodes(
            "NodeCopiedEvent",
            *paths,
            source_number=source_id,
            target_number=target_id,
            user_id=user_id,
        ),
        *around[half:],
    ]


def restored(user_id: str, trashed: str, path: str, fileid: int) -> list[Happening]:
    """Something came back from the trash."""
    paths = f"/{user_id}/files_trashbin/files/{trashed}", _place(user_id, path)
    return [
        Happening.of_two_nodes(
            "BeforeNodeRestoredEvent", *paths, source_number=fileid, user_id=user_id
        ),
        Happening.of_two_nodes(
            "NodeRestoredEvent",
            *paths,
            source_number=fileid,
            target_number=fileid,
            user_id=user_id,
        ),
    ]


def tagged(user_id: str, fileid: int, tag_id: int, *, is_tagged: bool) -> list[Happening]:
    """A file got, or lost, a tag."""
    name = "TagAssignedEvent" if is_tagged else "TagUnassignedEvent"
    data = {"objectType": "files", "objectIds": [str(fileid)], "tagIds": [tag_id]}
    return [Happening(f"OCP\\SystemTag\\{name}", data, user_id)]
