"""User traffic to apps, by the ways that the profiles name.

Those are `/index.php/apps/app_api/proxy/{appid}/{path}` and `/exapps/{appid}/{path}`; which rules
hold for which is in `appapi_host.proxy.profiles`. A refused request is answered as
tersely as by the real ones; why it was refused goes to the bus.

Known differences to AppAPI's own proxy, all of them so that development sees what the app does:
answers are streamed as they come, repeated headers all arrive, bodies stay compressed, redirects
that leave the app reach the browser instead of being followed, the answer for an app that cannot be
reached says why, and lifecycle paths are never reachable.

Source: AppAPI documentation, Routes; behaviour of AppAPI 32.0.0 and its development branch.
"""

import time
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import replace
from typing import Final

import anyio
from starlette.types import Message, Receive, Scope, Send

from appapi_host.app_client import StreamedAnswer
from appapi_host.errors import HostError
from appapi_host.events import Direction, Exchange, Notice, masked_headers
from appapi_host.host import Host
from appapi_host.proxy.admission import Address, Passage, admit, raw_path
from appapi_host.proxy.guard import Guard
from appapi_host.proxy.headers import HeaderList, answer_headers, request_headers
from appapi_host.proxy.profiles import PHP, PROFILES, Profile, Reason
from appapi_host.proxy.redirects import MAX_REDIRECTS, location_of, within_app
from appapi_host.proxy.refusals import Refusal, send_refusal
from appapi_host.proxy.upload import Upload
from appapi_host.throttling import client_address
from exapp_sdk.errors import TransportError

__all__ = ["BUILT_IN_PREFIX", "PROXY_PREFIXES", "Proxy"]

PROXY_PREFIXES: Final = tuple(prefix for profile in PROFILES for prefix in profile.prefixes)

BUILT_IN_PREFIX: Final = PHP.prefixes[0]
"""What pages of the host put before an app's id."""


class Proxy:
    """The ASGI application of the proxy paths.

    Args:
        host: whose apps are reached.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._guard = Guard(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward one request or refuse it.

        Raises:
            TransportError: the app broke off in the middle of its answer. The server must close the
                connection then, so that the client does not take a part for the whole.
        """
        started = time.perf_counter()
        address = Address.parse(raw_path(scope))
        try:
            self._guard.check_address(address.profile, client_address(scope))
            passage = await admit(self._host, scope, address, scope["method"])
            self._guard.check_route(address.profile, passage.route, client_address(scope))
            await self._forward(scope, receive, send, passage, started)
        except Refusal as refusal:
            await self._refuse(scope, send, refusal, address.profile, started)

    async def _forward(
        self, scope: Scope, receive: Receive, send: Send, passage: Passage, started: float
    ) -> None:
        has_begun = False
        failure: TransportError | HostError | None = None

        async def watched_send(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        async with anyio.create_task_group() as group:
            keeps = passage.address.profile.follows_redirects
            upload = Upload(scope, receive, group.cancel_scope, keeps=keeps)
            group.start_soon(upload.watch)
            try:
                await self._relay(scope, upload, watched_send, passage, started)
            except (TransportError, HostError) as error:
                failure = error
            # Only the watching ends: cancelling the whole group would cancel this task too, which
            # costs as much as the rest of a small request.
            upload.stop_watching()
        if failure is None:
            if not has_begun:
                left = f"{passage.note}; the client went away before the answer"
                self._emit(scope, passage.app.app_id, passage.user_id, 0, started, note=left)
            return
        app_id = passage.app.app_id
        if has_begun:
            self._host.bus.emit(Notice(app_id, f"broke off in the middle of its answer: {failure}"))
            raise failure
        refusal = Refusal(Reason.UNREACHABLE, f"{passage.note}; {failure}", text=str(failure))
        refusal.app_id, refusal.user_id = app_id, passage.user_id
        raise refusal

    async def _relay(
        self, scope: Scope, upload: Upload, send: Send, passage: Passage, started: float
    ) -> None:
        """Ask the app, follow its redirects where that is done, pass the answer on.

        Raises:
            TransportError: the app cannot be reached, breaks off, or redirects for ever.
            HostError: nobody knows where the app is, or it redirects a body that is not kept.
        """
        profile = passage.address.profile
        url = self._host.url_of(passage.app)
        method, target = scope["method"], passage.address.target(scope.get("query_string", b""))
        if method == "HEAD" and profile.head_becomes_get:
            method = "GET"  # an app need not know HEAD, and GET has the same head
        headers = self._request_headers(scope, upload, passage)
        has_body = upload.has_body
        for _ in range(MAX_REDIRECTS + 1):
            async with (
                aclosing(upload.pieces()) as content,
                self._host.client.stream(
                    passage.app,
                    url,
                    method=method,
                    target=target,
                    headers=headers,
                    content=content if has_body else None,
                ) as answer,
            ):
                following = self._following(passage, answer, method, url, target)
                if following is None:
                    upload.finish()
                    self._guard.answered(
                        profile, passage.route, client_address(scope), answer.status
                    )
                    self._tell(scope, passage, answer.status, started, headers)
                    await _pass_on(scope, send, passage, answer)
                    return
            if following[0] != method or not has_body:
                has_body = False
                headers = [pair for pair in headers if pair[0] not in _OF_BODY]
            else:
                upload.check_replayable()
            method, target = following
        raise TransportError(f"{method} {url}{target}", f"more than {MAX_REDIRECTS} redirects")

    def _request_headers(self, scope: Scope, upload: Upload, passage: Passage) -> HeaderList:
        credentials = passage.app.credentials(passage.user_id)
        if passage.address.profile.ignores_case_of_id:
            # The app gets its id as the browser spells it, and may well refuse it.
            credentials = replace(credentials, app_id=passage.address.spelled_id)
        return request_headers(
            scope["headers"],
            passage.address.profile,
            excluded=passage.route.headers_to_exclude,
            client_address=client_address(scope),
            credentials=credentials,
            aa_version=self._host.settings.aa_version,
            content_length=upload.length,
        )

    def _following(
        self, passage: Passage, answer: StreamedAnswer, method: str, url: str, target: str
    ) -> tuple[str, str] | None:
        """Method and target of the next request, None if this answer is for the browser."""
        if not passage.address.profile.follows_redirects:
            return None
        location = location_of(answer.status, answer.headers)
        if not location:
            return None
        following = within_app(answer.status, location, method=method, app_url=url, target=target)
        if following is None:
            text = (
                f"redirects {method} {target} to {location}, which leads out of the app: the "
                "browser gets the redirect, while AppAPI would fetch that address itself"
            )
            self._host.bus.emit(Notice(passage.app.app_id, text))
        return following

    async def _refuse(
        self, scope: Scope, send: Send, refusal: Refusal, profile: Profile, started: float
    ) -> None:
        verdict = profile.verdicts[refusal.reason]
        if verdict is None:
            raise refusal  # a bug: this profile does not refuse for that reason
        self._guard.refused(verdict, client_address(scope))
        self._emit(
            scope, refusal.app_id, refusal.user_id, verdict.status, started, note=refusal.note
        )
        await send_refusal(scope, send, refusal, profile, verdict)

    def _tell(
        self, scope: Scope, passage: Passage, status: int, started: float, headers: HeaderList
    ) -> None:
        self._emit(
            scope,
            passage.app.app_id,
            passage.user_id,
            status,
            started,
            note=passage.note,
            headers=headers,
        )

    def _emit(
        self,
        scope: Scope,
        app_id: str,
        user_id: str,
        status: int,
        started: float,
        *,
        note: str,
        headers: Iterable[tuple[bytes, bytes]] | None = None,
    ) -> None:
        query = scope.get("query_string", b"").decode("latin-1")
        path = raw_path(scope)
        self._host.bus.emit(
            Exchange(
                Direction.USER_TO_APP,
                app_id,
                scope["method"],
                f"{path}?{query}" if query else path,
                status,
                time.perf_counter() - started,
                user_id=user_id,
                request_headers=masked_headers(
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in (scope["headers"] if headers is None else headers)
                ),
                note=note,
            )
        )


_OF_BODY: Final = frozenset({b"content-type", b"Content-Length"})


async def _pass_on(scope: Scope, send: Send, passage: Passage, answer: StreamedAnswer) -> None:
    profile = passage.address.profile
    status = answer.status
    headers = answer_headers(
        answer.headers, profile, status=status, path=passage.path, user_id=passage.user_id
    )
    if profile.adds_defaults and status == 200 and any(k == b"location" for k, _ in headers):
        status = 302  # PHP does so, whatever the application says
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if scope["method"] != "HEAD":
        async with aclosing(answer.body) as pieces:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
