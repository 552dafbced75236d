"""What happens, told to those who listen."""

import json
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from appapi_host.happenings import Happening
from tests.host.listening import listening
from tests.host.web_stage import EchoApp, WebStage, web_stage

PATH = "/apps/webhook_listeners/api/v1/webhooks"
CREATED = "OCP\\Files\\Events\\Node\\NodeCreatedEvent"
HOOK = {"httpMethod": "PUT", "uri": "/hook?x=1", "event": CREATED}
WRITTEN = Happening.of_node("NodeCreatedEvent", "/user/files/ä.txt", number=7, user_id="user")


async def register(s: WebStage, **changed: Any) -> int:
    return int((await s.data("POST", PATH, json=HOOK | changed))["id"])


async def test_app_gets_the_payload_signed_by_who_did_it() -> None:
    app = EchoApp()
    async with web_stage(app) as s:
        await register(s, headers={"X-My": "1", "Content-Type": "application/json"})
        [delivery] = await s.host.webhooks.deliver(WRITTEN)
        assert (delivery.is_success, delivery.app_id, delivery.number) == (True, "nc_py_api", 1)
    [received] = app.received
    assert (received["method"], received["path"], received["query"]) == ("PUT", "/hook", "x=1")
    assert json.loads(received["body"]) == {
        "event": {"class": CREATED, "node": {"id": 7, "path": "/user/files/ä.txt"}},
        "user": {"uid": "user", "displayName": "User"},
        "time": WRITTEN.time,
    }
    assert app.header("authorization-app-api") == ["dXNlcjoxMjM0NQ=="]
    assert app.header("aa-request-id") == ["CLI"]
    assert app.header("x-my") == ["1"]
    assert app.header("content-type") == ["application/json"]


async def test_nothing_says_what_the_body_is_unless_the_app_wants_it() -> None:
    app = EchoApp()
    async with web_stage(app) as s:
        await register(s)
        await s.host.webhooks.deliver(Happening(CREATED, {}))
        assert app.header("content-type") == []
        assert json.loads(app.received[0]["body"])["user"] is None
        assert app.header("authorization-app-api") == ["OjEyMzQ1"]


async def test_headers_that_authenticate_are_sent_and_none_replaces_ours() -> None:
    app = EchoApp()
    async with web_stage(app) as s:
        await register(
            s,
            headers={"X-Key": "shown", "EX-APP-ID": "other", "Host": "elsewhere"},
            authMethod="header",
            authData={"X-Key": "s3cr3t"},
        )
        await s.host.webhooks.deliver(WRITTEN)
        assert app.header("x-key") == ["s3cr3t"]
        assert app.header("ex-app-id") == ["nc_py_api"]
        assert app.header("host") == ["localhost:9009"]
        # What authenticates is not used unless that is asked for.
        await s.data("POST", f"{PATH}/1", json=HOOK | {"authData": {"X-Key": "s3cr3t"}})
        await s.host.webhooks.deliver(WRITTEN)
        assert app.header("x-key") == []


@pytest.mark.parametrize(
    ("changed", "is_wanted"),
    [
        ({"eventFilter": {"user.uid": "user"}}, True),
        ({"eventFilter": {"user.uid": "bob"}}, False),
        ({"userIdFilter": "user"}, True),
        ({"userIdFilter": "bob"}, False),
    ],
)
async def test_only_what_is_wanted_is_sent(changed: dict[str, Any], is_wanted: bool) -> None:
    app = EchoApp()
    async with web_stage(app) as s:
        await register(s, **changed)
        [delivery] = await s.host.webhooks.deliver(WRITTEN)
        assert delivery.is_wanted is is_wanted
        assert bool(delivery.note) is not is_wanted
        assert len(app.received) == is_wanted
        assert await s.host.webhooks.deliver(Happening("OCP\\Other", {})) == []


async def test_user_filter_wants_nobodys_doings() -> None:
    async with web_stage(EchoApp()) as s:
        await register(s, userIdFilter="user")
        [delivery] = await s.host.webhooks.deliver(Happening(CREATED, {}))
        assert not delivery.is_wanted


async def test_replaced_registration_listens_to_the_new_event() -> None:
    app = EchoApp()
    async with web_stage(app) as s:
        await register(s)
        other = {"event": CREATED.replace("Created", "Deleted")}
        await s.data("POST", f"{PATH}/1", json=HOOK | other)
        assert await s.host.webhooks.deliver(WRITTEN) == []
        gone = Happening.of_node("NodeDeletedEvent", "/user/files/a")
        assert (await s.host.webhooks.deliver(gone))[0].is_success
        assert json.loads(app.received[0]["body"])["event"]["node"] == {"path": "/user/files/a"}


async def test_events_arrive_in_the_order_in_which_they_happened() -> None:
    app = EchoApp()
    async with web_stage(app) as s:
        await register(s)
        for number in range(20):
            data = {"node": {"id": number}}
            s.host.webhooks.happened(Happening(CREATED, data, "user"))
        with anyio.fail_after(20):
            while len(app.received) < 20:
                await anyio.lowlevel.checkpoint()
        numbers = [json.loads(one["body"])["event"]["node"]["id"] for one in app.received]
        assert numbers == list(range(20))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"uri": "no-address"}, "it is neither a path"),
        ({"uri": "ftp://127.0.0.1/x"}, "it is neither a path"),
        ({"uri": "http://127.0.0.1:1/x"}, "no connection"),
        ({"uri": "http://[::1/x"}, "the address is malformed"),
        ({"uri": "http://127.0.0.1:99999999/x"}, "the address is malformed"),
        ({"headers": {"X-My": "a\nb"}}, "its header 'X-My' cannot be sent"),
        ({"headers": {"X My": "a"}}, "its header 'X My' cannot be sent"),
        ({"headers": {"X-My": "ä"}}, "its header 'X-My' cannot be sent"),
        ({"eventFilter": {"a": {"$like": 1}}}, "its filter cannot be evaluated"),
    ],
)
async def test_what_cannot_be_sent_is_told(changed: dict[str, Any], reason: str) -> None:
    async with web_stage(EchoApp()) as s:
        await register(s, **changed)
        [delivery] = await s.host.webhooks.deliver(WRITTEN)
        assert reason in delivery.note
        assert reason in s.notices()[-1]
        assert not delivery.is_success


async def test_filter_that_takes_for_ever_lets_nothing_through() -> None:
    app = EchoApp()
    async with web_stage(app) as s:
        await register(s, eventFilter={"event.node.path": "/(a+)+$/"})
        await register(s, eventFilter={"event.node.path": {"$not": {"$e": "/(a+)+$/"}}})
        node = Happening.of_node("NodeCreatedEvent", f"/{'a' * 5000}!", user_id="user")
        for delivery in await s.host.webhooks.deliver(node):
            assert not delivery.is_success
            assert (
                "its filter cannot be evaluated: the regular expression (a+)+$ took more than"
                in (delivery.note)
            )
        assert (app.received, len(s.notices())) == ([], 2)


async def test_refusal_of_the_app_is_told_and_not_tried_again() -> None:
    app = EchoApp(status=500)
    async with web_stage(app) as s:
        await register(s)
        s.host.webhooks.happened(WRITTEN)
        with anyio.fail_after(20):
            while not s.notices():
                await anyio.lowlevel.checkpoint()
        assert s.notices() == ["webhook 1, PUT /hook?x=1: answered 500"]
        assert len(app.received) == 1


async def test_disabled_app_is_not_told() -> None:
    app = EchoApp()
    async with web_stage(app) as s:
        await register(s)
        await s.change_app(enabled=False)
        [delivery] = await s.host.webhooks.deliver(WRITTEN)
        assert delivery.note == "the app is not enabled"
        assert app.received == []


async def test_secret_of_another_key_is_an_error_of_that_webhook() -> None:
    app = EchoApp()
    async with web_stage(app) as s:
        await register(s, authMethod="header", authData={"X-Key": "s3cr3t"})
        await register(s)
        await s.host.documents.write(
            lambda documents: documents.replace(
                (hook := documents.find("webhook")[0]),
                {**hook.content, "authData": "nonsense"},
                label=hook.label,
            )
        )
        first, second = await s.host.webhooks.deliver(WRITTEN)
        assert "cannot be decrypted" in first.note
        assert second.is_success


async def test_two_nodes_are_source_and_target() -> None:
    app = EchoApp()
    async with web_stage(app) as s:
        event = CREATED.replace("Created", "Renamed")
        await register(s, event=event)
        renamed = Happening.of_two_nodes(
            "NodeRenamedEvent", "/user/files/a", "/user/files/b", target_number=9, user_id="user"
        )
        await s.host.webhooks.deliver(renamed, app_id="other")
        await s.host.webhooks.deliver(renamed, app_id="nc_py_api")
        [received] = app.received
        assert json.loads(received["body"])["event"] == {
            "class": event,
            "source": {"path": "/user/files/a"},
            "target": {"id": 9, "path": "/user/files/b"},
        }


@pytest.mark.parametrize("user_id", ["", "admin"])
async def test_address_elsewhere_gets_no_signature(user_id: str) -> None:
    with listening() as (url, told):
        async with web_stage() as s:
            given = HOOK | {"httpMethod": "POST", "uri": f"{url}/x?y", "headers": {"X-My": "1"}}
            await s.data("POST", PATH, json=given, user_id=user_id)
            [delivery] = await s.host.webhooks.deliver(WRITTEN)
            assert delivery.is_success, delivery.note
            assert s.exchanges()[-1].target == f"{url}/x?y"
    [(method, path, headers, body)] = told
    assert (method, path, headers["x-my"]) == ("POST", "/x?y", "1")
    assert json.loads(body)["user"]["uid"] == "user"
    assert not [name for name in headers if name.startswith(("aa-", "ex-app", "auth"))]


FILE_EVENTS = ("Created", "Written", "Touched", "Deleted", "Renamed", "Copied", "Restored", "Read")
DAV = "/remote.php/dav"


async def test_what_users_do_to_their_files_is_told_in_order() -> None:
    app = EchoApp()
    async with web_stage(app) as s:
        for kind in FILE_EVENTS:
            for before in ("", "Before"):
                event = CREATED.replace("NodeCreated", f"{before}Node{kind}")
                await register(s, event=event, uri="/all")
        for kind in ("Assigned", "Unassigned"):
            await register(s, event=f"OCP\\SystemTag\\Tag{kind}Event", uri="/all")

        async def told(count: int) -> list[tuple[str, dict[str, Any]]]:
            """What came in, each as the short name of the event and its nodes."""
            with anyio.fail_after(20):
                while len(app.received) < count:
                    await anyio.lowlevel.checkpoint()
            found = []
            for one in app.received:
                body = json.loads(one["body"])
                assert body["user"]["uid"] == "user"
                event = body["event"]
                name = event.pop("class").rpartition("\\")[2].removesuffix("Event")
                nodes = (
                    {key: (node.get("id"), node["path"]) for key, node in event.items()}
                    if ("Tag" not in name)
                    else event
                )
                found.append((name, nodes))
            app.received.clear()
            return sorted(found, key=lambda pair: pair[0])

        async def dav(method: str, path: str, **options: Any) -> Any:
            answer = await s.client.request(
                method, f"{DAV}{path}", auth=("user", "user"), **options
            )
            assert answer.status_code < 300, answer.text
            return answer

        await dav("PUT", "/files/user/a.txt", content=b"one")
        number = (await s.host.files.node("user", "a.txt")).fileid
        path = "/user/files/a.txt"
        assert await told(4) == [
            ("BeforeNodeCreated", {"node": (None, path)}),
            ("BeforeNodeWritten", {"node": (None, path)}),
            ("NodeCreated", {"node": (number, path)}),
            ("NodeWritten", {"node": (number, path)}),
        ]
        await dav("PUT", "/files/user/a.txt", content=b"two")
        await dav("GET", "/files/user/a.txt")
        assert await told(3) == [
            ("BeforeNodeRead", {"node": (number, path)}),
            ("BeforeNodeWritten", {"node": (number, path)}),
            ("NodeWritten", {"node": (number, path)}),
        ]
        headers = {"Destination": f"{DAV}/files/user/b.txt"}
        await dav("MOVE", "/files/user/a.txt", headers=headers)
        moved = "/user/files/b.txt"
        assert await told(2) == [
            ("BeforeNodeRenamed", {"source": (number, path), "target": (None, moved)}),
            ("NodeRenamed", {"source": (None, path), "target": (number, moved)}),
        ]
        headers = {"Destination": f"{DAV}/files/user/c.txt"}
        await dav("COPY", "/files/user/b.txt", headers=headers)
        copy = (await s.host.files.node("user", "c.txt")).fileid
        copied = "/user/files/c.txt"
        assert await told(6) == [
            ("BeforeNodeCopied", {"source": (number, moved), "target": (None, copied)}),
            ("BeforeNodeCreated", {"node": (None, copied)}),
            ("BeforeNodeWritten", {"node": (None, copied)}),
            ("NodeCopied", {"source": (number, moved), "target": (copy, copied)}),
            ("NodeCreated", {"node": (copy, copied)}),
            ("NodeWritten", {"node": (copy, copied)}),
        ]
        await dav("DELETE", "/files/user/c.txt")
        assert await told(2) == [
            ("BeforeNodeDeleted", {"node": (copy, copied)}),
            ("NodeDeleted", {"node": (None, copied)}),
        ]
        # A folder is created and written, too.
        await dav("MKCOL", "/files/user/d")
        assert [name for name, _ in await told(4)] == [
            "BeforeNodeCreated",
            "BeforeNodeWritten",
            "NodeCreated",
            "NodeWritten",
        ]
        time = (
            '<d:propertyupdate xmlns:d="DAV:"><d:set><d:prop>'
            "<d:lastmodified>1700000000</d:lastmodified></d:prop></d:set></d:propertyupdate>"
        )
        await dav("PROPPATCH", "/files/user/b.txt", content=time)
        assert await told(2) == [
            ("BeforeNodeTouched", {"node": (number, moved)}),
            ("NodeTouched", {"node": (number, moved)}),
        ]
        [trashed] = await anyio.to_thread.run_sync((await s.host.files.store()).trashed, "user")
        headers = {"Destination": f"{DAV}/trashbin/user/restore/c.txt"}
        await dav("MOVE", f"/trashbin/user/trash/{trashed[1].name}", headers=headers)
        source = f"/user/files_trashbin/files/{trashed[1].name}"
        assert await told(2) == [
            ("BeforeNodeRestored", {"source": (copy, source), "target": (None, copied)}),
            ("NodeRestored", {"source": (copy, source), "target": (copy, copied)}),
        ]
        tag = {"name": "red", "userVisible": True, "userAssignable": True}
        answer = await dav("POST", "/systemtags/", json=tag)
        label = int(answer.headers["content-location"].rpartition("/")[2])
        await dav("PUT", f"/systemtags-relations/files/{number}/{label}")
        await dav("DELETE", f"/systemtags-relations/files/{number}/{label}")
        data = {"objectType": "files", "objectIds": [str(number)], "tagIds": [label]}
        assert await told(2) == [("TagAssigned", data), ("TagUnassigned", data)]
