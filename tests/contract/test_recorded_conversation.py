"""What a real client said to a real Nextcloud, said to our host: all 646 exchanges, in order.

Most answers are equal byte for byte, headers included. `BY_NATURE` lists what cannot be, each with
its reason and with what is compared nevertheless; nothing else may differ.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

BEGAN = 1795178049.0
"""Where the clock of that server stood when the recording began, unix seconds."""

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

# How the capabilities differ: what this host has otherwise, or not at all, with the reason.
CAPABILITIES: Final[dict[str, str]] = {
    "/activity": "is not served",
    "/circles": "is not served",
    "/core/mod-rewrite-working": "addresses without index.php work here",
    "/core/reference-api": "is not served",
    "/dav/absence-replacement": "is not served",
    "/dav/absence-supported": "is not served",
    "/dav/bulkupload": "is not served",
    "/dav/public_shares_chunking": "is not served",
    "/downloadlimit": "is not served",
    "/files/$comment": "is words about another one",
    "/files/comments": "is not served",
    "/files/directEditing": "is not served",
    "/files/file_conversions": "is not served",
    "/files/version_labeling": "is not served",
    "/files_sharing": "is not served",
    "/notifications/admin-notifications": "is not served",
    "/notifications/ocs-endpoints": "not all are served",
    "/notifications/push": "is not served",
    "/ocm": "is not served",
    "/password_policy": "is not served",
    "/recommendations": "is not served",
    "/spreed": "Talk is always here, and was not there",
    "/theming/background": "there is no picture here",
    "/theming/background-plain": "there is no picture here",
    "/user_status/restore": "is not served",
    "/weather_status": "is not served",
}


def _without_that_server(answer: Any) -> Any:
    """A user without when they signed in, where their files are, and how many they have."""
    data = answer["data"]
    for name in ("firstLoginTimestamp", "lastLoginTimestamp", "lastLogin"):
        assert isinstance(data.pop(name), int)
    assert isinstance(data.pop("storageLocation"), str)
    assert isinstance(data["quota"].pop("used"), int)
    return answer


def _without_query_of_database(answer: Any) -> Any:
    assert answer["meta"].pop("message")
    return answer


def _without_other_capabilities(answer: Any) -> Any:
    """The capabilities that both have, in the order of their names."""
    capabilities = answer["data"]["capabilities"]
    for path in CAPABILITIES:
        _, section, *name = path.split("/")
        (capabilities.get(section, {}) if name else capabilities).pop((name or [section])[0], None)
    answer["data"]["capabilities"] = dict(sorted(capabilities.items()))
    return answer


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs by nature in the answers to some requests.

    Args:
        target: pattern of their targets.
        reason: why.
        left_out: takes an answer, and returns it without that.
        headers: those that follow from it.
    """

    target: str
    reason: str
    left_out: Callable[[Any], Any]
    headers: tuple[str, ...] = ()


BY_NATURE: Final = (
    Difference(
        r"/cloud/(user|users/admin)\?",
        "times of signing in, and a folder with files of that server",
        _without_that_server,
        ("content-length",),
    ),
    Difference(
        r"/webhooks/\d+\?",
        "the message is a query of that server's database",
        _without_query_of_database,
        ("content-length",),
    ),
    Difference(
        r"/cloud/capabilities\?",
        "what that server has, and this host does not",
        _without_other_capabilities,
        ("content-length", "etag"),
    ),
)


def unlike(row: dict[str, Any], answer: httpx.Response, left_out: Difference | None) -> list[str]:
    """What differs, in words."""
    found = []
    if answer.status_code != row["status"]:
        found.append(f"status {answer.status_code}, not {row['status']}")
    recorded = {name.lower(): value for name, value in row["response_headers"]}
    answered = dict(answer.headers.items())
    for name in left_out.headers if left_out else ():
        if (name in recorded) != (name in answered):
            found.append(f"header {name}")
        recorded.pop(name, None)
        answered.pop(name, None)
    if answered != recorded:
        found.append(f"headers {answered}, not {recorded}")
    ours, theirs = answer.text, row["response_body"]
    if left_out:
        # Still with the order of keys, types and values of all that is left.
        ours, theirs = (
            json.dumps(left_out.left_out(json.loads(text)["ocs"])) for text in (ours, theirs)
        )
    if ours != theirs:
        found.append(f"{ours}, not {theirs}")
    return found


async def conversation() -> list[tuple[dict[str, Any], httpx.Response]]:
    """Every row with the answer of a fresh host."""
    settings = HostSettings(port=8091)  # as that server: its address stands in some answers
    clock = BEGAN
    async with Host.open(settings, now=lambda: clock) as host:
        await host.registry.add_user(User("admin", "admin", is_admin=True))
        await host.register_daemon(DAEMON)
        for app in APPS:
            await host.registry.add_app(app)
        transport = httpx.ASGITransport(create_app(host))
        async with httpx.AsyncClient(transport=transport, base_url=settings.url) as client:
            answers = []
            for row in ROWS:
                clock = BEGAN + row["at_s"]
                answer = await client.request(
                    row["method"],
                    row["target"],
                    headers=[(name, value) for name, value in row["request_headers"]],
                    content=row["request_body"],
                )
                answers.append((row, answer))
            return answers


async def test_the_recorded_exchanges_are_equal() -> None:
    with anyio.fail_after(50):
        answers = await conversation()
    exact, by_nature, differing = 0, Counter[str](), {}
    for number, (row, answer) in enumerate(answers):
        words = unlike(row, answer, None)
        if not words:
            exact += 1
            continue
        for difference in BY_NATURE:
            if re.search(difference.target, row["target"]):
                by_nature[difference.reason] += 1
                words = unlike(row, answer, difference)
        if words:
            differing[number] = words
    summary = f"{exact} of {len(answers)} recorded exchanges are equal byte for byte"
    sys.stdout.write(f"{summary}, {by_nature.total()} but for:\n")
    for reason, count in by_nature.items():
        sys.stdout.write(f"{count:5} {reason}\n")
    for number, words in differing.items():
        row = ROWS[number]
        sys.stdout.write(f"{number} {row['method']} {row['target']} {'; '.join(words)}\n")
    assert differing == {}
    assert (exact, by_nature.total()) == (637, 9)
    assert by_nature.keys() == {difference.reason for difference in BY_NATURE}


async def test_capabilities_differ_in_nothing_that_is_not_listed() -> None:
    with anyio.fail_after(50):
        (row, answer), *_ = await conversation()
    ours, theirs = (
        json.loads(text)["ocs"]["data"]["capabilities"]
        for text in (answer.text, row["response_body"])
    )
    assert set(unlike_parts(ours, theirs)) == set(CAPABILITIES)


def unlike_parts(ours: dict[str, Any], theirs: dict[str, Any], path: str = "") -> Iterator[str]:
    for name in {**ours, **theirs}:
        one, other = ours.get(name), theirs.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from unlike_parts(one, other, f"{path}/{name}")
        elif name not in ours or name not in theirs or one != other:
            yield f"{path}/{name}"
