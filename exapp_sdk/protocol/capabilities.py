"""What the host is and can do.

Source: Nextcloud OCS API, Capabilities.
"""

from typing import Any, Final

from exapp_sdk.protocol.ocs import Endpoint

__all__ = ["GET_CAPABILITIES"]

GET_CAPABILITIES: Final = Endpoint("GET", "/cloud/capabilities", dict[str, Any], idempotent=True)
"""`{"version": {...}, "capabilities": {...}}`; only the public part without an acting user."""
