"""Tags that all users share, and which files have them.

Source: what nc_py_api and Nextcloud's own front end send.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Final

from wsgidav.dav_error import DAVError
from wsgidav.dav_provider import DAVNonCollection

from appapi_host.files import happenings
from appapi_host.files.index import Tag
from appapi_host.files.refusals import Refusal
from appapi_host.files.resources import Collection, Resource, is_number
from appapi_host.files.work import Environ, work_of
from appapi_host.files.xml import OC, Element, Value, text_of

__all__ = ["Relation", "TagResource", "Tags", "TagsOf", "find_relation", "find_tag"]

MAX_NAME: Final = 64
"""Characters of a tag's name."""


class Tags(Collection):
    """All tags."""

    def members(self) -> Iterator[Resource]:
        """Those that the user may see."""
        for tag in self.work.store.index.tags():
            if tag.is_visible or self.work.is_admin:
                yield TagResource(self.environ, (*self.names, str(tag.tag_id)), tag)

    def post(self, body: bytes, content_type: str) -> int:
        """Make a tag: `{"name": "...", "userVisible": true, "userAssignable": true}`."""
        if content_type.partition(";")[0].strip() != "application/json":
            raise Refusal(415, "Parser for non-JSON request body is not implemented")
        tag = _posted(body, self.work.is_admin)
        tag = self.work.store.index.add_tag(
            tag.name, is_visible=tag.is_visible, is_assignable=tag.is_assignable
        )
        href = self.work.href((*self.names, str(tag.tag_id)), is_folder=False)
        self.work.headers.append(("Content-Location", href))
        return 201


def _posted(body: bytes, is_admin: bool) -> Tag:  # noqa: FBT001
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is no JSON") from None
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise Refusal(400, 'Missing "name" attribute')
    visible, assignable = given.get("userVisible", True), given.get("userAssignable", True)
    if not (isinstance(visible, bool) and isinstance(assignable, bool)):
        raise Refusal(400, '"userVisible" and "userAssignable" are true or false')
    if not (visible and assignable) and not is_admin:
        raise Refusal(400, "Not sufficient permissions")
    return Tag(0, _checked_name(given["name"]), visible, assignable)


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise Refusal(400, f"The name of a tag has 1 to {MAX_NAME} characters that can be shown")
    return name


class TagResource(Resource, DAVNonCollection):
    """One tag.

    Args:
        environ: the request.
        names: its path.
        tag: the tag.
    """

    defaults: ClassVar[tuple[str, ...]] = (
        f"{OC}id",
        f"{OC}display-name",
        f"{OC}user-visible",
        f"{OC}user-assignable",
    )

    def __init__(self, environ: Environ, names: tuple[str, ...], tag: Tag) -> None:
        super().__init__("/" + "/".join(names), environ)
        self.work, self.names, self.tag = work_of(environ), names, tag

    def value(self, name: str) -> Value | None:
        """A property."""
        may_assign = self.tag.is_assignable or self.work.is_admin
        found = {
            f"{OC}id": str(self.tag.tag_id),
            f"{OC}display-name": self.tag.name,
            f"{OC}user-visible": str(self.tag.is_visible).lower(),
            f"{OC}user-assignable": str(self.tag.is_assignable).lower(),
            f"{OC}can-assign": str(may_assign).lower(),
        }
        return found[name] if name in found else super().value(name)

    def set_property_value(
        self, name: str, value: Element | None, *, dry_run: bool = False
    ) -> None:
        """Change the tag; called by the library twice, first to see whether it may."""
        text = text_of(value)
        index = self.work.store.index
        tag = index.tag(self.tag.tag_id) or self.tag  # an earlier property changed it already
        if name == f"{OC}display-name":
            try:
                changed = replace(tag, name=_checked_name(text))
            except Refusal as refusal:
                raise DAVError(refusal.status, refusal.message) from None
        elif name in (f"{OC}user-visible", f"{OC}user-assignable") and text in ("true", "false"):
            if not self.work.is_admin:
                raise DAVError(403, "Not sufficient permissions")
            is_it = text == "true"
            changed = (
                replace(tag, is_visible=is_it)
                if name == f"{OC}user-visible"
                else replace(tag, is_assignable=is_it)
            )
        else:
            raise DAVError(403, f"{name} cannot be changed")
        if not dry_run:
            try:
                index.change_tag(changed)
            except Refusal as refusal:
                raise DAVError(refusal.status, refusal.message) from None

    def remove(self) -> None:
        """Delete it; no file has it any more."""
        self.work.store.index.remove_tag(self.tag.tag_id)

    def get_content_length(self) -> int:
        """None to speak of."""
        return 0

    def support_etag(self) -> bool:
        """No."""
        return False

    def get_etag(self) -> None:
        """None, see `support_etag()`."""

    def get_content(self) -> None:
        """A tag has none."""
        raise Refusal(405, "A tag has no content")


class TagsOf(Collection):
    """The tags of one file."""

    fileid: int

    def members(self) -> Iterator[Resource]:
        """Those that the user may see."""
        for tag in self.work.store.index.tags_of(self.fileid):
            if tag.is_visible or self.work.is_admin:
                yield Relation(self.environ, (*self.names, str(tag.tag_id)), tag, self.fileid)


class Relation(TagResource):
    """A file having, or not having, a tag.

    Args:
        environ: the request.
        names: its path.
        tag: the tag.
        fileid: the file.
    """

    def __init__(self, environ: Environ, names: tuple[str, ...], tag: Tag, fileid: int) -> None:
        super().__init__(environ, names, tag)
        self.fileid = fileid

    def put_relation(self) -> int:
        """Give the tag to the file."""
        self._check()
        index = self.work.store.index
        if not index.set_tagged(self.tag.tag_id, self.fileid, is_tagged=True):
            raise Refusal(409, f"Tag with id {self.tag.tag_id} is already assigned")
        self._tell(is_tagged=True)
        return 201

    def remove(self) -> None:
        """Take the tag from the file."""
        self._check()
        if self.work.store.index.set_tagged(self.tag.tag_id, self.fileid, is_tagged=False):
            self._tell(is_tagged=False)

    def _tell(self, *, is_tagged: bool) -> None:
        user_id = self.work.owner.user_id
        self.work.store.tell(
            happenings.tagged(user_id, self.fileid, self.tag.tag_id, is_tagged=is_tagged)
        )

    def _check(self) -> None:
        if not self.tag.is_assignable and not self.work.is_admin:
            raise Refusal(403, "No permission to assign this tag")

    def set_property_value(
        self, name: str, value: Element | None, *, dry_run: bool = False
    ) -> None:
        """Refuse: the tag itself is elsewhere."""
        raise DAVError(403, "change the tag itself, below /systemtags")


def find_tag(environ: Environ, names: tuple[str, ...]) -> Resource | None:
    """What is at a path below `/systemtags`, None if nothing is."""
    if len(names) == 1:
        return Tags(environ, names)
    tag = _tag(environ, names[1]) if len(names) == 2 else None
    return None if tag is None else TagResource(environ, names, tag)


def find_relation(environ: Environ, names: tuple[str, ...]) -> Resource | None:
    """What is at a path below `/systemtags-relations`, None if nothing is.

    With a method that makes a relation, one that does not exist yet is there too.
    """
    work = work_of(environ)
    if len(names) == 1:
        return Collection(environ, names, lambda: iter((Collection(environ, (*names, "files")),)))
    if names[1] != "files" or len(names) > 4:
        return None
    if len(names) == 2:
        return Collection(environ, names)
    number = names[2]
    if not is_number(number):
        return None
    node = work.store.by_id(work.owner.user_id, int(number))
    if node is None:
        return None
    if len(names) == 3:
        found = TagsOf(environ, names)
        found.fileid = node.fileid
        return found
    tag = _tag(environ, names[3])
    if tag is None:
        return None
    has_tag = any(other.tag_id == tag.tag_id for other in work.store.index.tags_of(node.fileid))
    if has_tag or environ["REQUEST_METHOD"] == "PUT":
        return Relation(environ, names, tag, node.fileid)
    return None


def _tag(environ: Environ, text: str) -> Tag | None:
    work = work_of(environ)
    if not is_number(text):
        return None
    tag = work.store.index.tag(int(text))
    return tag if tag is not None and (tag.is_visible or work.is_admin) else None
