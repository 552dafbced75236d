"""The life of an installed ExApp as a table of states and events, the same for both sides.

`TRANSITIONS` is the only place that says what may follow what; `advance()` is the only function
that reads it. The diagram in the documentation is drawn from it.

Source: AppAPI documentation, App Installation Flow; behaviour of AppAPI 32.0.0.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from exapp_sdk.errors import LocalProtocolError

__all__ = [
    "ENABLED_PATH",
    "HEARTBEAT_PATH",
    "INIT_PATH",
    "LIFECYCLE_PATHS",
    "TRANSITIONS",
    "Event",
    "State",
    "advance",
    "enabled_error",
    "is_heartbeat_answer",
]

HEARTBEAT_PATH: Final = "/heartbeat"
INIT_PATH: Final = "/init"
ENABLED_PATH: Final = "/enabled"
LIFECYCLE_PATHS: Final = frozenset({HEARTBEAT_PATH, INIT_PATH, ENABLED_PATH})


class State(StrEnum):
    """Where an installed ExApp stands, as the host stores it."""

    ABSENT = "absent"
    DEPLOYING = "deploying"
    WAITING = "waiting"  # deployed, its heartbeat not answered yet
    INITIALIZING = "initializing"
    ENABLING = "enabling"
    ENABLED = "enabled"
    DISABLING = "disabling"
    DISABLED = "disabled"
    FAILED = "failed"


class Event(StrEnum):
    """What can happen to an installed ExApp."""

    REGISTER = "register"
    DEPLOYED = "deployed"
    DEPLOY_FAILED = "deploy failed"
    HEARTBEAT_ANSWERED = "heartbeat answered"
    HEARTBEAT_FAILED = "heartbeat failed"
    PROGRESS = "progress"
    INIT_RESTARTED = "init restarted"  # the app reported 0
    INIT_FAILED = "init failed"
    INIT_FINISHED = "init finished"
    ENABLE = "enable"
    ENABLE_ACCEPTED = "enable accepted"
    ENABLE_REFUSED = "enable refused"  # the app answered with an error, or did not answer
    ENABLE_FAILED = "enable failed"  # the app could not even be asked
    DISABLE = "disable"
    DISABLE_FINISHED = "disable finished"
    UPDATE = "update"
    ROLLED_BACK = "rolled back"  # an update failed, the older version is in place again
    INTERRUPTED = "interrupted"  # whoever was at work died
    UNREGISTER = "unregister"


_S, _E = State, Event

_TABLE: dict[State, dict[Event, State]] = {
    _S.ABSENT: {_E.REGISTER: _S.DEPLOYING},
    _S.DEPLOYING: {
        _E.DEPLOYED: _S.WAITING,
        _E.DEPLOY_FAILED: _S.FAILED,
        _E.ROLLED_BACK: _S.DISABLED,
        _E.INTERRUPTED: _S.FAILED,
        _E.UNREGISTER: _S.ABSENT,
    },
    _S.WAITING: {
        _E.HEARTBEAT_ANSWERED: _S.INITIALIZING,
        _E.HEARTBEAT_FAILED: _S.FAILED,
        _E.ROLLED_BACK: _S.DISABLED,
        _E.INTERRUPTED: _S.FAILED,
        _E.UNREGISTER: _S.ABSENT,
    },
    # Entered before POST /init is sent: the app may report 100 before that POST returns.
    _S.INITIALIZING: {
        _E.PROGRESS: _S.INITIALIZING,
        _E.INIT_RESTARTED: _S.INITIALIZING,
        _E.INIT_FAILED: _S.FAILED,
        _E.INIT_FINISHED: _S.ENABLING,
        _E.ROLLED_BACK: _S.DISABLED,
        _E.INTERRUPTED: _S.FAILED,
        _E.DISABLE: _S.DISABLING,
        _E.UNREGISTER: _S.ABSENT,
    },
    _S.ENABLING: {
        _E.ENABLE_ACCEPTED: _S.ENABLED,
        _E.ENABLE_REFUSED: _S.DISABLED,
        _E.ENABLE_FAILED: _S.FAILED,
        _E.INTERRUPTED: _S.FAILED,
        _E.DISABLE: _S.DISABLING,
        _E.UNREGISTER: _S.ABSENT,
    },
    _S.ENABLED: {
        _E.DISABLE: _S.DISABLING,
        _E.INIT_RESTARTED: _S.INITIALIZING,
        _E.UPDATE: _S.DEPLOYING,
        _E.INTERRUPTED: _S.FAILED,
        _E.UNREGISTER: _S.ABSENT,
    },
    _S.DISABLING: {
        _E.DISABLE_FINISHED: _S.DISABLED,
        _E.INTERRUPTED: _S.FAILED,
        _E.UNREGISTER: _S.ABSENT,
    },
    _S.DISABLED: {
        _E.ENABLE: _S.ENABLING,
        _E.ROLLED_BACK: _S.DISABLED,  # the new version refused to be enabled
        _E.UPDATE: _S.DEPLOYING,
        _E.UNREGISTER: _S.ABSENT,
    },
    # Every way out stays open: an app may report again after an error, and a person may act.
    _S.FAILED: {
        _E.PROGRESS: _S.FAILED,
        _E.INIT_RESTARTED: _S.INITIALIZING,
        _E.INIT_FAILED: _S.FAILED,
        _E.INIT_FINISHED: _S.ENABLING,
        _E.ENABLE: _S.ENABLING,
        _E.DISABLE: _S.DISABLING,
        _E.UPDATE: _S.DEPLOYING,
        _E.ROLLED_BACK: _S.DISABLED,
        _E.UNREGISTER: _S.ABSENT,
    },
}

TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = MappingProxyType(
    {state: MappingProxyType(row) for state, row in _TABLE.items()}
)
"""State → event → next state. An event that is missing in a row must not happen in that state."""


def advance(state: State, event: Event) -> State:
    """The state that follows.

    Raises:
        LocalProtocolError: the event must not happen in that state.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise LocalProtocolError(f"{event.value!r} must not happen while {state.value}") from None


def is_heartbeat_answer(status_code: int, body: object) -> bool:
    """Whether an answer to `GET /heartbeat` means "ready".

    Args:
        status_code: HTTP status; only exactly 200 counts, 201 and 204 do not.
        body: the decoded JSON body.
    """
    return status_code == 200 and isinstance(body, dict) and body.get("status") == "ok"


def enabled_error(body: object, *, enabled: bool) -> str:
    """The error that an answer to `PUT /enabled` carries; empty for none.

    The HTTP status does not count, and a body that is no JSON object carries no error. Which
    values of `error` count follows PHP, where the text `"0"` is false; only disabling takes it as
    an error.

    Args:
        body: the decoded JSON body, None if it was not JSON.
        enabled: what was asked for.
    """
    error = body.get("error") if isinstance(body, dict) else None
    if not error or (error == "0" and enabled):
        return ""
    return error if isinstance(error, str) else repr(error)
