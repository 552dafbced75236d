"""Finding files, and XML that is not what it should be."""

import itertools

import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appapi_host.files.index import Tag
from appapi_host.files.refusals import Refusal
from appapi_host.files.search import _is_like
from appapi_host.files.xml import MAX_XML_BYTES, Multistatus, clean, content_of
from tests.host.dav_stage import DECLARED, DavStage, dav_stage, hrefs
from tests.host.web_stage import raw_request, signed


def condition(operator: str, prop: str, literal: object) -> str:
    return (
        f"<d:{operator}><d:prop><{prop}/></d:prop><d:literal>{literal}</d:literal></d:{operator}>"
    )


async def filled(dav: DavStage) -> None:
    for path, content, mtime in (
        ("a.txt", "1", 1_000_000),
        ("B.TXT", "22", 2_000_000),
        ("c_d.md", "333", 3_000_000),
        ("sub/e%f.png", "4444", 4_000_000),
    ):
        await dav.files.put("admin", path, content)
        store = await dav.files.store()
        store.set_times(await dav.files.node("admin", path), mtime)
    await dav.patch("sub", "<d:set><d:prop><oc:favorite>1</oc:favorite></d:prop></d:set>")


FILES = ["B.TXT", "a.txt", "c_d.md", "sub/e%f.png"]
ALL = ["", *FILES[:3], "sub/", FILES[3]]
NAME, SIZE, MODIFIED = "d:displayname", "oc:size", "d:getlastmodified"

SEARCHES = {
    "eq": (condition("eq", NAME, "a.txt"), ["a.txt"]),
    "eq minds the case": (condition("eq", NAME, "b.txt"), []),
    "like does not": (condition("like", NAME, "%.txt"), ["B.TXT", "a.txt"]),
    "one character": (condition("like", NAME, "_.txt"), ["B.TXT", "a.txt"]),
    "mime": (condition("like", "d:getcontenttype", "image/%"), ["sub/e%f.png"]),
    "folders": (condition("eq", "d:getcontenttype", "httpd/unix-directory"), ["", "sub/"]),
    "gt": (condition("gt", SIZE, 3), ["", "sub/", "sub/e%f.png"]),
    "gte": (condition("gte", SIZE, 3), ["", "c_d.md", "sub/", "sub/e%f.png"]),
    "lt": (condition("lt", SIZE, 2), ["a.txt"]),
    "lte": (condition("lte", SIZE, 2), ["B.TXT", "a.txt"]),
    "time as number": (condition("lt", MODIFIED, 2_000_000), ["a.txt"]),
    "time as text": (condition("lte", MODIFIED, "1970-01-24T03:33:20Z"), ["B.TXT", "a.txt"]),
    "time without zone": (condition("lt", MODIFIED, "1970-01-24T03:33:20"), ["a.txt"]),
    "no time": (condition("lt", MODIFIED, "soon"), []),
    "favorite": (condition("eq", "oc:favorite", "yes"), ["sub/"]),
    "owner": (condition("eq", "oc:owner-id", "admin"), ALL),
    "created": (condition("gt", "d:creationdate", 0), []),
    "uploaded": (condition("gt", "nc:upload_time", 0), FILES),
    "id that is none": (condition("eq", "oc:fileid", "none"), []),
    "collections": ("<d:is-collection/>", ["", "sub/"]),
    "defined": (f"<d:is-defined><d:prop><{SIZE}/></d:prop></d:is-defined>", ALL),
    "not": (f"<d:not>{condition('gt', SIZE, 1)}</d:not>", ["a.txt"]),
    "and": (f"<d:and>{condition('gt', SIZE, 1)}{condition('lt', SIZE, 3)}</d:and>", ["B.TXT"]),
    "or": (
        f"<d:or>{condition('eq', SIZE, 1)}{condition('eq', SIZE, 3)}</d:or>",
        ["a.txt", "c_d.md"],
    ),
    "nothing": ("", ALL),
}


async def test_conditions() -> None:
    async with dav_stage() as dav:
        await filled(dav)
        for name, (where, expected) in SEARCHES.items():
            found = [
                path.removeprefix("/remote.php/dav/files/admin/")
                for path in hrefs(await dav.search(where))
            ]
            assert sorted(found) == sorted(expected), name
        number = (await dav.files.node("admin", "a.txt")).fileid
        for text in (number, f"{number:08d}oc1234567890"):
            for operator in ("eq", "like"):
                answer = await dav.search(condition(operator, "oc:fileid", text))
                assert hrefs(answer) == ["/remote.php/dav/files/admin/a.txt"]
                assert f"<oc:fileid>{number}</oc:fileid>" in answer.text


async def test_order_and_limit() -> None:
    async with dav_stage() as dav:
        await filled(dav)
        files = "<d:not><d:is-collection/></d:not>"

        async def found(more: str, scope: str = "") -> list[str]:
            answer = await dav.search(files, more=more, scope=scope)
            return [path.rpartition("/")[2] for path in hrefs(answer)]

        def order(prop: str, direction: str) -> str:
            return f"<d:order><d:prop><{prop}/></d:prop><d:{direction}/></d:order>"

        down = f"<d:orderby>{order(SIZE, 'descending')}</d:orderby>"
        assert await found(down) == ["e%f.png", "c_d.md", "B.TXT", "a.txt"]
        two = f"{order('d:getcontenttype', 'ascending')}{order(MODIFIED, 'descending')}"
        assert await found(f"<d:orderby>{two}</d:orderby>") == [
            "e%f.png",
            "c_d.md",
            "B.TXT",
            "a.txt",
        ]
        limit = "<d:limit><d:nresults>2</d:nresults>{}</d:limit>"
        assert await found(down + limit.format("")) == ["e%f.png", "c_d.md"]
        first = (
            '<n:firstresult xmlns:n="https://github.com/icewind1991/SearchDAV/ns">3</n:firstresult>'
        )
        assert await found(down + limit.format(first)) == ["a.txt"]
        assert await found("", "sub") == ["e%f.png"]


BROKEN = {
    "no search": ("<d:propfind/>", 400),
    "no basicsearch": ("<d:searchrequest/>", 400),
    "no scope": ("<d:searchrequest><d:basicsearch/></d:searchrequest>", 400),
    "unknown operator": (condition("near", NAME, "x"), 400),
    "unknown property": (condition("eq", "d:getetag", "x"), 400),
    "two properties": ("<d:eq><d:prop><d:a/><d:b/></d:prop><d:literal/></d:eq>", 400),
    "no property": ("<d:eq><d:literal/></d:eq>", 400),
    "no literal": (f"<d:eq><d:prop><{NAME}/></d:prop></d:eq>", 400),
    "empty not": ("<d:not/>", 400),
    "too deep": ("<d:not>" * 60 + "<d:is-collection/>" + "</d:not>" * 60, 400),
    "far too deep": ("<d:not>" * 500 + "</d:not>" * 500, 400),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_searches_that_are_none(name: str) -> None:
    body, status = BROKEN[name]
    async with dav_stage() as dav:
        if (name.startswith("no ") and "search" in body) or "propfind" in body:
            answer = await dav.ask(
                "SEARCH",
                "/",
                content=body.replace(">", f" {DECLARED}>", 1).replace(
                    f"/ {DECLARED}", f" {DECLARED}/"
                ),
            )
        else:
            answer = await dav.search(body)
        assert answer.status_code == status, answer.text


async def test_scopes_and_limits_that_are_none() -> None:
    async with dav_stage() as dav:
        await dav.files.put("admin", "a.txt", "1")
        assert (await dav.search("", scope="nowhere")).status_code == 404
        assert (await dav.search("", scope="a.txt")).status_code == 404
        assert (await dav.search("", scope="../user")).status_code == 400
        dav.user_id = "user"
        assert hrefs(await dav.search("")) == ["/remote.php/dav/files/user/"]
        more = "<d:limit><d:nresults>many</d:nresults></d:limit>"
        assert (await dav.search("", more=more)).status_code == 400
        for scope, depth, count in (
            ("/files/user", "0", 1),
            ("/files/user/", "1", 2),
            ("/remote.php/dav/files/user", "infinity", 3),
            ("/files/user", "7", None),
            ("/files/admin", "1", None),
        ):
            await dav.files.put("user", "f/a.txt", "1")
            answer = await dav.ask(
                "SEARCH",
                "/",
                content=f"<d:searchrequest {DECLARED}><d:basicsearch><d:from><d:scope>"
                f"<d:href>{scope}</d:href><d:depth>{depth}</d:depth></d:scope></d:from>"
                "</d:basicsearch></d:searchrequest>",
            )
            if count is None:
                assert answer.status_code in (400, 404)
            else:
                assert len(hrefs(answer)) == count


async def test_reports() -> None:
    async with dav_stage() as dav:
        await filled(dav)

        async def report(rules: str, path: str = "") -> tuple[int, list[str]]:
            body = f"<oc:filter-files {DECLARED}>{rules}</oc:filter-files>"
            answer = await dav.ask("REPORT", path, content=body)
            return answer.status_code, hrefs(answer) if answer.status_code == 207 else []

        def rules(text: str) -> str:
            return f"<d:prop><oc:fileid/></d:prop><oc:filter-rules>{text}</oc:filter-rules>"

        sub = ["/remote.php/dav/files/admin/sub/"]
        favorite = "<oc:favorite>1</oc:favorite>"
        assert await report(rules(favorite)) == (207, sub)
        assert await report(rules(favorite), "sub") == (207, [])
        store = await dav.files.store()

        def prepare() -> tuple[Tag, Tag]:
            return (
                store.index.add_tag("t", is_visible=True, is_assignable=True),
                store.index.add_tag("h", is_visible=False, is_assignable=True),
            )

        tag, hidden = await anyio.to_thread.run_sync(prepare)
        tagged = f"<oc:systemtag>{tag.tag_id}</oc:systemtag>"
        assert await report(rules(tagged)) == (207, [])
        node = await dav.files.node("admin", "a.txt")
        await anyio.to_thread.run_sync(
            lambda: store.index.set_tagged(tag.tag_id, node.fileid, is_tagged=True)
        )
        assert await report(rules(tagged)) == (207, ["/remote.php/dav/files/admin/a.txt"])
        assert await report(rules(tagged + favorite)) == (207, [])
        for text, status in (
            ("<oc:systemtag>99</oc:systemtag>", 412),
            (f"<oc:systemtag>{hidden.tag_id}</oc:systemtag>", 412),
            ("<oc:other/>", 400),
            ("", 400),
        ):
            assert (await report(rules(text)))[0] == status
        assert (await report(""))[0] == 400
        other = await dav.ask("REPORT", "", content=f"<d:sync-collection {DECLARED}/>")
        assert other.status_code == 415
        assert await dav.status("REPORT", "") == 400
        assert await dav.status("SEARCH", "/") == 400


@given(st.text("ab%_", max_size=8), st.text("ab", max_size=8))
def test_like_is_what_a_pattern_would_be(form: str, text: str) -> None:
    # By hand and slowly: every way to spend the text.
    def fits(form: str, text: str) -> bool:
        if not form:
            return not text
        if form[0] == "%":
            return any(fits(form[1:], text[end:]) for end in range(len(text) + 1))
        return bool(text) and form[0] in ("_", text[0]) and fits(form[1:], text[1:])

    pieces = [
        "".join(group) for _, group in itertools.groupby(form, lambda c: c if c in "%_" else "t")
    ]
    split = [c for piece in pieces for c in (piece if piece[0] in "%_" else [piece])]
    assert _is_like(text, split) is fits(form, text)


# XML


HOSTILE = {
    "entities": '<!DOCTYPE p [<!ENTITY a "b">]><d:propfind xmlns:d="DAV:">&a;</d:propfind>',
    "file": (
        '<!DOCTYPE p [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
        '<d:propfind xmlns:d="DAV:">&a;</d:propfind>'
    ),
    "laughs": "<!DOCTYPE p ["
    + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(10))
    + "]><p>&l9;</p>",
    "network": '<!DOCTYPE p SYSTEM "http://192.0.2.1/p.dtd"><d:propfind xmlns:d="DAV:"/>',
    "no xml": "hello",
    "unclosed": '<d:propfind xmlns:d="DAV:">',
    "no namespace": "<d:propfind/>",
    "two roots": "<a/><b/>",
    "bytes": b"\xff\xfe\x00",
    "deep": "<a>" * 5000 + "</a>" * 5000,
    "other root": "<d:something xmlns:d='DAV:'/>",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_bodies_are_refused(name: str) -> None:
    body = HOSTILE[name]
    content = body.encode() if isinstance(body, str) else body
    async with dav_stage() as dav:
        answer = await dav.ask("PROPFIND", "", content=content)
        assert answer.status_code == 400, answer.text
        assert "root:" not in answer.text
        for method in ("SEARCH", "REPORT", "PROPPATCH"):
            assert 400 <= await dav.status(method, "", content=content) < 500


async def test_bodies_have_a_longest_length() -> None:
    async with dav_stage() as dav:
        headers = signed("admin").items()
        for method, length in (("PROPFIND", MAX_XML_BYTES), ("MKCOL", 64 * 1024)):
            answer = await raw_request(
                dav.stage.host,
                method,
                "/remote.php/dav/files/admin/x",
                headers,
                b" " * (length + 1),
            )
            assert (answer.status, answer.values("connection")) == (413, ["close"])
            assert b"EntityTooLarge" in answer.body


def test_comments_and_instructions_are_dropped() -> None:
    root, text = clean(b"<?a b?><!-- c --><a><!-- d --><?e f?><b>1</b></a>")
    assert [child.tag for child in root] == ["b"]
    assert b"<a><b>1</b></a>" in text
    assert content_of(root) == "<b>1</b>"
    with pytest.raises(Refusal):
        clean("<!DOCTYPE a><a/>".encode("utf-16"))


def test_what_xml_cannot_hold_is_replaced() -> None:
    answer = Multistatus()
    answer.add("/a", {"{DAV:}displayname": 'a\x01b\uffff<&"', "plain": "", "{}none": "1"}, {})
    text = answer.render().decode()
    assert "<d:displayname>a\ufffdb\ufffd&lt;&amp;&quot;</d:displayname>" in text
    assert '<plain xmlns=""/><none xmlns="">1</none>' in text
    clean(text.encode())
