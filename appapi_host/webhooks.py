"""What happens on the host, told to those who asked to hear of it.

Each webhook gets its events one after the other, once: nothing is tried again. Who tells the host
that something happened does not wait for that.

Source: Nextcloud administration manual, Webhook Listeners; AppAPI documentation, Webhooks.
"""

import json
import re
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import anyio

from appapi_host.app_client import Answer, AppClient, php_json
from appapi_host.documents import Document, Documents, DocumentStore
from appapi_host.errors import HostError
from appapi_host.events import EventBus, Notice
from appapi_host.happenings import Happening
from appapi_host.records import AppRecord
from appapi_host.registry import Registry
from appapi_host.values import Values
from appapi_host.webhook_filters import matches
from exapp_sdk.errors import TransportError

__all__ = ["EVENTS", "KIND", "Delivery", "Webhooks"]

KIND: Final = "webhook"

EVENTS: Final = re.compile(
    r"OCP\\Files\\Events\\Node\\(Before)?Node(Created|Written|Touched|Deleted|Renamed|Copied|Read)Event"
    r"|OCP\\Files\\Events\\Node\\(Before)?NodeRestoredEvent"
    r"|OCP\\Calendar\\Events\\CalendarObject\w+Event"
    r"|OCP\\SystemTag\\Tag(Assigned|Unassigned)Event"
    r"|OCA\\\w+(\\\w+)+Event"
)
"""Names of the classes that a webhook may be registered for; those of other apps unseen."""

APP_SECONDS: Final = 3.0
ELSEWHERE_SECONDS: Final = 30.0
"""How long an app, and anybody else, may take to answer."""

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
"""Source: RFC 9110, 5.5 and 5.6.2."""

_NOT_THEIRS: Final = frozenset(
    {
        "authorization-app-api",
        "aa-request-id",
        "aa-version",
        "connection",
        "content-length",
        "ex-app-id",
        "ex-app-version",
        "host",
        "transfer-encoding",
    }
)
"""Headers that say who asks, or how long the request is."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one event at one webhook.

    Args:
        number: of the webhook.
        app_id: who registered it; empty for an administrator.
        method: HTTP verb.
        uri: path at the app, or URL.
        answer: what was answered; None if nothing was.
        note: why nothing was sent or answered; empty if that is not so.
        is_wanted: whether the webhook wanted to hear of it.
    """

    number: int
    app_id: str
    method: str
    uri: str
    answer: Answer | None = None
    note: str = ""
    is_wanted: bool = True

    @property
    def is_success(self) -> bool:
        """Whether it was sent and taken."""
        return self.answer is not None and 200 <= self.answer.status < 300


class Webhooks:
    """Tells those who listen.

    Args:
        documents: the registered webhooks.
        registry: which apps and users there are.
        client: how they are told.
        url_of: where apps are.
        bus: told of what goes wrong.
        values: decrypts what they authenticate us by.
        start: runs something that nobody waits for.
    """

    def __init__(
        self,
        documents: DocumentStore,
        *,
        registry: Registry,
        client: AppClient,
        url_of: Callable[[AppRecord], str],
        bus: EventBus,
        values: Values,
        start: Callable[[Callable[[], Coroutine[Any, Any, object]]], object],
    ) -> None:
        self._documents = documents
        self._registry = registry
        self._client = client
        self._url_of = url_of
        self._bus = bus
        self._values = values
        self._start = start
        self._turns: defaultdict[int, anyio.Lock] = defaultdict(anyio.Lock)
        self._waiting: deque[Happening] = deque()
        self._is_telling = False

    def happened(self, *happenings: Happening) -> None:
        """Tell everybody who listens to these, in this order; returns before they have heard of it.

        To be called in the thread of the event loop.
        """
        self._waiting.extend(happenings)
        if not self._is_telling:
            self._is_telling = True
            self._start(self._tell)

    async def _tell(self) -> None:
        """Look up who listens, event by event, so that nobody hears of them in disorder."""
        try:
            while self._waiting:
                happening = self._waiting.popleft()
                if hooks := await self._listening(happening.event):
                    payload = happening.payload(await self._registry.user(happening.user_id))
                    for hook in hooks:
                        self._start(partial(self._in_turn, hook, payload))
        finally:
            self._is_telling = False

    async def deliver(self, happening: Happening, *, app_id: str | None = None) -> list[Delivery]:
        """Tell everybody who listens to this, and wait for their answers.

        Args:
            happening: what happened.
            app_id: only the webhooks of this app; None for all.

        Returns:
            One for each webhook of that event, also for those whose filter does not want it.
        """
        payload = happening.payload(await self._registry.user(happening.user_id))
        return [
            await self._in_turn(hook, payload)
            for hook in await self._listening(happening.event)
            if app_id is None or hook.app_id == app_id
        ]

    async def _listening(self, event: str) -> list["_Hook"]:
        def read(documents: Documents) -> list[_Hook]:
            found = documents.find(KIND, label=event)
            # Here, because decrypting reads a file.
            return [_Hook.of(document, self._values) for document in found]

        return await self._documents.read(read)

    async def _in_turn(self, hook: "_Hook", payload: Mapping[str, Any]) -> Delivery:
        try:
            reason = hook.why_not(payload)
        except ValueError as error:
            delivery = hook.delivery(note=f"its filter cannot be evaluated: {error}")
        else:
            if reason:
                return hook.delivery(note=reason, is_wanted=False)
            async with self._turns[hook.number]:
                delivery = await self._delivered(hook, payload)
        if not delivery.is_success:
            said = f"answered {delivery.answer.status}" if delivery.answer else delivery.note
            text = f"webhook {hook.number}, {hook.method} {hook.uri}: {said}"
            self._bus.emit(Notice(hook.app_id, text))
        return delivery

    async def _delivered(self, hook: "_Hook", payload: Mapping[str, Any]) -> Delivery:
        is_of_app = hook.uri.startswith("/") and bool(hook.app_id)
        seconds = APP_SECONDS if is_of_app else ELSEWHERE_SECONDS
        ask = self._ask_app if is_of_app else self._ask_elsewhere
        try:
            with anyio.fail_after(seconds):
                return hook.delivery(await ask(hook, payload))
        except TimeoutError:
            return hook.delivery(note=f"no answer within {seconds:g} s")
        except (TransportError, HostError) as error:
            return hook.delivery(note=str(error))

    async def _ask_app(self, hook: "_Hook", payload: Mapping[str, Any]) -> Answer:
        app = await self._registry.app(hook.app_id)
        if app is None or not app.enabled:
            raise HostError("the app is not enabled")
        user = payload["user"]
        return await self._client.ask(
            app,
            self._url_of(app),
            hook.method,
            hook.uri,
            user_id=user["uid"] if user else "",
            content=php_json(payload),  # and no content type, as with the original
            headers=hook.usable_headers(),
        )

    async def _ask_elsewhere(self, hook: "_Hook", payload: Mapping[str, Any]) -> Answer:
        if not hook.uri.startswith(("http://", "https://")):
            raise HostError("it is neither a path of the app that registered it nor a URL")
        return await self._client.ask_elsewhere(
            hook.method,
            hook.uri,
            app_id=hook.app_id,
            headers=hook.usable_headers(),
            content=php_json(payload),
        )


@dataclass(frozen=True, slots=True)
class _Hook:
    """A registered webhook.

    Args:
        document: the registration.
        headers: what is to be sent, with those that authenticate us.
        fault: why they cannot be known, empty if they are.
    """

    document: Document
    headers: Mapping[str, Any] = field(repr=False)
    fault: str = ""

    @classmethod
    def of(cls, document: Document, values: Values) -> "_Hook":
        """Read a registration; reads the key of the host the first time."""
        headers = dict(document.content["headers"] or {})
        secret = document.content["authData"]
        if document.content["authMethod"] == "header" and secret:
            try:
                headers |= json.loads(values.decrypted(secret, "of a webhook"))
            except HostError as error:
                return cls(document, {}, error.cause)
        return cls(document, headers)

    @property
    def number(self) -> int:
        return self.document.id

    @property
    def app_id(self) -> str:
        return self.document.app_id

    @property
    def method(self) -> str:
        return str(self.document.content["httpMethod"])

    @property
    def uri(self) -> str:
        return str(self.document.content["uri"])

    def usable_headers(self) -> list[tuple[str, str]]:
        """The headers, but for those that only the host itself may set.

        Raises:
            HostError: there are some that cannot be sent.
        """
        if self.fault:
            raise HostError(self.fault)
        found = [(str(name), str(value)) for name, value in self.headers.items()]
        for name, value in found:
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise HostError(f"its header {name!r} cannot be sent")
        return [(name, value) for name, value in found if name.lower() not in _NOT_THEIRS]

    def why_not(self, payload: Mapping[str, Any]) -> str:
        """Why it does not want to hear of this; empty if it does.

        Raises:
            ValueError: its filter cannot be evaluated.
        """
        wanted = self.document.content["userIdFilter"]
        user = payload["user"]
        if wanted and (user is None or user["uid"] != wanted):
            return f"it only wants what the user {wanted} does"
        query = self.document.content["eventFilter"]
        return "" if matches(query, payload) else "its filter does not want it"

    def delivery(
        self, answer: Answer | None = None, *, note: str = "", is_wanted: bool = True
    ) -> Delivery:
        return Delivery(
            self.number, self.app_id, self.method, self.uri, answer, note, is_wanted=is_wanted
        )
