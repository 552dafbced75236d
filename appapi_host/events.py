"""What the host did and saw, as values that a console prints and a test asserts on.

Whoever wants to know subscribes a plain function to an `EventBus`. Nothing here carries a secret:
the headers of an `Exchange` have gone through `masked_headers()`.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

__all__ = [
    "AppEnded",
    "AppOutput",
    "Direction",
    "Event",
    "EventBus",
    "Exchange",
    "Notice",
    "ProgressChanged",
    "StepFailed",
    "StepFinished",
    "StepStarted",
    "masked_headers",
    "masked_raw_headers",
]

_MASKED: Final = frozenset(
    {"authorization-app-api", "authorization", "cookie", "set-cookie", "harp-shared-key"}
)
_MASKED_RAW: Final = frozenset(name.encode() for name in _MASKED)


class Direction(StrEnum):
    """Who asked whom."""

    HOST_TO_APP = "host → app"
    APP_TO_HOST = "app → host"
    USER_TO_APP = "user → app"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer.

    Args:
        direction: who asked whom.
        app_id: the app concerned; empty if the request named none that is known.
        method: HTTP verb.
        target: path and query as sent.
        status: HTTP status of the answer; 0 if there was none.
        seconds: from the request to the end of the answer's head.
        user_id: acting user, empty for nobody.
        request_headers: names and values, secrets masked.
        request_body: up to 4 KiB of it.
        response_body: up to 4 KiB of it; empty for streams.
        note: why the host decided as it did, if it decided anything.
        at: unix seconds when the request was seen.
    """

    direction: Direction
    app_id: str
    method: str
    target: str
    status: int
    seconds: float
    user_id: str = ""
    request_headers: tuple[tuple[str, str], ...] = ()
    request_body: bytes = b""
    response_body: bytes = b""
    note: str = ""
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step of an operation begins: `deploy`, `heartbeat`, `init`, `enabled`, ..."""

    app_id: str
    step: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step succeeded."""

    app_id: str
    step: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A step failed; the operation ends."""

    app_id: str
    step: str
    cause: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class ProgressChanged:
    """Building (`build`), deployment (`deploy`) or initialization (`init`) came to `percent`.

    Args:
        app_id: of the app.
        step: one of these.
        percent: how far it is.
        detail: what that means, for people.
        is_part: `detail` names the next part of the step, which is news whatever the percentage.
    """

    app_id: str
    step: str
    percent: int
    detail: str = ""
    is_part: bool = False


@dataclass(frozen=True, slots=True)
class AppOutput:
    """A line that the app printed, without its line end."""

    app_id: str
    line: str


@dataclass(frozen=True, slots=True)
class AppEnded:
    """An app ended that nobody had told to.

    Args:
        app_id: the app.
        during: the state it was in.
        how: for instance `exit code 1`.
        output: the last lines that it printed, oldest first.
    """

    app_id: str
    during: str
    how: str
    output: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a developer should know, for instance that an unknown OCS path was asked for."""

    app_id: str
    text: str
    is_warning: bool = True


Event = (
    Exchange
    | StepStarted
    | StepFinished
    | StepFailed
    | ProgressChanged
    | AppOutput
    | AppEnded
    | Notice
)


class EventBus:
    """Hands each event to every subscriber, in order, at once."""

    def __init__(self) -> None:
        self._subscribers: list[Callable[[Event], None]] = []

    def emit(self, event: Event) -> None:
        """Tell everybody."""
        for subscriber in tuple(self._subscribers):
            subscriber(event)

    @contextmanager
    def subscribed(self, subscriber: Callable[[Event], None]) -> Iterator[None]:
        """Call `subscriber` with each event inside the block. It must not block."""
        self._subscribers.append(subscriber)
        try:
            yield
        finally:
            self._subscribers.remove(subscriber)


def masked_headers(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The same headers with the values that let somebody in replaced by `***`."""
    return tuple((name, "***" if name.lower() in _MASKED else value) for name, value in headers)


def masked_raw_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """The same for headers as ASGI has them, in one go: each proxied request comes here."""
    return tuple(
        [
            (
                name.decode("latin-1"),
                "***" if name.lower() in _MASKED_RAW else value.decode("latin-1"),
            )
            for name, value in headers
        ]
    )
