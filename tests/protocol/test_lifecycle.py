"""The table of states and events. Source: AppAPI documentation, App Installation Flow."""

import pytest

from exapp_sdk.errors import LocalProtocolError
from exapp_sdk.protocol.lifecycle import (
    LIFECYCLE_PATHS,
    TRANSITIONS,
    Event,
    State,
    advance,
    enabled_error,
    is_heartbeat_answer,
)


def test_every_state_has_a_row_and_every_event_a_use() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {event for row in TRANSITIONS.values() for event in row} == set(Event)


def test_every_state_can_be_reached_and_left() -> None:
    reached, new = {State.ABSENT}, {State.ABSENT}
    while new:
        new = {state for old in new for state in TRANSITIONS[old].values()} - reached
        reached |= new
    assert reached == set(State)
    assert all(TRANSITIONS.values())


@pytest.mark.parametrize("state", State)
def test_every_installed_app_can_be_unregistered(state: State) -> None:
    if state is not State.ABSENT:
        assert advance(state, Event.UNREGISTER) is State.ABSENT


@pytest.mark.parametrize("state", State)
def test_what_was_at_work_fails_when_it_is_interrupted(state: State) -> None:
    if Event.INTERRUPTED in TRANSITIONS[state]:
        assert advance(state, Event.INTERRUPTED) is State.FAILED


def test_failed_leads_out_in_every_way_a_person_has() -> None:
    row = TRANSITIONS[State.FAILED]
    assert {Event.ENABLE, Event.UPDATE, Event.UNREGISTER, Event.INIT_FINISHED} <= set(row)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_advance_follows_the_table_and_refuses_the_rest(state: State, event: Event) -> None:
    following = TRANSITIONS[state].get(event)
    if following is None:
        with pytest.raises(LocalProtocolError, match=event.value):
            advance(state, event)
    else:
        assert advance(state, event) is following


def test_the_documented_installation_ends_enabled() -> None:
    state = State.ABSENT
    for event in (
        Event.REGISTER,
        Event.DEPLOYED,
        Event.HEARTBEAT_ANSWERED,
        Event.PROGRESS,
        Event.PROGRESS,
        Event.INIT_FINISHED,
        Event.ENABLE_ACCEPTED,
    ):
        state = advance(state, event)
    assert state is State.ENABLED


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TRANSITIONS[State.ABSENT] = {}  # type: ignore[index]
    with pytest.raises(TypeError):
        TRANSITIONS[State.ABSENT][Event.ENABLE] = State.ENABLED  # type: ignore[index]


@pytest.mark.parametrize(
    ("status", "body", "ready"),
    [
        (200, {"status": "ok"}, True),
        (200, {"status": "ok", "more": 1}, True),
        (201, {"status": "ok"}, False),
        (204, None, False),
        (200, {"status": "starting"}, False),
        (200, ["status", "ok"], False),
        (503, {"status": "ok"}, False),
    ],
)
def test_only_200_with_ok_is_a_heartbeat(status: int, body: object, ready: bool) -> None:
    assert is_heartbeat_answer(status, body) is ready


@pytest.mark.parametrize("body", [None, "ok", [], {}, {"error": ""}, {"error": None}, {"error": 0}])
def test_answers_without_an_error_are_successes(body: object) -> None:
    assert enabled_error(body, enabled=True) == ""
    assert enabled_error(body, enabled=False) == ""


def test_error_texts_follow_php() -> None:
    assert enabled_error({"error": "no GPU"}, enabled=True) == "no GPU"
    assert enabled_error({"error": "0"}, enabled=True) == ""
    assert enabled_error({"error": "0"}, enabled=False) == "0"
    assert enabled_error({"error": ["x"]}, enabled=True) == "['x']"
    assert enabled_error({"error": True}, enabled=True) == "True"


def test_lifecycle_paths_are_the_documented_three() -> None:
    assert {"/heartbeat", "/init", "/enabled"} == LIFECYCLE_PATHS
