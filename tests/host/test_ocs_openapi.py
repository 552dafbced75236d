"""The host describes its own OCS API, and what it says is so."""

import re

import pytest

from appapi_host.ocs import FAMILIES
from appapi_host.settings import HostSettings
from tests.host.web_stage import web_stage

PATH = "/ocs/openapi.json"
CONFIG = "/apps/app_api/api/v1/ex-app/config"


@pytest.mark.parametrize("version", [32, 35])
async def test_every_endpoint_is_described_once(version: int) -> None:
    async with web_stage(settings=HostSettings(nextcloud_version=version)) as s:
        answer = await s.client.get(PATH)
        assert answer.headers["content-type"] == "application/json"
        described = answer.json()
        assert (await s.client.get(PATH)).content == answer.content
    operations = {
        (method.upper(), path): operation
        for path, verbs in described["paths"].items()
        for method, operation in verbs.items()
    }
    served = {
        (endpoint.method, endpoint.path.replace(":path}", "}"))
        for family in FAMILIES
        for endpoint in family.endpoints
        if endpoint.rules.since <= version <= endpoint.rules.until
    }
    assert operations.keys() == served
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)
    for (_, path), operation in operations.items():
        placeholders = [one["name"] for one in operation["parameters"] if one.get("in") == "path"]
        assert placeholders == re.findall(r"\{(\w+)\}", path)
        assert operation["summary"]


async def test_parameters_are_those_of_the_function() -> None:
    async with web_stage() as s:
        paths = (await s.client.get(PATH)).json()["paths"]
    body = paths[CONFIG]["post"]["requestBody"]
    assert body["required"] is True
    assert body["content"]["application/json"]["schema"] == {
        "type": "object",
        "properties": {
            "configKey": {"type": "string"},
            "configValue": {},
            "sensitive": {"type": ["integer", "null"]},
        },
        "required": ["configKey"],
    }
    assert paths[CONFIG]["delete"]["parameters"][0] == {
        "name": "configKeys[]",
        "in": "query",
        "required": True,
        "schema": {"type": "array", "items": {}},
    }
    menu = paths["/apps/app_api/api/v1/ui/top-menu"]["post"]
    properties = menu["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert properties["icon"] == {"type": "string", "default": ""}
    [number, _] = paths["/apps/webhook_listeners/api/v1/webhooks/{id}"]["get"]["parameters"]
    assert number["schema"] == {"type": "integer"}
    assert menu["security"] == [{"exAppId": [], "exAppVersion": [], "signature": []}]


async def test_only_what_this_nextcloud_serves_is_described() -> None:
    async with web_stage() as s:
        described = (await s.client.get(PATH)).json()
        assert described["info"]["version"] == "32.0.0"
        assert "/apps/app_api/api/v1/setup_check" not in described["paths"]
        assert b"<statuscode>998<" in (await s.client.post(PATH)).content
