"""The status object. Source: stored objects of AppAPI 32.0.0, lifecycle.md 2 and 8.3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exapp_sdk.errors import RemoteProtocolError
from exapp_sdk.protocol.lifecycle import Event
from exapp_sdk.protocol.status import Status, report_event

NOW = 1_760_000_000


def test_initial_object_has_five_members_in_order() -> None:
    assert list(Status().to_wire().items()) == [
        ("deploy", 0),
        ("init", 0),
        ("action", ""),
        ("type", "install"),
        ("error", ""),
    ]


@given(
    st.builds(
        Status,
        deploy=st.integers(0, 100),
        init=st.integers(0, 100),
        action=st.sampled_from(["", "deploy", "healthcheck", "init"]),
        error=st.text(),
        init_start_time=st.none() | st.integers(0),
        heartbeat_count=st.none() | st.integers(0),
    )
)
def test_what_is_stored_is_what_is_read(status: Status) -> None:
    assert Status.from_wire(status.to_wire() | {"unknown": 1}) == status


def test_deploy_counts_from_start_to_healthcheck() -> None:
    begun = Status(error="old").deploy_reported(0, now=NOW)
    assert begun == Status(action="deploy", deploy_start_time=NOW)
    assert begun.deploy_reported(95, now=NOW).action == "deploy"
    done = begun.deploy_reported(100, now=NOW)
    assert (done.deploy, done.action) == (100, "healthcheck")
    assert done.deploy_reported(50, now=NOW) is done
    assert done.deploy_reported(0, now=NOW).deploy == 0


AT_30 = Status(deploy=100, init=30, action="init", init_start_time=1)


@pytest.mark.parametrize(
    ("progress", "error", "changed", "event"),
    [
        (50, "", {"init": 50}, Event.PROGRESS),
        (20, "", {"init": 20}, Event.PROGRESS),
        (67, "x", {"error": "x"}, Event.INIT_FAILED),
        (0, "", {"init": 0, "action": "init", "init_start_time": NOW}, Event.INIT_RESTARTED),
        (0, "x", {"error": "x"}, Event.INIT_FAILED),
        (100, "", {"init": 100, "action": "", "type": ""}, Event.INIT_FINISHED),
        (100, "x", {"error": "x", "action": "", "type": ""}, Event.INIT_FINISHED),
    ],
)
def test_reports_change_what_appapi_changes(
    progress: int, error: str, changed: dict[str, object], event: Event
) -> None:
    assert report_event(AT_30, progress, error) is event
    assert AT_30.init_reported(progress, error, now=NOW).to_wire() == AT_30.to_wire() | changed


def test_an_error_stays_until_init_restarts() -> None:
    broken = AT_30.failed("x")
    assert broken.init_reported(68, now=NOW).error == "x"
    assert broken.init_reported(0, now=NOW).error == ""


def test_reports_after_100_change_nothing_but_a_restart() -> None:
    done = AT_30.init_reported(100, now=NOW)
    assert report_event(done, 68) is None
    assert done.init_reported(68, now=NOW) is done
    assert done.init_reported(68, "late", now=NOW) is done
    assert report_event(done, 0) is Event.INIT_RESTARTED


@pytest.mark.parametrize("progress", [-1, 101, 150])
def test_progress_out_of_range_is_the_senders_mistake(progress: int) -> None:
    with pytest.raises(RemoteProtocolError):
        report_event(AT_30, progress)
