"""Nonsense, to every route that there is: nothing breaks that the host did not expect."""

import json
import logging
import random
import re
from typing import Any

import pytest

from appapi_host.ocs import FAMILIES
from appapi_host.ocs._endpoints import Endpoint
from appapi_host.settings import HostSettings
from tests.host.web_stage import WebStage, signed, web_stage

# Without those that wait for the app, which nobody runs here.
WAITING = ("/enabled", "/status", "/status/{appId}")
ENDPOINTS = [
    endpoint
    for family in FAMILIES
    for endpoint in family.endpoints
    if not endpoint.path.endswith(WAITING)
]

SCALARS: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63,
    -(10**30),
    0.5,
    1e308,
    "",
    " ",
    "x",
    "1",
    "é\U0001f600",
    "\x00\x1f",
    "a" * 300,
    "%2e%2e",
    "{doc}",
    "OCP\\Files\\Events\\Node\\NodeCreatedEvent",
    "none",
    "text",
    "core:text2text",
    "dnd",
]
KEYS = [
    "id",
    "name",
    "type",
    "object",
    "object_id",
    "subject_type",
    "subject_params",
    "rich_subject",
    "rich_subject_params",
    "rich_message",
    "rich_message_params",
    "task_type",
    "expected_runtime",
    "optional_input_shape",
    "optional_output_shape",
    "input_shape_enum_values",
    "shape_type",
    "fields",
    "section_type",
    "doc",
    "0",
    "",
]


def value(dice: random.Random, depth: int = 0) -> Any:
    kind = dice.random()
    if depth > 3 or kind < 0.6:
        return dice.choice(SCALARS)
    if kind < 0.75:
        return [value(dice, depth + 1) for _ in range(dice.randrange(4))]
    return {dice.choice(KEYS): value(dice, depth + 1) for _ in range(dice.randrange(8))}


def fitting(dice: random.Random, kind: type) -> Any:
    """Mostly of the right type, so that more than the parameters is tried."""
    if dice.random() < 0.25:
        return value(dice)
    if kind is dict:
        return {key: value(dice, 1) for key in dice.sample(KEYS, dice.randrange(len(KEYS)))}
    if kind is list:
        return [value(dice, 2) for _ in range(dice.randrange(3))]
    if kind in (int, float):
        return dice.choice([0, 1, 2, 0.5, 100, -5])
    return dice.choice([one for one in SCALARS if isinstance(one, str)])


def path_of(dice: random.Random, endpoint: Endpoint) -> str:
    segments = ["1", "2", "nc_py_api", "admin", "x", "%00", "%C3%A9", "-1", "9" * 40]
    return re.sub(r"\{\w+(:path)?\}", lambda _: dice.choice(segments), endpoint.path)


async def send(s: WebStage, dice: random.Random, endpoint: Endpoint) -> None:
    given = {
        parameter.wire_name: fitting(dice, parameter.kind)
        for parameter in endpoint.parameters
        if dice.random() < 0.9
    }
    options: dict[str, Any] = {"headers": signed(dice.choice(["admin", "admin", "user", ""]))}
    form = dice.random()
    if form < 0.1:
        options["data"] = {name: str(one) for name, one in given.items()}
    elif form < 0.2:
        options["params"] = {name: str(one) for name, one in given.items()}
    else:
        options["content"] = json.dumps(given)
        options["headers"]["content-type"] = "application/json"
    url = f"/ocs/v{dice.choice([1, 2])}.php{path_of(dice, endpoint)}"
    options["headers"]["accept"] = dice.choice(["application/json", "application/xml"])
    response = await s.client.request(endpoint.method, url, **options)
    # 996 is how nonsense is refused; it is 500 in the second version.
    assert response.status_code in (200, 201, 204, 400, 401, 403, 404, 412, 413, 500)


@pytest.mark.parametrize("version", [32, 35])
async def test_nonsense_is_refused_and_never_breaks_an_endpoint(
    version: int, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(version)
    settings = HostSettings(nextcloud_version=version)
    with caplog.at_level(logging.ERROR, logger="appapi_host.ocs._routing"):
        async with web_stage(settings=settings) as s:
            for _ in range(1500):
                await send(s, dice, dice.choice(ENDPOINTS))
                s.events.clear()
    broken = {record.getMessage(): record.exc_text or record.exc_info for record in caplog.records}
    assert broken == {}
