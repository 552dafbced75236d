"""The CAs that this machine trusts, for apps whose instance has a certificate of its own.

Everything is done on the created container, before its only start: an engine reads and writes its
files without a process in it, as root, whatever user the image runs as. A socket proxy lets us
write so, but not read: behind one the container has to run, and to be started again if anything is
missing. What the distribution's own tool would do is done here: its bundle gets the missing
certificates, and, where OpenSSL looks for them by name, so does the folder.

Source: AppAPI 32.0.0, certificate installation; update-ca-certificates(8), update-ca-trust(8);
OpenSSL, X509_NAME_hash.
"""

import hashlib
import io
import re
import ssl
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from appapi_host.deploy.docker.engine import Engine

__all__ = ["Layout", "Plan", "Plans", "instance_bundle", "name_hash", "plan", "upload_of"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a family of distributions keeps its CAs.

    Args:
        ids: values of `ID` in os-release.
        folder: where administrators put certificates of their own.
        bundle: the file with all of them.
        hashed: folder in which OpenSSL looks for a CA by the hash of its name; empty if unused.
    """

    ids: frozenset[str]
    folder: str
    bundle: str
    hashed: str = ""


LAYOUTS: Final = (
    Layout(
        frozenset({"debian", "ubuntu", "alpine"}),
        "usr/local/share/ca-certificates",
        "etc/ssl/certs/ca-certificates.crt",
        "etc/ssl/certs",
    ),
    Layout(
        frozenset({"centos", "almalinux", "rhel", "rocky", "fedora"}),
        "etc/pki/ca-trust/source/anchors",
        "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    ),
)

_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)
_OS_RELEASE: Final = "/etc/os-release"
_LINKS: Final = 4
"""How many symbolic links are followed to a file."""

_BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


def instance_bundle(environ: Mapping[str, str]) -> list[str]:
    """The certificates that this machine trusts, as PEM each; reads files.

    `SSL_CERT_FILE` names another bundle, as everywhere with OpenSSL.
    """
    paths = ssl.get_default_verify_paths()
    for path in (environ.get("SSL_CERT_FILE", ""), paths.cafile or "", *_BUNDLES):
        if path and Path(path).is_file():
            return _certificates(Path(path).read_bytes())
    return []


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to containers of an image.

    Args:
        count: how many certificates the upload adds.
        upload: a tar for the root of the container; None if there is nothing to do.
        warning: what could not be done.
    """

    count: int = 0
    upload: bytes | None = field(default=None, repr=False)
    warning: str = ""


class Plans:
    """What is known of images: they do not change, and to look into one takes a while.

    Args:
        engine: where they are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._looking: dict[str, anyio.Lock] = {}
        self._known: dict[str, tuple[tuple[str, ...], Plan]] = {}

    async def of(self, reference: str, container: str, trusted: Sequence[str]) -> Plan:
        """What to do to a container.

        Args:
            reference: of its image.
            container: created and not started, behind a socket proxy started; looked into if that
            image is new.
            trusted: certificates as PEM.

        Raises:
            EngineError: the engine refused a request.
        """
        image = str((await self._engine.image(reference) or {}).get("Id") or "")
        if not image:
            return await plan(self._engine, container, trusted)
        async with self._looking.setdefault(image, anyio.Lock()):
            known = self._known.get(image)
            if known is None or known[0] != tuple(trusted):
                known = tuple(trusted), await plan(self._engine, container, trusted)
                self._known[image] = known
        return known[1]


async def plan(engine: Engine, container: str, trusted: Sequence[str]) -> Plan:
    """What it takes for a created container to trust what this machine trusts.

    Args:
        engine: where the container is.
        container: created and not started, behind a socket proxy started.
        trusted: certificates as PEM.

    Raises:
        EngineError: the engine refused a request.
    """
    content, missing = b"", list(trusted)
    present: list[str] = []
    for family in LAYOUTS:
        # The bundle alone tells whether there is anything to do: one request in most cases.
        found = await _read(engine, container, f"/{family.bundle}")
        if found is not None:
            content, present = found, _certificates(found)
            missing = await anyio.to_thread.run_sync(_missing, trusted, present)
            break
    if not missing:
        return Plan()
    distribution = _distribution(await _read(engine, container, _OS_RELEASE) or b"")
    layout = next((layout for layout in LAYOUTS if distribution & layout.ids), None)
    if layout is None:
        name = " ".join(sorted(distribution)) or "which it does not tell"
        return Plan(
            warning=f"{len(missing)} certificates of this machine are not installed: how is not "
            f"known for the image's distribution ({name})"
        )
    data = await anyio.to_thread.run_sync(upload_of, layout, content, present, missing)
    return Plan(len(missing), data)


def upload_of(
    layout: Layout, bundle: bytes, present: Iterable[str], missing: Sequence[str]
) -> bytes:
    """One tar with all that changes in an image.

    Args:
        layout: of its distribution.
        bundle: its present bundle; empty if it has none.
        present: the certificates in it.
        missing: what it shall trust as well.
    """
    text = bundle.decode("utf-8", "surrogateescape")
    files = {layout.bundle: text.rstrip("\n") + "\n" + "\n".join(missing) + "\n"}
    links: dict[str, str] = {}
    names = list(_hashed(layout, present, missing)) if layout.hashed else []
    if bundle:
        # The distribution's tool may run again, and it wants one certificate in a file.
        singles = [_single(layout, number) for number in range(len(missing))]
        files |= {path: pem + "\n" for path, pem in zip(singles, missing, strict=True)}
        links = {name: f"/{path}" for name, path in zip(names, singles, strict=False)}
    else:
        # Whatever brings that tool makes the bundle anew, and finds them here. Each file costs
        # the engine time, and here all that the machine trusts is missing.
        files[f"{layout.folder}/custom_certs.crt"] = "\n".join(missing) + "\n"
        files |= {name: pem + "\n" for name, pem in zip(names, missing, strict=False)}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, content in files.items():
            data = content.encode("utf-8", "surrogateescape")
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
        for path, target in links.items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return packed.getvalue()


def _hashed(layout: Layout, present: Iterable[str], missing: Sequence[str]) -> Iterator[str]:
    """Where OpenSSL looks for each of the missing ones."""
    taken = Counter(name_hash(_der(certificate)) for certificate in present)
    for certificate in missing:
        name = name_hash(_der(certificate))
        yield f"{layout.hashed}/{name}.{taken[name]}"
        taken[name] += 1


def _single(layout: Layout, number: int) -> str:
    """The file of one certificate; the names are AppAPI's."""
    return f"{layout.folder}/custom_cert_{number}.crt"


def name_hash(certificate: bytes) -> str:
    """Eight digits under which OpenSSL looks for a CA: a hash of its subject.

    Args:
        certificate: as DER.
    """
    body = _Node.read(_Node.read(certificate).content)  # TBSCertificate
    fields = list(body.children())
    has_version = fields[0].tag == 0xA0
    subject = fields[4 + has_version]
    canonical = b"".join(_canonical_set(entry) for entry in subject.children())
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def _canonical_set(entry: "_Node") -> bytes:
    members = []
    for pair in entry.children():
        kind, value = pair.children()
        encoding = _TEXTS.get(value.tag)
        if encoding is None:
            canonical = _encoded(value.tag, value.content)
        else:
            text = value.content.decode(encoding, "replace").encode()
            text = b" ".join(text.split()).lower()
            canonical = _encoded(_UTF8_STRING, text)
        members.append(_encoded(0x30, _encoded(kind.tag, kind.content) + canonical))
    return _encoded(0x31, b"".join(sorted(members)))


_UTF8_STRING: Final = 0x0C
_TEXTS: Final = {
    0x0C: "utf-8",
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # T61String
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}


@dataclass(frozen=True, slots=True)
class _Node:
    """A value in DER: its tag, its content, and what follows it."""

    tag: int
    content: bytes
    rest: bytes

    @classmethod
    def read(cls, data: bytes) -> "_Node":
        length, begin = data[1], 2
        if length & 0x80:
            begin += length & 0x7F
            length = int.from_bytes(data[2:begin], "big")
        return cls(data[0], data[begin : begin + length], data[begin + length :])

    def children(self) -> "list[_Node]":
        found: list[_Node] = []
        rest = self.content
        while rest:
            node = _Node.read(rest)
            found.append(node)
            rest = node.rest
        return found


def _encoded(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + content


async def _read(engine: Engine, container: str, path: str) -> bytes | None:
    """A file of a container, through symbolic links; None if it is not there."""
    if engine.is_proxied:
        return await engine.file(container, path)
    for _ in range(_LINKS):
        packed = await engine.archive(container, path)
        if packed is None:
            return None
        content = await anyio.to_thread.run_sync(_unpacked, packed)
        if not isinstance(content, str):
            return content
        path = "/" + _without_dots(str(Path(path).parent / content))
    return None


def _unpacked(packed: bytes) -> bytes | str | None:
    """The content of the one file in a tar, or where it points to; None if it is neither."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        member = tar.next()
        if member is None or member.issym():
            return member.linkname if member else None
        file = tar.extractfile(member) if member.isfile() else None
        return file.read() if file else None


def _without_dots(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _missing(trusted: Iterable[str], present: Iterable[str]) -> list[str]:
    known = {_der(certificate) for certificate in present}
    return [certificate for certificate in trusted if _der(certificate) not in known]


def _certificates(bundle: bytes) -> list[str]:
    return _PEM.findall(bundle.decode("utf-8", "surrogateescape"))


def _der(certificate: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate)


def _distribution(os_release: bytes) -> frozenset[str]:
    """`ID` and `ID_LIKE` of an os-release file."""
    found: set[str] = set()
    for line in os_release.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition("=")
        if name in ("ID", "ID_LIKE"):
            found |= set(value.strip().strip("\"'").split())
    return frozenset(found)
