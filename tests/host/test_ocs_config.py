"""Configuration and preferences, beyond what was recorded."""

from typing import Any

import pytest

from appapi_host.settings import HostSettings
from tests.host.web_stage import meta, web_stage

CONFIG = "/apps/app_api/api/v1/ex-app/config"
PREFERENCE = "/apps/app_api/api/v1/ex-app/preference"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (5, "5"),
        (2.5, "2.5"),
        (2.0, "2"),
        (True, "1"),
        (False, ""),
        (None, ""),
        ({"a": 1}, "Array"),
        ([1], "Array"),
        ("é", "é"),
    ],
)
async def test_value_becomes_the_text_that_php_makes_of_it(given: Any, read: str) -> None:
    async with web_stage() as s:
        stored = await s.data("POST", CONFIG, json={"configKey": "k", "configValue": given})
        assert stored["configvalue"] == read
        [found] = await s.data("POST", f"{CONFIG}/get-values", json={"configKeys": ["k"]})
        assert found == {"configkey": "k", "configvalue": read}


async def test_null_for_an_existing_key_is_answered_with_null() -> None:
    async with web_stage() as s:
        await s.data("POST", CONFIG, json={"configKey": "k", "configValue": "v"})
        stored = await s.data("POST", CONFIG, json={"configKey": "k", "configValue": None})
        assert stored["configvalue"] is None
        [found] = await s.data("POST", f"{CONFIG}/get-values", json={"configKeys": ["k"]})
        assert found["configvalue"] == ""


@pytest.mark.parametrize("base", [CONFIG, PREFERENCE])
async def test_empty_keys_and_wrong_types_are_refused(base: str) -> None:
    async with web_stage() as s:
        given = {"configKey": "", "configValue": "v"}
        found = await s.refusal("POST", base, json=given, user_id="user")
        assert found == (400, "Config key cannot be empty")
        given = {"configKey": " ", "configValue": "v"}
        assert (await s.data("POST", base, json=given, user_id="user"))["configkey"] == " "
        for verb, path in (("POST", f"{base}/get-values"), ("DELETE", base)):
            code, _ = await s.refusal(verb, path, json={"configKeys": "k"}, user_id="user")
            assert code == 996
        assert (await s.refusal("POST", base, json={}, user_id="user"))[0] == 996


async def test_preferences_need_a_user_and_are_theirs() -> None:
    async with web_stage() as s:
        given = {"configKey": "k", "configValue": "v"}
        assert (await s.refusal("POST", PREFERENCE, json=given))[0] == 997
        await s.data("POST", PREFERENCE, json=given, user_id="user")
        asked = {"configKeys": ["k"]}
        assert await s.data("POST", f"{PREFERENCE}/get-values", json=asked, user_id="admin") == []
        assert await s.data("POST", f"{CONFIG}/get-values", json=asked) == []


async def test_sensitive_value_is_read_in_clear_and_stays_sensitive() -> None:
    async with web_stage() as s:
        given = {"configKey": "k", "configValue": 7, "sensitive": 1}
        assert (await s.data("POST", CONFIG, json=given))["sensitive"] == 1
        stored = await s.data("POST", CONFIG, json={"configKey": "k", "configValue": "new"})
        assert stored["sensitive"] == 1
        [found] = await s.data("POST", f"{CONFIG}/get-values", json={"configKeys": ["k"]})
        assert found["configvalue"] == "new"


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (32, ("No appconfig_ex values deleted", "No preferences_ex values deleted")),
        (35, ("No app config values deleted", "No user config values deleted")),
    ],
)
async def test_words_for_nothing_deleted_are_those_of_the_version(
    version: int, words: tuple[str, str]
) -> None:
    async with web_stage(settings=HostSettings(nextcloud_version=version)) as s:
        for base, message in zip((CONFIG, PREFERENCE), words, strict=True):
            response = await s.ocs("DELETE", base, json={"configKeys": []}, user_id="user")
            assert meta(response) == (404, message)
