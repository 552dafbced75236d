"""Both real peers, in memory: an app of the SDK on the host."""

from dataclasses import replace

import anyio
import pytest

from appapi_host.errors import RefusedError, StepError
from appapi_host.events import Direction
from appapi_host.testing import DEFAULT_INFO, TestHost
from exapp_sdk import ExApp, OCSError, Progress
from exapp_sdk.protocol.lifecycle import State
from tests.contract.requirements import shows

HANDSHAKE = ["GET /heartbeat", "POST /init", "GET /heartbeat", "PUT /enabled?enabled=1"]
STATUS = "PUT /ocs/v1.php/apps/app_api/ex-app/status"


def preparing_app(*steps: int) -> ExApp:
    app = ExApp()

    @app.init
    async def prepare(progress: Progress) -> None:
        for percent in steps:
            await progress.set(percent)

    return app


@shows("heartbeat.first", "init.signed", "init.hundred_enables", "enabled.query")
async def test_install_runs_the_whole_handshake(appapi_host: TestHost) -> None:
    app = preparing_app()
    switched: list[bool] = []

    @app.enabled
    async def remember(enabled: bool) -> None:
        switched.append(enabled)

    exapp = await appapi_host.install(app)
    assert exapp.enabled
    assert exapp.received == HANDSHAKE
    assert switched == [True]
    assert app.is_enabled is True
    requests = [e for e in exapp.exchanges if e.direction is Direction.HOST_TO_APP]
    signed = ["AUTHORIZATION-APP-API" in dict(exchange.request_headers) for exchange in requests]
    assert signed == [False, True, False, True]


@shows("init.optional")
async def test_app_without_init_is_enabled_directly(appapi_host: TestHost) -> None:
    exapp = await appapi_host.install(ExApp())
    assert exapp.enabled
    assert exapp.received == HANDSHAKE
    assert exapp.sent == []


@shows("init.empty_answer", "init.progress")
async def test_init_is_answered_before_the_work_is_done(appapi_host: TestHost) -> None:
    app = ExApp()
    go_on, halfway = anyio.Event(), anyio.Event()

    @app.init
    async def prepare(progress: Progress) -> None:
        await progress.set(37)
        halfway.set()
        await go_on.wait()

    exapp = await appapi_host.install(app, wait_finish=False)
    assert exapp.state is State.INITIALIZING
    init = next(exchange for exchange in exapp.exchanges if exchange.target == "/init")
    assert (init.status, init.response_body) == (200, b"{}")
    with anyio.fail_after(20):
        await halfway.wait()
        await appapi_host.host.registry.wait(
            exapp.app_id, lambda app: app is not None and app.status.init == 37
        )
        go_on.set()
        await exapp.wait_until(State.ENABLED)
    assert exapp.progress == 100


@shows("init.hundred_is_held")
async def test_report_of_100_is_answered_after_the_app_was_enabled(appapi_host: TestHost) -> None:
    exapp = await appapi_host.install(preparing_app(50))
    with anyio.fail_after(20):
        while STATUS not in exapp.sent:  # the answer is told when it is out
            await anyio.lowlevel.checkpoint()
    order = [
        f"{exchange.method} {exchange.target.partition('?')[0]}" for exchange in exapp.exchanges
    ]
    last_report = len(order) - 1 - order[::-1].index(STATUS)
    assert last_report > order.index("PUT /enabled")


@shows("init.error", "init.again")
async def test_exception_in_init_is_reported_with_its_progress(appapi_host: TestHost) -> None:
    app = ExApp()

    @app.init
    async def prepare(progress: Progress) -> None:
        await progress.set(67)
        raise RuntimeError("connection error to huggingface")

    with pytest.raises(StepError, match="connection error to huggingface") as caught:
        await appapi_host.install(app)
    assert caught.value.step == "init"
    (record,) = await appapi_host.host.registry.apps()
    assert record.state is State.FAILED
    enabled = await appapi_host.host.enable(record.app_id)
    assert enabled.state is State.ENABLED


@shows("init.callback", "enabled.callback")
async def test_app_may_call_back_during_init_and_enabled(appapi_host: TestHost) -> None:
    app = ExApp()
    seen: list[object] = []

    @app.init
    async def prepare(progress: Progress) -> None:
        seen.append(await app.nextcloud.users())

    @app.enabled
    async def switched(enabled: bool) -> None:
        seen.append((enabled, await app.nextcloud.state()))

    exapp = await appapi_host.install(app)
    await exapp.disable()
    assert seen == [["admin", "user"], (True, True), (False, True)]


@shows("enabled.error")
async def test_app_that_refuses_to_be_enabled_is_disabled(appapi_host: TestHost) -> None:
    app = ExApp()

    @app.enabled
    async def switched(enabled: bool) -> str:
        return "i can't handle enabling"

    with pytest.raises(RefusedError, match="i can't handle enabling"):
        await appapi_host.install(app)
    (record,) = await appapi_host.host.registry.apps()
    assert (record.state, record.enabled) == (State.DISABLED, False)
    assert app.is_enabled is not True


@shows("enabled.no_init", "unregister.disables")
async def test_app_is_disabled_enabled_and_unregistered(appapi_host: TestHost) -> None:
    app = preparing_app()
    exapp = await appapi_host.install(app)
    await exapp.disable()
    assert app.is_enabled is False
    assert not exapp.enabled
    await exapp.enable()
    assert app.is_enabled is True
    await exapp.unregister()
    assert exapp.received == [
        *HANDSHAKE,
        "PUT /enabled?enabled=0",
        "GET /heartbeat",
        "PUT /enabled?enabled=1",
        "PUT /enabled?enabled=0",
    ]
    assert await appapi_host.host.registry.apps() == []


@shows("auth.disabled", "ocs.unknown")
async def test_disabled_app_may_ask_only_for_its_state(appapi_host: TestHost) -> None:
    app = ExApp()
    exapp = await appapi_host.install(app)
    with pytest.raises(OCSError) as unknown:
        await app.nextcloud.ocs("GET", "/apps/app_api/api/v1/nothing")
    assert unknown.value.statuscode == 998
    await exapp.disable()
    assert await app.nextcloud.state() is False
    with pytest.raises(OCSError) as refused:
        await app.nextcloud.users()
    assert refused.value.statuscode == 997


@shows("init.stopped")
async def test_app_stopped_during_init_says_so(appapi_host: TestHost) -> None:
    app = ExApp()

    @app.init
    async def prepare(progress: Progress) -> None:
        await progress.set(10)
        await anyio.sleep_forever()

    exapp = await appapi_host.install(app, wait_finish=False)
    with anyio.fail_after(20):
        await appapi_host.host.registry.wait(
            exapp.app_id, lambda app: app is not None and app.status.init == 10
        )
    await appapi_host.stop(exapp)
    record = await exapp.wait_until(State.FAILED)
    assert record.status.error
    assert record.status.init == 10


@shows("storage.survives")
async def test_app_has_a_folder_of_its_own_that_an_update_keeps(appapi_host: TestHost) -> None:
    app = ExApp()
    found: list[list[str]] = []

    @app.init
    def prepare(progress: Progress) -> None:
        folder = app.settings.persistent_storage
        assert folder is not None
        found.append([path.name for path in folder.iterdir()])
        (folder / "model.bin").write_text("big")

    exapp = await appapi_host.install(app)
    await appapi_host.host.update(replace(DEFAULT_INFO, version="2.0.0"))
    assert found == [[], ["model.bin"]]
    assert exapp.received[-3:] == HANDSHAKE[1:]
