"""Telling what happened."""

from appapi_host.events import (
    AppOutput,
    Event,
    EventBus,
    Notice,
    masked_headers,
    masked_raw_headers,
)


def test_every_subscriber_hears_events_in_order_while_subscribed() -> None:
    bus = EventBus()
    first: list[Event] = []
    second: list[Event] = []
    one, two = AppOutput("my_app", "one"), Notice("my_app", "two")
    with bus.subscribed(first.append):
        bus.emit(one)
        with bus.subscribed(second.append):
            bus.emit(two)
    bus.emit(one)
    assert first == [one, two]
    assert second == [two]


def test_a_subscriber_may_leave_while_it_is_told() -> None:
    bus = EventBus()
    heard: list[Event] = []
    leaving = bus.subscribed(lambda event: leaving.__exit__(None, None, None))
    leaving.__enter__()
    with bus.subscribed(heard.append):
        bus.emit(Notice("", "go"))
        bus.emit(Notice("", "gone"))
    assert [event.text for event in heard if isinstance(event, Notice)] == ["go", "gone"]


def test_headers_that_let_somebody_in_are_masked_whatever_their_case() -> None:
    headers = [
        ("AUTHORIZATION-APP-API", "c2VjcmV0"),
        ("Authorization", "Basic c2VjcmV0"),
        ("Cookie", "session=secret"),
        ("set-cookie", "session=secret"),
        ("EX-APP-ID", "my_app"),
    ]
    masked = dict(masked_headers(headers))
    raw = [(name.encode(), value.encode()) for name, value in headers]
    assert masked_raw_headers(raw) == masked_headers(headers)
    assert [name for name, value in masked.items() if value == "***"] == [
        name for name, _ in headers[:4]
    ]
    assert masked["EX-APP-ID"] == "my_app"
