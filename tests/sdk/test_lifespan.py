"""Starting and stopping: the app's own lifespan, its author's, and those of mounted apps."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from exapp_sdk import ConfigError, ExApp, LocalProtocolError, Progress
from exapp_sdk.testing import running, signed_headers
from tests.sdk.stage import (
    AS_ALICE,
    ENVIRON,
    SETTINGS,
    SIGNED,
    RecordingHost,
    asking,
    started,
)


async def test_running_gives_the_app_with_its_settings() -> None:
    app = ExApp()
    async with running(app, settings=SETTINGS) as same:
        assert same is app
        assert app.settings is SETTINGS


async def test_settings_come_from_the_environment_when_the_app_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = ExApp()
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    async with running(app):
        assert app.settings == SETTINGS
        monkeypatch.setenv("APP_VERSION", "9.9.9")
        assert app.settings.app_version == "1.4.0"
    async with running(app):
        assert app.settings.app_version == "9.9.9"


async def test_a_missing_environment_fails_the_start_with_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ENVIRON:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="APP_ID is not set; APP_SECRET is not set"):
        async with running(ExApp()):
            pass
    sent = await lifespan_messages(ExApp())
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert sent[0]["message"].startswith("APP_ID is not set")
    assert "Traceback" not in sent[0]["message"]


async def lifespan_messages(app: Any) -> list[Message]:
    """What an app answers to a server that starts and at once stops it."""
    sent: list[Message] = []
    kinds = ["lifespan.startup", "lifespan.shutdown"]

    async def receive() -> Message:
        return {"type": kinds.pop(0)}

    async def send(message: Message) -> None:
        sent.append(message)

    with suppress(ConfigError):
        await app({"type": "lifespan"}, receive, send)
    return sent


async def test_the_authors_lifespan_surrounds_everything() -> None:
    order: list[str] = []
    began = anyio.Event()

    @asynccontextmanager
    async def lifespan(app: ExApp) -> AsyncIterator[None]:
        order.append(f"opened for {app.settings.app_id}")
        assert app.nextcloud
        yield
        order.append("closed")

    app = ExApp(lifespan=lifespan)

    @app.init
    async def prepare(progress: Progress) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            order.append("init ended")

    async with started(app) as client:
        await client.post("/init", headers=SIGNED)
        await began.wait()
    assert order == ["opened for notes_ai", "init ended", "closed"]


async def test_an_author_who_cannot_start_is_told_so() -> None:
    @asynccontextmanager
    async def lifespan(app: ExApp) -> AsyncIterator[None]:
        raise RuntimeError(f"no database for {SETTINGS.app_secret.reveal()}")
        yield

    app = ExApp(settings=SETTINGS, lifespan=lifespan)
    with pytest.raises(LocalProtocolError, match="RuntimeError: no database") as caught:
        async with running(app):
            pass
    assert "s3cr3t" not in str(caught.value)


async def test_an_author_who_cannot_stop_is_told_so() -> None:
    @asynccontextmanager
    async def lifespan(app: ExApp) -> AsyncIterator[None]:
        yield
        raise RuntimeError("cannot close")

    with pytest.raises(RuntimeError, match="cannot close"):
        async with running(ExApp(settings=SETTINGS, lifespan=lifespan)):
            pass


async def test_an_app_does_not_run_twice_at_the_same_time() -> None:
    app = ExApp(settings=SETTINGS)
    async with running(app):
        with pytest.raises(LocalProtocolError, match="runs already"):
            async with running(app):
                pass
        async with asking(app) as client:
            assert (await client.get("/heartbeat")).status_code == 200


async def test_an_app_can_be_started_again_and_knows_nothing_then() -> None:
    app = ExApp()
    for _ in range(2):
        async with started(app) as client:
            assert app.is_enabled is None
            await client.put("/enabled?enabled=1", headers=SIGNED)
            assert app.is_enabled is True


# Mounted applications


async def test_lifespans_of_mounted_applications_are_run() -> None:
    order: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        order.append("opened")
        yield {"session": "from the lifespan"}
        order.append("closed")

    async def show(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.state.session)

    app = ExApp()
    app.mount("/mcp", Starlette(lifespan=lifespan, routes=[Route("/", show)]))
    async with started(app) as client:
        assert order == ["opened"]
        answer = await client.get("/mcp/", headers=AS_ALICE)
        assert answer.text == "from the lifespan"
    assert order == ["opened", "closed"]


async def test_a_mounted_application_that_cannot_start_fails_the_start() -> None:
    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no licence"})

    app = ExApp()
    app.mount("/api", refuses)
    with pytest.raises(LocalProtocolError, match="no licence"):
        async with running(app, settings=SETTINGS):
            pass


async def test_applications_without_a_lifespan_are_simply_there() -> None:
    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"

    async with running(plain) as same:
        assert same is plain


async def test_a_shutdown_that_an_application_refuses_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "still busy"})

    async with running(stubborn):
        pass
    assert "still busy" in caplog.text


async def test_errors_of_the_block_come_out_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError):
        async with running(ExApp(), settings=SETTINGS):
            raise ZeroDivisionError


async def test_errors_on_both_sides_come_out_together() -> None:
    async def crashes(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise RuntimeError("in the application")

    with pytest.raises(ExceptionGroup) as caught:
        async with running(crashes):
            raise ValueError("in the block")
    kinds = {type(error) for error in caught.value.exceptions}
    assert kinds == {RuntimeError, ValueError}


# Signing


async def test_signed_headers_let_a_test_in() -> None:
    app = ExApp()
    app.get("/me")(lambda request: request.user.identity)
    transport = RecordingHost().transport
    async with running(app, settings=SETTINGS, transport=transport), asking(app) as client:
        answer = await client.get("/me", headers=signed_headers(SETTINGS, "bob"))
        assert answer.text == "bob"
        await app.nextcloud.users()
