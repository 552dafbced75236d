"""Filters of webhooks: the examples of Nextcloud's manual, and what else its evaluation does."""

from typing import Any

import pytest

from appapi_host.webhook_filters import matches

PAYLOAD: dict[str, Any] = {
    "event": {
        "class": "OCP\\Files\\Events\\Node\\NodeCreatedEvent",
        "node": {"id": 437, "path": "/bob/files/Special folder/a.txt"},
        "tagIds": [3, 17],
        "shares": [{"href": "mailto:alice"}, {"href": "mailto:carol"}],
        "nothing": None,
    },
    "user": {"uid": "bob", "displayName": "Bob"},
    "time": 1700100000,
}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, True),
        ({"user.uid": "bob"}, True),
        ({"user.uid": "alice"}, False),
        ({"user.uid": "bob", "event.node.id": 437}, True),
        ({"user.uid": "bob", "event.node.id": 438}, False),
        ({"event.node.id": "437"}, False),  # equality is strict
        ({"event.class": "OCP\\Files\\Events\\Node\\NodeCreatedEvent"}, True),
        ({"user.uid": "/b.b/"}, True),
        ({"user.uid": "/^B/"}, False),
        ({"user.uid": "/^B/i"}, True),
        ({"event.node.path": "/^\\/.*\\/files\\/Special folder\\//"}, True),
        ({"event.node.path": "/bob/files/Special folder/a.txt"}, True),
        ({"event.node.id": "/^43/"}, True),
        ({"time": {"$lt": 1711971024}}, True),
        ({"time": {"$not": {"$lt": 1711971024}}}, False),
        ({"time": {"$gt": 1700000000, "$lte": 1700100000}}, True),
        ({"time": {"$gte": "1700100001"}}, False),
        ({"user.uid": {"$gt": "anna"}}, True),
        ({"user.uid": {"$gt": 5}}, False),
        ({"user": {"$lt": 5}}, False),
        ({"event.node.id": {"$exists": True}}, True),
        ({"event.node.size": {"$exists": True}}, False),
        ({"event.node.size": {"$exists": False}}, True),
        ({"event.nothing": {"$exists": True}}, False),
        ({"user.uid.deeper": {"$exists": True}}, False),
        ({"user.uid": {"$e": "bob"}}, True),
        ({"user.uid": {"$ne": "bob"}}, False),
        ({"user.gid": {"$ne": "bob"}}, True),
        ({"user.gid": {"$ne": None}}, False),
        ({"user.uid": {"$in": ["alice", "bob"]}}, True),
        ({"user.uid": {"$in": []}}, False),
        ({"event.node.id": {"$in": ["437"]}}, True),
        ({"event.tagIds": {"$in": [17]}}, True),
        ({"event.tagIds": {"$nin": [17]}}, False),
        ({"user.gid": {"$nin": ["x"]}}, True),
        ({"event.tagIds": {"$all": [3, 17]}}, True),
        ({"event.tagIds": {"$all": [3, 4]}}, False),
        ({"user.uid": {"$all": ["bob"]}}, True),
        ({"user.uid": {"$all": []}}, False),
        ({"event.tagIds": 17}, True),
        ({"event.shares.href": "mailto:carol"}, True),
        ({"event.shares.href": "mailto:dave"}, False),
        ({"event.node.id": {"$mod": [2, 1]}}, True),
        ({"user.uid": {"$mod": [2, 1]}}, False),
        ({"$or": [{"user.uid": "alice"}, {"event.node.id": 437}]}, True),
        ({"$or": [{"user.uid": "alice"}]}, False),
        ({"$and": [{"user.uid": "bob"}, {"event.node.id": 1}]}, False),
        ({"$nor": [{"user.uid": "alice"}]}, True),
        ({"$nor": [{"user.uid": "bob"}]}, False),
        ({"$not": {"user.uid": "bob"}}, False),
        ({"$or": [[{"user.uid": "bob"}, {"event.node.id": 437}]]}, True),
    ],
)
def test_filter_decides(query: dict[str, Any], expected: bool) -> None:
    assert matches(query, PAYLOAD) is expected


def test_nobody_has_no_id() -> None:
    assert not matches({"user.uid": "bob"}, {**PAYLOAD, "user": None})


@pytest.mark.parametrize(
    "query",
    [
        {"user.uid": {"$like": "b"}},
        {"user.gid": {"$like": "b"}},
        {"$xor": [{}]},
        {"$or": []},
        {"$or": {"user.uid": "bob"}},
        {"$and": ["text"]},
        {"$not": 5},
        {"user.uid": ["bob"]},
        {"user.uid": {"$in": "bob"}},
        {"user.uid": {"$all": "bob"}},
        {"time": {"$mod": 2}},
        {"time": {"$mod": [0, 1]}},
        {"user.uid": "/(/"},
        {"event.node.path": "/bob/files/x"},  # the original never finds it, and says nothing
    ],
)
def test_nonsense_is_told(query: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        matches(query, PAYLOAD)
