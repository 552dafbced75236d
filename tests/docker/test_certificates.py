"""What is done to an image so that apps trust what this machine trusts; without an engine."""

import io
import ssl
import tarfile
from pathlib import Path

import anyio
import pytest

from appapi_host.deploy.docker.certificates import (
    LAYOUTS,
    Plans,
    instance_bundle,
    name_hash,
    plan,
    upload_of,
)
from tests.docker.engines import run
from tests.docker.tls import Authority

DEBIAN, CENTOS = LAYOUTS


@pytest.fixture
def pem(tmp_path: Path) -> list[str]:
    """Three certificates, two of them of the same name."""
    folders = [tmp_path / "a", tmp_path / "more" / "a", tmp_path / "b"]
    return [Authority(folder).ca.read_text().strip() for folder in folders]


def files_of(packed: bytes) -> dict[str, str]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            found[member.name] = file.read().decode() if file else f"-> {member.linkname}"
            assert (member.uid, member.gid) == (0, 0)
    return found


@pytest.mark.parametrize(
    "subject",
    [
        "/CN=exapp",
        "/C=DE/O=Some  Thing/CN= Mixed CASE  name ",
        "/O=Ünïcode Gesellschaft/CN=Zertifikat",
        "/O=many/OU=parts/OU=of/CN=a name+UID=one",
        "/DC=org/DC=example/CN=" + "x" * 60,
    ],
)
def test_hash_of_a_name_is_that_of_openssl(subject: str, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-utf8", "-multivalue-rdn"),
        *("-keyout", tmp_path / "key.pem", "-out", path, "-subj", subject),
    )
    der = ssl.PEM_cert_to_DER_cert(path.read_text())
    assert name_hash(der) == run("openssl", "x509", "-noout", "-subject_hash", "-in", path)


def test_bundle_of_this_machine_is_the_one_that_the_environment_names(
    tmp_path: Path, pem: list[str]
) -> None:
    path = tmp_path / "bundle.pem"
    path.write_text("# mine\n" + "\n".join(pem[:2]) + "\n")
    assert instance_bundle({"SSL_CERT_FILE": str(path)}) == pem[:2]


def test_one_upload_holds_all_that_debian_would_make_of_it(pem: list[str]) -> None:
    old, *new = pem
    hashes = [name_hash(ssl.PEM_cert_to_DER_cert(text)) for text in pem]
    assert hashes[0] == hashes[1] != hashes[2]
    files = files_of(upload_of(DEBIAN, old.encode(), [old], new))
    folder = "usr/local/share/ca-certificates"
    assert files == {
        f"{folder}/custom_cert_0.crt": new[0] + "\n",
        f"{folder}/custom_cert_1.crt": new[1] + "\n",
        "etc/ssl/certs/ca-certificates.crt": "\n".join(pem) + "\n",
        # The first name is taken by what the image has.
        f"etc/ssl/certs/{hashes[1]}.1": f"-> /{folder}/custom_cert_0.crt",
        f"etc/ssl/certs/{hashes[2]}.0": f"-> /{folder}/custom_cert_1.crt",
    }


def test_image_without_a_bundle_gets_few_files(pem: list[str]) -> None:
    hashes = [name_hash(ssl.PEM_cert_to_DER_cert(text)) for text in pem]
    assert files_of(upload_of(DEBIAN, b"", [], pem)) == {
        "usr/local/share/ca-certificates/custom_certs.crt": "\n".join(pem) + "\n",
        "etc/ssl/certs/ca-certificates.crt": "\n" + "\n".join(pem) + "\n",
        f"etc/ssl/certs/{hashes[0]}.0": pem[0] + "\n",
        f"etc/ssl/certs/{hashes[1]}.1": pem[1] + "\n",
        f"etc/ssl/certs/{hashes[2]}.0": pem[2] + "\n",
    }


def test_one_upload_holds_all_that_centos_would_make_of_it(pem: list[str]) -> None:
    old, *new = pem
    assert files_of(upload_of(CENTOS, old.encode(), [old], new[:1])) == {
        "etc/pki/ca-trust/source/anchors/custom_cert_0.crt": new[0] + "\n",
        "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem": f"{old}\n{new[0]}\n",
    }


class Container:
    """The files of an image, in the place of an engine."""

    is_proxied = False

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files
        self.asked: list[str] = []
        self.uploads: list[bytes] = []

    async def archive(self, container: str, path: str) -> bytes | None:
        self.asked.append(path)
        content = self.files.get(path)
        if content is None:
            return None
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            member = tarfile.TarInfo(Path(path).name)
            if content.startswith("-> "):
                member.type, member.linkname = tarfile.SYMTYPE, content.removeprefix("-> ")
            member.size = 0 if member.issym() else len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
        return packed.getvalue()

    async def image(self, reference: str) -> dict[str, str] | None:
        return None if reference == "gone" else {"Id": reference}

    async def upload(self, container: str, data: bytes) -> None:
        self.uploads.append(data)


async def installed(container: Container, trusted: list[str]) -> tuple[int, list[str]]:
    made = await plan(container, "c", trusted)  # type: ignore[arg-type]
    if made.upload is not None:
        await container.upload("c", made.upload)
    return made.count, [made.warning] if made.warning else []


async def test_image_is_looked_into_once(pem: list[str]) -> None:
    container = Container({"/etc/ssl/certs/ca-certificates.crt": "\n".join(pem)})
    plans = Plans(container)  # type: ignore[arg-type]
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(plans.of, "image:1", "c", pem[1:])
    assert len(container.asked) == 1
    await plans.of("image:2", "c", pem[1:])
    assert len(container.asked) == 2
    await plans.of("image:2", "c", pem[2:])  # what is trusted has changed
    assert len(container.asked) == 3
    for _ in range(2):
        await plans.of("gone", "c", pem[1:])
    assert len(container.asked) == 5


async def test_nothing_is_uploaded_where_nothing_is_missing(pem: list[str]) -> None:
    container = Container({"/etc/ssl/certs/ca-certificates.crt": "\n".join(pem)})
    assert await installed(container, pem[1:]) == (0, [])
    assert len(container.asked) == 1
    assert container.uploads == []


async def test_missing_certificates_are_uploaded_at_once(pem: list[str]) -> None:
    container = Container(
        {
            "/etc/ssl/certs/ca-certificates.crt": pem[0],
            "/etc/os-release": "-> ../usr/lib/os-release",
            "/usr/lib/os-release": 'NAME="Some Linux"\nID=some\nID_LIKE="ubuntu debian"\n',
        }
    )
    assert await installed(container, pem) == (2, [])
    (packed,) = container.uploads
    assert "usr/local/share/ca-certificates/custom_cert_1.crt" in files_of(packed)


async def test_image_without_a_bundle_gets_one(pem: list[str]) -> None:
    container = Container({"/etc/os-release": "ID=alpine\n"})
    assert await installed(container, pem) == (3, [])
    assert "etc/ssl/certs/ca-certificates.crt" in files_of(container.uploads[0])


@pytest.mark.parametrize(
    ("files", "name"),
    [({"/etc/os-release": "ID=void\n"}, "void"), ({}, "which it does not tell")],
)
async def test_unknown_distribution_is_told(
    files: dict[str, str], name: str, pem: list[str]
) -> None:
    container = Container(files)
    count, warnings = await installed(container, pem)
    assert (count, container.uploads) == (0, [])
    assert name in warnings[0]


async def test_links_in_a_circle_are_given_up(pem: list[str]) -> None:
    container = Container({"/etc/os-release": "-> os-release"})
    count, warnings = await installed(container, pem)
    assert count == 0
    assert len(warnings) == 1
