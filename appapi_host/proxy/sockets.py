"""Websockets between users and apps, message by message.

Each direction takes the next message only when the last one has been accepted by the other side, so
that whoever is slow slows the sender down. Close codes are passed on in both directions.
"""

from typing import Final

import anyio
from starlette.types import Message, Receive, Scope, Send

from appapi_host.app_sockets import ABNORMAL, NO_CODE, AppSocket, Closed, SocketRefused, is_sendable
from appapi_host.errors import HostError
from appapi_host.fronts import front_of
from appapi_host.host import Host
from appapi_host.proxy.admission import Passage
from appapi_host.proxy.guard import Guard
from appapi_host.proxy.headers import HeaderList, answer_headers
from appapi_host.proxy.profiles import Reason
from appapi_host.proxy.refusals import Refusal, answer_whole
from appapi_host.proxy.relay import app_headers
from appapi_host.proxy.report import Report
from appapi_host.throttling import client_address
from exapp_sdk.errors import TransportError

__all__ = ["APP_GONE", "SocketRelay"]

APP_GONE: Final = 1014
"""What a client is told when its app is gone without a word: bad gateway."""

_NORMAL: Final = 1000
_GOODBYE_SECONDS: Final = 5.0
"""How long an app may take to agree to a close."""

_OF_HANDSHAKE: Final = b"sec-websocket-"
"""Each side has a handshake of its own, with subprotocols passed on."""


class SocketRelay:
    """Passes admitted websockets on.

    Args:
        host: knows where apps are.
        guard: told what apps answer to a handshake.
    """

    def __init__(self, host: Host, guard: Guard) -> None:
        self._host = host
        self._guard = guard

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, passage: Passage, report: Report
    ) -> None:
        """Open a websocket to the app, accept the client's, and pass messages on.

        Raises:
            Refusal: the app cannot be reached.
        """
        headers = _without_handshake(app_headers(self._host, scope, passage))
        app = self._host.client.memory_app(passage.app)
        if app is not None:
            self._tell(scope, passage, report, 101, headers)
            await app(_inner_scope(scope, passage, headers), receive, send)
            return
        tunnel = _Tunnel(receive, send)
        failure = await self._tunnel(scope, tunnel, passage, report, headers)
        if isinstance(failure, SocketRefused):
            self._tell(scope, passage, report, failure.status, headers)
            answer = _answer_headers(failure.headers, passage, failure.status)
            await answer_whole(scope, send, failure.status, answer, failure.body)
        elif failure is not None:
            refusal = Refusal(Reason.UNREACHABLE, f"{passage.note}; {failure}", text=str(failure))
            refusal.app_id, refusal.user_id = passage.app.app_id, passage.user_id
            raise refusal from failure

    async def _tunnel(
        self,
        scope: Scope,
        tunnel: "_Tunnel",
        passage: Passage,
        report: Report,
        headers: HeaderList,
    ) -> SocketRefused | TransportError | HostError | None:
        """Pass messages on until the end; returns why it did not come to that."""
        failure: SocketRefused | TransportError | HostError | None = None
        target = passage.address.target(scope.get("query_string", b""))
        async with anyio.create_task_group() as group:
            group.start_soon(tunnel.read_client, group.cancel_scope)
            try:
                url = self._host.url_of(passage.app)
                front = front_of(passage.app, url)
                async with AppSocket.open(
                    url,
                    target,
                    front.raw_headers(headers) if front else headers,
                    subprotocols=scope.get("subprotocols") or (),
                    ca=front.ca if front else "",
                ) as socket:
                    self._tell(scope, passage, report, 101, headers)
                    given = _without_handshake(_answer_headers(socket.headers, passage, 101))
                    await tunnel.accept(socket, given)
                    closed = await tunnel.read_app(socket)
                    if closed.code == ABNORMAL and not tunnel.is_client_gone:
                        report.notice(passage.app.app_id, "broke off in the middle of a websocket")
            except (SocketRefused, TransportError, HostError) as error:
                failure = error
            group.cancel_scope.cancel()
        if failure is None and not tunnel.is_accepted:
            note = f"{passage.note}; the client went away before the app accepted"
            report.emit(passage.app.app_id, passage.user_id, 0, note, headers)
        return failure

    def _tell(
        self, scope: Scope, passage: Passage, report: Report, status: int, headers: HeaderList
    ) -> None:
        profile = passage.address.profile
        self._guard.answered(profile, passage.route, client_address(scope), status)
        report.emit(passage.app.app_id, passage.user_id, status, passage.note, headers)


class _Tunnel:
    """One websocket of a user.

    Args:
        receive: gives the client's messages.
        send: takes those for the client.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._socket: AppSocket | None = None
        self.is_client_gone = False

    @property
    def is_accepted(self) -> bool:
        """Whether there is a websocket on both sides."""
        return self._socket is not None

    async def accept(self, socket: AppSocket, headers: HeaderList) -> None:
        """Tell the client that the app has accepted."""
        self._socket = socket
        await self._tell(
            {"type": "websocket.accept", "subprotocol": socket.subprotocol, "headers": headers}
        )

    async def read_client(self, cancel_scope: anyio.CancelScope) -> None:
        """Pass on what the client sends, from before it is accepted to its end.

        Args:
            cancel_scope: cancelled when the client is gone and the app has nothing more to say.
        """
        while (message := await self._receive())["type"] != "websocket.disconnect":
            if self._socket is not None and message["type"] == "websocket.receive":
                await self._socket.send(_content(message))
        self.is_client_gone = True
        if self._socket is not None:
            with anyio.move_on_after(_GOODBYE_SECONDS):
                await self._socket.close(message.get("code", NO_CODE), message.get("reason") or "")
                await anyio.sleep_forever()  # ended when the app has agreed
        cancel_scope.cancel()

    async def read_app(self, socket: AppSocket) -> Closed:
        """Pass on what the app sends, to its end."""
        while not isinstance(message := await socket.receive(), Closed):
            # What was on its way when the client closed is read, because the app's agreement
            # comes behind it.
            key = "text" if isinstance(message, str) else "bytes"
            await self._tell({"type": "websocket.send", key: message})
        code, reason = message.code, message.reason
        if code == NO_CODE:
            code = _NORMAL
        elif not is_sendable(code):
            code, reason = APP_GONE, "the app is gone"
        await self._tell({"type": "websocket.close", "code": code, "reason": reason})
        return message

    async def _tell(self, message: Message) -> None:
        if self.is_client_gone:
            return
        try:
            await self._send(message)
        except OSError:
            # The server's way to say that the client has gone, which `read_client()` hears as well.
            self.is_client_gone = True


def _content(message: Message) -> str | bytes:
    text: str | None = message.get("text")
    if text is not None:
        return text
    data: bytes = message.get("bytes") or b""
    return data


def _without_handshake(headers: HeaderList) -> HeaderList:
    return [pair for pair in headers if not pair[0].startswith(_OF_HANDSHAKE)]


def _answer_headers(headers: HeaderList, passage: Passage, status: int) -> HeaderList:
    return answer_headers(
        headers,
        passage.address.profile,
        status=status,
        path=passage.path,
        user_id=passage.user_id,
    )


def _inner_scope(scope: Scope, passage: Passage, headers: HeaderList) -> Scope:
    """The scope for an app in memory, which needs no second connection."""
    path, _, query = passage.address.target(scope.get("query_string", b"")).partition("?")
    offered = [pair for pair in scope["headers"] if pair[0].startswith(_OF_HANDSHAKE)]
    return {
        **scope,
        "path": f"/{passage.path}",
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in headers] + offered,
        "state": {},
    }
