"""Who can sign in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from appapi_host.errors import AlreadyExistsError, NotFoundError
from appapi_host.records import User
from appapi_host.registry import Registry
from appapi_host.users import Users, hash_password, verify_password

CHEAP = 2


@asynccontextmanager
async def users() -> AsyncIterator[tuple[Users, Registry]]:
    with anyio.fail_after(10):
        async with await Registry.open(None) as registry:
            yield Users(registry), registry


async def test_on_loopback_the_default_users_have_their_names_as_passwords() -> None:
    async with users() as (people, registry):
        assert await people.create_defaults(loopback=True) == {}
        admin = await people.authenticate("admin", "admin")
        assert admin
        assert admin.is_admin
        user = await people.authenticate("user", "user")
        assert user
        assert not user.is_admin
        before = await registry.users()
        await people.create_defaults(loopback=True)
        assert await registry.users() == before, "a second start changes nothing"


async def test_elsewhere_passwords_are_made_up_anew_at_each_start_and_told() -> None:
    async with users() as (people, _):
        first = await people.create_defaults(loopback=False)
        assert set(first) == {"admin", "user"}
        assert await people.authenticate("admin", "admin") is None
        assert await people.authenticate("admin", first["admin"])
        second = await people.create_defaults(loopback=False)
        assert not set(first.values()) & set(second.values())
        assert await people.authenticate("admin", second["admin"])
        assert await people.authenticate("admin", first["admin"]) is None, "nor from the cache"


async def test_public_passwords_do_not_survive_being_reachable_by_others() -> None:
    async with users() as (people, _):
        await people.create_defaults(loopback=True)
        assert await people.authenticate("admin", "admin")
        told = await people.create_defaults(loopback=False)
        assert await people.authenticate("admin", "admin") is None
        assert await people.authenticate("admin", told["admin"])
        assert await people.create_defaults(loopback=True) == {}
        assert await people.authenticate("admin", "admin")


@pytest.mark.parametrize("loopback", [True, False])
async def test_a_password_that_a_person_set_stays(*, loopback: bool) -> None:
    async with users() as (people, registry):
        await people.create_defaults(loopback=False)
        chosen = User("admin", "Me", hash_password("chosen", cost=4), is_admin=True)
        await registry.replace_user(chosen)
        assert "admin" not in await people.create_defaults(loopback=loopback)
        assert await people.authenticate("admin", "chosen") == chosen


async def test_wrong_unknown_and_absurd_are_all_nobody() -> None:
    async with users() as (people, registry):
        await people.create_defaults(loopback=True)
        await registry.add_user(User("no_password"))
        assert await people.authenticate("admin", "wrong") is None
        assert await people.authenticate("admin", "") is None
        assert await people.authenticate("nobody", "nobody") is None
        assert await people.authenticate("no_password", "") is None
        assert await people.authenticate("admin", "\udcff") is None
        assert await people.authenticate("admin", "x" * 10_000) is None


async def test_a_disabled_user_cannot_sign_in_even_with_a_remembered_password() -> None:
    async with users() as (people, registry):
        await people.create_defaults(loopback=True)
        admin = await people.authenticate("admin", "admin")
        assert admin
        await registry.replace_user(replace(admin, is_enabled=False))
        assert await people.authenticate("admin", "admin") is None


async def test_a_right_password_is_remembered_until_it_is_changed() -> None:
    async with users() as (people, registry):
        alice = User("alice", password_hash=hash_password("one", cost=CHEAP))
        await registry.add_user(alice)
        assert await people.authenticate("alice", "one")
        # A hash that can never be verified: only memory can say yes, and it must not.
        await registry.replace_user(replace(alice, password_hash="changed"))
        assert await people.authenticate("alice", "one") is None
        await registry.replace_user(alice)
        assert await people.authenticate("alice", "one")


async def test_memory_is_bounded() -> None:
    async with users() as (people, registry):
        for number in range(300):
            user_id = f"user{number}"
            stored = hash_password("x", cost=CHEAP)
            await registry.add_user(User(user_id, password_hash=stored))
            assert await people.authenticate(user_id, "x")
        assert len(people._cache) == 256
        assert await people.authenticate("user0", "x"), "forgotten, so verified again"


def test_a_hash_verifies_its_own_password_only_and_is_never_the_same_twice() -> None:
    first, second = hash_password("päss wörd", cost=CHEAP), hash_password("päss wörd", cost=CHEAP)
    assert first != second
    assert first.startswith("scrypt$n=2,r=8,p=1$")
    assert verify_password("päss wörd", first)
    assert not verify_password("pass word", first)


@pytest.mark.parametrize(
    "stored",
    ["", "plain", "a$b$c$d", "scrypt$n=3,r=8,p=1$AAAA$AAAA", "scrypt$n=2,r=8,p=1$A$A", "$$$"],
)
def test_a_hash_that_cannot_be_read_verifies_nothing(stored: str) -> None:
    assert not verify_password("", stored)


def test_another_algorithm_is_not_taken_for_ours() -> None:
    assert not verify_password("x", hash_password("x", cost=CHEAP).replace("scrypt", "bcrypt"))


async def test_groups_know_their_members_and_admin_is_always_there() -> None:
    async with await Registry.open(None) as registry:
        users = Users(registry)
        await registry.add_user(User("boss", is_admin=True))
        await registry.add_user(User("alice"))
        await users.add_group("staff", display_name="Staff")
        await users.add_member("staff", "boss")
        await users.add_member("staff", "alice")
        await users.add_member("staff", "alice")
        assert await users.groups() == {"admin": ["boss"], "staff": ["alice", "boss"]}
        await users.add_member("admin", "alice")
        assert await users.groups_of("alice") == ["admin", "staff"]
        await users.remove("boss")
        assert await users.groups() == {"admin": ["alice"], "staff": ["alice"]}
        assert await registry.user("boss") is None


@pytest.mark.parametrize("group_id", ["admin", "staff"])
async def test_a_group_is_made_once(group_id: str) -> None:
    async with await Registry.open(None) as registry:
        users = Users(registry)
        await users.add_group("staff")
        with pytest.raises(AlreadyExistsError):
            await users.add_group(group_id)


async def test_nobody_is_put_where_nothing_is() -> None:
    async with await Registry.open(None) as registry:
        users = Users(registry)
        await registry.add_user(User("alice"))
        with pytest.raises(NotFoundError, match="no group 'staff'"):
            await users.add_member("staff", "alice")
        with pytest.raises(NotFoundError, match="no user 'bob'"):
            await users.add_member("admin", "bob")
        with pytest.raises(NotFoundError, match="no user 'bob'"):
            await users.remove("bob")


async def test_a_default_user_who_was_deleted_does_not_come_back() -> None:
    async with await Registry.open(None) as registry:
        users = Users(registry)
        await users.create_defaults(loopback=True)
        await users.remove("user")
        await users.create_defaults(loopback=True)
        assert [user.user_id for user in await registry.users()] == ["admin"]
