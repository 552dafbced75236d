"""Users who sign in with name and password in each request.

Source: RFC 7617.
"""

import base64
import binascii
from typing import Final

__all__ = ["CHALLENGE", "basic_credentials"]

CHALLENGE: Final = ("WWW-Authenticate", 'Basic realm="Authorisation Required"')
"""The header that makes a client ask for them, in Nextcloud's words."""


def basic_credentials(authorization: str) -> tuple[str, str] | None:
    """User and password of an `Authorization: Basic` header, None if they cannot be read."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    user_id, colon, password = text.partition(":")
    return (user_id, password) if colon else None
