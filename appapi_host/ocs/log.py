"""Lines that apps write into the log of the host.

Source: AppAPI documentation, Logging.
"""

from typing import Any

from appapi_host.events import Notice
from appapi_host.ocs._endpoints import Auth, Call, Family, OCSRefusal
from exapp_sdk.protocol.log import WRITE_LOG, LogLevel

__all__ = ["family"]

family = Family()


@family.post(WRITE_LOG.path, auth=Auth.APP)
async def write_log(call: Call, level: int, message: str) -> list[Any]:
    """Show a line in the host's own output, whatever its level: there is no log file to search."""
    try:
        severity = LogLevel(level)
    except ValueError:
        raise OCSRefusal(400, "Invalid log level") from None
    call.host.bus.emit(
        Notice(
            call.app.app_id,
            f"log {severity.name.lower()}: {message}",
            is_warning=severity >= LogLevel.WARNING,
        )
    )
    return []
