"""What an app was told, and what it answered."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from appapi_host.events import Direction, Event, EventBus, Exchange

__all__ = ["Outcome", "Told", "exchanges_with"]


@dataclass(frozen=True, slots=True)
class Told:
    """One request that an app got, and its answer.

    Args:
        method: HTTP verb.
        target: path and query, as the app saw them.
        user_id: in whose name, empty for nobody.
        headers: names and values as sent, secrets masked.
        body: the request's.
        status: of the answer; 0 if there was none.
        answer: body of the answer.
        seconds: from the request to the answer.
        note: why there was no answer, or which rule of the proxy decided.
    """

    method: str
    target: str
    user_id: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    status: int = 0
    answer: bytes = field(default=b"", repr=False)
    seconds: float = 0.0
    note: str = ""

    @classmethod
    def of(cls, exchange: Exchange, **known: Any) -> Self:
        """What the bus was told of, with what is known better.

        Args:
            exchange: holds at most the beginning of each body.
            known: members that replace its own.
        """
        members: dict[str, Any] = {
            "method": exchange.method,
            "target": exchange.target,
            "user_id": exchange.user_id,
            "headers": exchange.request_headers,
            "body": exchange.request_body,
            "status": exchange.status,
            "answer": exchange.response_body,
            "seconds": exchange.seconds,
            "note": exchange.note,
        }
        return cls(**(members | known))

    @property
    def is_success(self) -> bool:
        """Whether the app took it."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The answer, decoded.

        Raises:
            ValueError: it is no JSON.
        """
        return json.loads(self.answer)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trigger.

    Args:
        told: the requests that the app got, in order.
        notes: what a developer should know besides, for instance that a filter let nothing through.
        is_success: whether everything went as it should.
    """

    told: tuple[Told, ...]
    notes: tuple[str, ...] = ()
    is_success: bool = True


@contextmanager
def exchanges_with(bus: EventBus, app_id: str, direction: Direction) -> Iterator[list[Exchange]]:
    """The exchanges with an app inside the block."""
    seen: list[Exchange] = []

    def see(event: Event) -> None:
        if isinstance(event, Exchange) and event.app_id == app_id and event.direction is direction:
            seen.append(event)

    with bus.subscribed(see):
        yield seen
