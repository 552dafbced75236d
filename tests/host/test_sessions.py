"""Who stays signed in, and for how long."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from appapi_host.records import User
from appapi_host.registry import Registry
from appapi_host.sessions import (
    LIFETIME,
    Sessions,
    cookies,
    is_valid_token,
    request_token,
)

USER = User("jane", "Jane", password_hash="scrypt$1")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(path: Path | None = None) -> AsyncIterator[tuple[Sessions, Registry, Clock]]:
    clock = Clock()
    async with await Registry.open(path) as registry:
        if await registry.user("jane") is None:
            await registry.add_user(USER)
        yield Sessions(registry, now=clock), registry, clock


async def rows(registry: Registry) -> list[tuple[object, ...]]:
    return await registry.read(
        lambda connection: [tuple(row) for row in connection.execute("SELECT * FROM sessions")]
    )


async def test_session_is_its_users_until_it_ends() -> None:
    async with opened() as (sessions, _, _clock):
        token = await sessions.begin(USER)
        other = await sessions.begin(USER)
        assert token != other
        assert await sessions.user(token) == USER
        await sessions.end(token)
        assert await sessions.user(token) is None
        assert await sessions.user(other) == USER
        await sessions.end("unknown")


async def test_session_outlives_the_process(tmp_path: Path) -> None:
    async with opened(tmp_path / "state.db") as (sessions, _, _clock):
        token = await sessions.begin(USER)
    async with opened(tmp_path / "state.db") as (sessions, _, _clock):
        assert await sessions.user(token) == USER


async def test_session_has_a_last_day_and_is_then_forgotten() -> None:
    async with opened() as (sessions, registry, clock):
        token = await sessions.begin(USER)
        clock.now += LIFETIME - 1
        assert await sessions.user(token) == USER
        clock.now += 1
        assert await sessions.user(token) is None
        await sessions.begin(USER)
        assert len(await rows(registry)) == 1


@pytest.mark.parametrize("change", [{"password_hash": "scrypt$2"}, {"is_enabled": False}])
async def test_session_ends_with_the_password_and_the_users_right_to_sign_in(
    change: dict[str, object],
) -> None:
    async with opened() as (sessions, registry, _):
        token = await sessions.begin(USER)
        await registry.replace_user(replace(USER, **change))  # type: ignore[arg-type]  # of a table
        assert await sessions.user(token) is None


async def test_session_of_somebody_deleted_is_nobodys() -> None:
    async with opened() as (sessions, registry, _):
        token = await sessions.begin(USER)
        await registry.write(lambda connection: connection.execute("DELETE FROM users"))
        assert await sessions.user(token) is None


@pytest.mark.parametrize("token", ["", "x", "x" * 1000, "\udcff"])
async def test_made_up_token_is_nobodys(token: str) -> None:
    async with opened() as (sessions, _, _clock):
        assert await sessions.user(token) is None


async def test_what_is_stored_lets_nobody_in() -> None:
    async with opened() as (sessions, registry, _):
        token = await sessions.begin(USER)
        stored = str(await rows(registry))
        assert token not in stored
        assert USER.password_hash not in stored


def test_request_token_belongs_to_one_secret() -> None:
    token, another = request_token("secret"), request_token("secret")
    assert token != another
    assert is_valid_token("secret", token)
    assert is_valid_token("secret", another)
    assert not is_valid_token("other", token)
    assert not is_valid_token("", request_token(""))


@pytest.mark.parametrize("token", ["", ":", "x", "ü\udcff:", "YWJj:YWJj", "YWJj:YQ==", "YWJj:a"])
def test_made_up_request_token_is_not_valid(token: str) -> None:
    assert not is_valid_token("secret", token)


def test_cookies_are_read_in_order() -> None:
    assert cookies('a=1; b="2";c; a=x=y') == [("a", "1"), ("b", "2"), ("c", ""), ("a", "x=y")]
