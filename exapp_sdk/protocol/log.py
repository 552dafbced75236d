"""Lines that an app writes into the log of the host.

Source: AppAPI documentation, Logging.
"""

from enum import IntEnum
from typing import Final

from exapp_sdk.protocol.ocs import Endpoint

__all__ = ["WRITE_LOG", "LogLevel"]


class LogLevel(IntEnum):
    """Levels of the Nextcloud log."""

    DEBUG = 0
    INFO = 1
    WARNING = 2
    ERROR = 3
    FATAL = 4


WRITE_LOG: Final = Endpoint("POST", "/apps/app_api/api/v1/log", list)
"""`{"level": 0..4, "message": str}`; data `[]`; another level is refused with 400."""
