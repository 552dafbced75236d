"""What can stand behind a path: the part that all kinds of resources share.

The library knows a resource as something with content or members; what Nextcloud adds to that (its
properties, MOVE and DELETE that mean more than moving and deleting) are methods here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar

from wsgidav.dav_provider import DAVCollection

from appapi_host.files.disk import Part
from appapi_host.files.properties import DEFAULT
from appapi_host.files.refusals import Refusal
from appapi_host.files.work import Environ, Target, Work, work_of
from appapi_host.files.xml import DAV, Fragment, Value

__all__ = ["Collection", "Resource", "Stored", "is_number"]


def is_number(text: str) -> bool:
    """Whether a part of a path is a number that the index can hold."""
    return text.isascii() and text.isdecimal() and len(text) < 19


class Resource:
    """What all kinds have in common.

    Attributes:
        work: the request.
        names: path below the root of all resources.
        is_collection: whether it has members.
    """

    work: Work
    names: tuple[str, ...]
    is_collection: bool
    defaults: ClassVar[tuple[str, ...]] = DEFAULT

    def get_href(self) -> str:
        """Its path in answers."""
        return self.work.href(self.names, is_folder=self.is_collection)

    def get_ref_url(self) -> str:
        """The same for the library, which compares conditions with it."""
        return self.get_href()

    def value(self, name: str) -> Value | None:
        """A property, None if it has none of that name."""
        if name == f"{DAV}resourcetype":
            return Fragment("<d:collection/>") if self.is_collection else ""
        return None

    def property_names(self) -> list[str]:
        """The names of all its properties."""
        return [name for name in self.defaults if self.value(name) is not None]

    def members(self) -> "Iterator[Resource]":
        """What is directly in it."""
        return iter(())

    def get_member_names(self) -> list[str]:
        """The names of its members."""
        return [member.names[-1] for member in self.members()]

    def descendants(self, depth: str) -> "Iterator[Resource]":
        """The resource, with depth `1` its members, with `infinity` all that is in it."""
        left: list[Iterator[Resource]] = [iter((self,))]
        while left:
            found = next(left[-1], None)
            if found is None:
                left.pop()
                continue
            yield found
            if depth == "infinity" or (depth == "1" and found is self):
                left.append(found.members())

    def remove(self) -> None:
        """Delete it."""
        raise Refusal(403, "This cannot be deleted")

    def move_to(self, target: Target) -> bool:
        """Move it; says whether something new was made."""
        raise Refusal(403, "This cannot be moved there")

    def copy_to(self, target: Target) -> bool:
        """Copy it; says whether something new was made."""
        raise Refusal(403, "This cannot be copied")

    def post(self, body: bytes, content_type: str) -> int:
        """Take what is posted to it; returns the status."""
        raise Refusal(
            501, "There was no plugin in the system that was willing to handle this POST method."
        )

    def put_relation(self) -> int:
        """Take an upload of nothing, which stands for a relation; returns the status."""
        raise Refusal(405, "This takes no content")


class Collection(Resource, DAVCollection):
    """Something with members, which may have been given as functions.

    Args:
        environ: the request.
        names: its path.
        members: makes them.
    """

    def __init__(
        self,
        environ: Environ,
        names: tuple[str, ...],
        members: Callable[[], Iterator[Resource]] = lambda: iter(()),
    ) -> None:
        super().__init__("/" + "/".join(names), environ)
        self.work = work_of(environ)
        self.names = names
        self._members = members

    def members(self) -> Iterator[Resource]:
        """What is directly in it."""
        return self._members()


class Stored(ABC):
    """Content that arrives: what the library calls for a `PUT`."""

    work: Work

    def begin_write(self, *, content_type: str | None = None) -> Part:
        """A place for the content."""
        self._part = self.work.part()
        return self._part

    def end_write(self, *, with_errors: bool) -> None:
        """All is there, or something went wrong."""
        if with_errors:
            return  # the part is removed with the request
        expected = self.work.upload.length
        if expected is not None and expected != self._part.size:
            raise Refusal(
                400,
                f"Expected filesize of {expected} bytes but read (from Nextcloud client) and wrote "
                f"(to Nextcloud storage) {self._part.size} bytes.",
            )
        self.store_part(self._part)

    @abstractmethod
    def store_part(self, part: Part) -> None:
        """Make it what it is to be."""
