"""Documents and values: what apps keep on the host."""

from pathlib import Path

import pytest

from appapi_host.documents import Documents, DocumentStore
from appapi_host.errors import HostError, NotFoundError
from appapi_host.registry import Registry
from appapi_host.values import KEY_FILE, Values
from tests.host.web_stage import APP, DAEMON


async def test_number_of_a_document_is_kept_and_never_given_out_again() -> None:
    async with await Registry.open(None) as registry:

        def work(documents: Documents) -> list[int]:
            first = documents.put("menu", "a", "one", {"x": 1}).id
            again = documents.put("menu", "a", "one", {"x": 2}).id
            documents.delete("menu", "a", ["one", "one", "none"])
            return [
                first,
                again,
                documents.put("menu", "a", "one", {}).id,
                documents.put("form", "a", "one", {}).id,
                documents.add("menu", "b", {}).id,
            ]

        assert await DocumentStore(registry).write(work) == [1, 1, 2, 1, 3]
        found = await DocumentStore(registry).read(lambda documents: documents.find("menu"))
        assert [(one.id, one.app_id, one.name) for one in found] == [
            (2, "a", "one"),
            (3, "b", "#3"),
        ]


async def test_documents_are_found_by_label() -> None:
    async with await Registry.open(None) as registry:

        def work(documents: Documents) -> list[list[int]]:
            first = documents.add("task", "a", {}, label="scheduled")
            documents.add("task", "a", {}, label="scheduled")
            documents.replace(first, {"n": 1}, label="running")
            return [
                [one.id for one in documents.find("task", label=label)]
                for label in ("scheduled", "running")
            ]

        assert await DocumentStore(registry).write(work) == [[2], [1]]


async def test_nothing_is_written_when_the_work_fails() -> None:
    async with await Registry.open(None) as registry:

        def work(documents: Documents) -> None:
            documents.add("task", "a", {})
            raise NotFoundError("no")

        with pytest.raises(NotFoundError):
            await DocumentStore(registry).write(work)
        assert await DocumentStore(registry).read(lambda documents: documents.find("task")) == []


async def test_unregistered_app_leaves_its_values_and_nothing_else() -> None:
    async with await Registry.open(None) as registry:
        values = Values(DocumentStore(registry))
        await registry.add_daemon(DAEMON)
        await registry.add_app(APP)
        await values.set("nc_py_api", "k", "v")
        await values.set("nc_py_api", "k", "v", user_id="user")
        await DocumentStore(registry).write(
            lambda documents: documents.put("top-menu", "nc_py_api", "main", {})
        )
        await DocumentStore(registry).write(
            lambda documents: documents.put("top-menu", "neighbour", "main", {})
        )
        await registry.remove_app("nc_py_api")
        assert [value.text for value in await values.get("nc_py_api")] == ["v"]
        assert [value.text for value in await values.get("nc_py_api", user_id="user")] == ["v"]
        left = await DocumentStore(registry).read(lambda documents: documents.find("top-menu"))
        assert [one.app_id for one in left] == ["neighbour"]


async def test_values_are_sorted_and_those_of_users_are_apart() -> None:
    async with await Registry.open(None) as registry:
        values = Values(DocumentStore(registry))
        for key in ("b", "a"):
            await values.set("app", key, key)
            await values.set("app", key, f"of user {key}", user_id="user")
        assert [value.text for value in await values.get("app", ["b", "a", "b", "c"])] == ["a", "b"]
        assert [value.text for value in await values.get("app", user_id="user")] == [
            "of user a",
            "of user b",
        ]
        assert await values.get("app", [], user_id="user") == []
        assert await values.delete("app", ["a", "c"]) == 1
        assert [value.text for value in await values.get("app")] == ["b"]


async def test_sensitive_value_is_nowhere_in_clear_and_survives_a_restart(tmp_path: Path) -> None:
    path, key_file = tmp_path / "data" / "state.sqlite3", tmp_path / "data" / KEY_FILE
    async with await Registry.open(path) as registry:
        stored = await Values(DocumentStore(registry), key_file).set(
            "app", "token", "s3cr3t-é", is_sensitive=True
        )
        assert "s3cr3t" not in repr(stored)
    assert key_file.stat().st_mode & 0o777 == 0o600
    for file in path.parent.iterdir():
        assert b"s3cr3t" not in file.read_bytes()
    async with await Registry.open(path) as registry:
        [value] = await Values(DocumentStore(registry), key_file).get("app", ["token"])
        assert (value.text, value.is_sensitive) == ("s3cr3t-é", True)


async def test_flag_is_kept_unless_it_is_given() -> None:
    async with await Registry.open(None) as registry:
        values = Values(DocumentStore(registry))

        async def flags() -> tuple[str, bool]:
            [value] = await values.get("app", ["k"])
            return value.text, value.is_sensitive

        await values.set("app", "k", "1")
        assert await flags() == ("1", False)
        await values.set("app", "k", "2", is_sensitive=True)
        await values.set("app", "k", "3")
        assert await flags() == ("3", True)
        await values.set("app", "k", "4", is_sensitive=False)
        assert await flags() == ("4", False)


async def test_lost_or_wrong_key_is_named_with_a_way_out(tmp_path: Path) -> None:
    key_file = tmp_path / KEY_FILE
    async with await Registry.open(tmp_path / "state.sqlite3") as registry:
        await Values(DocumentStore(registry), key_file).set("app", "token", "x", is_sensitive=True)
        key_file.unlink()
        with pytest.raises(HostError, match="cannot be used") as lost:
            await Values(DocumentStore(registry), key_file).get("app")
        assert "put the right file back" in lost.value.remedy
        await Values(DocumentStore(registry), key_file).set("app", "other", "y", is_sensitive=True)
        with pytest.raises(HostError, match="'token' cannot be decrypted"):
            await Values(DocumentStore(registry), key_file).get("app")
        key_file.write_text("no key")
        with pytest.raises(HostError, match="cannot be used"):
            await Values(DocumentStore(registry), key_file).get("app")
