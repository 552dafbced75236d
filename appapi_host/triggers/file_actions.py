"""Clicking an action in the menu of a file.

Source: AppAPI documentation, File Actions Menu; a request recorded from AppAPI 32.0.0.
"""

import mimetypes
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from appapi_host.errors import HostError
from appapi_host.events import Direction
from appapi_host.files import instance_id
from appapi_host.host import Host
from appapi_host.ocs.files_actions import KIND
from appapi_host.records import User
from appapi_host.triggers.outcome import Outcome, Told, exchanges_with
from appapi_host.triggers.targets import acting_user, enabled_app, registration, signed_in

if TYPE_CHECKING:
    from appapi_host.files.access import Node

__all__ = ["FileNode", "trigger_file_action"]

FOLDER_MIME: Final = "httpd/unix-directory"

_SAMPLES: Final = (
    ("clip.mp4", "video/mp4", "/Videos"),
    ("photo.jpg", "image/jpeg", "/Photos"),
    ("sound.mp3", "audio/mpeg", "/Music"),
    ("notes.txt", "text/plain", "/Documents"),
    ("report.pdf", "application/pdf", "/Documents"),
    ("Documents", FOLDER_MIME, "/"),
)


@dataclass(frozen=True, slots=True)
class FileNode:
    """A file or folder, as the Files app knows it.

    Args:
        name: within its folder.
        directory: path of that folder, `/` for the top one.
        mime: its type; `httpd/unix-directory` is a folder.
        file_id: number.
        size: bytes.
        etag: changes with the content.
        mtime: unix seconds of the last change.
        permissions: sum of 1 read, 2 update, 4 create, 8 delete, 16 share.
        is_favorite: marked with the star.
    """

    name: str
    directory: str = "/"
    mime: str = "text/plain"
    file_id: int = 1
    size: int = 1024 * 1024
    etag: str = field(default_factory=partial(secrets.token_hex, 16))
    mtime: int = field(default_factory=lambda: int(time.time()))
    permissions: int = 27
    is_favorite: bool = False

    @classmethod
    def at(cls, path: str, **known: Any) -> Self:
        """A sample at a path of the user's folder; its type follows from its name.

        Args:
            path: for instance `/Videos/clip.mp4`; with a slash at the end, a folder.
            known: other members.
        """
        directory, _, name = path.rstrip("/").rpartition("/")
        mime = mimetypes.guess_type(name)[0] or "application/octet-stream"
        if path.endswith("/"):
            mime = FOLDER_MIME
        members = {"directory": f"/{directory.lstrip('/')}", "mime": mime}
        return cls(name, **(members | known))

    @classmethod
    def of(cls, node: "Node") -> Self:
        """One of the user's own files, which the app can fetch.

        Args:
            node: what `host.files.node()` returns.
        """
        return cls(
            node.name,
            f"/{'/'.join(node.names[:-1])}",
            node.mime,
            file_id=node.fileid,
            size=node.size,
            etag=node.etag,
            mtime=node.mtime,
            is_favorite=node.entry.favorite,
        )

    def to_wire(self, user: User, instance: str) -> dict[str, Any]:
        """What the browser sends of it.

        Args:
            user: who clicks.
            instance: id of the host, in Nextcloud's form.
        """
        return {
            "fileId": self.file_id,
            "name": self.name,
            "directory": self.directory,
            "etag": self.etag,
            "mime": self.mime,
            "favorite": "true" if self.is_favorite else "false",
            "permissions": self.permissions,
            "fileType": "folder" if self.mime == FOLDER_MIME else "file",
            "size": self.size,
            "mtime": self.mtime,
            "shareTypes": None,
            "shareAttributes": None,
            "sharePermissions": None,
            "shareOwner": None,
            "shareOwnerId": None,
            "userId": user.user_id,
            "instanceId": instance,
        }


async def trigger_file_action(
    host: Host,
    app_id: str,
    *,
    name: str | None = None,
    files: Sequence[FileNode] = (),
    user_id: str | None = None,
) -> Outcome:
    """Click an action of an app, on one or more files.

    What the browser sends passes the proxy of the host, so the app has to declare a route for it.

    Args:
        host: where the app is installed.
        app_id: the app.
        name: of the action; not needed if it has only one.
        files: on what; with what is known of them if the user has such files. If not given, on a
            file of the user that the action is shown for, and without any on a sample.
        user_id: who clicks; the first user who is no administrator if not given.

    Raises:
        NotFoundError: there is no such app, action or user.
        HostError: the app or the user is disabled, or it is not clear which action is meant.
    """
    await enabled_app(host, app_id)
    action = (await registration(host, app_id, KIND, name, what="file action")).content
    user = await acting_user(host, user_id)
    if files:
        nodes = [await _known(host, user, node) for node in files]
    else:
        nodes = [await _own(host, user, action["mime"]) or _sample(action["mime"])]
    wire = [node.to_wire(user, instance_id(host.instance)) for node in nodes]
    # The old kind asks once for each file, the new one once for all.
    bodies: list[Any] = wire if action["version"] == "1.0" else [{"files": wire}]
    notes = [
        f"the action is not shown for {node.name}: {node.mime} does not contain {action['mime']}"
        for node in nodes
        if not _is_shown(action["mime"], node.mime)
    ]
    told = [await _click(host, user, app_id, action["action_handler"], body) for body in bodies]
    if action["version"] != "1.0":
        notes += _where_next(told[0], app_id, nodes)
    return Outcome(tuple(told), tuple(notes), all(one.is_success for one in told))


async def _known(host: Host, user: User, node: FileNode) -> FileNode:
    """A file with what is known of it, if the user has it."""
    try:
        return FileNode.of(await host.files.node(user.user_id, f"{node.directory}/{node.name}"))
    except HostError:
        return node


async def _own(host: Host, user: User, wanted: str) -> FileNode | None:
    """The first of the user's files that an action is shown for."""
    for node in (await host.files.nodes(user.user_id))[1:]:
        if _is_shown(wanted, node.mime):
            return FileNode.of(await host.files.node(user.user_id, node.path))
    return None


async def _click(host: Host, user: User, app_id: str, handler: str, body: Any) -> Told:
    path = f"/index.php/apps/app_api/proxy/{app_id}/{handler}"
    with exchanges_with(host.bus, app_id, Direction.USER_TO_APP) as seen:
        async with signed_in(host, user) as browser:
            request = browser.build_request("POST", path, json=body)
            answer = await browser.send(request)
    return Told.of(
        seen[-1],
        target=f"/{handler}",
        body=request.content,
        status=answer.status_code,
        answer=answer.content,
    )


def _is_shown(wanted: str, mime: str) -> bool:
    """Each of the wanted types is searched in that of the file."""
    return any(each.strip() in mime for each in wanted.split(","))


def _sample(wanted: str) -> FileNode:
    for name, mime, directory in _SAMPLES:
        if _is_shown(wanted, mime):
            return FileNode(name, directory, mime)
    first = wanted.split(",")[0].strip()
    if "/" in first:
        return FileNode(f"sample{mimetypes.guess_extension(first) or ''}", "/Documents", first)
    return FileNode("notes.txt", "/Documents")


def _where_next(told: Told, app_id: str, nodes: Sequence[FileNode]) -> list[str]:
    """Where the browser goes after the answer, if the app says so."""
    try:
        answer = told.json()
    except ValueError:
        return []
    page = answer.get("redirect_handler") if isinstance(answer, dict) else None
    if not told.is_success or not isinstance(page, str) or not page:
        return []
    numbers = ",".join(str(node.file_id) for node in nodes)
    path = f"/index.php/apps/app_api/embedded/{app_id}/{page.lstrip('/')}"
    return [f"the browser goes to {path}?fileIds={numbers}"]
