"""HTTP requests of users on their way to an app, and the answers on their way back."""

from contextlib import aclosing
from dataclasses import replace
from typing import Final

import anyio
from starlette.types import Message, Receive, Scope, Send

from appapi_host.app_client import StreamedAnswer
from appapi_host.errors import HostError
from appapi_host.host import Host
from appapi_host.proxy.admission import Passage
from appapi_host.proxy.departures import Departures
from appapi_host.proxy.guard import Guard
from appapi_host.proxy.headers import HeaderList, answer_headers, request_headers
from appapi_host.proxy.nonces import with_nonces
from appapi_host.proxy.profiles import Reason
from appapi_host.proxy.redirects import MAX_REDIRECTS, location_of, within_app
from appapi_host.proxy.refusals import Refusal
from appapi_host.proxy.report import Report
from appapi_host.proxy.upload import Upload
from appapi_host.throttling import client_address
from exapp_sdk.errors import TransportError

__all__ = ["Relay", "app_headers"]

_OF_BODY: Final = frozenset({b"content-type", b"Content-Length"})


class Relay:
    """Passes admitted requests on.

    Args:
        host: knows where apps are.
        guard: told what apps answer.
    """

    def __init__(self, host: Host, guard: Guard) -> None:
        self._host = host
        self._guard = guard
        self._departures = Departures(host.start_soon)

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, passage: Passage, report: Report
    ) -> None:
        """Ask the app and pass its answer on.

        Raises:
            Refusal: the app cannot be reached.
            TransportError: it broke off in the middle of its answer.
        """
        has_begun = False
        failure: TransportError | HostError | None = None

        async def watched_send(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        with anyio.CancelScope() as cancel_scope:
            keeps = passage.address.profile.follows_redirects
            upload = Upload(scope, receive, cancel_scope, keeps=keeps)
            self._departures.expect(upload)
            try:
                await self._ask(scope, upload, watched_send, passage, report)
            except (TransportError, HostError) as error:
                failure = error
            finally:
                self._departures.forget(upload)
        if failure is None:
            if not has_begun:
                left = f"{passage.note}; the client went away before the answer"
                report.emit(passage.app.app_id, passage.user_id, 0, left)
            return
        app_id = passage.app.app_id
        if has_begun:
            report.notice(app_id, f"broke off in the middle of its answer: {failure}")
            raise failure
        refusal = Refusal(Reason.UNREACHABLE, f"{passage.note}; {failure}", text=str(failure))
        refusal.app_id, refusal.user_id = app_id, passage.user_id
        raise refusal

    async def _ask(
        self, scope: Scope, upload: Upload, send: Send, passage: Passage, report: Report
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
        headers = app_headers(self._host, scope, passage, upload.length)
        has_body = upload.has_body
        for _ in range(MAX_REDIRECTS + 1):
            content = upload.pieces() if has_body else None
            try:
                async with self._host.client.stream(
                    passage.app, url, method=method, target=target, headers=headers, content=content
                ) as answer:
                    following = _following(passage, answer, report, method, url, target)
                    if following is None:
                        upload.finish()
                        self._guard.answered(
                            profile, passage.route, client_address(scope), answer.status
                        )
                        report.emit(
                            passage.app.app_id,
                            passage.user_id,
                            answer.status,
                            passage.note,
                            headers,
                        )
                        await _pass_on(scope, send, passage, answer)
                        return
            finally:
                if content is not None:
                    await content.aclose()
            if following[0] != method or not has_body:
                has_body = False
                headers = [pair for pair in headers if pair[0] not in _OF_BODY]
            else:
                upload.check_replayable()
            method, target = following
        raise TransportError(f"{method} {url}{target}", f"more than {MAX_REDIRECTS} redirects")


def app_headers(
    host: Host, scope: Scope, passage: Passage, content_length: bytes = b""
) -> HeaderList:
    """What the app gets to see of a request."""
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
        aa_version=host.settings.aa_version,
        content_length=content_length,
    )


def _following(
    passage: Passage, answer: StreamedAnswer, report: Report, method: str, url: str, target: str
) -> tuple[str, str] | None:
    """Method and target of the next request, None if this answer is for the browser."""
    if not passage.address.profile.follows_redirects:
        return None
    location = location_of(answer.status, answer.headers)
    if not location:
        return None
    following = within_app(answer.status, location, method=method, app_url=url, target=target)
    if following is None:
        report.notice(
            passage.app.app_id,
            f"redirects {method} {target} to {location}, which leads out of the app: the browser "
            "gets the redirect, while AppAPI would fetch that address itself",
        )
    return following


async def _pass_on(scope: Scope, send: Send, passage: Passage, answer: StreamedAnswer) -> None:
    profile = passage.address.profile
    status = answer.status
    is_head = scope["method"] == "HEAD"
    if profile.adds_defaults and passage.path.endswith(".html") and not is_head:
        answer = await with_nonces(answer)
    headers = answer_headers(
        answer.headers, profile, status=status, path=passage.path, user_id=passage.user_id
    )
    if profile.adds_defaults and status == 200 and any(k == b"location" for k, _ in headers):
        status = 302  # PHP does so, whatever the application says
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if is_head:
        await send({"type": "http.response.body", "body": b""})
    elif answer.whole is not None:
        await send({"type": "http.response.body", "body": answer.whole})
    else:
        async with aclosing(answer.body) as pieces:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
