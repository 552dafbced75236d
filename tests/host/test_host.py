"""The operations of the host as a library."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from appapi_host.errors import (
    AlreadyExistsError,
    DeployError,
    HostError,
    NotFoundError,
    RefusedError,
    StepError,
)
from appapi_host.events import AppOutput, Notice, ProgressChanged, StepFailed
from appapi_host.host import Host
from appapi_host.info_xml import AppInfo
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.lifecycle import State
from tests.host.stub_app import INFO, QUICK, Stage, stage


async def installed(stage: Stage) -> None:
    stage.app.answer("/init", 404)
    await stage.register()
    stage.app.received.clear()
    stage.backend.calls.clear()


async def test_environment_of_the_app_holds_the_documented_variables() -> None:
    async with stage() as s:
        s.app.answer("/init", 404)
        await s.register()
        assert list(s.backend.environment)[:10] == [
            "AA_VERSION",
            "APP_SECRET",
            "APP_ID",
            "APP_DISPLAY_NAME",
            "APP_VERSION",
            "APP_HOST",
            "APP_PORT",
            "APP_PERSISTENT_STORAGE",
            "NEXTCLOUD_URL",
            "COMPUTE_DEVICE",
        ]
        assert s.backend.environment["NEXTCLOUD_URL"] == "http://h"
        assert (await s.record()).deployment == {"noted": True}


async def test_port_and_secret_are_made_up_when_the_info_has_none() -> None:
    async with stage() as s:
        s.app.answer("/init", 404)
        info = AppInfo(id="plain", name="Plain", version="1.0.0")
        app = await s.host.register(info)
        assert app.port in range(23000, 24000)
        assert re.fullmatch(r"[A-Za-z0-9+/]{128}", app.secret.reveal())


async def test_app_is_registered_once() -> None:
    async with stage() as s:
        await installed(s)
        with pytest.raises(AlreadyExistsError, match="ExApp stub is already registered"):
            await s.register()
        assert s.backend.calls == []


async def test_port_is_used_once_per_daemon() -> None:
    async with stage() as s:
        await installed(s)
        with pytest.raises(AlreadyExistsError):
            await s.host.register(AppInfo(id="other", name="Other", version="1", port=INFO.port))


async def test_unknown_daemon_and_unknown_backend_are_named() -> None:
    async with stage() as s:
        with pytest.raises(NotFoundError, match=r"Daemon config nope not found\."):
            await s.host.register(INFO, daemon="nope")
        await s.host.register_daemon(Daemon("odd", "Odd", "no-such-install", "http", "localhost"))
        with pytest.raises(
            NotFoundError, match=r"Daemon config odd actions for no-such-install not found\."
        ):
            await s.host.register(INFO, daemon="odd")


async def test_without_a_default_daemon_one_must_be_named() -> None:
    async with Host.open(HostSettings()) as host:
        with pytest.raises(NotFoundError, match=r"Daemon config  not found\."):
            await host.register(INFO)


async def test_failed_deployment_leaves_no_row() -> None:
    async with stage() as s:
        s.backend.deploy_error = "no such image"
        with pytest.raises(DeployError, match="no such image") as caught:
            await s.register()
        assert caught.value.remedy == "try again"
        assert await s.host.registry.apps() == []
        assert [(e.step, e.cause) for e in s.kinds(StepFailed)] == [("deploy", "no such image")]
        assert [e.percent for e in s.kinds(ProgressChanged)] == [10, 50]


async def test_cancelled_deployment_leaves_no_row() -> None:
    async with stage() as s:
        with anyio.CancelScope() as scope:

            async def cancel(percent: int) -> None:
                scope.cancel()
                await anyio.sleep_forever()

            async def deploy(deployment: object, report: object) -> dict[str, object]:
                await cancel(0)
                return {}

            s.backend.deploy = deploy  # type: ignore[method-assign, assignment]
            await s.register()
        assert await s.host.registry.apps() == []


async def test_disable_asks_the_app_while_it_is_still_enabled() -> None:
    async with stage() as s:
        await installed(s)
        seen = []

        async def look() -> None:
            seen.append((await s.record()).enabled)

        s.app.before["/enabled"] = look
        app = await s.host.disable("stub")
        assert seen == [True]
        assert (app.state, app.enabled) == (State.DISABLED, False)
        assert s.app.received == ["PUT /enabled?enabled=0"]
        assert s.backend.calls == ["stop"]


async def test_refusal_to_be_disabled_is_told_but_does_not_help_the_app() -> None:
    async with stage() as s:
        await installed(s)
        s.app.answer("/enabled", 200, {"error": "0"})
        with pytest.raises(RefusedError, match="0"):
            await s.host.disable("stub")
        assert (await s.record()).state is State.DISABLED
        assert s.backend.calls == ["stop"]


async def test_disable_and_enable_do_nothing_the_second_time() -> None:
    async with stage() as s:
        await installed(s)
        await s.host.enable("stub")
        assert s.app.received == []
        await s.host.disable("stub")
        await s.host.disable("stub")
        assert s.app.received == ["PUT /enabled?enabled=0"]


async def test_enable_sends_heartbeat_and_enabled_but_no_init() -> None:
    async with stage() as s:
        await installed(s)
        await s.host.disable("stub")
        s.app.received.clear()
        app = await s.host.enable("stub")
        assert app.state is State.ENABLED
        assert s.app.received == ["GET /heartbeat", "PUT /enabled?enabled=1"]
        assert s.backend.calls == ["stop", "start", "ready"]


async def test_enable_that_is_refused_or_not_answered_says_why() -> None:
    async with stage(QUICK) as s:
        await installed(s)
        await s.host.disable("stub")
        s.app.answer("/enabled", 200, {"error": "no licence"})
        with pytest.raises(RefusedError, match="no licence"):
            await s.host.enable("stub")
        s.app.answer("/heartbeat", 503)
        with pytest.raises(StepError, match="heartbeat: no success within"):
            await s.host.enable("stub")
        app = await s.record()
        assert (app.state, app.enabled) == (State.FAILED, True)


async def test_failed_app_can_be_enabled_again() -> None:
    async with stage() as s:
        s.app.answer("/init", 500)
        with pytest.raises(StepError):
            await s.register()
        app = await s.host.enable("stub")
        assert (app.state, app.status.error, app.failure) == (State.ENABLED, "", "")


async def test_operation_on_a_busy_app_is_refused_with_what_to_do() -> None:
    async with stage() as s:
        await installed(s)
        caught: list[HostError] = []

        async def disable_again() -> None:
            with pytest.raises(HostError, match="busy") as error:
                await s.host.disable("stub")
            caught.append(error.value)

        s.app.before["/enabled"] = disable_again
        app = await s.host.disable("stub")
        assert app.state is State.DISABLED
        assert caught[0].remedy


async def test_app_that_cannot_be_started_or_stopped_again_fails_cleanly() -> None:
    async with stage() as s:
        await installed(s)
        s.backend.stop_error = "it does not die"
        with pytest.raises(RefusedError, match="it does not die"):
            await s.host.disable("stub")
        s.backend.start_error = "the folder is gone"
        with pytest.raises(StepError, match="start: the folder is gone"):
            await s.host.enable("stub")
        assert (await s.record()).state is State.FAILED


async def test_unregister_disables_removes_and_forgets() -> None:
    async with stage() as s:
        await installed(s)
        await s.host.unregister("stub", rm_data=True)
        assert s.app.received == ["PUT /enabled?enabled=0"]
        assert s.backend.calls == ["stop", "remove with data"]
        assert await s.host.registry.app("stub") is None


async def test_unregister_stops_at_an_error_unless_forced() -> None:
    async with stage() as s:
        await installed(s)
        s.app.answer("/enabled", 200, {"error": "still busy"})
        with pytest.raises(RefusedError):
            await s.host.unregister("stub")
        s.backend.remove_error = "no such container"
        with pytest.raises(DeployError):
            await s.host.unregister("stub")
        await s.host.unregister("stub", force=True)
        assert await s.host.registry.apps() == []


async def test_forced_unregister_goes_on_after_a_refusal() -> None:
    async with stage() as s:
        await installed(s)
        s.app.answer("/enabled", 200, {"error": "still busy"})
        await s.host.unregister("stub", force=True)
        assert await s.host.registry.apps() == []


async def test_operations_on_an_unknown_app_say_so() -> None:
    async with stage() as s:
        for operation in (s.host.enable, s.host.disable, s.host.unregister, s.host.exited):
            with pytest.raises(NotFoundError, match=r"ExApp nope not found\."):
                await operation("nope")


async def test_output_is_followed_and_its_end_is_kept() -> None:
    async with stage() as s:
        await installed(s)
        await s.host.follow_output("stub")
        assert s.kinds(AppOutput) == [
            AppOutput("stub", "first line"),
            AppOutput("stub", "last line"),
        ]
        assert await s.host.last_output("stub") == ["last line"]
        s.backend.end.set()
        assert await s.host.exited("stub") == "exit code 3"


async def test_higher_version_that_the_app_names_is_stored() -> None:
    async with stage() as s:
        await installed(s)
        await s.host.app_version_seen("stub", "2.0.0")
        assert (await s.record()).version == "2.0.0"


async def test_state_survives_the_host(tmp_path: Path) -> None:
    settings = replace(HostSettings(), data_dir=tmp_path)
    async with Host.open(settings) as host:
        await host.register_daemon(Daemon("d", "D", "manual-install", "http", "localhost"))
    async with Host.open(settings) as host:
        assert [daemon.name for daemon in await host.registry.daemons()] == ["d"]


async def test_restarted_host_finishes_what_had_begun() -> None:
    async with stage() as s:
        await installed(s)
        await s.host.registry.apply("stub", lambda app: replace(app, state=State.ENABLING))
        await s.host.resume()
        app = await s.host.registry.wait("stub", lambda app: app.state is State.ENABLED)
        assert app is not None
        await s.host.registry.apply("stub", lambda app: replace(app, state=State.DISABLING))
        await s.host.resume()
        await s.host.registry.wait("stub", lambda app: app.state is State.DISABLED)
        assert s.app.received == [
            "GET /heartbeat",
            "PUT /enabled?enabled=1",
            "PUT /enabled?enabled=0",
        ]


async def test_app_started_anew_while_it_initialized_is_told_to_begin_again() -> None:
    async with stage() as s:
        await s.register(wait_finish=False)
        await s.host.report_init("stub", 40)
        s.app.received.clear()
        s.backend.notes = {"pid": 2}
        asked = anyio.Event()

        async def init_asked() -> None:
            asked.set()

        s.app.before["/init"] = init_asked
        await s.host.resume()
        await asked.wait()
        app = await s.record()
        assert (app.state, app.status.init) == (State.INITIALIZING, 0)
        assert app.deployment == {"pid": 2}
        assert s.app.received == ["GET /heartbeat", "POST /init"]


async def test_app_that_still_initializes_is_left_alone_by_a_restarted_host() -> None:
    async with stage() as s:
        await s.register(wait_finish=False)
        await s.host.report_init("stub", 40)
        s.app.received.clear()
        await s.host.resume()
        await s.host.report_init("stub", 100)
        assert (await s.record()).state is State.ENABLED
        assert s.app.received == ["GET /heartbeat", "PUT /enabled?enabled=1"]


async def test_app_that_cannot_be_started_after_a_restart_is_marked_as_failed() -> None:
    async with stage() as s:
        await installed(s)
        s.backend.start_error = "the folder is gone"
        await s.host.resume()
        app = await s.record()
        assert (app.state, app.failure) == (State.FAILED, "start: the folder is gone")
        await s.host.resume()
        assert (await s.record()).state is State.FAILED


async def test_app_whose_backend_is_gone_does_not_stop_a_restart() -> None:
    async with stage() as s:
        await installed(s)
        await s.host.registry.add_daemon(Daemon("odd", "Odd", "gone-install", "http", "localhost"))
        odd = await s.host.registry.daemon("odd")
        assert odd is not None
        app = await s.record()
        await s.host.registry.add_app(replace(app, app_id="other", daemon=odd))
        await s.host.resume()
        assert any("gone-install" in notice.text for notice in s.kinds(Notice))


NEWER = replace(INFO, version="2.0.0", name="Newer", port=None, secret=None)


async def test_update_fetches_first_and_keeps_port_secret_and_options() -> None:
    async with stage() as s:
        s.app.answer("/init", 404)
        await s.register(environment={"X": "1"}, mounts=[("/a", "/b", "ro")])
        before = await s.record()
        s.app.received.clear()
        s.backend.calls.clear()
        app = await s.host.update(NEWER)
        assert (app.state, app.version, app.name) == (State.ENABLED, "2.0.0", "Newer")
        assert (app.port, app.secret, app.options) == (before.port, before.secret, before.options)
        assert s.app.received == [
            "PUT /enabled?enabled=0",
            "GET /heartbeat",
            "POST /init",
            "GET /heartbeat",
            "PUT /enabled?enabled=1",
        ]
        assert s.backend.calls == [
            *("prepare", "stop", "set aside", "deploy"),
            *("ready", "start", "ready", "discard"),
        ]
        assert s.backend.environment["APP_VERSION"] == "2.0.0"


async def test_update_to_the_same_version_does_nothing() -> None:
    async with stage() as s:
        await installed(s)
        before = await s.record()
        assert await s.host.update(INFO) == before
        assert s.backend.calls == []


async def test_same_version_is_deployed_anew_on_request() -> None:
    async with stage() as s:
        await installed(s)
        app = await s.host.update(INFO, redeploy=True)
        assert (app.state, app.version, app.deployment) == (State.ENABLED, "1.0.0", {"noted": True})
        assert s.app.received[0] == "PUT /enabled?enabled=0"
        assert s.backend.calls == [
            *("prepare", "stop", "set aside", "deploy"),
            *("ready", "start", "ready", "discard"),
        ]


async def test_failed_redeployment_goes_back_to_what_was_there() -> None:
    async with stage() as s:
        await installed(s)
        s.backend.deploy_error = "disk full"
        with pytest.raises(DeployError, match="disk full"):
            await s.host.update(INFO, redeploy=True)
        assert (await s.record()).state is State.ENABLED
        assert s.backend.calls[-2:] == ["start", "ready"]


async def test_update_that_cannot_be_fetched_changes_nothing() -> None:
    async with stage() as s:
        await installed(s)
        before = await s.record()
        s.backend.prepare_error = "no such image"
        with pytest.raises(DeployError, match="no such image"):
            await s.host.update(NEWER)
        assert await s.record() == before
        assert s.app.received == []


@pytest.mark.parametrize("fault", ["deploy", "heartbeat", "init", "enabled"])
async def test_failed_update_brings_the_old_version_back(fault: str) -> None:
    async with stage(QUICK) as s:
        await installed(s)
        if fault == "deploy":
            s.backend.deploy_error = "disk full"
        elif fault == "enabled":
            s.app.answer("/enabled", 200, {"error": "no"})
        else:
            s.app.answer(f"/{fault}", 503)
        s.app.before["/heartbeat"] = s.app.before["/enabled"] = anyio.lowlevel.checkpoint
        original = s.backend.restore

        async def restore(app: AppRecord) -> Mapping[str, Any]:
            s.app.answer("/heartbeat", 200, {"status": "ok"})
            s.app.answer("/enabled", 200, {"error": ""})
            return await original(app)

        s.backend.restore = restore  # type: ignore[method-assign]
        with pytest.raises(HostError):
            await s.host.update(NEWER)
        app = await s.record()
        assert (app.state, app.version, app.name) == (State.ENABLED, "1.0.0", "Stub")
        assert app.failure.startswith("update failed: ")
        assert app.deployment in ({"restored": True}, {})
        assert "discard" not in s.backend.calls


async def test_update_of_a_disabled_app_ends_enabled_unless_told_otherwise() -> None:
    async with stage() as s:
        await installed(s)
        await s.host.disable("stub")
        assert (await s.host.update(NEWER, keep_disabled=True)).state is State.DISABLED
        assert (await s.host.update(INFO)).state is State.ENABLED


async def test_failed_update_of_a_disabled_app_leaves_it_disabled() -> None:
    async with stage() as s:
        await installed(s)
        await s.host.disable("stub")
        s.backend.deploy_error = "disk full"
        with pytest.raises(DeployError):
            await s.host.update(NEWER)
        app = await s.record()
        assert (app.state, app.version) == (State.DISABLED, "1.0.0")


async def test_update_that_cannot_be_undone_says_so() -> None:
    async with stage() as s:
        await installed(s)
        s.backend.deploy_error = "disk full"
        s.backend.restore_error = "still full"
        with pytest.raises(DeployError, match="disk full"):
            await s.host.update(NEWER)
        assert any("could not be put back" in notice.text for notice in s.kinds(Notice))


async def test_update_goes_on_when_the_old_version_does_not_want_to_be_disabled() -> None:
    async with stage() as s:
        await installed(s)
        s.app.answer("/enabled", 200, {"error": "0"})  # an error for disabling only
        assert (await s.host.update(NEWER)).version == "2.0.0"
        assert any("did not want to be disabled" in notice.text for notice in s.kinds(Notice))


async def test_what_goes_wrong_in_the_background_does_not_end_the_host(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with stage() as s:

        async def fail() -> None:
            raise RuntimeError("a bug of ours")

        s.host.start(fail)
        with anyio.fail_after(20):
            while not s.kinds(Notice):
                await anyio.lowlevel.checkpoint()
        [notice] = s.kinds(Notice)
        assert notice.text == "unexpected RuntimeError in the background: a bug of ours"
        assert "something in the background failed" in caplog.text
        s.app.answer("/init", 404)
        assert (await s.register()).enabled
