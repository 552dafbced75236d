"""Broken and hostile descriptions: each is refused or read, quickly, and none crashes.

The corpus is generated: damage of many kinds, done to a good description, and attacks on XML
readers. A fixed seed keeps it the same in every run.
"""

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appapi_host.errors import InfoError
from appapi_host.info_xml import AppInfo

BYTES = 50 * 1024 * 1024

GOOD = b"""<?xml version="1.0" encoding="UTF-8"?>
<info xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <id>words</id>
  <name>Words</name>
  <version>1.2.3</version>
  <category>ai</category>
  <external-app>
    <docker-install>
      <registry>ghcr.io</registry><image>acme/words</image><image-tag>1.2.3</image-tag>
    </docker-install>
    <routes>
      <route>
        <url>^/api/.*</url><verb>GET,POST</verb><access_level>USER</access_level>
        <headers_to_exclude>["X-A"]</headers_to_exclude>
        <bruteforce_protection>[401]</bruteforce_protection>
      </route>
    </routes>
    <environment-variables>
      <variable><name>MODEL</name><default>small</default></variable>
    </environment-variables>
    <k8s-service-roles><role><name>web</name><expose>true</expose></role></k8s-service-roles>
  </external-app>
</info>
"""
ELEMENTS = (
    *("id", "name", "version", "category", "external-app", "docker-install", "registry", "image"),
    *("image-tag", "routes", "route", "url", "verb", "access_level", "headers_to_exclude"),
    *("bruteforce_protection", "environment-variables", "variable", "default", "role", "expose"),
)
VALUES = (
    *("", " ", "\t\n", "a" * 100_000, "ä\u202e\u200b", "Array", "0", "-1", "1e999", "null"),
    *("../../etc", "a b", "&#0;", "&#x1F600;", "&amp;lt;", "<b>x</b>", "<![CDATA[x]]>"),
    *(
        "[",
        "[[[[",
        "[1",
        "{}",
        '["a", 1]',
        "[" * 5_000,
        "(a+)+$",
        "(?P<",
        "\\",
        "%s%n",
        "'\"`$(id)",
    ),
)


def damaged() -> Iterator[tuple[str, bytes]]:
    """A good description with one thing wrong."""
    dice = random.Random(32)
    for step in range(25):
        yield f"cut at {step}", GOOD[: len(GOOD) * step // 25]
    for number in range(30):
        place = dice.randrange(len(GOOD))
        yield f"byte {number}", GOOD[:place] + bytes([dice.randrange(256)]) + GOOD[place + 1 :]
    for number in range(20):
        start = dice.randrange(len(GOOD))
        yield f"hole {number}", GOOD[:start] + GOOD[start + dice.randrange(1, 80) :]
    for element in ELEMENTS:
        opening, closing = f"<{element}>".encode(), f"</{element}>".encode()
        yield f"not closed {element}", GOOD.replace(closing, b"", 1)
        yield f"not opened {element}", GOOD.replace(opening, b"", 1)
        yield f"twice {element}", GOOD.replace(opening, opening + closing + opening, 1)
        yield f"attributes {element}", GOOD.replace(opening, opening[:-1] + b" a='1' a='2'>", 1)


def with_values() -> Iterator[tuple[str, bytes]]:
    """Odd texts where a text belongs."""
    texts = {
        "id": b"words",
        "version": b"1.2.3",
        "url": b"^/api/.*",
        "access_level": b"USER",
        "bruteforce_protection": b"[401]",
        "default": b"small",
    }
    for element, text in texts.items():
        for number, value in enumerate(VALUES):
            before = f"<{element}>".encode() + text
            after = f"<{element}>{value}".encode()
            yield f"{element} value {number}", GOOD.replace(before, after, 1)


def hostile() -> Iterator[tuple[str, bytes]]:
    """What is sent to XML readers to hurt them."""
    root = b"<info><id>words</id><name>&x;</name><version>1.0.0</version></info>"
    laughs = b"".join(
        b'<!ENTITY l%d "%s">' % (level, b"&l%d;" % (level - 1) * 10) for level in range(1, 12)
    )
    types = {
        "laughs": b'<!DOCTYPE a [<!ENTITY l0 "ha">' + laughs + b'<!ENTITY x "&l11;">]>',
        "quadratic": b'<!DOCTYPE a [<!ENTITY x "' + b"a" * 50_000 + b'">]>',
        "file": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        "network": b'<!DOCTYPE a [<!ENTITY x SYSTEM "http://127.0.0.1:1/">]>',
        "parameter": b'<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/passwd">%p;]>',
        "public": b'<!DOCTYPE a PUBLIC "-//X//Y//EN" "http://127.0.0.1:1/x.dtd">',
        "itself": b'<!DOCTYPE a [<!ENTITY x "&x;">]>',
        "plain": b"<!DOCTYPE info>",
    }
    for name, kind in types.items():
        yield f"doctype {name}", kind + root
        yield f"doctype {name} after a comment", b"<!-- -->\n<?a b?>" + kind + root
        yield f"doctype {name} in utf-16", (kind + root).decode().encode("utf-16")
    yield "entity without a type", root
    yield "many elements", b"<info>" + b"<a/>" * 200_000 + b"</info>"
    yield "deep", b"<info>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</info>"
    yield "deep known", b"<external-app>" * 50_000
    yield "long name", b"<" + b"a" * 900_000 + b"/>"
    attributes = b" ".join(b"a%d='1'" % number for number in range(50_000))
    yield "many attributes", b"<info " + attributes + b"/>"
    yield "long attribute", b"<info a='" + b"x" * 900_000 + b"'/>"
    spaces = b" ".join(b"xmlns:a%d='u'" % number for number in range(20_000))
    yield "many namespaces", b"<info " + spaces + b"/>"
    yield "large text", b"<info><id>" + b"a" * 1_000_000 + b"</id></info>"
    yield "too large", b"<info>" + b" " * (1024 * 1024) + b"</info>"
    route = b"<route><url>^/a</url><verb>GET</verb><access_level>USER</access_level></route>"
    yield "many routes", GOOD.replace(b"<routes>", b"<routes>" + route * 5_000)
    variable = b"<variable><name>A</name></variable>"
    yield "many variables", GOOD.replace(b"<variable>", variable * 10_000 + b"<variable>", 1)
    yield "many bad routes", GOOD.replace(b"<routes>", b"<routes>" + b"<route/>" * 50_000)
    yield "many names", GOOD.replace(b"<name>", b"<name lang='x'>a</name>" * 20_000 + b"<name>", 1)
    yield "many comments", b"<!-- -->" * 100_000 + GOOD
    yield "comment without end", b"<!--" + b"-" * 900_000
    yield "instructions", b"<?a " * 100_000
    yield "brackets", b"<" * 900_000
    yield "ampersands", b"<info>" + b"&" * 900_000 + b"</info>"
    yield (
        "include",
        GOOD.replace(
            b"<id>",
            b"<x:include xmlns:x='http://www.w3.org/2001/XInclude' href='/etc/passwd'/><id>",
        ),
    )
    yield "stylesheet", b"<?xml-stylesheet href='file:///etc/passwd'?>" + GOOD[39:]
    yield "schema", GOOD.replace(b"<info ", b"<info xsi:noNamespaceSchemaLocation='file:///x' ")


def not_xml() -> Iterator[tuple[str, bytes]]:
    """Files of other kinds, and of other encodings."""
    dice = random.Random(34)
    kinds = {
        "nothing": b"",
        "spaces": b"   \n",
        "zeroes": b"\0" * 1000,
        "json": b'{"id": "words"}',
        "yaml": b"id: words\n",
        "page": b"<!doctype html><html><body>Not found</body></html>",
        "page without a type": b"<html><head/></html>",
        "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
        "zip": b"PK\x03\x04" + bytes(100),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "other root": b"<foo/>",
        "two roots": GOOD + b"<info/>",
        "text after the root": GOOD + b"trailing",
        "only a declaration": b'<?xml version="1.0"?>',
        "bad declaration": b'<?xml version="9.9"?><info/>',
        "unknown encoding": b'<?xml version="1.0" encoding="ebcdic-x"?><info/>',
        "utf-7": b'<?xml version="1.0" encoding="utf-7"?>+ADw-info/+AD4-',
        "wrong encoding": b'<?xml version="1.0" encoding="utf-8"?><info><id>\xff\xfe</id></info>',
        "half utf-16": b"\xff\xfe<\0i",
        "mark alone": b"\xef\xbb\xbf",
        "namespaced": GOOD.replace(b"<info ", b"<info xmlns='urn:a' "),
        "unbound prefix": b"<a:info/>",
    }
    yield from kinds.items()
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp500", "shift_jis"):
        yield f"as {encoding}", GOOD.decode().encode(encoding)
    for number in range(10):
        yield f"noise {number}", dice.randbytes(dice.randrange(1, 5_000))


CORPUS = dict([*damaged(), *with_values(), *hostile(), *not_xml()])


def read(data: bytes) -> AppInfo | InfoError:
    try:
        return AppInfo.from_xml(data, "info.xml")
    except InfoError as error:
        return error


def test_corpus_is_large_and_the_good_one_is_good() -> None:
    assert len(CORPUS) >= 300
    assert isinstance(read(GOOD), AppInfo)


@pytest.mark.parametrize("data", CORPUS.values(), ids=CORPUS)
def test_description_is_read_or_refused(data: bytes) -> None:
    found = read(data)
    if isinstance(found, InfoError):
        assert found.problems
        assert all("root:" not in problem for problem in found.problems), "a file was read"
        assert max(map(len, found.problems)) < 2_000
        assert len(found.problems) <= 101
    else:
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", found.id)
        assert "root:" not in repr(found), "a file was read"


def test_no_description_costs_much_memory() -> None:
    # In a process of its own: the reader's memory is not Python's, and the peak of a process never
    # goes down. Twice each, so that a leak would show too.
    script = """
import resource
from tests.host.test_info_xml_corpus import CORPUS, read
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in [*CORPUS.values()] * 2:
    read(data)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < BYTES
