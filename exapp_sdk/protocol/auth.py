"""The headers that both sides sign requests with.

There is no signature in the cryptographic sense: each request carries the secret that app and host
share, next to the id of the user in whose name it is made.

Source: AppAPI documentation, Authentication.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from exapp_sdk.errors import AuthError

__all__ = [
    "AA_REQUEST_ID",
    "AA_VERSION",
    "AUTHORIZATION",
    "EX_APP_ID",
    "EX_APP_VERSION",
    "HARP_HEADERS",
    "MAX_HEADER_BYTES",
    "ORIGIN_IP",
    "Credentials",
    "Secret",
]

AA_VERSION: Final = "AA-VERSION"
EX_APP_ID: Final = "EX-APP-ID"
EX_APP_VERSION: Final = "EX-APP-VERSION"
AUTHORIZATION: Final = "AUTHORIZATION-APP-API"
AA_REQUEST_ID: Final = "AA-REQUEST-ID"
ORIGIN_IP: Final = "x-origin-ip"
HARP_HEADERS: Final = ("harp-shared-key", "ex-app-host", "ex-app-port")

MAX_HEADER_BYTES: Final = 4096
"""Longest header value that is looked at; user ids end at 64 characters and secrets at 256."""


class Secret:
    """A text that no repr, log line or error message shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for the wire and nothing else."""
        return self._value

    def mask(self, text: str) -> str:
        """The text with every occurrence of this one replaced by `***`."""
        return text.replace(self._value, "***") if self._value else text

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled: it would be written in clear")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one signed request says about its sender.

    Args:
        app_id: id of the ExApp, on both directions.
        app_version: version of the ExApp, as the sender knows it.
        secret: the secret that app and host share.
        user_id: the acting user, empty for nobody.
    """

    app_id: str
    app_version: str
    secret: Secret = field(repr=False)
    user_id: str = ""

    def headers(self, *, aa_version: str) -> list[tuple[str, str]]:
        """The headers to send, in the order of the real AppAPI.

        Args:
            aa_version: the AppAPI version to announce; nobody checks it.
        """
        pair = f"{self.user_id}:{self.secret.reveal()}".encode()
        return [
            (AA_VERSION, aa_version),
            (EX_APP_ID, self.app_id),
            (EX_APP_VERSION, self.app_version),
            (AUTHORIZATION, base64.b64encode(pair).decode("ascii")),
        ]

    @classmethod
    def parse(cls, headers: Iterable[tuple[bytes, bytes]]) -> "Credentials":
        """Read the three headers of a request, strictly.

        This checks form only; whether the secret is the right one is `matches()`.

        Args:
            headers: name and value pairs as ASGI gives them: lower-case names.

        Raises:
            AuthError: one of the three is missing, empty, doubled, longer than `MAX_HEADER_BYTES`,
                not UTF-8, or the last is not base64 of `user:secret`.
        """
        app_id = app_version = authorization = None
        for name, value in headers:
            # Three literal comparisons rather than a lookup: this runs for every request.
            if name == b"authorization-app-api":
                if authorization is not None:
                    raise AuthError
                authorization = value
            elif name == b"ex-app-id":
                if app_id is not None:
                    raise AuthError
                app_id = value
            elif name == b"ex-app-version":
                if app_version is not None:
                    raise AuthError
                app_version = value
        if not app_id or not app_version or not authorization:
            raise AuthError
        if max(len(app_id), len(app_version), len(authorization)) > MAX_HEADER_BYTES:
            raise AuthError
        try:
            user_id, colon, secret = (
                base64.b64decode(authorization, validate=True).decode("utf-8").partition(":")
            )
            if not colon:
                raise AuthError
            return cls(app_id.decode("utf-8"), app_version.decode("utf-8"), Secret(secret), user_id)
        except (binascii.Error, UnicodeDecodeError):
            # Not chained: the text of both errors quotes what was received.
            raise AuthError from None

    def matches(self, expected: "Credentials") -> bool:
        """Whether app id and secret are the expected ones, in constant time.

        Version and user are not compared: after an update the host may still hold the older
        version, and the user is what we want to learn.
        """
        same_app = hmac.compare_digest(self.app_id.encode(), expected.app_id.encode())
        same_secret = self.secret == expected.secret
        return same_app and same_secret
