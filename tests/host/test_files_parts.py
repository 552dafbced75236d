"""What lies beside the files: uploads in pieces, trash, versions, tags."""

import json
import os
import time

from appapi_host.files.uploads import LIFETIME
from tests.host.dav_stage import DavStage, dav_stage

UPLOAD = "/uploads/admin/up"
TRASH = "/trashbin/admin/trash"


def to(path: str, **headers: str) -> dict[str, dict[str, str]]:
    return {"headers": {"Destination": f"/remote.php/dav{path}"} | headers}


# Uploads in pieces


async def test_pieces_are_put_together_by_number() -> None:
    async with dav_stage() as dav:
        assert await dav.status("MKCOL", UPLOAD) == 201
        for name in ("10", "2", "00001"):
            assert await dav.status("PUT", f"{UPLOAD}/{name}", content=name.encode()) == 201
        assert await dav.status("PUT", f"{UPLOAD}/2", content=b"again") == 204
        assert await dav.listing(UPLOAD) == [
            f"/remote.php/dav{UPLOAD}/{name}" for name in ("", "00001", "2", "10", ".file")
        ]
        assert await dav.listing("/uploads/admin") == [
            "/remote.php/dav/uploads/admin/",
            f"/remote.php/dav{UPLOAD}/",
        ]
        assert await dav.properties(f"{UPLOAD}/2", "d:getcontentlength", "oc:fileid") == {
            "d:getcontentlength": "5",
            "oc:fileid": None,
        }
        for name in ("2", ".file"):
            assert (await dav.refusal("GET", f"{UPLOAD}/{name}"))[0] == 403
        done = await dav.ask("MOVE", f"{UPLOAD}/.file", **to("/files/admin/a.txt"))
        assert done.status_code == 201
        assert done.headers["oc-fileid"].startswith("0000")
        assert await dav.files.get("admin", "a.txt") == b"00001again10"
        assert await dav.status("PROPFIND", UPLOAD) == 404


async def test_upload_over_a_file_makes_a_version() -> None:
    async with dav_stage() as dav:
        stored = await dav.files.put("admin", "a.txt", "old")
        await dav.ask("MKCOL", UPLOAD)
        await dav.ask("PUT", f"{UPLOAD}/1", content=b"new")
        done = await dav.ask("MOVE", f"{UPLOAD}/.file", **to("/files/admin/a.txt"))
        assert done.status_code == 204
        assert (await dav.files.node("admin", "a.txt")).fileid == stored.fileid
        versions = f"/versions/admin/versions/{stored.fileid}"
        listed = await dav.listing(versions)
        assert len(listed) == 2
        below = listed[1].removeprefix("/remote.php/dav")
        assert (await dav.ask("GET", below)).content == b"old"
        names = ("d:getcontentlength", "d:getetag", "d:getcontenttype", "nc:version-author")
        assert await dav.properties(below, *names) == {
            "d:getcontentlength": "3",
            "d:getetag": f'"{below.rpartition("/")[2]}"',
            "d:getcontenttype": "text/plain",
            "nc:version-author": "admin",
        }
        assert (await dav.refusal("MOVE", below, **to("/files/admin/b.txt")))[0] == 403
        assert await dav.status("DELETE", below) == 204
        assert await dav.listing(versions) == listed[:1]
        for path in ("99", "x", f"{stored.fileid}/1", f"{stored.fileid}/1/2"):
            assert await dav.status("PROPFIND", f"/versions/admin/versions/{path}") == 404
        assert await dav.status("PROPFIND", "/versions/admin/other") == 404
        await dav.files.make_folder("admin", "f")
        folder = (await dav.files.node("admin", "f")).fileid
        assert await dav.status("PROPFIND", f"/versions/admin/versions/{folder}") == 404


async def test_uploads_that_cannot_be() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "f/a.txt", "1")
        assert (await dav.refusal("MKCOL", "/uploads/admin/.hidden"))[0] == 400
        assert (await dav.refusal("PUT", f"{UPLOAD}/1", content=b"1"))[0] == 409
        await dav.ask("MKCOL", UPLOAD)
        assert (await dav.refusal("MKCOL", UPLOAD))[0] == 405
        await dav.ask("PUT", f"{UPLOAD}/1", content=b"1")
        for path, status in (
            ("/files/user/a.txt", 403),
            ("/files/admin", 403),
            ("/trashbin/admin/restore/a", 403),
            ("/files/admin/none/a.txt", 409),
            ("/files/admin/f", 409),
            ("/files/admin/.htaccess", 400),
        ):
            assert (await dav.refusal("MOVE", f"{UPLOAD}/.file", **to(path)))[0] == status
        wrong = to("/files/admin/b.txt", **{"OC-Total-Length": "2"})
        assert (await dav.refusal("MOVE", f"{UPLOAD}/.file", **wrong))[2] == (
            "Chunks on server do not sum up to 2 but to 1 bytes"
        )
        odd = to("/files/admin/b.txt", **{"OC-Total-Length": "many"})
        assert (await dav.refusal("MOVE", f"{UPLOAD}/.file", **odd))[0] == 400
        for path in (f"{UPLOAD}/9", f"{UPLOAD}/1/2", f"{UPLOAD}/.x", "/uploads/admin/.x"):
            assert await dav.status("PROPFIND", path) == 404
        assert await dav.status("DELETE", f"{UPLOAD}/1") == 204
        assert await dav.status("DELETE", UPLOAD) == 204
        assert await dav.status("DELETE", UPLOAD) == 404
        assert await dav.files.names("admin") == ["f/"]


async def test_uploads_are_forgotten_after_a_day() -> None:
    async with dav_stage() as dav:
        await dav.ask("MKCOL", f"{UPLOAD}1")
        folder = (await dav.files.folder("admin")).parent / "uploads"
        (folder / ".left.part").write_bytes(b"")
        for place in folder.iterdir():
            os.utime(place, (1, time.time() - LIFETIME - 5))
        await dav.ask("MKCOL", f"{UPLOAD}2")
        assert [place.name for place in folder.iterdir()] == ["up2"]


# Trash


async def trashed(dav: DavStage) -> list[str]:
    return [path.removeprefix("/remote.php/dav") for path in (await dav.listing(TRASH))[1:]]


async def test_folder_in_the_trash() -> None:
    async with dav_stage() as dav:
        before = await dav.files.put("admin", "deep/f/a.txt", "1")
        assert await dav.status("DELETE", "deep/f") == 204
        [folder] = await trashed(dav)
        names = ("nc:trashbin-filename", "nc:trashbin-original-location", "oc:fileid", "oc:size")
        assert await dav.properties(f"{folder}a.txt", *names) == {
            "nc:trashbin-filename": "a.txt",
            "nc:trashbin-original-location": "deep/f/a.txt",
            "oc:fileid": str(before.fileid),
            "oc:size": "1",
        }
        more = ("d:displayname", "oc:permissions", "nc:trashbin-title", "nc:trashbin-x", "oc:id")
        found = await dav.properties(folder, *more, "d:getcontentlength", "d:getcontenttype")
        assert found.pop("oc:id")
        assert found == {
            "d:displayname": "f",
            "oc:permissions": "GD",
            "nc:trashbin-title": "f",
            "nc:trashbin-x": None,
            "d:getcontentlength": None,
            "d:getcontenttype": None,
        }
        answer = await dav.ask("GET", f"{folder}a.txt")
        assert (answer.content, answer.headers["content-type"]) == (
            b"1",
            "application/octet-stream",
        )
        restore = to("/trashbin/admin/restore/x")
        assert (await dav.refusal("MOVE", f"{folder}a.txt", **restore))[0] == 403
        assert (await dav.refusal("MOVE", folder, **to("/files/admin/x")))[0] == 403
        assert (await dav.refusal("COPY", folder, **restore))[0] == 403
        assert await dav.status("MOVE", folder, **restore) == 201
        assert (await dav.files.node("admin", "deep/f/a.txt")).fileid == before.fileid
        for path in (f"{TRASH}/none", "/trashbin/admin/restore/x", "/trashbin/admin/other"):
            assert await dav.status("PROPFIND", path) == 404


async def test_deleting_past_the_trash() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "a.txt", "1")
        skip = {"X-NC-Skip-Trashbin": "true"}
        assert await dav.status("DELETE", "a.txt", headers=skip) == 204
        assert await trashed(dav) == []
        await dav.files.put("admin", "f/a.txt", "1")
        await dav.files.delete("admin", "f")
        [folder] = await trashed(dav)
        assert await dav.status("DELETE", f"{folder}a.txt") == 204
        assert await dav.status("DELETE", folder) == 204
        assert await trashed(dav) == []


# Tags


async def test_tags_of_an_administrator_and_of_others() -> None:
    async with dav_stage() as dav:

        async def make(**given: object) -> tuple[int, str]:
            answer = await dav.ask(
                "POST",
                "/systemtags",
                content=json.dumps(given),
                headers={"Content-Type": "application/json"},
            )
            return answer.status_code, answer.headers.get("content-location", "")

        tags = "/remote.php/dav/systemtags"
        assert await make(name="open") == (201, f"{tags}/1")
        assert await make(name="shown", userAssignable=False) == (201, f"{tags}/2")
        assert await make(name="secret", userVisible=False, userAssignable=False) == (
            201,
            f"{tags}/3",
        )
        assert (await make(name="open"))[0] == 409
        for given in (
            {},
            {"name": 1},
            {"name": " "},
            {"name": "x" * 65},
            {"name": "a\nb"},
            {"name": "a", "userVisible": 1},
        ):
            assert (await make(**given))[0] == 400
        json_type = {"Content-Type": "application/json"}
        for body in (b"", b"[]", b"{", b"[" * 60_000):
            assert await dav.status("POST", "/systemtags", content=body, headers=json_type) == 400
        assert await dav.status("POST", "/systemtags", content=b"{}") == 415
        assert len(await dav.listing("/systemtags")) == 4

        dav.user_id = "user"
        node = await dav.files.put("user", "a.txt", "1")
        assert await dav.listing("/systemtags") == [f"{tags}/", f"{tags}/1", f"{tags}/2"]
        assert (await make(name="mine"))[0] == 201
        assert (await make(name="hidden", userVisible=False))[0] == 400
        found = await dav.properties("/systemtags/2", "oc:display-name", "oc:can-assign", "oc:x")
        assert found == {"oc:display-name": "shown", "oc:can-assign": "false", "oc:x": None}
        relation = f"/systemtags-relations/files/{node.fileid}"
        assert await dav.status("PUT", f"{relation}/1") == 201
        assert await dav.status("PUT", f"{relation}/1") == 409
        assert await dav.status("PUT", f"{relation}/2") == 403
        assert await dav.status("PUT", f"{relation}/3") == 404
        assert await dav.listing(relation) == [
            f"/remote.php/dav{relation}/",
            f"/remote.php/dav{relation}/1",
        ]
        shown = await dav.properties("a.txt", "nc:system-tags")
        assert ">open</nc:system-tag>" in str(shown["nc:system-tags"])
        assert await dav.status("DELETE", f"{relation}/1") == 204
        assert await dav.status("DELETE", f"{relation}/1") == 404
        for path in (
            "",
            "/files",
            "/files/x/1",
            "/other",
            "/files/99",
            f"/files/{node.fileid}/1/2",
        ):
            expected = 207 if path in ("", "/files") else 404
            assert await dav.status("PROPFIND", f"/systemtags-relations{path}") == expected
        for path in ("/systemtags/x", "/systemtags/99", "/systemtags/1/2", "/systemtags/3"):
            assert await dav.status("PROPFIND", path) == 404
        dav.user_id = "admin"
        assert await dav.status("PUT", f"{relation}/1") == 404  # somebody else's file


async def test_changing_tags() -> None:
    async with dav_stage() as dav:

        async def change(content: str, path: str = "/systemtags/1") -> str:
            return (await dav.patch(path, f"<d:set><d:prop>{content}</d:prop></d:set>")).text

        for name in ("one", "two"):
            headers = {"Content-Type": "application/json"}
            body = json.dumps({"name": name})
            await dav.ask("POST", "/systemtags", content=body, headers=headers)
        assert "200 OK" in await change(
            "<oc:display-name>first</oc:display-name><oc:user-visible>false</oc:user-visible>"
        )
        names = ("oc:display-name", "oc:user-visible", "oc:user-assignable")
        assert await dav.properties("/systemtags/1", *names) == {
            "oc:display-name": "first",
            "oc:user-visible": "false",
            "oc:user-assignable": "true",
        }
        await change("<oc:user-visible>true</oc:user-visible>")
        assert "409 Conflict" in await change("<oc:display-name>two</oc:display-name>")
        assert "400 Bad Request" in await change("<oc:display-name> </oc:display-name>")
        assert "403 Forbidden" in await change("<oc:id>5</oc:id>")
        assert "403 Forbidden" in await change("<oc:user-visible>maybe</oc:user-visible>")
        node = await dav.files.put("admin", "a.txt", "1")
        relation = f"/systemtags-relations/files/{node.fileid}/1"
        await dav.ask("PUT", relation)
        assert "403 Forbidden" in await change("<oc:display-name>x</oc:display-name>", relation)
        assert (await dav.refusal("GET", "/systemtags/1"))[0] == 405
        assert (await dav.refusal("PUT", "/systemtags/1", content=b"1"))[0] in (403, 405)
        dav.user_id = "user"
        assert "403 Forbidden" in await change("<oc:user-visible>false</oc:user-visible>")
        dav.user_id = "admin"
        assert await dav.status("DELETE", "/systemtags/1") == 204
        assert await dav.listing("/systemtags") == [
            "/remote.php/dav/systemtags/",
            "/remote.php/dav/systemtags/2",
        ]
