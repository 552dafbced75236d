"""Operations that are written down, and what becomes of those whose owner is gone."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from appapi_host.errors import BusyError, DeployError, RefusedError
from appapi_host.events import AppEnded, EventBus, Notice, StepFailed
from appapi_host.host import Host
from appapi_host.operations import Operation, Operations, Verb
from appapi_host.records import AppRecord
from appapi_host.recovery import snapshot, was_never_deployed
from appapi_host.registry import Registry
from appapi_host.settings import HostSettings, Timeouts
from exapp_sdk.protocol.lifecycle import State
from exapp_sdk.protocol.status import Status
from tests.host.stub_app import INFO, Stage, stage


@asynccontextmanager
async def registries(path: Path) -> AsyncIterator[tuple[Operations, Operations]]:
    """Two hosts on one registry."""
    with anyio.fail_after(10):
        async with (
            await Registry.open(path / "state.sqlite3") as first,
            await Registry.open(path / "state.sqlite3") as second,
        ):
            yield Operations(first), Operations(second)


async def test_operation_is_read_as_it_was_written_and_ends_once(tmp_path: Path) -> None:
    async with registries(tmp_path) as (first, second):
        assert await first.begin("app", Verb.UPDATE, "fetch", {"to": "2.0"}) is None
        await first.step("app", "deploy", {"old": {"version": "1.0"}})
        seen = await second.of("app")
        assert seen is not None
        assert (seen.verb, seen.step, seen.pid) == (Verb.UPDATE, "deploy", os.getpid())
        assert seen.details == {"to": "2.0", "old": {"version": "1.0"}}
        assert seen.moved > seen.started
        assert await second.all() == [seen]
        assert (first.owns(seen), second.owns(seen)) == (True, False)
        await second.step("app", "nothing")
        await second.end("app")
        assert await first.of("app") == seen
        await first.end("app")
        assert await first.all() == []


async def test_second_operation_on_an_app_meets_the_first(tmp_path: Path) -> None:
    async with registries(tmp_path) as (first, second):
        await first.begin("app", Verb.ENABLE, "start", {})
        present = await second.begin("app", Verb.DISABLE, "disabled", {})
        assert present is not None
        assert present.verb is Verb.ENABLE
        assert not await second.is_orphaned(present)
        assert str(present.busy()) == (
            f"ExApp app is busy: process {os.getpid()} is about to enable it (step start)"
        )
        assert await second.begin("other", Verb.DISABLE, "disabled", {}) is None


async def test_operation_of_a_closed_host_is_claimed_by_one(tmp_path: Path) -> None:
    async with registries(tmp_path) as (first, second):
        await first.begin("app", Verb.ENABLE, "start", {})
        first.close()
        present = await second.of("app")
        assert present is not None
        assert await second.is_orphaned(present)
        mine = await second.claim(present)
        assert mine is not None
        assert second.owns(mine)
        assert await second.claim(present) is None
        assert not await second.is_orphaned(mine)


async def test_operation_of_a_process_that_is_gone_is_an_orphan(tmp_path: Path) -> None:
    async with registries(tmp_path) as (first, _):
        await first.begin("app", Verb.ENABLE, "start", {})
        seen = await first.of("app")
        assert seen is not None
        dead = replace(seen, owner="somebody", pid=2**22 + 1)
        assert await first.is_orphaned(dead)
        parent = os.getppid()
        assert await first.is_orphaned(replace(seen, owner="x", pid=parent, created=1.0))


async def test_end_of_an_operation_is_waited_for(tmp_path: Path) -> None:
    async with registries(tmp_path) as (first, second):
        for ends in (first.end, first.abandon):
            await first.begin("app", Verb.ENABLE, "start", {})
            seen = await second.of("app")
            assert seen is not None
            async with anyio.create_task_group() as group:
                group.start_soon(second.wait_for_end, seen)
                await ends("app")
        left = await second.of("app")
        assert left is not None
        assert await second.is_orphaned(left)


# Through the host


async def installed(s: Stage, **options: Any) -> None:
    s.app.answer("/init", 404)
    await s.register(**options)
    s.app.received.clear()
    s.backend.calls.clear()


async def test_operations_end_with_success_and_with_failure() -> None:
    async with stage() as s:
        await installed(s)
        assert await s.host.operations.all() == []
        s.app.answer("/enabled", 200, {"error": "no"})
        with pytest.raises(RefusedError, match="no"):
            await s.host.disable("stub")
        assert await s.host.operations.all() == []


async def test_each_step_is_written_down_before_it_acts() -> None:
    async with stage() as s:
        seen: list[tuple[str, str]] = []

        async def look() -> None:
            seen.extend((one.verb.value, one.step) for one in await s.host.operations.all())

        for path in ("/heartbeat", "/init", "/enabled"):
            s.app.before[path] = look
        s.app.answer("/init", 404)
        await s.register()
        assert seen == [
            ("register", "heartbeat"),
            ("register", "init"),
            ("register", "heartbeat"),
            ("register", "enabled"),
        ]


async def test_waiting_for_init_keeps_nobody_from_disabling() -> None:
    async with stage() as s:
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                with pytest.raises(RefusedError):
                    await s.register()

            group.start_soon(wait)
            await s.host.registry.wait(
                "stub", lambda app: app is not None and app.state is State.INITIALIZING
            )
            while await s.host.operations.all():
                await anyio.lowlevel.checkpoint()
            await s.host.disable("stub")
        assert (await s.record()).state is State.DISABLED


async def test_cancelled_operation_is_left_for_the_next() -> None:
    async with stage() as s:
        await installed(s)
        with anyio.CancelScope() as scope:

            async def hang_up() -> None:
                scope.cancel()
                await anyio.sleep_forever()

            s.app.before["/enabled"] = hang_up
            await s.host.disable("stub")
        assert (await s.record()).state is State.DISABLING
        s.app.before.clear()
        app = await s.host.enable("stub")
        assert app.state is State.ENABLED
        assert any("disabling was interrupted" in one.text for one in s.kinds(Notice))


async def test_busy_process_is_waited_for_and_then_named() -> None:
    async with stage(Timeouts(busy=0.1)) as s:
        await installed(s)
        other = Operations(s.host.registry)
        await other.begin("stub", Verb.UPDATE, "deploy", {})
        with pytest.raises(BusyError, match="is about to update it") as caught:
            await s.host.disable("stub")
        assert caught.value.remedy
        assert [one.text for one in s.kinds(Notice) if "waiting for process" in one.text]
        async with anyio.create_task_group() as group:
            group.start_soon(other.end, "stub")
            await s.host.disable("stub")
        assert (await s.record()).state is State.DISABLED


# What becomes of an operation at each of its steps


async def orphan(s: Stage, verb: Verb, step: str, **details: Any) -> Operation:
    """An operation whose host is gone."""
    gone = Operations(s.host.registry)
    assert await gone.begin("stub", verb, step, details) is None
    gone.close()
    found = await s.host.operations.of("stub")
    assert found is not None
    return found


async def changed(s: Stage, state: State, **values: Any) -> AppRecord:
    return await s.host.registry.apply("stub", lambda app: replace(app, state=state, **values))


async def test_interrupted_deployment_is_cleared_away_and_can_be_repeated() -> None:
    async with stage() as s:
        await installed(s)
        await changed(s, State.DEPLOYING, enabled=False, status=Status(deploy=40))
        await orphan(s, Verb.REGISTER, "deploy")
        await s.host.recover()
        app = await s.record()
        assert s.backend.calls == ["remove"]
        assert was_never_deployed(app)
        assert app.failure.startswith("the installation was interrupted at the step deploy")
        assert await s.host.operations.all() == []


@pytest.mark.parametrize(
    ("verb", "state", "step"),
    [
        (Verb.REGISTER, State.WAITING, "heartbeat"),
        (Verb.REGISTER, State.INITIALIZING, "init"),
        (Verb.ENABLE, State.ENABLING, "start"),
    ],
)
async def test_what_needs_patience_is_finished_by_serve_and_ended_by_occ(
    verb: Verb, state: State, step: str
) -> None:
    async with stage() as s:
        await installed(s)
        await changed(s, state, enabled=state is not State.WAITING)
        await orphan(s, verb, step)
        await s.host.recover()
        app = await s.record()
        assert app.state is State.FAILED
        assert f"was interrupted at the step {step}" in app.failure
        assert s.app.received == []

        await changed(s, state, enabled=state is not State.WAITING)
        await s.host.recovery.settle(await orphan(s, verb, step), finish=True)
        assert (await s.record()).state is State.ENABLED
        assert await s.host.operations.all() == []


async def test_interrupted_disabling_ends_disabled_either_way() -> None:
    async with stage() as s:
        for finish, received in ((False, []), (True, ["PUT /enabled?enabled=0"])):
            if finish:
                await changed(s, State.ENABLED, enabled=True)
            else:
                await installed(s)
            await changed(s, State.DISABLING)
            await s.host.recovery.settle(await orphan(s, Verb.DISABLE, "disabled"), finish=finish)
            app = await s.record()
            assert (app.state, app.enabled) == (State.DISABLED, False)
            assert s.app.received == received
            assert s.backend.calls[-1] == "stop"


async def test_interrupted_removal_is_finished_with_its_data_as_it_was_asked_for() -> None:
    async with stage() as s:
        await installed(s)
        await changed(s, State.DISABLED, enabled=False)
        await orphan(s, Verb.UNREGISTER, "remove", rm_data=True)
        await s.host.recover()
        assert s.backend.calls == ["remove with data"]
        assert await s.host.registry.apps() == []


async def test_interrupted_removal_that_cannot_be_finished_says_so() -> None:
    async with stage() as s:
        await installed(s)
        s.backend.remove_error = "the engine is gone"
        await orphan(s, Verb.UNREGISTER, "remove")
        await s.host.recover()
        app = await s.record()
        assert app.failure == ("the removal was interrupted at the step remove; the engine is gone")
        assert await s.host.operations.all() == []


async def test_removal_interrupted_before_it_removed_keeps_the_app() -> None:
    async with stage() as s:
        await installed(s)
        await changed(s, State.DISABLING)
        await orphan(s, Verb.UNREGISTER, "disable")
        await s.host.recover()
        assert (await s.record()).state is State.DISABLED


@pytest.mark.parametrize("step", ["disable", "set aside", "deploy", "heartbeat", "init"])
@pytest.mark.parametrize("was_enabled", [True, False])
async def test_interrupted_update_goes_back_to_the_old_version(
    step: str, was_enabled: bool
) -> None:
    states = {
        "disable": State.DISABLING if was_enabled else State.DISABLED,
        "set aside": State.DISABLED,
        "deploy": State.DEPLOYING,
        "heartbeat": State.WAITING,
        "init": State.INITIALIZING,
    }
    async with stage() as s:
        await installed(s)
        if not was_enabled:
            await s.host.disable("stub")
        old = await s.record()
        await orphan(s, Verb.UPDATE, step, old=snapshot(old))
        version = old.version if step in ("disable", "set aside") else "2.0.0"
        await changed(s, states[step], version=version, enabled=step in ("disable", "init"))
        await s.host.recover()
        app = await s.record()
        assert "restore" in s.backend.calls
        assert (app.version, app.enabled, app.state) == (old.version, old.enabled, old.state)
        assert app.routes == old.routes
        assert f"the update was interrupted at the step {step}" in app.failure


async def test_update_interrupted_while_it_fetched_changed_nothing() -> None:
    async with stage() as s:
        await installed(s)
        await orphan(s, Verb.UPDATE, "fetch")
        await s.host.recover()
        app = await s.record()
        assert s.backend.calls == []
        assert app.state is State.ENABLED
        assert "version 1.0.0 is as it was" in app.failure


async def test_update_interrupted_at_its_end_is_finished() -> None:
    async with stage() as s:
        await installed(s)
        await orphan(s, Verb.UPDATE, "discard", old={})
        await s.host.recover()
        assert s.backend.calls == ["discard"]
        assert (await s.record()).state is State.ENABLED


async def test_old_version_that_cannot_be_put_back_is_marked_as_failed() -> None:
    async with stage() as s:
        await installed(s)
        old = await s.record()
        await orphan(s, Verb.UPDATE, "deploy", old=snapshot(old))
        await changed(s, State.DEPLOYING, version="2.0.0")
        s.backend.restore_error = "the engine is gone"
        await s.host.recover()
        app = await s.record()
        assert app.state is State.FAILED
        assert "could not be put back: the engine is gone" in app.failure


async def test_operation_without_an_app_is_forgotten() -> None:
    async with stage() as s:
        await orphan(s, Verb.REGISTER, "deploy")
        await s.host.recover()
        assert await s.host.operations.all() == []
        assert [one.text for one in s.kinds(Notice)] == [
            "the installation was interrupted at the step deploy; nothing of it is left"
        ]


async def test_next_operation_settles_what_is_in_its_way() -> None:
    async with stage() as s:
        await installed(s)
        await changed(s, State.DISABLING)
        await orphan(s, Verb.DISABLE, "disabled")
        app = await s.host.enable("stub")
        assert app.state is State.ENABLED


async def test_serving_host_takes_up_operations_at_its_start() -> None:
    async with stage() as s:
        await installed(s)
        await changed(s, State.ENABLING)
        await orphan(s, Verb.ENABLE, "start")
        await s.host.resume()
        done = await s.host.registry.wait("stub", lambda app: app.state is State.ENABLED)
        assert done is not None


# While a host serves


@asynccontextmanager
async def watched(s: Stage) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(s.host.watch)
        yield
        group.cancel_scope.cancel()


async def test_app_that_dies_is_recorded_with_its_last_lines() -> None:
    async with stage() as s:
        await installed(s)
        async with watched(s):
            s.backend.end.set()
            app = await s.host.registry.wait("stub", lambda app: app.state is State.FAILED)
        assert app is not None
        lines = app.failure.splitlines()
        assert lines[0].startswith("the app ended at 20")
        assert lines[0].endswith(": exit code 3")
        assert lines[1:] == ["  | last line"]
        assert app.status.error == "the app ended: exit code 3"
        assert s.kinds(AppEnded) == [AppEnded("stub", "enabled", "exit code 3", ("last line",))]
        s.backend.end = anyio.Event()
        assert (await s.host.enable("stub")).state is State.ENABLED


async def test_app_of_which_nothing_can_be_known_for_a_while_is_looked_after_again() -> None:
    async with stage() as s:
        await installed(s)
        s.host.recovery.pause = 0.0
        exited, asked = s.backend.exited, 0

        async def refused(app: AppRecord) -> str:
            nonlocal asked
            asked += 1
            if asked < 3:
                raise DeployError("the engine is shutting down")
            return await exited(app)

        s.backend.exited = refused  # type: ignore[method-assign]
        s.backend.end.set()
        async with watched(s):
            await s.host.registry.wait("stub", lambda app: app.state is State.FAILED)
        assert asked == 3
        told = [one.text for one in s.kinds(Notice) if "nobody knows" in one.text]
        assert told == ["nobody knows whether it still runs: the engine is shutting down"]


async def test_app_that_is_stopped_on_purpose_did_not_die() -> None:
    async with stage() as s:
        await installed(s)
        async with watched(s):
            await s.host.registry.next_change()
            await s.host.disable("stub")
            s.backend.end.set()
            await anyio.wait_all_tasks_blocked()
        assert (await s.record()).state is State.DISABLED
        assert s.kinds(AppEnded) == []


async def test_init_that_takes_too_long_is_recorded_and_may_still_succeed() -> None:
    async with stage(Timeouts(init=0.01)) as s:
        await s.register(wait_finish=False)
        await s.host.report_init("stub", 30)
        async with watched(s):
            app = await s.host.registry.wait("stub", lambda app: app.state is State.FAILED)
        assert app is not None
        assert "initialization timed out" in app.failure
        assert "30 %" in app.failure
        assert [one.step for one in s.kinds(StepFailed)] == ["init"]
        await s.host.report_init("stub", 100)
        assert (await s.record()).state is State.ENABLED


async def test_operation_of_a_process_that_died_meanwhile_is_settled() -> None:
    async with stage() as s:
        await installed(s)
        async with watched(s):
            await changed(s, State.DISABLING)
            await orphan(s, Verb.DISABLE, "disabled")
            app = await s.host.registry.wait("stub", lambda app: app.state is State.DISABLED)
        assert app is not None


async def test_operation_without_progress_is_warned_about_once() -> None:
    async with stage(Timeouts(stuck=0.0)) as s:
        await installed(s)
        other = Operations(s.host.registry)
        await other.begin("stub", Verb.UPDATE, "deploy", {})
        warned = anyio.Event()

        def see(event: object) -> None:
            if isinstance(event, Notice) and "has been at the step deploy" in event.text:
                warned.set()

        with s.host.bus.subscribed(see):
            async with watched(s):
                await warned.wait()


async def test_unfinished_operation_survives_the_host(tmp_path: Path) -> None:
    settings = replace(HostSettings(), data_dir=tmp_path)
    async with Host.open(settings) as host:
        await host.operations.begin("gone", Verb.REGISTER, "deploy", {})
    bus = EventBus()
    notices: list[object] = []
    with bus.subscribed(notices.append):
        async with Host.open(settings, bus=bus) as host:
            await host.recover()
            assert await host.operations.all() == []
    assert [one.text for one in notices if isinstance(one, Notice)] == [
        "the installation was interrupted at the step deploy; nothing of it is left"
    ]


async def test_failed_deployment_of_an_unknown_step_raises_as_before() -> None:
    async with stage() as s:
        s.backend.deploy_error = "no such image"
        with pytest.raises(DeployError):
            await s.host.register(INFO, daemon="stub")
        assert await s.host.operations.all() == []
