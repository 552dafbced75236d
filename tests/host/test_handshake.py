"""What the host says to an app, in which order, and what it makes of the answers."""

import json
import time
from pathlib import Path

import anyio
import pytest

from appapi_host.errors import NotFoundError, RefusedError, StepError, StepTimeout
from appapi_host.events import Exchange, Notice, ProgressChanged, StepFailed, StepFinished
from appapi_host.heartbeat import poll_pause
from exapp_sdk.errors import RemoteProtocolError
from exapp_sdk.protocol.lifecycle import State
from tests.host.stub_app import QUICK, Stage, stage

WIRE = Path(__file__).parent.parent / "wire"
LIFECYCLE = ["GET /heartbeat", "POST /init", "GET /heartbeat", "PUT /enabled?enabled=1"]


async def report_when_asked(stage: Stage, *reports: tuple[int, str]) -> None:
    """Let the app send its reports from within `POST /init`, before that is answered."""

    async def send() -> None:
        for progress, error in reports:
            await stage.host.report_init("stub", progress, error)

    stage.app.before["/init"] = send


async def test_requests_equal_the_recorded_ones_in_order_and_headers() -> None:
    rows = [json.loads(line) for line in (WIRE / "host-to-exapp.jsonl").read_text().splitlines()]
    async with stage() as s:
        await report_when_asked(s, (100, ""))
        await s.register()
        assert s.app.received == [f"{row['method']} {row['target']}" for row in rows[:4]]
        for row, seen in zip(rows[:4], s.app.received_headers, strict=True):
            expected = [(name.lower(), value) for name, value in row["request_headers"]]
            ours = [(name, {"stub": "nc_py_api"}.get(value, value)) for name, value in seen]
            assert ours == expected


@pytest.mark.parametrize("status", [404, 501])
async def test_app_without_init_is_enabled_directly(status: int) -> None:
    async with stage() as s:
        s.app.answer("/init", status)
        app = await s.register()
        assert app.state is State.ENABLED
        assert app.enabled
        assert s.app.received == LIFECYCLE
        assert app.status.to_wire() == {
            "deploy": 100,
            "init": 100,
            "action": "",
            "type": "",
            "error": "",
            "deploy_start_time": app.status.deploy_start_time,
            "init_start_time": app.status.init_start_time,
        }


async def test_app_may_report_100_before_init_is_answered() -> None:
    async with stage() as s:
        await report_when_asked(s, (30, ""), (100, ""))
        app = await s.register()
        assert app.state is State.ENABLED
        assert s.app.received == LIFECYCLE
        assert [event.percent for event in s.kinds(ProgressChanged) if event.step == "init"] == [
            30,
            100,
        ]


async def test_report_of_100_is_answered_after_the_app_was_enabled() -> None:
    async with stage() as s:
        app = await s.register(wait_finish=False)
        assert app.state is State.INITIALIZING
        assert app.enabled, "enabled is 1 during init, so that the app may call back"
        await s.host.report_init("stub", 100)
        assert s.app.received[-1] == "PUT /enabled?enabled=1"
        assert (await s.record()).state is State.ENABLED


async def test_enabling_goes_on_when_the_reporting_app_hangs_up() -> None:
    async with stage() as s:
        await s.register(wait_finish=False)
        asked, answer = anyio.Event(), anyio.Event()

        async def block() -> None:
            asked.set()
            await answer.wait()

        s.app.before["/enabled"] = block
        async with anyio.create_task_group() as group:
            group.start_soon(s.host.report_init, "stub", 100)
            await asked.wait()
            group.cancel_scope.cancel()
        answer.set()
        app = await s.host.registry.wait("stub", lambda app: app.state is not State.ENABLING)
        assert app is not None
        assert app.state is State.ENABLED


@pytest.mark.parametrize("progress", [-1, 101, 150])
async def test_progress_out_of_range_is_refused_and_changes_nothing(progress: int) -> None:
    async with stage() as s:
        before = await s.register(wait_finish=False)
        with pytest.raises(RemoteProtocolError):
            await s.host.report_init("stub", progress)
        assert await s.record() == before


async def test_error_report_fails_the_installation_and_keeps_the_percentage() -> None:
    async with stage() as s:
        await report_when_asked(s, (10, ""), (67, "connection error to huggingface."))
        with pytest.raises(StepError) as caught:
            await s.register()
        assert caught.value.step == "init"
        assert caught.value.cause == "connection error to huggingface."
        app = await s.record()
        assert (app.state, app.enabled, app.status.init) == (State.FAILED, True, 10)
        assert app.status.error == "connection error to huggingface."
        assert [event.cause for event in s.kinds(StepFailed)] == [app.status.error]


async def test_app_may_recover_from_its_own_error() -> None:
    async with stage() as s:
        await report_when_asked(s, (10, "not yet"))
        with pytest.raises(StepError):
            await s.register()
        await s.host.report_init("stub", 68)
        assert (await s.record()).status.error == "not yet"
        await s.host.report_init("stub", 100)
        app = await s.record()
        assert (app.state, app.status.error) == (State.ENABLED, "")


async def test_report_of_100_with_an_error_enables_and_warns() -> None:
    async with stage() as s:
        await report_when_asked(s, (30, ""), (100, "odd"))
        app = await s.register()
        assert (app.state, app.status.init, app.status.error) == (State.ENABLED, 30, "")
        assert any("100 with an error" in notice.text for notice in s.kinds(Notice))


async def test_reports_after_100_are_ignored() -> None:
    async with stage() as s:
        await report_when_asked(s, (100, ""))
        before = await s.register()
        await s.host.report_init("stub", 50)
        await s.host.report_init("stub", 100)
        assert await s.record() == before
        assert s.app.received == LIFECYCLE


async def test_report_of_0_restarts_a_finished_init() -> None:
    async with stage() as s:
        s.app.answer("/init", 404)
        await s.register()
        await s.host.report_init("stub", 0)
        app = await s.record()
        assert (app.state, app.status.action, app.status.init) == (State.INITIALIZING, "init", 0)
        await s.host.report_init("stub", 100)
        assert (await s.record()).state is State.ENABLED


async def test_report_before_init_is_ignored_and_noticed() -> None:
    async with stage() as s:

        async def too_early() -> None:
            if s.app.received == ["GET /heartbeat"]:
                await s.host.report_init("stub", 100)

        s.app.before["/heartbeat"] = too_early
        app = await s.register(wait_finish=False)
        assert app.state is State.INITIALIZING
        assert any("while waiting" in notice.text for notice in s.kinds(Notice))


async def test_init_refused_with_500_is_stored_in_the_words_of_the_real_one() -> None:
    scenarios = json.loads((WIRE / "lifecycle-scenarios.json").read_text())
    recorded = next(row for row in scenarios if row["exapp"] == "init_500")["stored_status"]
    async with stage() as s:
        s.app.answer("/init", 500, b'{"error":"boom"}')
        with pytest.raises(StepError) as caught:
            await s.register()
        app = await s.record()
        assert (app.state, app.enabled) == (State.FAILED, True)
        assert app.status.error == recorded["error"].replace(":9041", ":9009")
        assert caught.value.cause == app.status.error.strip()


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (
            400,
            b"",
            (
                "Client error: `POST http://localhost:9009/init` resulted in a "
                "`400 Bad Request` response"
            ),
        ),
        (403, b"x" * 121, "x" * 120 + " (truncated...)"),
    ],
)
async def test_other_refusals_of_init_fail_too(status: int, body: bytes, text: str) -> None:
    async with stage() as s:
        s.app.answer("/init", status, body)
        with pytest.raises(StepError, match="POST"):
            await s.register()
        assert text in (await s.record()).status.error


async def test_init_that_is_not_answered_in_time_fails() -> None:
    async with stage(QUICK) as s:
        s.app.before["/init"] = anyio.sleep_forever
        with pytest.raises(StepError, match=r"not answered within 0.2 s"):
            await s.register()
        assert (await s.record()).state is State.FAILED


async def test_slow_answer_to_init_does_not_undo_a_report_of_100() -> None:
    async with stage(QUICK) as s:

        async def report_and_hang() -> None:
            await s.host.report_init("stub", 100)
            await anyio.sleep_forever()

        s.app.before["/init"] = report_and_hang
        app = await s.register()
        assert app.state is State.ENABLED
        assert any("reported its progress" in notice.text for notice in s.kinds(Notice))


async def test_init_that_never_reports_100_ends_at_the_limit() -> None:
    async with stage(QUICK) as s:
        await report_when_asked(s, (10, ""))
        with pytest.raises(StepTimeout, match="last progress reported was 10 %") as caught:
            await s.register()
        assert (caught.value.step, caught.value.seconds) == ("init", QUICK.init)
        app = await s.record()
        assert (app.state, app.status.init) == (State.FAILED, 10)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"error": "i cannot handle enabling"}),
        (500, {"error": "i cannot handle enabling"}),
    ],
)
async def test_app_that_refuses_to_be_enabled_is_disabled(status: int, body: object) -> None:
    async with stage() as s:
        await report_when_asked(s, (100, ""))
        s.app.answer("/enabled", status, body)
        with pytest.raises(RefusedError, match="i cannot handle enabling"):
            await s.register()
        app = await s.record()
        assert (app.state, app.enabled, app.status.error) == (State.DISABLED, False, "")
        assert app.failure == "i cannot handle enabling"


@pytest.mark.parametrize(
    ("status", "body"), [(500, b"oops"), (204, b""), (200, b"ok"), (200, b"[]"), (404, b"{}")]
)
async def test_status_and_form_of_the_enabled_answer_do_not_count_but_are_noticed(
    status: int, body: bytes
) -> None:
    async with stage() as s:
        await report_when_asked(s, (100, ""))
        s.app.answer("/enabled", status, body)
        assert (await s.register()).state is State.ENABLED
        assert any(f"status {status}" in notice.text for notice in s.kinds(Notice))


async def test_enabled_that_is_not_answered_in_time_disables() -> None:
    async with stage(QUICK) as s:
        s.app.answer("/init", 404)
        s.app.before["/enabled"] = anyio.sleep_forever
        with pytest.raises(RefusedError, match=r"not answered within 0.2 s"):
            await s.register()
        assert (await s.record()).enabled is False


async def test_app_that_ends_before_its_heartbeat_is_noticed_at_once() -> None:
    async with stage() as s:
        s.app.answer("/heartbeat", 503)

        async def end() -> None:
            s.backend.end.set()

        s.app.before["/heartbeat"] = end
        started = time.monotonic()
        with pytest.raises(StepError, match="exit code 3") as caught:
            await s.register()
        assert time.monotonic() - started < 5, "the limit of 90 s was not waited for"
        assert caught.value.step == "heartbeat"
        assert caught.value.output == ("last line",)
        app = await s.record()
        assert (app.state, app.enabled, app.status.error) == (
            State.FAILED,
            False,
            "Heartbeat check failed",
        )


async def test_app_that_ends_during_init_is_noticed_at_once() -> None:
    async with stage() as s:

        async def end() -> None:
            s.backend.end.set()

        s.app.before["/init"] = end
        with pytest.raises(StepError, match="exit code 3") as caught:
            await s.register()
        assert caught.value.step == "init"
        assert (await s.record()).state is State.FAILED


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>hello</html>"), (404, b"{}"), (401, b"no")]
)
async def test_heartbeat_answered_by_something_else_fails_early_and_says_what(
    status: int, body: bytes
) -> None:
    async with stage(QUICK) as s:
        s.app.answer("/heartbeat", status, body)
        with pytest.raises(StepError) as caught:
            await s.register()
        assert not isinstance(caught.value, StepTimeout)
        assert str(status) in caught.value.cause
        assert "port 9009" in caught.value.remedy


@pytest.mark.parametrize(
    ("status", "body"), [(200, {"status": "starting"}), (503, b""), (204, b""), (200, ["ok"])]
)
async def test_heartbeat_that_is_not_ok_is_waited_out_to_the_limit(
    status: int, body: object
) -> None:
    async with stage(QUICK) as s:
        s.app.answer("/heartbeat", status, body)
        with pytest.raises(StepTimeout, match=r"no success within 0.3 s"):
            await s.register()
        assert len(s.app.received) > 3


async def test_heartbeat_of_a_stranger_does_not_count() -> None:
    async with stage() as s:
        s.app.answer("/init", 404)
        s.backend.strangers = ["process 1 (other)"]
        assert (await s.register()).enabled
        assert s.app.received[:2] == ["GET /heartbeat", "GET /heartbeat"]


async def test_port_of_a_stranger_fails_early_and_says_whose_it_is() -> None:
    async with stage(QUICK) as s:
        s.backend.strangers = ["process 1 (other)"] * 1000
        with pytest.raises(StepError) as caught:
            await s.register()
        assert (
            caught.value.cause == "it is process 1 (other) that listens on port 9009, not the app"
        )
        assert "end that one" in caught.value.remedy
        assert (await s.record()).state is State.FAILED


async def test_heartbeat_that_hangs_is_given_up_and_asked_again() -> None:
    async with stage(QUICK) as s:
        s.app.before["/heartbeat"] = anyio.sleep_forever
        with pytest.raises(StepTimeout, match=r"no answer within 0.1 s"):
            await s.register()
        assert len(s.app.received) > 1


async def test_app_unregistered_while_it_initializes_ends_the_wait() -> None:
    async with stage() as s:

        async def unregister() -> None:
            await s.host.registry.remove_app("stub")

        s.app.before["/init"] = unregister
        with pytest.raises(NotFoundError):
            await s.register()


async def test_redirected_answers_are_followed_and_the_last_one_decides() -> None:
    async with stage() as s:
        s.app.answer("/init", 307)
        s.app.headers["/init"] = [(b"location", b"/prepare")]
        s.app.answer("/enabled", 301)
        s.app.headers["/enabled"] = [(b"location", b"/switched")]
        s.app.answer("/switched", 200, {"error": "no"})
        with pytest.raises(RefusedError, match="no"):
            await s.register()
        assert "POST /prepare" in s.app.received, "307 keeps the verb; the 404 there means no init"
        assert s.app.received[-1] == "GET /switched", "301 makes it a GET"


async def test_endless_redirects_are_a_failure() -> None:
    async with stage() as s:
        s.app.answer("/init", 302)
        s.app.headers["/init"] = [(b"location", b"/init")]
        with pytest.raises(StepError, match="redirects"):
            await s.register()


async def test_secret_does_not_follow_a_redirect_to_another_host() -> None:
    async with stage() as s:
        s.app.answer("/init", 307)
        s.app.headers["/init"] = [(b"location", b"http://elsewhere.test/steal")]
        await s.register()
        seen = dict(zip(s.app.received, s.app.received_headers, strict=False))
        assert "authorization-app-api" in dict(seen["POST /init"])
        assert "authorization-app-api" not in dict(seen["POST /steal"])


async def test_every_exchange_is_told_and_none_shows_the_secret() -> None:
    async with stage() as s:
        s.app.answer("/init", 404)
        await s.register()
        exchanges = s.kinds(Exchange)
        assert [f"{e.method} {e.target}" for e in exchanges] == s.app.received
        assert [e.status for e in exchanges] == [200, 404, 200, 200]
        assert "12345" not in repr(s.events)
        assert "OjEyMzQ1" not in repr(s.events)


async def test_steps_are_told_in_order() -> None:
    async with stage() as s:
        await report_when_asked(s, (100, ""))
        await s.register()
        assert [event.step for event in s.kinds(StepFinished)] == [
            "deploy",
            "heartbeat",
            "init",
            "heartbeat",
            "enabled",
        ]


@pytest.mark.parametrize(
    ("waited", "asking", "pause"),
    [
        (0.1, 0.001, 0.025),  # most apps come up soon
        (2.0, 0.001, 0.1),  # a twentieth of the wait
        (0.1, 0.01, 0.1),  # the machine is busy: asking takes a tenth of the time at most
        (60.0, 5.0, 0.25),  # but never longer than this
    ],
)
def test_pause_between_heartbeats(waited: float, asking: float, pause: float) -> None:
    assert poll_pause(waited=waited, asking=asking) == pytest.approx(pause)
