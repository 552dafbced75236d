"""Files over WebDAV: what each method does, who may, and every way in which one is refused."""

import base64
import io
import tarfile
import zipfile
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from appapi_host.settings import HostSettings
from exapp_sdk.protocol.lifecycle import State
from tests.host.dav_stage import dav_stage, error_of, hrefs
from tests.host.web_stage import raw_request, signed

SABRE = "Sabre\\DAV\\Exception"


# Who may


async def test_app_acts_for_one_user_and_reaches_no_other() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "own.txt", "mine")
        await dav.files.put("user", "secret.txt", "theirs")
        assert (await dav.ask("GET", "own.txt")).content == b"mine"
        for method, path in [
            ("GET", "/files/user/secret.txt"),
            ("PROPFIND", "/files/user/"),
            ("PROPFIND", "/files/user/secret.txt"),
            ("DELETE", "/files/user/secret.txt"),
            ("PROPFIND", "/trashbin/user/trash"),
            ("PROPFIND", "/uploads/user"),
            ("PROPFIND", "/versions/user/versions"),
            ("PROPFIND", "/principals/users/admin"),
        ]:
            assert await dav.status(method, path) == 404, path
        assert await dav.status("PUT", "/files/user/new.txt", content=b"x") == 409
        assert await dav.status("MKCOL", "/files/user/new") == 409
        for method in ("COPY", "MOVE"):
            headers = {"Destination": "/remote.php/dav/files/user/own.txt"}
            assert (await dav.refusal(method, "own.txt", headers=headers))[0] == 403
        assert await dav.listing("/files/") == [
            "/remote.php/dav/files/",
            "/remote.php/dav/files/admin/",
        ]
        assert await dav.files.names("user") == ["secret.txt"]
        dav.user_id = "user"
        assert (await dav.ask("GET", "secret.txt")).content == b"theirs"


@pytest.mark.parametrize(
    ("headers", "note"),
    [
        ({}, "files need a user, and there is none"),
        (signed(""), "files need a user, and there is none"),
        (signed("nobody"), "no user 'nobody'"),
        (signed("gone"), "the user 'gone' is disabled"),
        (signed("admin", ex_app_id="other"), "no app 'other' is registered"),
        (
            signed("admin", authorization_app_api=base64.b64encode(b"admin:x").decode()),
            "AUTHORIZATION-APP-API does not hold the secret of the app",
        ),
        ({"authorization": "Basic YWRtaW46eA=="}, "wrong user or password"),
        ({"authorization": "Bearer x"}, "files need a user, and there is none"),
    ],
)
async def test_others_are_refused_alike(headers: dict[str, str], note: str) -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "a.txt", "1")
        answer = await dav.stage.client.get("/remote.php/dav/files/admin/a.txt", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert error_of(answer)[0] == f"{SABRE}\\NotAuthenticated"
        assert dav.stage.exchanges()[-1].note == note


async def test_disabled_app_is_refused() -> None:
    async with dav_stage() as dav:
        await dav.stage.change_app(enabled=False, state=State.DISABLED)
        assert (await dav.refusal("PROPFIND", ""))[0] == 401


async def test_users_sign_in_with_their_password() -> None:
    async with dav_stage() as dav:
        await dav.files.put("user", "a.txt", "1")
        auth = httpx.BasicAuth("user", "user")
        client = dav.stage.client
        assert (await client.get("/remote.php/dav/files/user/a.txt", auth=auth)).text == "1"
        assert (await client.get("/remote.php/webdav/a.txt", auth=auth)).text == "1"


async def test_session_reads_and_writes_only_with_proof() -> None:
    async with dav_stage() as dav:
        await dav.files.put("user", "a.txt", "1")
        user = await dav.stage.host.registry.user("user")
        assert user
        token = await dav.stage.host.sessions.begin(user)
        cookie = {"Cookie": f"exapp_host_{dav.stage.host.instance}={token}"}
        path, client = "/remote.php/dav/files/user/a.txt", dav.stage.client
        assert (await client.get(path, headers=cookie)).text == "1"
        refused = await client.delete(path, headers=cookie)
        assert (refused.status_code, error_of(refused)[1]) == (401, "CSRF check not passed.")
        proven = cookie | {"OCS-APIRequest": "true"}
        assert (await client.delete(path, headers=proven)).status_code == 204


async def test_repeated_failures_are_refused() -> None:
    async with dav_stage(settings=HostSettings(throttling=True)) as dav:
        wrong = {"authorization-app-api": base64.b64encode(b"admin:x").decode()}
        for _ in range(11):
            assert await dav.status("GET", "a", headers=wrong) == 401
        status, exception, message = await dav.refusal("GET", "a")
        assert (status, message) == (500, "Reached maximum delay")
        assert exception == "OCP\\Security\\Bruteforce\\MaxDelayReached"


# Reading and writing


async def test_upload_says_what_it_made() -> None:
    async with dav_stage() as dav:
        made = await dav.ask("PUT", "a.txt", content=b"one")
        node = await dav.files.node("admin", "a.txt")
        assert made.status_code == 201
        assert made.headers["oc-fileid"] == f"{node.fileid:08d}oc{dav.stage.host.instance[:10]}"
        assert made.headers["oc-etag"] == made.headers["etag"] == f'"{node.etag}"'
        assert made.content == b""
        again = await dav.ask("PUT", "a.txt", content=b"two")
        assert again.status_code == 204
        assert again.headers["oc-fileid"] == made.headers["oc-fileid"]
        assert again.headers["oc-etag"] != made.headers["oc-etag"]


async def test_times_and_checksum_are_kept() -> None:
    async with dav_stage() as dav:
        headers = {"X-OC-MTime": "1675789581", "X-OC-CTime": "1600000000.5", "OC-Checksum": "MD5:0"}
        made = await dav.ask("PUT", "a.txt", content=b"1", headers=headers)
        assert (made.headers["x-oc-mtime"], made.headers["x-oc-ctime"]) == ("accepted", "accepted")
        assert await dav.properties(
            "a.txt", "d:getlastmodified", "nc:creation_time", "d:creationdate", "oc:checksums"
        ) == {
            "d:getlastmodified": "Tue, 07 Feb 2023 17:06:21 GMT",
            "nc:creation_time": "1600000000",
            "d:creationdate": "2020-09-13T12:26:40+00:00",
            "oc:checksums": '<oc:checksum xmlns:oc="http://owncloud.org/ns" xmlns:d="DAV:" '
            'xmlns:s="http://sabredav.org/ns" xmlns:nc="http://nextcloud.org/ns">MD5:0</oc:checksum>',
        }
        folder = await dav.ask("MKCOL", "f", headers={"X-OC-MTime": "1675789581"})
        assert folder.headers["x-oc-mtime"] == "accepted"
        assert (await dav.files.node("admin", "f")).mtime == 1675789581


@pytest.mark.parametrize("value", ["soon", "-5", "0x10", "", "99999999999999999999"])
async def test_times_that_are_none_are_refused(value: str) -> None:
    async with dav_stage() as dav:
        headers = {"X-OC-MTime": value}
        status, _, message = await dav.refusal("PUT", "a.txt", content=b"1", headers=headers)
        assert (status, message.startswith("X-OC-MTime header must be")) == (400, True)
        assert await dav.files.names("admin") == []


@pytest.mark.parametrize(
    ("asked", "status", "content", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=0-1,8-9", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
async def test_ranges(
    asked: str, status: int, content: bytes | None, content_range: str | None
) -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "a.bin", "0123456789")
        answer = await dav.ask("GET", "a.bin", headers={"Range": asked})
        assert (answer.status_code, answer.headers.get("content-range")) == (status, content_range)
        if content is not None:
            assert answer.content == content
            assert answer.headers["content-length"] == str(len(content))


async def test_download_is_never_a_page_of_this_host() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", 'päge "1".html', "<script>")
        answer = await dav.ask("GET", 'päge "1".html')
        assert answer.headers["content-disposition"] == (
            "attachment; filename*=UTF-8''p%C3%A4ge%20%221%22.html; filename=\"p_ge _1_.html\""
        )
        assert answer.headers["content-security-policy"] == "default-src 'none';"
        assert answer.headers["x-content-type-options"] == "nosniff"
        head = await dav.ask("HEAD", 'päge "1".html')
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == "8"
        missing = await dav.ask("HEAD", "nothing")
        assert (missing.status_code, missing.content) == (404, b"")


async def test_conditions() -> None:
    async with dav_stage() as dav:
        etag = (await dav.ask("PUT", "a.txt", content=b"1")).headers["oc-etag"]
        assert await dav.status("GET", "a.txt", headers={"If-None-Match": etag}) == 304
        assert await dav.status("GET", "a.txt", headers={"If-None-Match": '"x"'}) == 200
        put = {"content": b"2"}
        assert await dav.status("PUT", "a.txt", headers={"If-None-Match": "*"}, **put) == 412
        assert await dav.status("PUT", "a.txt", headers={"If-Match": '"x"'}, **put) == 412
        assert await dav.status("PUT", "new.txt", headers={"If-Match": etag}, **put) == 412
        assert await dav.status("DELETE", "a.txt", headers={"If-Match": '"x"'}) == 412
        assert await dav.files.get("admin", "a.txt") == b"1"
        assert await dav.status("PUT", "a.txt", headers={"If-Match": etag}, **put) == 204
        assert await dav.status("PUT", "b.txt", headers={"If-None-Match": "*"}, **put) == 201
        modified = (await dav.ask("GET", "a.txt")).headers["last-modified"]
        assert parsedate_to_datetime(modified)
        headers = {"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}
        assert await dav.status("GET", "a.txt", headers=headers) == 412
        headers = {"Destination": "/remote.php/dav/files/admin/c.txt", "If-Match": '"x"'}
        assert await dav.status("MOVE", "a.txt", headers=headers) == 412


async def test_put_where_no_file_can_be() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "folder/a.txt", "1")
        put = {"content": b"2"}
        assert await dav.refusal("PUT", "folder", **put) == (
            409,
            f"{SABRE}\\Conflict",
            "PUT is not allowed on non-files.",
        )
        for path in ("no/b.txt", "folder/a.txt/b.txt"):
            assert await dav.refusal("PUT", path, **put) == (
                409,
                f"{SABRE}\\Conflict",
                "Files cannot be created in non-existent collections",
            )
            assert (await dav.refusal("MKCOL", path))[0] == 409
        headers = {"Content-Range": "bytes 0-1/2"}
        assert (await dav.refusal("PUT", "c.txt", headers=headers, **put))[0] == 400
        assert await dav.status("MKCOL", "body", content=b"<x/>") == 415


ODD = [
    "a b",
    "ümläut",
    "emoji 🎈",
    "100%",
    "%41",
    "a&b=c;d?e#f",
    "'\"<>",
    "-rf",
    "a\\u0301",
    "x" * 240,
    "..hidden",
    "...",
    "CON",
    "a:b|c*",
    " leading and trailing ",
]


@pytest.mark.parametrize("name", ODD)
async def test_odd_names_survive_every_way(name: str) -> None:
    if "\\" in name:
        name = name.encode().decode("unicode_escape")
    async with dav_stage() as dav:
        path = quote(name)
        assert await dav.status("PUT", path, content=b"1") == 201
        assert await dav.files.names("admin") == [name]
        assert (await dav.ask("GET", path)).content == b"1"
        assert f"/remote.php/dav/files/admin/{name}" in await dav.listing()
        headers = {"Destination": f"http://elsewhere/remote.php/dav/files/admin/{path}2"}
        assert await dav.status("COPY", path, headers=headers) == 201
        assert await dav.files.get("admin", f"{name}2") == b"1"
        assert await dav.status("DELETE", path) == 204
        trashed = await dav.listing("/trashbin/admin/trash")
        assert len(trashed) == 2
        headers = {"Destination": "/remote.php/dav/trashbin/admin/restore/x"}
        below = quote(trashed[1].removeprefix("/remote.php/dav"))
        assert await dav.status("MOVE", below, headers=headers) == 201
        assert await dav.files.get("admin", name) == b"1"


TRAVERSALS = [
    "/remote.php/dav/files/admin/%2e%2e/%2e%2e/index.sqlite3",
    "/remote.php/dav/files/admin/..%2f..%2findex.sqlite3",
    "/remote.php/dav/files/admin/a/../../user/secret.txt",
    "/remote.php/dav/files/%2e%2e/user/files/secret.txt",
    "/remote.php/dav/files/admin/%00",
    "/remote.php/dav/files/admin/a%00b",
    "/remote.php/dav/files/admin/%ff%fe",
    "/remote.php/dav/files/admin/" + "x" * 300,
    "/remote.php/dav/uploads/admin/..%2f..%2fuser",
    "/remote.php/dav/trashbin/admin/trash/..",
    "/remote.php/dav/versions/admin/versions/..",
]


@pytest.mark.parametrize("target", TRAVERSALS)
async def test_paths_that_lead_elsewhere_are_refused(target: str) -> None:
    async with dav_stage() as dav:
        await dav.files.put("user", "secret.txt", "theirs")
        for method in ("GET", "PUT", "PROPFIND", "DELETE", "MKCOL"):
            answer = await raw_request(
                dav.stage.host,
                method,
                target,
                list(signed("admin").items()),
                raw_path=target.encode(),
            )
            assert answer.status == 400, (method, answer.body)
        for method in ("COPY", "MOVE"):
            await dav.files.put("admin", "a.txt", "1")
            headers = [*signed("admin").items(), ("Destination", target)]
            answer = await raw_request(
                dav.stage.host, method, "/remote.php/dav/files/admin/a.txt", headers
            )
            assert answer.status == 400, (method, answer.body)
        assert await dav.files.names("user") == ["secret.txt"]


@pytest.mark.parametrize(
    "name", [".htaccess", "a.part", "b.filepart", "c\\d", "e\x01f", "g\nh", " ", " .. "]
)
async def test_names_that_nextcloud_gives_to_no_file(name: str) -> None:
    async with dav_stage() as dav:
        for method in ("PUT", "MKCOL"):
            status, exception, _ = await dav.refusal(method, quote(name))
            assert (status, exception) == (
                400,
                "OCA\\DAV\\Connector\\Sabre\\Exception\\InvalidPath",
            )
        assert await dav.files.names("admin") == []


# Folders


async def test_depth() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "a/b/c.txt", "1")
        root = "/remote.php/dav/files/admin/"
        one = [root, f"{root}a/"]
        assert await dav.listing("", "0") == [root]
        assert await dav.listing("", "1") == one
        assert await dav.listing("", "infinity") == [*one, f"{root}a/b/", f"{root}a/b/c.txt"]
        assert await dav.listing("", "2") == one  # as the real server takes anything else
        answer = await dav.ask("PROPFIND", "")
        assert hrefs(answer) == one


async def test_names_of_properties() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "a.txt", "1")
        await dav.patch("a.txt", "<d:set><d:prop><x:mine>1</x:mine></d:prop></d:set>")
        body = '<d:propfind xmlns:d="DAV:"><d:propname/></d:propfind>'
        answer = await dav.ask("PROPFIND", "a.txt", content=body)
        for text in ("<oc:fileid/>", "<d:getetag/>", '<x1:mine xmlns:x1="urn:x"/>'):
            assert text in answer.text
        assert "contained-file-count" not in answer.text
        everything = '<d:propfind xmlns:d="DAV:"><d:allprop/></d:propfind>'
        assert (await dav.ask("PROPFIND", "a.txt", content=everything)).text == (
            await dav.ask("PROPFIND", "a.txt")
        ).text


async def test_folders_count_what_is_in_them() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "f/a.txt", "123")
        await dav.files.put("admin", "f/g/b.txt", "4567")
        names = ("oc:size", "d:quota-used-bytes", "d:quota-available-bytes", "nc:is-encrypted")
        counts = ("nc:contained-file-count", "nc:contained-folder-count", "d:getetag")
        before = await dav.properties("f", *names, *counts, "d:getcontentlength")
        etag = before.pop("d:getetag")
        assert before == {
            "oc:size": "7",
            "d:quota-used-bytes": "7",
            "d:quota-available-bytes": "-3",
            "nc:is-encrypted": "0",
            "nc:contained-file-count": "1",
            "nc:contained-folder-count": "1",
            "d:getcontentlength": None,
        }
        await dav.files.put("admin", "f/g/c.txt", "8")
        assert (await dav.properties("f", "d:getetag"))["d:getetag"] != etag
        assert (await dav.properties("", "nc:is-mount-root", "oc:permissions")) == {
            "nc:is-mount-root": "true",
            "oc:permissions": "RGDNVCK",
        }


async def test_folder_as_one_file() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "f/a.txt", "123")
        await dav.files.put("admin", "f/g/ü.bin", bytes(700_000))
        answer = await dav.ask("GET", "f", headers={"Accept": "application/zip"})
        assert answer.headers["content-type"] == "application/zip"
        assert answer.headers["content-disposition"] == 'attachment; filename="f.zip"'
        with zipfile.ZipFile(io.BytesIO(answer.content)) as opened:
            assert opened.testzip() is None
            assert sorted(opened.namelist()) == ["f/a.txt", "f/g/", "f/g/ü.bin"]
        answer = await dav.ask("GET", "f", headers={"Accept": "application/x-tar"})
        with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
            assert sorted(tar.getnames()) == ["f/a.txt", "f/g", "f/g/ü.bin"]
            content = tar.extractfile("f/g/ü.bin")
            assert content
            assert content.read() == bytes(700_000)
        chosen = await dav.ask("GET", 'f?accept=zip&files=["a.txt"]')
        with zipfile.ZipFile(io.BytesIO(chosen.content)) as opened:
            assert opened.namelist() == ["f/a.txt"]
        for files, status in (('["none"]', 404), ("[1]", 400), ("[", 400), ("{}", 404)):
            assert await dav.status("GET", f"f?accept=zip&files={files}") == status
        plain = await dav.ask("GET", "f")
        assert plain.text.startswith("This is the WebDAV interface.")
        head = await dav.ask("HEAD", "f")
        assert (head.status_code, "oc-etag" in head.headers) == (200, True)
        assert await dav.status("HEAD", "/uploads/admin") == 200


# COPY and MOVE


def to(path: str, **headers: str) -> dict[str, dict[str, str]]:
    return {"headers": {"Destination": f"/remote.php/dav/files/admin/{path}"} | headers}


async def test_move_keeps_everything_and_copy_nothing() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "f/a.txt", "1")
        before = await dav.files.node("admin", "f/a.txt")
        await dav.patch(
            "f/a.txt",
            "<d:set><d:prop><oc:favorite>1</oc:favorite><x:mine>2</x:mine></d:prop></d:set>",
        )
        moved = await dav.ask("MOVE", "f", **to("g"))
        assert moved.status_code == 201
        names = ("oc:fileid", "oc:favorite", "x:mine")
        assert await dav.properties("g/a.txt", *names) == {
            "oc:fileid": str(before.fileid),
            "oc:favorite": "1",
            "x1:mine": "2",
        }
        copied = await dav.ask("COPY", "g", **to("h"))
        assert copied.status_code == 201
        assert copied.headers["oc-fileid"] != moved.headers["oc-fileid"]
        found = await dav.properties("h/a.txt", *names)
        assert found.pop("oc:fileid") != str(before.fileid)
        assert found == {"oc:favorite": "0", "x1:mine": None}
        assert await dav.status("COPY", "g", **to("shallow", Depth="0")) == 201
        assert await dav.files.names("admin", "shallow") == []


async def test_what_is_overwritten_goes_to_the_trash() -> None:
    async with dav_stage() as dav:
        for name in ("a", "b", "c"):
            await dav.files.put("admin", f"{name}.txt", name)
        assert await dav.status("MOVE", "a.txt", **to("b.txt")) == 204
        assert await dav.status("COPY", "b.txt", **to("c.txt")) == 204
        assert await dav.files.get("admin", "c.txt") == b"a"
        assert await dav.files.names("admin") == ["b.txt", "c.txt"]
        trash = await dav.listing("/trashbin/admin/trash")
        assert [path.rpartition("/")[2][:5] for path in trash[1:]] == ["b.txt", "c.txt"]


async def test_moves_that_cannot_be() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "f/g/a.txt", "1")
        await dav.files.put("admin", "b.txt", "2")
        moves = {
            "same": ("f", to("f"), 403, "Source and destination uri are identical."),
            "into itself": (
                "f",
                to("f/g/f"),
                409,
                "The destination may not be part of the same subtree as the source path.",
            ),
            "over its parent": ("f/g", to("f"), 409, "The destination may not contain the source."),
            "no folder": ("b.txt", to("no/b.txt"), 409, "The destination node is not found"),
            "in a file": ("f", to("b.txt/f"), 409, "The destination node is not found"),
            "taken": (
                "b.txt",
                to("f", Overwrite="F"),
                412,
                "The destination node already exists, and the overwrite header is set to false",
            ),
            "missing": ("no", to("x"), 404, "File with name /no could not be located"),
            "nowhere": ("b.txt", {}, 400, "The destination header was not supplied"),
            "odd overwrite": (
                "b.txt",
                to("x", Overwrite="maybe"),
                400,
                "The HTTP Overwrite header should be either T or F",
            ),
            "odd depth": (
                "b.txt",
                to("x", Depth="7"),
                400,
                "The HTTP Depth header may only be 0 or infinity",
            ),
            "elsewhere": (
                "b.txt",
                {"headers": {"Destination": "/somewhere/else"}},
                403,
                "Requested uri (/somewhere/else) is out of base uri (/remote.php/dav/)",
            ),
            "no url": (
                "b.txt",
                {"headers": {"Destination": "http://[x"}},
                400,
                "The destination is no URL",
            ),
            "the root": (
                "b.txt",
                to(""),
                403,
                "The destination is not among the files of the user",
            ),
        }
        for source, options, status, message in moves.values():
            for method in ("MOVE", "COPY"):
                found = await dav.refusal(method, source, **options)
                assert (found[0], found[2]) == (status, message)
        assert await dav.listing("", "infinity") == [
            f"/remote.php/dav/files/admin/{path}"
            for path in ("", "b.txt", "f/", "f/g/", "f/g/a.txt")
        ]


async def test_legacy_address() -> None:
    async with dav_stage() as dav:
        headers = signed("admin")
        client, base = dav.stage.client, "/remote.php/webdav"
        assert (await client.put(f"{base}/a.txt", content=b"1", headers=headers)).status_code == 201
        listed = await client.request("PROPFIND", base, headers=headers)
        assert hrefs(listed) == [f"{base}/", f"{base}/a.txt"]
        moved = await client.request(
            "MOVE", f"{base}/a.txt", headers=headers | {"Destination": f"http://x{base}/b.txt"}
        )
        assert moved.status_code == 201
        assert await dav.files.names("admin") == ["b.txt"]
        for path in ("/remote.php/caldav/", "/remote.php/davx"):
            assert (await client.get(path, headers=headers)).status_code == 404


# Properties that clients set


async def test_properties_outlive_a_restart(tmp_path: Path) -> None:
    settings = HostSettings(data_dir=tmp_path)
    async with dav_stage(settings=settings) as dav:
        stored = await dav.files.put("admin", "a.txt", "1")
        answer = await dav.patch(
            "a.txt",
            "<d:set><d:prop><oc:favorite>1</oc:favorite>"
            "<oc:tags><oc:tag>red</oc:tag><oc:tag>big</oc:tag></oc:tags>"
            "<x:deep><x:er/>&lt;b&gt;</x:deep></d:prop></d:set>",
        )
        assert answer.text.count("200 OK") == 1
        await dav.stage.host.registry.remove_app("nc_py_api")
        await dav.stage.host.registry.remove_daemon("manual")
        await dav.stage.host.registry.write(
            lambda connection: connection.execute("DELETE FROM users WHERE user_id = 'gone'")
        )
    async with dav_stage(settings=settings) as dav:
        found = await dav.properties("a.txt", "oc:fileid", "oc:favorite", "oc:tags", "x:deep")
        assert (found["oc:fileid"], found["oc:favorite"]) == (str(stored.fileid), "1")
        assert ">red<" in str(found["oc:tags"])
        assert ">big<" in str(found["oc:tags"])
        assert str(found["x1:deep"]).endswith("&lt;b&gt;") or "er" in str(found["x1:deep"])
        await dav.patch("a.txt", "<d:remove><d:prop><oc:favorite/><x:deep/></d:prop></d:remove>")
        assert await dav.properties("a.txt", "oc:favorite", "x:deep") == {
            "oc:favorite": "0",
            "x1:deep": None,
        }


async def test_property_updates_happen_all_or_not_at_all() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "a.txt", "1")
        answer = await dav.patch(
            "a.txt",
            "<d:set><d:prop><oc:favorite>1</oc:favorite><oc:fileid>5</oc:fileid></d:prop></d:set>",
        )
        assert "<d:prop><oc:fileid/></d:prop><d:status>HTTP/1.1 403 Forbidden" in answer.text
        assert "<d:prop><oc:favorite/></d:prop><d:status>HTTP/1.1 424 " in answer.text
        assert await dav.properties("a.txt", "oc:favorite") == {"oc:favorite": "0"}


async def test_times_are_properties_too() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "a.txt", "1")
        times = "<d:lastmodified>1000000</d:lastmodified><nc:creation_time>5</nc:creation_time>"
        await dav.patch("a.txt", f"<d:set><d:prop>{times}</d:prop></d:set>")
        assert await dav.properties("a.txt", "d:getlastmodified", "nc:creation_time") == {
            "d:getlastmodified": "Mon, 12 Jan 1970 13:46:40 GMT",
            "nc:creation_time": "5",
        }
        soon = "<d:set><d:prop><d:lastmodified>soon</d:lastmodified></d:prop></d:set>"
        assert "409 Conflict" in (await dav.patch("a.txt", soon)).text
        long = f"<d:set><d:prop><x:long>{'x' * 70_000}</x:long></d:prop></d:set>"
        assert "507 " in (await dav.patch("a.txt", long)).text
        assert (await dav.refusal("PROPPATCH", "no", content=b"<x/>"))[0] == 404


# What is not there


async def test_methods_that_nobody_serves() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "a.txt", "1")
        for method in ("LOCK", "UNLOCK", "PATCH", "TRACE", "ACL", "FROBNICATE"):
            status, exception, message = await dav.refusal(method, "a.txt")
            assert (status, exception) == (501, f"{SABRE}\\NotImplemented")
            assert message.endswith(f"was willing to handle this {method} method.")
        assert (await dav.refusal("POST", "a.txt", content=b"{}"))[0] == 501
        options = await dav.ask("OPTIONS", "a.txt")
        assert options.status_code == 200
        assert "PROPFIND" in options.headers["allow"]
        assert options.headers["dav"] == "1, 3"
        assert (await dav.refusal("REPORT", "/trashbin/admin", content=b"<x/>"))[0] == 415


@pytest.mark.parametrize(
    "path", ["dav/calendars/admin/", "dav/comments/files/1", "dav/bulk", "carddav", ""]
)
async def test_what_is_no_part_of_this_host_is_not_found_and_said(path: str) -> None:
    async with dav_stage() as dav:
        target = f"/remote.php/{path}"
        answer = await dav.stage.client.request("PROPFIND", target, headers=signed("admin"))
        assert answer.status_code == 404
        assert error_of(answer) == (f"{SABRE}\\NotFound", "Path not found.")
        assert dav.stage.notices() == [
            f"the app nc_py_api asked for PROPFIND {target}, which this host does not serve"
        ]
        assert await dav.status("GET", "nothing") == 404
        assert len(dav.stage.notices()) == 1


async def test_what_stands_for_itself_cannot_be_changed() -> None:
    async with dav_stage() as dav:
        for path in ("/", "/files", "/files/admin", "/trashbin/admin", "/versions/admin"):
            assert (await dav.refusal("DELETE", path))[0] == 403
            assert await dav.status("MKCOL", path) == 405
        assert (await dav.refusal("MOVE", "/uploads/admin", **to("x")))[0] == 403
        assert (await dav.refusal("COPY", "/uploads/admin", **to("x")))[0] == 403
        assert await dav.status("PUT", "/trashbin/admin/trash/x", content=b"1") == 403
        assert await dav.status("MKCOL", "/trashbin/admin/trash/x") == 403
        tree = await dav.listing("/", "1")
        assert tree == [
            f"/remote.php/dav/{name}"
            for name in ("", "files/", "trashbin/", "uploads/", "versions/", "systemtags/")
        ]
        assert len(await dav.listing("/", "infinity")) >= 12


async def test_each_request_is_on_the_bus() -> None:
    async with dav_stage() as dav:
        await dav.ask("PUT", "a%20b.txt", content=b"secret content")
        await dav.listing("", "0", content=b'<d:propfind xmlns:d="DAV:"><d:allprop/></d:propfind>')
        put, listed = dav.stage.exchanges()
        assert (put.app_id, put.user_id, put.method, put.status) == (
            "nc_py_api",
            "admin",
            "PUT",
            201,
        )
        assert put.target == "/remote.php/dav/files/admin/a%20b.txt"
        assert ("authorization-app-api", "***") in put.request_headers
        assert put.request_body == b""
        assert b"allprop" in listed.request_body
        assert listed.response_body.startswith(b'<?xml version="1.0"?>\n<d:multistatus')


async def test_hosts_that_serve_no_file_make_no_folder(tmp_path: Path) -> None:
    settings = HostSettings(data_dir=tmp_path)
    async with dav_stage(settings=settings) as dav:
        await dav.stage.ocs("GET", "/cloud/capabilities")
    assert not (tmp_path / "files").exists()


async def test_bug_of_ours_is_answered_and_said() -> None:
    async with dav_stage() as dav:
        store = await dav.files.store()
        store.children = None  # type: ignore[assignment,method-assign]
        answer = await dav.ask("PROPFIND", "")
        assert answer.status_code == 500
        assert error_of(answer) == (SABRE, "TypeError: 'NoneType' object is not callable")
