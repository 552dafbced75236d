"""How the host speaks HTTP to apps; the only part of the host that knows httpx.

Requests are handed to httpx transports as they are rather than to a client: no cookies are kept
between users, no header is added behind our back, and a proxied request costs no more than it must.
"""

from __future__ import annotations

import json
import secrets
import string
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import anyio

from appapi_host.app_client.answers import (
    Answer,
    decoded_pieces,
    header_list,
    read,
    streamed,
)
from appapi_host.app_client.failures import reasons, translated
from appapi_host.app_client.fetching import USER_AGENT, fetch
from appapi_host.app_client.library import httpx, ready
from appapi_host.app_client.redirects import MAX_REDIRECTS, REDIRECTS, redirected
from appapi_host.app_client.transports import (
    TransportFactory,
    UserAnswer,
    UserClient,
    memory_transport,
    single_transport,
    user_client,
)
from appapi_host.app_connections import os_reason, tls_context, without_userinfo
from appapi_host.app_streams import AppStreams, StreamedAnswer
from appapi_host.events import Direction, EventBus, Exchange, masked_headers
from appapi_host.fronts import Front, front_of
from appapi_host.records import AppRecord
from appapi_host.settings import HostSettings
from exapp_sdk.errors import TransportError
from exapp_sdk.protocol.auth import AA_REQUEST_ID

__all__ = [
    "USER_AGENT",
    "Answer",
    "AppClient",
    "StreamedAnswer",
    "TransportFactory",
    "UserAnswer",
    "UserClient",
    "fetch",
    "memory_transport",
    "php_json",
    "reasons",
    "user_client",
]

_REQUEST_ID_ALPHABET: Final = string.ascii_letters + string.digits

SHOWN_BYTES: Final = 4096
"""How much of a body an `Exchange` keeps."""


class AppClient:
    """Requests from the host to its apps.

    Args:
        settings: the AppAPI version to announce.
        bus: told of every exchange.
        transport_for: how to reach an app other than through the network.
    """

    def __init__(
        self,
        settings: HostSettings,
        bus: EventBus,
        *,
        transport_for: TransportFactory | None = None,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._transport_for = transport_for
        self._trusting: dict[str, httpx.AsyncHTTPTransport] = {}
        # Those of users share some.
        self._streams = AppStreams()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A host that ends is cancelled, and that would stop at the first of several connections.
        with anyio.CancelScope(shield=True):
            if "_single" in vars(self):
                await self._single.aclose()
            for transport in self._trusting.values():
                await transport.aclose()
            await self._streams.aclose()

    @cached_property
    def _single(self) -> httpx.AsyncHTTPTransport:
        return single_transport()

    async def heartbeat(self, app: AppRecord, url: str) -> Answer:
        """`GET /heartbeat`, not signed.

        Raises:
            TransportError: no answer.
        """
        headers = [
            ("Accept", "application/json"),
            ("Content-Type", "application/json"),
            ("User-Agent", USER_AGENT),
            ("Accept-Encoding", "gzip"),
        ]
        return await self._call(app, "GET", url, "/heartbeat", headers, emit_failure=False)

    async def init(self, app: AppRecord, url: str) -> Answer:
        """`POST /init`, signed in nobody's name.

        Raises:
            TransportError: no answer.
        """
        return await self._call(app, "POST", url, "/init", self._signed(app))

    async def enabled(self, app: AppRecord, url: str, *, enabled: bool) -> Answer:
        """`PUT /enabled?enabled=1|0`, signed in nobody's name.

        Raises:
            TransportError: no answer.
        """
        target = f"/enabled?enabled={int(enabled)}"
        return await self._call(app, "PUT", url, target, self._signed(app, language="en"))

    async def ask(
        self,
        app: AppRecord,
        url: str,
        method: str,
        target: str,
        *,
        user_id: str = "",
        content: bytes = b"",
        content_type: str = "",
        headers: Sequence[tuple[str, str]] = (),
        request_id: str = "CLI",
    ) -> Answer:
        """A request that the host makes by itself: a trigger, a webhook, a message.

        The caller owns the time limit.

        Args:
            app: who is asked.
            url: where the app is, without a trailing slash.
            method: HTTP verb.
            target: path and query.
            user_id: in whose name, empty for nobody.
            content: the body.
            content_type: of the body; empty for none.
            headers: further ones.
            request_id: what the app finds in its own log; empty makes one up.

        Raises:
            TransportError: no answer.
        """
        all_headers = [
            *([("Content-Type", content_type)] if content_type else []),
            *self._signed(app, language="en", user_id=user_id, request_id=request_id),
            *headers,
        ]
        return await self._call(app, method, url, target, all_headers, content=content)

    async def ask_elsewhere(
        self,
        method: str,
        url: str,
        *,
        app_id: str,
        headers: Sequence[tuple[str, str]],
        content: bytes,
    ) -> Answer:
        """A request to somebody who is no app, and who gets no signature.

        The caller owns the time limit.

        Args:
            method: HTTP verb.
            url: http or https.
            app_id: who wanted it to be asked, for the bus; empty if no app did.
            headers: all but those that every request has.
            content: the body.

        Raises:
            TransportError: no answer.
        """
        try:
            urlsplit(url).port  # noqa: B018  # looks whether it is one
        except ValueError:
            raise TransportError(f"{method} {url}", "the address is malformed") from None
        complete = [*headers, ("User-Agent", USER_AGENT), ("Accept-Encoding", "gzip")]
        return await self._call(None, method, url, "", complete, content=content, app_id=app_id)

    @asynccontextmanager
    async def ask_for_stream(
        self, app: AppRecord, url: str, method: str, target: str, *, content: bytes
    ) -> AsyncIterator[StreamedAnswer]:
        """The same with a body of JSON in nobody's name, its answer handed out while it arrives.

        There is no time limit. Redirects are followed, and the body is decompressed.

        Args:
            app: who is asked.
            url: where the app is, without a trailing slash.
            method: HTTP verb.
            target: path and query.
            content: the body, which is JSON.

        Raises:
            TransportError: no answer, or it breaks off; raised from its body too.
        """
        headers = [("Content-Type", "application/json"), *self._signed(app, language="en")]
        exchange = _exchange(app.app_id, method, target, headers, content)
        started = time.perf_counter()
        try:
            async with self._sent(app, method, url, target, headers, content) as response:
                exchange = replace(exchange, status=response.status_code)
                self._emit(exchange, started)
                yield StreamedAnswer(
                    response.status_code,
                    list(response.headers.raw),
                    decoded_pieces(response, method, url + target),
                )
        except TransportError as error:
            if not exchange.status:
                self._emit(replace(exchange, note=error.reason), started)
            raise

    def _emit(self, exchange: Exchange, started: float) -> None:
        self._bus.emit(replace(exchange, seconds=time.perf_counter() - started))

    def stream(
        self,
        app: AppRecord,
        url: str,
        *,
        method: str,
        target: str,
        headers: Sequence[tuple[bytes, bytes]],
        content: AsyncGenerator[bytes, None] | None = None,
    ) -> AbstractAsyncContextManager[StreamedAnswer]:
        """Send a request as it is and hand out the answer while it arrives.

        Nothing is added but a missing `Host`, no redirect is followed, there is no time limit.

        Args:
            app: who is asked.
            url: where the app is, without a trailing slash.
            method: HTTP verb.
            target: path and query.
            headers: names and values.
            content: the body, in pieces; chunked unless the headers tell its length.

        Raises:
            TransportError: the app cannot be reached, or breaks off; raised from the body too.
        """
        own = self._transport_for(app) if self._transport_for else None
        if own is not None:
            return streamed(own, method, url + target, headers, content)
        front = front_of(app, url)
        return self._streams.stream(
            url,
            method=method,
            target=target,
            headers=front.raw_headers(headers) if front else headers,
            content=content,
            ca=front.ca if front else "",
        )

    def memory_app(self, app: AppRecord) -> Callable[..., Any] | None:
        """The ASGI app behind a `memory_transport()`; None if the app is reached otherwise."""
        own = self._transport_for(app) if self._transport_for else None
        return own.app if isinstance(own, httpx.ASGITransport) else None

    def _signed(
        self, app: AppRecord, *, language: str = "", user_id: str = "", request_id: str = "CLI"
    ) -> list[tuple[str, str]]:
        # "CLI" stands for every request that no browser caused.
        headers = app.credentials(user_id).headers(aa_version=self._settings.aa_version)
        headers.append((AA_REQUEST_ID, request_id or _new_request_id()))
        if language:
            headers.append(("Accept-Language", language))
        headers += [("User-Agent", USER_AGENT), ("Accept-Encoding", "gzip")]
        return headers

    def _transport(self, app: AppRecord | None, front: Front | None) -> httpx.AsyncBaseTransport:
        own = self._transport_for(app) if app and self._transport_for else None
        if own or not front or not front.ca:
            return own or self._single
        if front.ca not in self._trusting:
            self._trusting[front.ca] = single_transport(tls_context(front.ca))
        return self._trusting[front.ca]

    async def _call(
        self,
        app: AppRecord | None,
        method: str,
        url: str,
        target: str,
        headers: list[tuple[str, str]],
        *,
        emit_failure: bool = True,
        content: bytes = b"",
        app_id: str = "",
    ) -> Answer:
        shown = target or without_userinfo(url)
        exchange = _exchange(app.app_id if app else app_id, method, shown, headers, content)
        started = time.perf_counter()
        try:
            async with self._sent(app, method, url, target, headers, content) as response:
                with translated(method, url + target):
                    body = await read(response)
        except BaseException as error:  # cancelled too, when the time is over
            if emit_failure:
                note = error.reason if isinstance(error, TransportError) else ""
                self._emit(replace(exchange, note=note), started)
            raise
        self._emit(
            replace(exchange, status=response.status_code, response_body=body[:SHOWN_BYTES]),
            started,
        )
        return Answer(
            url + target,
            response.status_code,
            response.reason_phrase,
            body,
            tuple(header_list(response)),
        )

    @asynccontextmanager
    async def _sent(
        self,
        app: AppRecord | None,
        method: str,
        url: str,
        target: str,
        headers: list[tuple[str, str]],
        content: bytes,
    ) -> AsyncIterator[httpx.Response]:
        """Make a request, with what a front wants of it, and send it, see `_followed()`."""
        await ready()
        front = front_of(app, url) if app else None
        sent = front.headers(headers) if front else headers
        async with self._followed(
            app, _request(method, url + target, sent, content), front
        ) as response:
            yield response

    @asynccontextmanager
    async def _followed(
        self, app: AppRecord | None, request: httpx.Request, front: Front | None
    ) -> AsyncIterator[httpx.Response]:
        """Send, and follow redirects as AppAPI's HTTP library does."""
        first = f"{request.method} {request.url}"
        try:
            transport = self._transport(app, front)
        except OSError as error:
            raise TransportError(first, f"the CA file is of no use: {os_reason(error)}") from error
        for _ in range(MAX_REDIRECTS + 1):
            with translated(request.method, str(request.url)):
                response = await transport.handle_async_request(request)
            location = response.headers.get("location")
            if response.status_code not in REDIRECTS or not location:
                try:
                    yield response
                finally:
                    await response.aclose()
                return
            await response.aclose()
            with translated(request.method, str(request.url)):
                request = redirected(request, response.status_code, location)
        raise TransportError(first, f"more than {MAX_REDIRECTS} redirects")


def php_json(value: Mapping[str, Any]) -> bytes:
    """JSON as PHP writes it: ASCII, no blanks, slashes escaped."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/").encode()


def _exchange(
    app_id: str, method: str, target: str, headers: list[tuple[str, str]], content: bytes
) -> Exchange:
    """What the bus is told of a request; there is no answer yet."""
    return Exchange(
        Direction.HOST_TO_APP,
        app_id,
        method,
        target,
        status=0,
        seconds=0.0,
        request_headers=masked_headers(headers),
        request_body=content[:SHOWN_BYTES],
    )


def _request(
    method: str, url: str, headers: list[tuple[str, str]], content: bytes
) -> httpx.Request:
    with translated(method, url):
        return httpx.Request(method, url, headers=headers, content=content)


def _new_request_id() -> str:
    """20 letters and digits, as Nextcloud makes one for each request."""
    return "".join(secrets.choice(_REQUEST_ID_ALPHABET) for _ in range(20))
