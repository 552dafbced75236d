"""How a request for a file ends that cannot be served, whatever the reason.

The real server names a PHP class in each refusal, and clients look at it; here it follows from the
status.
"""

import errno
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

__all__ = ["Refusal", "translated"]

_SABRE: Final = "Sabre\\DAV\\Exception"
_NEXTCLOUD: Final = "OCA\\DAV\\Connector\\Sabre\\Exception"

_EXCEPTIONS: Final[Mapping[int, str]] = {
    400: f"{_SABRE}\\BadRequest",
    401: f"{_SABRE}\\NotAuthenticated",
    403: f"{_SABRE}\\Forbidden",
    404: f"{_SABRE}\\NotFound",
    405: f"{_SABRE}\\MethodNotAllowed",
    409: f"{_SABRE}\\Conflict",
    411: f"{_SABRE}\\LengthRequired",
    412: f"{_SABRE}\\PreconditionFailed",
    413: f"{_NEXTCLOUD}\\EntityTooLarge",
    415: f"{_SABRE}\\UnsupportedMediaType",
    416: f"{_SABRE}\\RequestedRangeNotSatisfiable",
    423: f"{_SABRE}\\Locked",
    501: f"{_SABRE}\\NotImplemented",
    503: f"{_SABRE}\\ServiceUnavailable",
    507: f"{_SABRE}\\InsufficientStorage",
}
"""HTTP status → the class that the real server throws for it; any other is an internal error."""

_STATUS_OF_ERRNO: Final[Mapping[int, tuple[int, str]]] = {
    errno.ENOENT: (404, "it is gone"),
    errno.ENOTDIR: (409, "its parent is no folder"),
    errno.EISDIR: (409, "a folder has that name"),
    errno.EEXIST: (405, "something of that name is there already"),
    errno.ENOTEMPTY: (409, "the folder is not empty"),
    errno.ENAMETOOLONG: (400, "the name is too long"),
    errno.EINVAL: (400, "this disk takes no such name"),
    errno.EILSEQ: (400, "this disk takes no such name"),
    errno.ELOOP: (403, "it is a symbolic link"),
    errno.EACCES: (403, "the host may not do that to its own disk"),
    errno.EPERM: (403, "the host may not do that to its own disk"),
    errno.EROFS: (403, "the disk is read-only"),
    errno.ENOSPC: (507, "the disk is full"),
    errno.EDQUOT: (507, "the disk's quota is used up"),
    errno.EFBIG: (507, "the file is too large for the disk"),
    errno.EMFILE: (503, "too many files are open"),
    errno.ENFILE: (503, "too many files are open"),
}
"""What the disk says → status and reason; any other is 500."""


_STATUS_OF_SQLITE: Final[Mapping[int, tuple[int, str]]] = {
    sqlite3.SQLITE_FULL: (507, "the disk is full"),
    sqlite3.SQLITE_BUSY: (503, "another process is writing"),
    sqlite3.SQLITE_LOCKED: (503, "another process is writing"),
    sqlite3.SQLITE_READONLY: (403, "the disk is read-only"),
    sqlite3.SQLITE_CANTOPEN: (403, "the host may not do that to its own disk"),
}
"""What the index says → status and reason; any other is 500."""


class Refusal(Exception):  # noqa: N818  # how a request ends, not something gone wrong
    """A request for a file is refused.

    Args:
        status: of the answer.
        message: for the client.
        exception: class that the real server throws; follows from the status if not given.
        note: the reason in our words, for the host's own output only.
    """

    def __init__(
        self, status: int, message: str = "", *, exception: str = "", note: str = ""
    ) -> None:
        self.status = status
        self.message = message
        self.exception = exception or _EXCEPTIONS.get(status, f"{_SABRE}")
        self.note = note or message
        super().__init__(f"{status}: {message}")


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the disk says into refusals; paths of this machine are not shown."""
    try:
        yield
    except OSError as error:
        status, reason = _STATUS_OF_ERRNO.get(
            error.errno or 0, (500, (error.strerror or "the disk failed").lower())
        )
        raise Refusal(status, f"Could not access the file: {reason}", note=str(error)) from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        status, reason = _STATUS_OF_SQLITE.get(code, (500, "the index of the files is broken"))
        raise Refusal(status, f"Could not access the file: {reason}", note=str(error)) from error
