"""Heartbeat, init and enabled as the host calls them. Source: App Installation Flow."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from exapp_sdk import ExApp, OCSError, Progress, Settings
from exapp_sdk.testing import running
from tests.sdk.stage import AS_ALICE, SIGNED, Answer, Call, RecordingHost, asking, started

WIRE = Path(__file__).resolve().parents[1] / "wire" / "host-to-exapp.jsonl"
RECORDED = [json.loads(line) for line in WIRE.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("headers", [{}, SIGNED, AS_ALICE, {"EX-APP-ID": "wrong"}])
async def test_heartbeat_is_answered_to_everybody(headers: dict[str, str]) -> None:
    async with started(ExApp()) as client:
        answer = await client.get("/heartbeat", headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert (await client.head("/heartbeat", headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/heartbeat/", "//heartbeat", "/Heartbeat", "/heartbeat/x"])
async def test_only_the_exact_path_needs_no_authentication(path: str) -> None:
    async with started(ExApp()) as client:
        assert (await client.get(f"http://exapp.test{path}")).status_code == 401


async def test_host_header_has_no_say_in_what_a_path_is() -> None:
    async with started(ExApp()) as client:
        answer = await client.get("/enabled", headers={"Host": "x/heartbeat?"})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/heartbeat", "GET, HEAD"),
        ("GET", "/init", "POST"),
        ("PUT", "/init", "POST"),
        ("GET", "/enabled", "PUT"),
        ("POST", "/enabled", "PUT"),
    ],
)
async def test_other_methods_are_405(method: str, path: str, allowed: str) -> None:
    async with started(ExApp()) as client:
        answer = await client.request(method, path, headers=SIGNED)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert (await client.request(method, path)).status_code == 401


@pytest.mark.parametrize("headers", [AS_ALICE, SIGNED | {"x-origin-ip": "203.0.113.7"}])
async def test_lifecycle_calls_that_a_browser_made_are_refused(headers: dict[str, str]) -> None:
    called: list[object] = []
    app = ExApp()
    app.init(called.append)
    app.enabled(called.append)
    async with started(app) as client:
        for answer in (
            await client.post("/init", headers=headers),
            await client.put("/enabled?enabled=1", headers=headers),
        ):
            assert answer.status_code == 401
            assert answer.json() == {"error": "AppAPI authentication failed"}
    assert called == []
    assert app.is_enabled is None


async def test_requests_recorded_from_appapi_are_answered() -> None:
    app = ExApp()
    app.init(lambda progress: None)
    settings = Settings.from_environ(
        {
            "APP_ID": "nc_py_api",
            "APP_SECRET": "12345",
            "APP_VERSION": "1.0.0",
            "NEXTCLOUD_URL": "http://localhost:8080",
        }
    )
    lifecycle = [row for row in RECORDED if row["target"].startswith(("/heart", "/init", "/ena"))]
    assert len(lifecycle) >= 4
    transport = RecordingHost().transport
    async with running(app, settings=settings, transport=transport), asking(app) as client:
        for row in lifecycle:
            answer = await client.request(
                row["method"], row["target"], headers=row["request_headers"]
            )
            assert answer.status_code == row["status"]
            assert answer.json() == json.loads(row["response_body"])
            assert answer.headers["content-length"] == str(len(row["response_body"]))


# Readiness


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
async def test_heartbeat_handler_decides_about_readiness(ready: bool, status: int) -> None:
    app = ExApp()
    app.heartbeat(lambda: ready)
    async with started(app) as client:
        answer = await client.get("/heartbeat")
    assert answer.status_code == status
    assert answer.json() == {"status": "ok" if ready else "not ready"}


async def test_heartbeat_handler_that_fails_or_forgets_is_not_ready(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = iter([RuntimeError("no database"), None])
    app = ExApp()

    @app.heartbeat
    async def ready() -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with started(app) as client:
        assert (await client.get("/heartbeat")).status_code == 503
        assert (await client.get("/heartbeat")).status_code == 503
    assert "no database" in caplog.text
    assert "returned None, not True or False" in caplog.text


async def test_heartbeat_handler_works_before_the_app_is_started(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = ExApp()

    @app.heartbeat
    def ready() -> bool:
        raise RuntimeError("early")

    async with asking(app) as client:
        assert (await client.get("/heartbeat")).status_code == 503
    assert "early" in caplog.text


# Init


async def test_init_without_a_handler_is_404() -> None:
    async with started(ExApp()) as client:
        assert (await client.post("/init", headers=SIGNED)).status_code == 404


async def test_init_is_answered_at_once_and_reports_in_the_background() -> None:
    host, go_on = RecordingHost(), anyio.Event()
    app = ExApp()

    @app.init
    async def prepare(progress: Progress) -> None:
        await progress.set(40)
        await go_on.wait()

    async with started(app, host=host) as client:
        answer = await client.post("/init", headers=SIGNED)
        assert (answer.status_code, answer.json()) == (200, {})
        await host.until(lambda: len(host.calls) == 1)
        go_on.set()
        await host.until(lambda: len(host.calls) == 2)
    assert host.reports == [{"progress": 40, "error": ""}, {"progress": 100, "error": ""}]


async def test_host_may_call_back_while_100_is_being_answered() -> None:
    app = ExApp()
    app.init(lambda progress: None)
    switched: list[bool] = []
    app.enabled(switched.append)
    seen: list[tuple[str, Any]] = []
    called_back = anyio.Event()

    async def enable(call: Call) -> Answer:
        async with asking(app) as client:
            seen.append(("heartbeat", (await client.get("/heartbeat")).json()))
            answer = await client.put("/enabled?enabled=1", headers=SIGNED)
            seen.append(("enabled", answer.json()))
        called_back.set()
        return Answer()

    host = RecordingHost(enable)
    async with started(app, host=host) as client:
        await client.post("/init", headers=SIGNED)
        with anyio.fail_after(20):
            await called_back.wait()
        assert app.is_enabled is True
    assert seen == [("heartbeat", {"status": "ok"}), ("enabled", {"error": ""})]
    assert switched == [True]


async def test_init_that_fails_is_reported_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    host = RecordingHost()
    app = ExApp()

    @app.init
    async def prepare(progress: Progress) -> None:
        await progress.set(33)
        await host.until(lambda: len(host.calls) == 1)
        raise RuntimeError("model not found")

    async with started(app, host=host) as client:
        await client.post("/init", headers=SIGNED)
        await host.until(lambda: len(host.calls) == 2)
    assert host.reports[-1] == {"progress": 33, "error": "model not found"}
    assert "Traceback" in caplog.text


async def test_init_interrupted_by_shutdown_is_reported() -> None:
    host, began = RecordingHost(), anyio.Event()
    app = ExApp()

    @app.init
    async def prepare(progress: Progress) -> None:
        await progress.set(12)
        began.set()
        await anyio.sleep_forever()

    async with started(app, host=host) as client:
        await client.post("/init", headers=SIGNED)
        await began.wait()
    assert host.reports[-1] == {
        "progress": 12,
        "error": "Initialization was interrupted because the app was stopped.",
    }


async def test_a_second_init_starts_nothing_twice_and_a_later_one_runs_again() -> None:
    host, go_on = RecordingHost(), anyio.Event()
    runs: list[int] = []
    app = ExApp()

    @app.init
    async def prepare(progress: Progress) -> None:
        runs.append(1)
        await go_on.wait()

    async with started(app, host=host) as client:
        for _ in range(3):
            assert (await client.post("/init", headers=SIGNED)).json() == {}
        go_on.set()
        await host.until(lambda: len(host.calls) == 1)
        assert len(runs) == 1
        await anyio.wait_all_tasks_blocked()
        await client.post("/init", headers=SIGNED)
        await host.until(lambda: len(host.calls) == 2)
    assert len(runs) == 2


# Enabled


@pytest.mark.parametrize("query", ["", "?enabled=", "?enabled=2", "?enabled=true", "?on=1"])
async def test_enabled_needs_its_parameter(query: str) -> None:
    app = ExApp()
    async with started(app) as client:
        answer = await client.put(f"/enabled{query}", headers=SIGNED)
        doubled = await client.put("/enabled?enabled=1&enabled=0", headers=SIGNED)
    assert answer.status_code == doubled.status_code == 400
    assert "enabled=1" in answer.json()["error"]
    assert app.is_enabled is None


async def test_app_knows_its_state_only_after_the_handler_has_worked() -> None:
    app = ExApp()
    during: list[tuple[bool, bool | None]] = []

    @app.enabled
    async def switched(enabled: bool) -> None:
        during.append((enabled, app.is_enabled))

    async with started(app) as client:
        assert app.is_enabled is None
        assert (await client.put("/enabled?enabled=1", headers=SIGNED)).json() == {"error": ""}
        assert app.is_enabled is True
        assert (await client.put("/enabled?enabled=0", headers=SIGNED)).json() == {"error": ""}
        assert app.is_enabled is False
    assert during == [(True, None), (False, True)]


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ("no GPU", "no GPU"),
        (RuntimeError("no GPU"), "no GPU"),
        (KeyError("gpu"), "KeyError: 'gpu'"),
        (RuntimeError(), "RuntimeError without a message"),
        (RuntimeError("login with s3cr3t:with-colon failed"), "login with *** failed"),
        ("s3cr3t:with-colon is wrong", "*** is wrong"),
        (RuntimeError("line\nline\n" + "x" * 300), "line line " + "x" * 189 + "…"),
        (ExceptionGroup("both", [ValueError("first"), ValueError("second")]), "first"),
        ("", ""),
        (None, ""),
        (True, ""),
    ],
)
async def test_what_enabled_returns_or_raises_is_its_error(
    result: Any, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = ExApp()

    @app.enabled
    def switched(enabled: bool) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    async with started(app) as client:
        answer = await client.put("/enabled?enabled=1", headers=SIGNED)
    assert (answer.status_code, answer.json()) == (200, {"error": error})
    assert app.is_enabled is (error == "")
    assert "s3cr3t" not in caplog.text


async def test_a_failed_disable_leaves_the_app_disabled() -> None:
    app = ExApp()
    app.enabled(lambda enabled: "" if enabled else "busy")
    async with started(app) as client:
        await client.put("/enabled?enabled=1", headers=SIGNED)
        answer = await client.put("/enabled?enabled=0", headers=SIGNED)
    assert answer.json() == {"error": "busy"}
    assert app.is_enabled is False


async def test_app_may_ask_whether_it_is_enabled() -> None:
    state = 1

    async def tell(call: Call) -> Answer:
        return Answer(data=state)

    app = ExApp()
    async with started(app, host=RecordingHost(tell)):
        assert await app.ask_enabled() is True
        assert app.is_enabled is True
        state = 0
        assert await app.ask_enabled() is False
        assert app.is_enabled is False


async def test_during_init_the_hosts_yes_is_not_taken_for_enabled() -> None:
    began = anyio.Event()
    app = ExApp()

    @app.init
    async def prepare(progress: Progress) -> None:
        began.set()
        await anyio.sleep_forever()

    async def tell(call: Call) -> Answer:
        return Answer(data=1 if call.method == "GET" else [])

    async with started(app, host=RecordingHost(tell)) as client:
        await client.post("/init", headers=SIGNED)
        await began.wait()
        assert await app.ask_enabled() is True
        assert app.is_enabled is None


async def test_a_host_that_does_not_answer_is_no_disabled_one() -> None:
    async def refuse(call: Call) -> Answer:
        return Answer(statuscode=997, status=401)

    app = ExApp()
    async with started(app, host=RecordingHost(refuse)) as client:
        await client.put("/enabled?enabled=1", headers=SIGNED)
        with pytest.raises(OCSError):
            await app.ask_enabled()
        assert app.is_enabled is True
