"""OCS, the envelope around every answer of the host, and calls as values.

Source: Open Collaboration Services; behaviour of Nextcloud 32.
"""

import json
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from exapp_sdk.errors import RemoteProtocolError

__all__ = [
    "FAILURE_CODES",
    "NOT_AUTHENTICATED",
    "NOT_FOUND",
    "OK_V1",
    "OK_V2",
    "SERVER_ERROR",
    "THROTTLED",
    "UNKNOWN_ERROR",
    "UNKNOWN_ROUTE",
    "Endpoint",
    "Envelope",
]

OK_V1: Final = 100
OK_V2: Final = 200
NOT_FOUND: Final = 404
THROTTLED: Final = 429
SERVER_ERROR: Final = 996
"""Uncaught error; also a missing, null or malformed required parameter."""
NOT_AUTHENTICATED: Final = 997
UNKNOWN_ROUTE: Final = 998
UNKNOWN_ERROR: Final = 999
FAILURE_CODES: Final = frozenset({SERVER_ERROR, NOT_AUTHENTICATED, UNKNOWN_ROUTE, UNKNOWN_ERROR})

DataT = TypeVar("DataT")


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[DataT]):
    """One OCS call as a value; `client.call(ENDPOINT, name=value)` makes it.

    Args:
        method: HTTP verb.
        path: path behind `/ocs/v1.php`; `{name}` is filled from the argument of that name.
        data: type that the data of the answer are checked against, for instance `list[str]`.
        idempotent: making the call twice is as good as once, so it is repeated after a failure in
            transport.
    """

    method: str
    path: str
    data: type[DataT]
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class Envelope:
    """An OCS answer.

    Args:
        statuscode: 100 or 2xx for success, otherwise the reason of the failure.
        message: the host's words for it; `OK` on success.
        data: payload; an empty list where there is none.
    """

    statuscode: int
    message: str
    data: Any

    @property
    def is_success(self) -> bool:
        """Whether the call did what it was asked to do."""
        return self.statuscode == OK_V1 or 200 <= self.statuscode < 300

    @classmethod
    def from_json(cls, body: bytes | str) -> "Envelope":
        """Unwrap `{"ocs": {"meta": {"status", "statuscode", "message"}, "data": ...}}`.

        Raises:
            RemoteProtocolError: this is no OCS envelope; the message shows how the body begins.
        """
        try:
            ocs = json.loads(body)["ocs"]
            meta = ocs["meta"]
            return cls(int(meta["statuscode"]), str(meta.get("message") or ""), ocs.get("data"))
        except (ValueError, KeyError, TypeError, AttributeError):
            start = body[:120] if isinstance(body, str) else body[:120].decode("utf-8", "replace")
            raise RemoteProtocolError(f"not an OCS answer, it begins {start!r}") from None
