"""How the host speaks websockets to apps; the only module that knows the library for that.

The library does the protocol without any input or output of its own, so that this runs on anyio
like everything else, and nothing is read from the app before somebody has taken what came earlier.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio
from anyio.abc import ByteStream
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import EXTERNAL_CLOSE_CODES, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from appapi_host.app_connections import BROKEN, connect, without_userinfo
from exapp_sdk.errors import TransportError

__all__ = [
    "ABNORMAL",
    "MAX_MESSAGE_BYTES",
    "NO_CODE",
    "AppSocket",
    "Closed",
    "SocketRefused",
    "is_sendable",
]

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""Longest message in either direction; as long as uvicorn allows apps to receive. Longer ones close
the connection with 1009."""

NO_CODE: Final = 1005
ABNORMAL: Final = 1006
INVALID_TEXT: Final = 1007

_READ_BYTES: Final = 65536

logger = logging.getLogger(__name__)


class SocketRefused(Exception):  # noqa: N818  # an answer, not something gone wrong
    """The app answered the handshake with something else than a websocket.

    Args:
        status: HTTP status.
        headers: names and values.
        body: whole.
    """

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        super().__init__(f"the app answered {status}")


@dataclass(frozen=True, slots=True)
class Closed:
    """The end of a websocket.

    Args:
        code: close code; 1005 if there was none, 1006 if the connection broke.
        reason: in words.
    """

    code: int
    reason: str = ""


class AppSocket:
    """One open websocket to an app. One task may receive while others send.

    Args:
        stream: the connection.
        protocol: after a handshake that went well.
        response: the app's answer to it.
    """

    def __init__(self, stream: ByteStream, protocol: ClientProtocol, response: Response) -> None:
        self._stream = stream
        self._protocol = protocol
        self._one_at_a_time = anyio.Lock()
        # What came together with the answer to the handshake.
        self._frames = deque(e for e in protocol.events_received() if isinstance(e, Frame))
        self._parts: list[bytes] = []
        self._is_text = False
        self.subprotocol = protocol.subprotocol
        self.headers = _header_list(response)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        target: str,
        headers: Sequence[tuple[bytes, bytes]],
        *,
        subprotocols: Sequence[str] = (),
        ca: str = "",
    ) -> AsyncIterator["AppSocket"]:
        """Ask an app for a websocket, and hold it inside the block.

        Args:
            url: where the app is, without a trailing slash.
            target: path and query.
            headers: names and values; those of the handshake itself are not among them.
            subprotocols: what the client offers, in its order.
            ca: path of the CAs that are trusted; those of this machine if empty.

        Raises:
            SocketRefused: the app answered with something else.
            TransportError: the app cannot be reached, or answers no HTTP.
        """
        what = f"GET {without_userinfo(url)}{target}"
        protocol = ClientProtocol(
            parse_uri("ws://app"),
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            max_size=MAX_MESSAGE_BYTES,
            logger=logger,
        )
        request = protocol.connect()
        request.path = target
        del request.headers["Host"]
        for name, value in headers:
            request.headers[name.decode("latin-1")] = value.decode("latin-1")
        protocol.send_request(request)
        stream = await connect(url, what, ca=ca)
        try:
            yield cls(stream, protocol, await _answered(stream, protocol, what))
        finally:
            # Not politely: who wanted to say goodbye has done so.
            await anyio.aclose_forcefully(stream)

    async def receive(self) -> str | bytes | Closed:
        """The next message; after a `Closed` there is none."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if (message := self._assembled(frame)) is not None:
                    return message
            if (closed := self._closed()) is not None:
                await self._flush()
                return closed
            await self._read()

    async def send(self, message: str | bytes) -> None:
        """Send a message, and wait until the connection has room for more.

        What is sent after the end is lost; `receive()` tells of the end.
        """
        if self._protocol.state is not State.OPEN:
            return
        if isinstance(message, str):
            self._protocol.send_text(message.encode("utf-8", "replace"))
        else:
            self._protocol.send_binary(message)
        await self._flush()

    async def close(self, code: int, reason: str = "") -> None:
        """Begin to close; `receive()` says when the app has agreed.

        Args:
            code: 1005 closes without one.
            reason: in words; at most 123 bytes count.
        """
        if self._protocol.state is not State.OPEN:
            return
        if code == NO_CODE:
            self._protocol.send_close()
        else:
            short = reason.encode("utf-8", "replace")[:123].decode("utf-8", "ignore")
            self._protocol.send_close(code if is_sendable(code) else 1001, short)
        await self._flush()

    async def _read(self) -> None:
        try:
            self._protocol.receive_data(await self._stream.receive(_READ_BYTES))
        except (anyio.EndOfStream, *BROKEN):
            self._protocol.receive_eof()
        self._frames += [e for e in self._protocol.events_received() if isinstance(e, Frame)]
        await self._flush()  # pongs, and the answer to a close

    async def _flush(self) -> None:
        async with self._one_at_a_time:
            await _write(self._stream, self._protocol)

    def _assembled(self, frame: Frame) -> str | bytes | None:
        """The message that a frame completes."""
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_text = frame.opcode is Opcode.TEXT
        elif frame.opcode is not Opcode.CONT:
            return None
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return None
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        if not self._is_text:
            return data
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            self._protocol.fail(INVALID_TEXT, "not UTF-8")
            self._frames.clear()
            return None

    def _closed(self) -> Closed | None:
        """The end, if it is known already how it came."""
        protocol = self._protocol
        if protocol.close_rcvd is not None:
            return Closed(protocol.close_rcvd.code, protocol.close_rcvd.reason)
        sent = protocol.close_sent
        if sent is not None and (protocol.parser_exc is not None or sent.code == INVALID_TEXT):
            return Closed(sent.code, sent.reason)  # the app broke the rules
        return Closed(ABNORMAL) if protocol.state is State.CLOSED else None


def is_sendable(code: int) -> bool:
    """Whether a close code may stand in a frame; the others only say what happened locally."""
    return code in EXTERNAL_CLOSE_CODES or 3000 <= code < 5000


async def _answered(stream: ByteStream, protocol: ClientProtocol, what: str) -> Response:
    """Send the handshake and read the app's answer.

    Raises:
        SocketRefused: it is no websocket.
        TransportError: it is no HTTP either, or none comes.
    """
    await _write(stream, protocol)
    while True:
        try:
            protocol.receive_data(await stream.receive(_READ_BYTES))
        except (anyio.EndOfStream, *BROKEN):
            protocol.receive_eof()
        # The first event is the answer; frames behind it are left where they are.
        response = next((e for e in protocol.events if isinstance(e, Response)), None)
        if isinstance(protocol.handshake_exc, InvalidStatus):
            answer = protocol.handshake_exc.response
            raise SocketRefused(answer.status_code, _header_list(answer), bytes(answer.body))
        if protocol.handshake_exc is not None:
            raise TransportError(
                what, f"the app did not open a websocket: {protocol.handshake_exc}"
            ) from protocol.handshake_exc
        if response is not None:
            return response


async def _write(stream: ByteStream, protocol: ClientProtocol) -> None:
    data = b"".join(protocol.data_to_send())
    if data:
        try:
            await stream.send(data)
        except BROKEN:
            return  # reading tells, with what the app may have said before


def _header_list(response: Response) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers.raw_items()
    ]
