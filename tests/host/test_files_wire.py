"""The files as Nextcloud's documentation shows them: its own requests, and its form of answers."""

import json
import re
from typing import Any

import httpx
from lxml import etree

from appapi_host.records import User
from appapi_host.users import hash_password
from tests.host.web_stage import WIRE, WebStage, web_stage

CONVERSATION: list[dict[str, Any]] = json.loads((WIRE / "webdav.json").read_text(encoding="utf-8"))
DAV = "{DAV:}"


async def with_files(stage: WebStage) -> httpx.BasicAuth:
    password = hash_password("password", cost=2)
    await stage.host.registry.add_user(User("username", "User Name", password_hash=password))
    await stage.host.files.put("username", "folder/file.txt", "hello")
    await stage.host.files.make_folder("username", "dest")
    auth = httpx.BasicAuth("username", "password")
    touched = await stage.client.put(
        "/remote.php/dav/files/username/folder/file.txt",
        content=b"hello",
        headers={"X-OC-MTime": "1658293943"},
        auth=auth,
    )
    assert (touched.status_code, touched.headers["X-OC-MTime"]) == (204, "accepted")
    return auth


async def test_documented_requests_are_answered_in_the_documented_form() -> None:
    async with web_stage() as stage:
        auth = await with_files(stage)
        for row in CONVERSATION:
            request = stage.client.build_request(
                row["method"], row["path"], headers=row["headers"], content=row["body"].encode()
            )
            signs_in = "Authorization" not in row["headers"]
            answer = await stage.client.send(request, auth=auth if signs_in else None)
            assert answer.status_code == row["status"], (row["source"], answer.text)
            for text in row["contains"]:
                assert text in answer.text, row["source"]
            if answer.content:
                etree.fromstring(answer.content)  # well-formed


# Property → a value in the form that the documentation's table of properties shows.
FORMS = {
    "d:creationdate": r"1970-01-01T00:00:00\+00:00",
    "d:getlastmodified": r"Wed, 20 Jul 2022 05:12:23 GMT",
    "d:getetag": r'"[0-9a-f]{32}"',
    "d:getcontenttype": "text/plain",
    "d:resourcetype": "",
    "d:getcontentlength": "5",
    "d:displayname": r"file\.txt",
    "d:lockdiscovery": "",
    "d:supportedlock": "",
    "oc:id": r"[0-9]{8}oc[0-9a-z]{10}",
    "oc:fileid": "[0-9]+",
    "oc:downloadURL": "",
    "oc:permissions": "RGDNVW",
    "nc:creation_time": "0",
    "nc:mount-type": "",
    "nc:hide-download": "false",
    "nc:is-mount-root": "false",
    "oc:tags": "",
    "oc:favorite": "[01]",
    "oc:comments-href": r"/remote\.php/dav/comments/files/[0-9]+",
    "oc:comments-count": "0",
    "oc:comments-unread": "0",
    "oc:owner-id": "username",
    "oc:owner-display-name": "User Name",
    "oc:share-types": "",
    "ocs:share-permissions": "19",
    "ocm:share-permissions": r'\["share","read","write"\]',
    "nc:share-attributes": r"\[\]",
    "nc:sharees": "",
    "nc:has-preview": "false",
    "nc:hidden": "false",
    "oc:size": "5",
    "nc:upload_time": "[0-9]{10}",
    "nc:note": "",
    "nc:data-fingerprint": "",
}
NAMESPACES = {
    "d": "DAV:",
    "oc": "http://owncloud.org/ns",
    "nc": "http://nextcloud.org/ns",
    "ocs": "http://open-collaboration-services.org/ns",
    "ocm": "http://open-cloud-mesh.org/ns",
}


async def test_properties_have_the_documented_form() -> None:
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
    wanted = "".join(f"<{name}/>" for name in FORMS)
    async with web_stage() as stage:
        auth = await with_files(stage)
        answer = await stage.client.request(
            "PROPFIND",
            "/remote.php/dav/files/username/folder/file.txt",
            content=f"<d:propfind {declared}><d:prop>{wanted}</d:prop></d:propfind>",
            auth=auth,
        )
    root = etree.fromstring(answer.content)
    [propstat] = root.findall(f"{DAV}response/{DAV}propstat")
    for name, form in FORMS.items():
        prefix, local = name.split(":")
        found = propstat.find(f"{DAV}prop/{{{NAMESPACES[prefix]}}}{local}")
        assert found is not None, name
        assert re.fullmatch(form, found.text or ""), (name, found.text)
