"""What stands behind which path: the files of a user, and what the server keeps beside them."""

from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from wsgidav.dav_provider import DAVProvider

from appapi_host.files.node_resources import node_resource
from appapi_host.files.nodes import split_path
from appapi_host.files.refusals import Refusal
from appapi_host.files.resources import Collection, Resource
from appapi_host.files.systemtags import find_relation, find_tag
from appapi_host.files.trashbin import find_trashed
from appapi_host.files.uploads import find_upload
from appapi_host.files.versions import find_version
from appapi_host.files.work import Environ, work_of

__all__ = ["SERVED", "Tree", "destination", "find_resource"]


class Tree(DAVProvider):
    """Finds the resource of a path."""

    def __init__(self) -> None:
        super().__init__()
        self.verbose = 0

    def get_resource_inst(self, path: str, environ: Environ) -> Resource | None:
        """The resource of a path, None if there is none."""
        return find_resource(environ, split_path(path))


def find_resource(environ: Environ, names: tuple[str, ...]) -> Resource | None:
    """The resource of a path, None if there is none, or if it is another user's."""
    work = work_of(environ)
    user_id = work.owner.user_id
    if not names:
        return Collection(
            environ,
            (),
            lambda: (
                found
                for name in (*_OF_USERS, "systemtags")
                if (found := find_resource(environ, (name,)))
            ),
        )
    if names[0] == "systemtags":
        return find_tag(environ, names)
    if names[0] == "systemtags-relations":
        return find_relation(environ, names)
    find = _OF_USERS.get(names[0])
    if find is None:
        return None
    if len(names) == 1:
        return Collection(environ, names, lambda: iter(_present(find(environ, (*names, user_id)))))
    return find(environ, names) if names[1] == user_id else None


def _present(resource: Resource | None) -> list[Resource]:
    return [] if resource is None else [resource]


def _find_file(environ: Environ, names: tuple[str, ...]) -> Resource | None:
    work = work_of(environ)
    node = work.store.find(work.owner.user_id, names[2:])
    return None if node is None else node_resource(environ, names, node)


_OF_USERS: Final = {
    "files": _find_file,
    "trashbin": find_trashed,
    "uploads": find_upload,
    "versions": find_version,
}
"""First part of a path → what finds the rest, all of the user whom the second part names."""

SERVED: Final = frozenset({*_OF_USERS, "systemtags", "systemtags-relations"})
"""First parts of the paths of this host; the real one has calendars, comments and more."""


def destination(header: str, base: str, legacy: tuple[str, ...]) -> tuple[str, ...]:
    """The path that a `Destination` header names.

    Which host it names does not matter: apps reach this one under names of their own.

    Args:
        header: an absolute URL, or its path.
        base: the part of the URL in front of the path, of the request itself.
        legacy: what comes in front of a path below `/remote.php/webdav`.

    Raises:
        Refusal: it leads elsewhere.
    """
    try:
        path = urlsplit(header, allow_fragments=False).path
        text = unquote_to_bytes(path).decode()
    except ValueError:
        raise Refusal(400, "The destination is no URL") from None
    text = text.removeprefix("/index.php")
    for root, prefix in (("/remote.php/dav", ()), ("/remote.php/webdav", legacy)):
        if text == root or text.startswith(f"{root}/"):
            return (*prefix, *split_path(text[len(root) :]))
    raise Refusal(403, f"Requested uri ({text}) is out of base uri ({base}/)")
