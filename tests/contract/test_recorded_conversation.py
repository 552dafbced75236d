"""What a real client said to a real Nextcloud, said to our host: all 646 exchanges, in order.

Times and random ids cannot be equal, and neither can what describes that server. Everything else
is: status, headers, envelope, keys and their order, types, values. `PARDONED` lists what is not,
with the reason; nothing else may differ.
"""

import json
import re
import sys
from collections.abc import Callable
from typing import Any, Final

import anyio
import httpx

from appapi_host.asgi import create_app
from appapi_host.host import Host
from appapi_host.records import AppRecord, User
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.lifecycle import State
from exapp_sdk.protocol.status import Status
from tests.host.web_stage import DAEMON, wire_rows

ROWS = wire_rows("exapp-to-host.jsonl")

_ENABLED = {"state": State.ENABLED, "enabled": True}
# The two apps of that server, with the times that it noted.
APPS = [
    AppRecord(
        "app-skeleton-python",
        "3.0.3",
        "App Skeleton",
        DAEMON,
        9030,
        Secret("another"),
        status=Status(
            deploy=100, init=100, type="", deploy_start_time=1795177938, init_start_time=1795177950
        ),
        **_ENABLED,
    ),
    AppRecord(
        "nc_py_api",
        "1.0.0",
        "nc_py_api",
        DAEMON,
        9009,
        Secret("12345"),
        status=Status(
            deploy=100, init=100, type="", deploy_start_time=1795178028, init_start_time=1795178028
        ),
        **_ENABLED,
    ),
]

Change = Callable[[Any], Any]


def _sent(data: Any) -> Any:
    """Notifications without the second in which they were sent."""
    if isinstance(data, dict) and "datetime" in data:
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", data["datetime"])
        return {**data, "datetime": "…"}
    return [_sent(item) for item in data] if isinstance(data, list) else data


def _described(data: Any) -> Any:
    """Users without when they signed in, where their files are, and how many they have."""
    if not isinstance(data, dict) or "storageLocation" not in data:
        return data
    for name in ("firstLoginTimestamp", "lastLoginTimestamp", "lastLogin"):
        assert isinstance(data[name], int)
    assert isinstance(data["storageLocation"], str)
    assert isinstance(data["quota"]["used"], int)
    return {
        **data,
        "firstLoginTimestamp": 0,
        "lastLoginTimestamp": 0,
        "lastLogin": 0,
        "storageLocation": "…",
        "quota": {**data["quota"], "used": 0},
    }


# Part of a target → why answers to it differ, and what is left out before they are compared.
BY_NATURE: Final[dict[str, tuple[str, Change]]] = {
    "/notification": ("the time of sending", _sent),
    "/cloud/user": ("times of signing in, and a folder with files of that server", _described),
}

# Numbers of rows → why they differ as a whole. Each is looked at below.
PARDONED: Final[dict[int, str]] = {
    0: "capabilities describe that server and the apps on it",
    635: "the message is a query of that server's database",
    645: "the message is a query of that server's database",
}


def unlike(row: dict[str, Any], answer: httpx.Response) -> list[str]:
    """What differs, in words; the times of that day and its server are left out."""
    found = []
    if answer.status_code != row["status"]:
        found.append(f"status {answer.status_code}, not {row['status']}")
    recorded = {name.lower(): value for name, value in row["response_headers"]}
    answered = dict(answer.headers.items())
    for name in ("etag", "content-length"):  # of bodies that hold a time
        if (name in recorded) != (name in answered):
            found.append(f"header {name}")
        recorded.pop(name, None)
        answered.pop(name, None)
    if answered != recorded:
        found.append(f"headers {answered}, not {recorded}")
    if not row["response_body"]:
        return [*found, "a body"] if answer.content else found
    changes = [change for part, (_, change) in BY_NATURE.items() if part in row["target"]]
    if not changes:
        # Byte for byte: the order of keys, how characters are escaped, 1 or true.
        if answer.text != row["response_body"]:
            found.append(f"{answer.text}, not {row['response_body']}")
        return found
    ours, theirs = answer.json()["ocs"], json.loads(row["response_body"])["ocs"]
    for change in changes:
        ours["data"], theirs["data"] = change(ours["data"]), change(theirs["data"])
    if json.dumps(ours) != json.dumps(theirs):
        found.append(f"{json.dumps(ours)}, not {json.dumps(theirs)}")
    return found


async def conversation() -> list[tuple[dict[str, Any], httpx.Response]]:
    """Every row with the answer of a fresh host."""
    settings = HostSettings(port=8091)  # as that server: its address stands in some answers
    async with Host.open(settings) as host:
        await host.registry.add_user(User("admin", "admin", is_admin=True))
        await host.register_daemon(DAEMON)
        for app in APPS:
            await host.registry.add_app(app)
        transport = httpx.ASGITransport(create_app(host))
        async with httpx.AsyncClient(transport=transport, base_url=settings.url) as client:
            return [
                (
                    row,
                    await client.request(
                        row["method"],
                        row["target"],
                        headers=[(name, value) for name, value in row["request_headers"]],
                        content=row["request_body"],
                    ),
                )
                for row in ROWS
            ]


async def test_all_but_a_few_of_the_recorded_exchanges_are_equal() -> None:
    with anyio.fail_after(50):
        answers = await conversation()
    differing = {
        number: words
        for number, (row, answer) in enumerate(answers)
        if (words := unlike(row, answer))
    }
    summary = f"{len(answers) - len(differing)} of {len(answers)} recorded exchanges are equal"
    sys.stdout.write(f"{summary}\n")
    for number, words in differing.items():
        row = ROWS[number]
        sys.stdout.write(f"{number} {row['method']} {row['target']} {'; '.join(words)}\n")
    assert set(differing) == set(PARDONED), summary
    assert len(answers) - len(differing) == 643


async def test_pardoned_rows_have_the_recorded_codes_and_shapes() -> None:
    with anyio.fail_after(50):
        answers = await conversation()
    for number in PARDONED:
        row, answer = answers[number]
        ours, theirs = answer.json()["ocs"], json.loads(row["response_body"])["ocs"]
        assert answer.status_code == row["status"]
        assert ours["meta"]["statuscode"] == theirs["meta"]["statuscode"]
        assert ours.keys() == theirs.keys()
        assert type(ours["data"]) is type(theirs["data"])
