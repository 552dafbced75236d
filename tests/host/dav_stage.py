"""A host with files, and short ways to ask for them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httpx
from lxml import etree

from appapi_host.files.access import Files
from tests.host.web_stage import WebStage, signed, web_stage

DAV = "{DAV:}"
OC = "{http://owncloud.org/ns}"
DECLARED = (
    'xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns" xmlns:nc="http://nextcloud.org/ns" '
    'xmlns:x="urn:x"'
)


@dataclass
class DavStage:
    stage: WebStage
    user_id: str = "admin"

    @property
    def files(self) -> Files:
        return self.stage.host.files

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request of the app in the name of `user_id`, for one of that user's files.

        A path that begins with `/` is one below `/remote.php/dav`.
        """
        options["headers"] = signed(self.user_id) | options.pop("headers", {})
        below = path if path.startswith("/") else f"/files/{self.user_id}/{path}"
        return await self.stage.client.request(method, f"/remote.php/dav{below}", **options)

    async def status(self, method: str, path: str, **options: Any) -> int:
        return (await self.ask(method, path, **options)).status_code

    async def refusal(self, method: str, path: str, **options: Any) -> tuple[int, str, str]:
        """Status, class and message of a refusal."""
        answer = await self.ask(method, path, **options)
        return answer.status_code, *error_of(answer)

    async def properties(self, path: str, *names: str) -> dict[str, str | None]:
        """Values of properties, by their names with prefix; None for what is not there."""
        wanted = "".join(f"<{name}/>" for name in names)
        body = f"<d:propfind {DECLARED}><d:prop>{wanted}</d:prop></d:propfind>"
        answer = await self.ask("PROPFIND", path, content=body, headers={"Depth": "0"})
        assert answer.status_code == 207, answer.text
        found = {}
        root = etree.fromstring(answer.content)
        for propstat in root.iterfind(f"{DAV}response/{DAV}propstat"):
            is_there = "200" in (propstat.findtext(f"{DAV}status") or "")
            for element in propstat.iterfind(f"{DAV}prop/*"):
                text = "".join(
                    [element.text or ""]
                    + [etree.tostring(child, encoding="unicode") for child in element]
                )
                found[f"{element.prefix}:{element.tag.rpartition('}')[2]}"] = (
                    text if is_there else None
                )
        return found

    async def patch(self, path: str, content: str) -> httpx.Response:
        body = f"<d:propertyupdate {DECLARED}>{content}</d:propertyupdate>"
        return await self.ask("PROPPATCH", path, content=body)

    async def listing(self, path: str = "", depth: str = "1", **options: Any) -> list[str]:
        """The paths in the answer to a `PROPFIND`."""
        answer = await self.ask("PROPFIND", path, headers={"Depth": depth}, **options)
        assert answer.status_code == 207, answer.text
        return hrefs(answer)

    async def search(self, where: str, *, more: str = "", scope: str = "") -> httpx.Response:
        href = f"/files/{self.user_id}/{scope}"
        return await self.ask(
            "SEARCH",
            "/",
            content=(
                f"<d:searchrequest {DECLARED}><d:basicsearch>"
                "<d:select><d:prop><oc:fileid/></d:prop></d:select>"
                f"<d:from><d:scope><d:href>{href}</d:href><d:depth>infinity</d:depth></d:scope>"
                f"</d:from><d:where>{where}</d:where>{more}</d:basicsearch></d:searchrequest>"
            ),
        )


def hrefs(answer: httpx.Response) -> list[str]:
    root = etree.fromstring(answer.content)
    return [unquote(str(element.text)) for element in root.iterfind(f"{DAV}response/{DAV}href")]


def error_of(answer: httpx.Response) -> tuple[str, str]:
    root = etree.fromstring(answer.content)
    assert root.tag == "{DAV:}error"
    sabre = "{http://sabredav.org/ns}"
    return root.findtext(f"{sabre}exception") or "", root.findtext(f"{sabre}message") or ""


@asynccontextmanager
async def dav_stage(user_id: str = "admin", **options: Any) -> AsyncIterator[DavStage]:
    async with web_stage(**options) as stage:
        yield DavStage(stage, user_id)
