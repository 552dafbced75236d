"""What the HTTP library raises, as errors of ours."""

from __future__ import annotations

from functools import cache
from types import TracebackType

from appapi_host.app_client.library import httpx
from appapi_host.app_connections import os_reason, without_userinfo
from exapp_sdk.errors import TransportError

__all__ = ["reasons", "translated"]


@cache
def reasons() -> tuple[tuple[type[Exception], str], ...]:
    """What httpx raises, in plain words; the first row that fits counts."""
    return (
        (httpx.ConnectTimeout, "no connection within the time limit"),
        (httpx.ConnectError, "no connection"),
        (httpx.TimeoutException, "no answer within the time limit"),
        (httpx.RemoteProtocolError, "the app closed the connection without a proper answer"),
        (httpx.LocalProtocolError, "the request cannot be written as HTTP"),
        (httpx.UnsupportedProtocol, "the address is neither http nor https"),
        (httpx.NetworkError, "the connection broke"),
        (httpx.DecodingError, "the body is not what Content-Encoding says"),
        (httpx.HTTPError, "HTTP failed"),
        (httpx.InvalidURL, "the address is malformed"),
        (OSError, "the connection broke"),
    )


class translated:  # noqa: N801  # reads as a phrase in a with statement
    """Turns what httpx raises into `TransportError`.

    A class rather than a generator, because one stands around every piece of a proxied body.
    """

    __slots__ = ("_method", "_url")

    def __init__(self, method: str, url: str) -> None:
        self._method = method
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not isinstance(exc, Exception):
            return
        for kind, reason in reasons():
            if isinstance(exc, kind):
                detail = os_reason(exc) or (str(exc) if kind is httpx.HTTPError else "")
                raise TransportError(
                    f"{self._method} {without_userinfo(self._url)}",
                    f"{reason}: {detail}" if detail else reason,
                    outcome_unknown=not isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout),
                ) from exc
