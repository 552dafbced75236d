"""What a host takes up when it starts, while the daemon of its apps is away."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import anyio
import pytest

from appapi_host.errors import StepError
from appapi_host.events import Notice, StepFailed
from appapi_host.operations import Operations, Verb
from appapi_host.records import AppRecord
from exapp_sdk.protocol.lifecycle import Event, State
from tests.host.stub_app import QUICK, Stage, stage

REASON = "there is no socket; the app goes on when that has changed"
WARNING = (
    "there is no socket; other, stub on the daemon stub will go on when that has changed. "
    "Try: start the engine"
)


async def installed(stage: Stage) -> None:
    """Two apps of one daemon, which is away by now."""
    stage.app.answer("/init", 404)
    app = await stage.register()
    await stage.host.registry.add_app(replace(app, app_id="other", port=app.port + 1))
    stage.app.received.clear()
    stage.backend.calls.clear()
    stage.backend.is_away = True


def told(stage: Stage) -> list[str]:
    return [notice.text for notice in stage.kinds(Notice)]


async def until_waiting(stage: Stage) -> None:
    await stage.host.resume()
    with anyio.fail_after(20):
        while WARNING not in told(stage):
            await anyio.lowlevel.checkpoint()
    for app in await stage.host.apps():
        assert app.failure, "what is said is recorded already"


async def test_apps_of_a_daemon_that_is_away_stay_enabled_and_go_on_when_it_is_back() -> None:
    async with stage() as s:
        await installed(s)
        await until_waiting(s)
        for app in await s.host.apps():
            assert (app.state, app.enabled, app.failure) == (State.ENABLED, True, REASON)
        assert s.backend.calls == ["start"]  # one attempt tells it for both
        assert told(s) == [WARNING]
        s.backend.is_away = False
        for app_id in ("stub", "other"):
            await s.host.registry.wait(app_id, lambda app: app is not None and not app.failure)
        assert told(s) == [WARNING, "the daemon stub is there again"]
        assert {app.state for app in await s.host.apps()} == {State.ENABLED}
        assert s.app.received == []


async def test_end_of_an_app_whose_daemon_is_away_is_not_looked_for() -> None:
    async with stage() as s:
        await installed(s)
        s.backend.end.set()
        s.host.recovery.grace = 0.0
        await until_waiting(s)
        async with anyio.create_task_group() as group:
            group.start_soon(s.host.watch)
            s.backend.is_away = False
            # As soon as it is back, it is.
            await s.host.registry.wait(
                "stub", lambda app: app is not None and app.state is State.FAILED
            )
            group.cancel_scope.cancel()
        assert "the daemon stub is there again" in told(s)


async def test_app_that_is_disabled_while_its_daemon_is_away_is_not_started() -> None:
    async with stage() as s:
        await installed(s)
        await until_waiting(s)
        await s.host.registry.apply(
            "other", lambda app: replace(app, state=State.DISABLED, enabled=False)
        )
        s.backend.is_away = False
        await s.host.registry.wait("stub", lambda app: app is not None and not app.failure)
        with anyio.fail_after(20):
            while s.host.resumption.waiting:
                await anyio.lowlevel.checkpoint()
        assert (await s.host.app("other")).state is State.DISABLED
        assert set(s.backend.calls) == {"start"}


async def test_app_that_cannot_be_started_when_its_daemon_is_back_has_failed() -> None:
    async with stage() as s:
        await installed(s)
        await until_waiting(s)
        s.backend.start_error, s.backend.is_away = "the container is gone", False
        for app_id in ("stub", "other"):
            await s.host.registry.wait(
                app_id, lambda app: app is not None and app.state is State.FAILED
            )
        assert (await s.record()).failure == "start: the container is gone"
        assert len(s.kinds(StepFailed)) == 2


async def test_app_that_has_failed_is_not_started() -> None:
    async with stage() as s:
        await installed(s)
        for app_id in ("stub", "other"):
            await s.host.registry.apply(app_id, lambda app: replace(app, state=State.FAILED))
        await s.host.resume()
        assert s.backend.calls == []


@pytest.mark.parametrize(("since", "is_asked"), [(None, False), (0.0, False), (5.0, True)])
async def test_app_that_an_engine_has_started_again_in_its_init_is_told_to_begin_again(
    since: float | None, is_asked: bool
) -> None:
    async with stage() as s:
        app = await s.register(wait_finish=False)
        began = app.status.init_start_time
        assert app.state is State.INITIALIZING
        assert began is not None
        s.app.received.clear()
        s.backend.since = None if since is None else began + since
        asked = anyio.Event()

        async def init_asked() -> None:
            asked.set()

        s.app.before["/init"] = init_asked
        await s.host.resume()
        if is_asked:
            await asked.wait()
        await s.host.report_init("stub", 100)
        assert ("POST /init" in s.app.received) is is_asked
        assert (await s.record()).state is State.ENABLED


async def test_app_that_fails_while_its_engine_is_away_is_stopped_when_that_is_back() -> None:
    async with stage() as s:
        s.app.answer("/init", 404)
        await s.register()
        await s.host.disable("stub")
        s.backend.is_away = True
        with pytest.raises(StepError, match="there is no socket"):
            await s.host.enable("stub")
        operation = await s.host.operations.of("stub")
        assert operation is not None
        assert operation.step == "stop"
        await s.host.recover()
        app = await s.record()
        assert (app.state, app.failure) == (State.FAILED, "start: there is no socket")
        s.backend.is_away = False
        s.backend.calls.clear()
        await s.host.recover()
        assert s.backend.calls == ["stop"]
        assert await s.host.operations.of("stub") is None
        assert told(s)[-1] == (
            "the app could not be stopped when enabling had failed; it is stopped now; app:enable "
            "starts it"
        )


async def test_app_that_does_not_come_up_when_it_is_enabled_is_stopped() -> None:
    async with stage(QUICK) as s:
        s.app.answer("/init", 404)
        await s.register()
        await s.host.disable("stub")
        s.app.answer("/heartbeat", 503)
        s.backend.calls.clear()
        with pytest.raises(StepError, match="503"):
            await s.host.enable("stub")
        assert s.backend.calls == ["start", "ready", "stop"]
        assert (await s.record()).state is State.FAILED


async def test_app_that_another_process_switches_off_while_a_host_starts_is_left_to_that() -> None:
    async with stage() as s:
        s.app.answer("/init", 404)
        await s.register()
        other = Operations(s.host.registry)
        s.app.received.clear()
        start = s.backend.start

        async def begun_meanwhile(app: AppRecord) -> Mapping[str, Any]:
            await other.begin("stub", Verb.DISABLE, "disable", {})
            await s.host.registry.apply("stub", lambda app: app.after(Event.DISABLE))
            return await start(app)

        s.backend.start = begun_meanwhile  # type: ignore[method-assign]
        await s.host.resume()
        await anyio.wait_all_tasks_blocked()
        other.close()
        assert s.app.received == []
        assert (await s.record()).state is State.DISABLING


async def test_app_that_was_switched_off_before_a_host_has_started_it_is_stopped_again() -> None:
    async with stage() as s:
        s.app.answer("/init", 404)
        await s.register()
        start = s.backend.start

        async def ended_meanwhile(app: AppRecord) -> Mapping[str, Any]:
            await s.host.disable("stub")
            return await start(app)

        s.backend.start = ended_meanwhile  # type: ignore[method-assign]
        s.backend.calls.clear()
        await s.host.resume()
        assert s.backend.calls == ["stop", "start", "stop"]
        assert (await s.record()).state is State.DISABLED


@pytest.mark.parametrize("event", [Event.DISABLE, Event.ENABLE])
async def test_app_on_its_way_that_nobody_is_at_work_on_goes_on(event: Event) -> None:
    async with stage() as s:
        s.app.answer("/init", 404)
        await s.register()
        if event is Event.ENABLE:
            await s.host.disable("stub")
        await s.host.registry.apply("stub", lambda app: app.after(event, enabled=True))
        await s.host.resume()
        wanted = State.ENABLED if event is Event.ENABLE else State.DISABLED
        await s.host.registry.wait("stub", lambda app: app is not None and app.state is wanted)


async def test_what_fails_in_the_background_does_not_end_the_host() -> None:
    async with stage() as s:
        s.app.answer("/init", 404)
        await s.register()
        await s.host.registry.apply("stub", lambda app: app.after(Event.DISABLE))

        async def removed() -> None:
            await s.host.registry.apply("stub", lambda app: replace(app, state=State.WAITING))

        s.app.before["/enabled"] = removed
        await s.host.resume()
        with anyio.fail_after(20):
            while not told(s):
                await anyio.lowlevel.checkpoint()
        text = "'disable finished' must not happen while waiting"
        assert told(s) == [f"unexpected LocalProtocolError in the background: {text}"]
