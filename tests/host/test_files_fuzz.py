"""Nonsense to the files: whatever is asked, in whatever order, the host has an answer for it."""

import os
import random
from typing import Any
from urllib.parse import quote

import pytest

from appapi_host.files.requests import METHODS
from tests.host.dav_stage import DECLARED, DavStage, dav_stage, hrefs
from tests.host.web_stage import raw_request, signed

REQUESTS = 400
ROUNDS = int(os.environ.get("FILES_FUZZ_ROUNDS", "1"))
"""For each event loop, each on a host of its own; raise it by hand for a longer look."""

NAMES = [
    "admin",
    "user",
    "a",
    "b.txt",
    "ü",
    "..",
    ".",
    "",
    ".file",
    ".htaccess",
    "1",
    "2",
    "99999999999999999999",
    "trash",
    "restore",
    "versions",
    "files",
    "x" * 260,
    "a\x00b",
    "\ud800",
    "%2f",
    "c;d?e#f",
    "a.d1700000000",
]
GOOD = ["a", "b.txt", "1", "2", ".file", "ü"]
TOPS = [
    "files",
    "files/admin",
    "files/admin",
    "files/admin",
    "files/admin/a",
    "uploads/admin",
    "uploads/admin/1",
    "trashbin/admin",
    "trashbin/admin/trash",
    "versions/admin",
    "versions/admin/versions",
    "systemtags",
    "systemtags-relations",
    "systemtags-relations/files",
    "principals",
    "",
]
VALUES: dict[str, list[str]] = {
    "depth": ["0", "1", "infinity", "Infinity", "-1", "x", ""],
    "overwrite": ["T", "F", "t", "x", ""],
    "range": ["bytes=0-", "bytes=-1", "bytes=5-2", "bytes=0-1,3-4", "x=1", "bytes=", "bytes=--"],
    "if": ["(<x>)", "<http://x> (<y> [z])", "(Not <x>)", "((", "(", "x"],
    "if-match": ["*", '"x"', "x", "", '"'],
    "if-none-match": ["*", '"x"', "W/", ","],
    "if-modified-since": ["Sat, 01 Jan 2000 00:00:00 GMT", "yesterday", ""],
    "if-unmodified-since": ["Sat, 01 Jan 2000 00:00:00 GMT", "yesterday", "0"],
    "if-range": ['"x"', "Sat, 01 Jan 2000 00:00:00 GMT", "x"],
    "x-oc-mtime": ["1", "1e5", "99999999999", "-1", "x"],
    "x-oc-ctime": ["1", "99999999999", "x"],
    "oc-total-length": ["0", "1", "x", "-1"],
    "oc-checksum": ["MD5:0", "<&", "\xff" * 300],
    "content-type": ["application/json", "text/xml", "x"],
    "content-length": ["0", "5", "x", "-1", ""],
    "accept": ["application/zip", "application/x-tar", "*/*"],
    "x-nc-files": ["a", '["a"]', "[", "{}"],
    "x-nc-skip-trashbin": ["true"],
    "content-range": ["bytes 0-1/2"],
    "content-encoding": ["gzip"],
    "timeout": ["x"],
}
PROPERTIES = [
    "d:getetag",
    "d:displayname",
    "oc:fileid",
    "oc:favorite",
    "oc:tags",
    "oc:size",
    "nc:system-tags",
    "nc:creation_time",
    "d:lastmodified",
    "oc:display-name",
    "oc:user-visible",
    "x:dead",
    "d:getcontenttype",
]
TEXTS = ["", "1", "0", "true", "a", "%", "&lt;", "99999999999999999999999", "<x:y/>", "ü", "-1"]
WORDS = [
    "d:propfind",
    "d:propertyupdate",
    "d:searchrequest",
    "oc:filter-files",
    "d:prop",
    "d:set",
    "d:remove",
    "d:allprop",
    "d:propname",
    "d:basicsearch",
    "d:where",
    "d:eq",
    "d:like",
    "d:not",
    "d:literal",
    "d:limit",
    "d:nresults",
    "oc:filter-rules",
    "oc:systemtag",
]


def element(dice: random.Random, depth: int = 0) -> str:
    if depth > 4 or dice.random() < 0.3:
        return dice.choice(TEXTS)
    name = dice.choice(WORDS + PROPERTIES)
    inner = "".join(element(dice, depth + 1) for _ in range(dice.randrange(3)))
    return f"<{name}>{inner}</{name}>"


def condition(dice: random.Random) -> str:
    operator = dice.choice(["eq", "like", "gt", "lt", "gte", "lte", "near", "is-defined"])
    prop, literal = dice.choice(PROPERTIES), dice.choice(TEXTS)
    return (
        f"<d:{operator}><d:prop><{prop}/></d:prop><d:literal>{literal}</d:literal></d:{operator}>"
    )


def body(dice: random.Random, method: str) -> bytes:
    if dice.random() < 0.2:
        return bytes(dice.randrange(256) for _ in range(dice.randrange(40)))
    prop, text = dice.choice(PROPERTIES), dice.choice(TEXTS)
    change = dice.choice(["set", "remove"])
    text = text if change == "set" else ""
    known = {
        "PROPFIND": f"<d:propfind {DECLARED}><d:prop><{prop}/></d:prop></d:propfind>",
        "PROPPATCH": (
            f"<d:propertyupdate {DECLARED}><d:{change}><d:prop><{prop}>{text}</{prop}></d:prop>"
            f"</d:{change}></d:propertyupdate>"
        ),
        "SEARCH": (
            f"<d:searchrequest {DECLARED}><d:basicsearch><d:from><d:scope>"
            f"<d:href>/files/{dice.choice(NAMES[:4])}</d:href><d:depth>{dice.choice('01x')}"
            f"</d:depth></d:scope></d:from><d:where>{condition(dice)}</d:where><d:limit>"
            f"<d:nresults>{dice.choice(['1', 'x'])}</d:nresults></d:limit>"
            "</d:basicsearch></d:searchrequest>"
        ),
        "REPORT": (
            f"<oc:filter-files {DECLARED}><oc:filter-rules><{prop}>{text}</{prop}>"
            "</oc:filter-rules></oc:filter-files>"
        ),
        "POST": f'{{"name": "{text}", "userVisible": {dice.choice(["true", "1", "null"])}}}',
    }
    if method in known and dice.random() < 0.7:
        return known[method].encode()
    if method in ("PUT", "MKCOL", "DELETE", "MOVE", "COPY", "GET", "HEAD", "OPTIONS"):
        return b"" if dice.random() < 0.5 else b"hello"
    made = element(dice)
    return made.replace(">", f" {DECLARED}>", 1).encode()


def path(dice: random.Random, known: list[str]) -> str:
    if dice.random() < 0.6:
        return f"/remote.php/dav/{quote(dice.choice(known))}"
    base = dice.choice(["/remote.php/dav"] * 8 + ["/remote.php/webdav", "/remote.php/x"])
    odd = dice.random() < 0.3
    names = [dice.choice(NAMES if odd else GOOD) for _ in range(dice.randrange(4 if odd else 3))]
    quoted = "/".join(quote(name, safe="", errors="surrogatepass") for name in names)
    return f"{base}/{dice.choice(TOPS)}/{quoted}".replace("//", "/")


async def ask(dav: DavStage, dice: random.Random, known: list[str]) -> tuple[str, int]:
    method = dice.choice([*METHODS, "PUT", "MKCOL", "MOVE", "COPY", "LOCK", "X"])
    target = path(dice, known)
    headers: list[tuple[str, str]] = [*signed(dice.choice(["admin"] * 9 + ["user"])).items()]
    names = dice.sample(list(VALUES), dice.randrange(4))
    headers += [(name, dice.choice(VALUES[name])) for name in names]
    if method in ("MOVE", "COPY") and dice.random() < 0.9:
        headers.append(("destination", dice.choice(["", "http://x", "x"]) + path(dice, known)))
    content = body(dice, method)
    if dice.random() < 0.8 and not any(name == "content-length" for name, _ in headers):
        headers.append(("content-length", str(len(content))))
    scope: dict[str, Any] = {"raw_path": target.encode()}
    answer = await raw_request(dav.stage.host, method, target, headers, content, **scope)
    return f"{method} {target} {headers[3:]} {content!r}", answer.status


async def there(dav: DavStage) -> list[str]:
    """Paths that are there, and some right beside them."""
    found = [f"files/admin/{node.path}" for node in await dav.files.nodes("admin")]
    await dav.ask("MKCOL", "/uploads/admin/1")
    answer = await dav.ask("PROPFIND", "/", headers={"Depth": "infinity"})
    found += [href.removeprefix("/remote.php/dav/").rstrip("/") for href in hrefs(answer)]
    return [*found, *(f"{path}/new" for path in found)]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(7, 7 + ROUNDS))
async def test_nothing_breaks(seed: int) -> None:
    dice = random.Random(seed)
    seen: dict[int, int] = {}
    known: list[str] = []
    async with dav_stage() as dav:
        for number in range(REQUESTS):
            if number % 50 == 0:
                # Whatever became of the tree, there is something to go on with.
                await dav.files.put("admin", f"{number}/b.txt", "content")
                await dav.files.put("admin", f"{number}/c/d.txt", "")
                known = await there(dav)
            what, status = await ask(dav, dice, known)
            seen[status] = seen.get(status, 0) + 1
            assert status in (501, 507) or 200 <= status < 500, (number, what)
        assert sum(count for status, count in seen.items() if status < 300) > REQUESTS / 20, seen
        home = (await dav.files.folder("admin")).parent
        left = [place.name for place in (home / "uploads").iterdir()]
        assert not [name for name in left if name.endswith(".part")]
