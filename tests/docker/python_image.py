"""A small image with Python, made of Debian packages without any image registry.

Debian's own packages are unpacked into a folder: no package scripts run, so there is no bundle of
CAs in it, for instance, unless one is put there.
"""

import subprocess
import tarfile
from pathlib import Path

from tests.install import PATH

PACKAGES = [
    "libc6",
    "zlib1g",
    "libssl3",
    "libffi8",
    "libbz2-1.0",
    "liblzma5",
    "libexpat1",
    "libsqlite3-0",
    "libuuid1",
    "libcrypt1",
    "libgcc-s1",
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "media-types",
    "netbase",
    "ca-certificates",
    "busybox-static",
    "base-files",
]

_LEFT_OUT = ("doc", "man", "locale", "i18n", "lintian", "bash-completion")
_APPLETS = ("sh", "ls", "cat", "ps", "sleep", "mkdir", "rm", "id", "env", "echo", "grep", "kill")
_COMPILED = "http.server, json, pathlib, signal, subprocess, threading, urllib.request"
"""What apps in containers import, compiled once instead of at each start of each of them."""

_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def python_image(folder: Path) -> Path:
    """Make the image's content.

    Args:
        folder: for what is made on the way; it must be empty.

    Returns:
        A tar for `docker import`.
    """
    packages, root = folder / "packages", folder / "root"
    packages.mkdir(parents=True)
    # Without a sandbox: its user could not write to the folder.
    download = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *PACKAGES]
    subprocess.run(download, cwd=packages, check=True, capture_output=True)
    for path in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "tmp", "root", "run", "proc"):
        (root / path).mkdir(parents=True)
    for path in ("sys", "dev", "etc/ssl/certs", "usr/lib/ssl"):
        (root / path).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "usr/lib/ssl/certs").symlink_to("/etc/ssl/certs")  # of the package openssl
    excluded = [f"--exclude=./usr/share/{name}" for name in _LEFT_OUT]
    for package in sorted(packages.glob("*.deb")):
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE
        ) as unpacked:
            words = ["tar", "-x", "--keep-directory-symlink", *excluded]
            subprocess.run(words, cwd=root, stdin=unpacked.stdout, check=True)
    for name in ("python3", "python"):
        (root / "usr/bin" / name).symlink_to("python3.11")
    for name in _APPLETS:
        if not (root / "usr/bin" / name).exists():
            (root / "usr/bin" / name).symlink_to("busybox")
    for path, content in _FILES.items():
        (root / path).write_text(content)
    compiling = ["chroot", root, "python3", "-c", f"import {_COMPILED}"]
    subprocess.run(compiling, env={"PATH": PATH}, check=True)
    archive = folder / "image.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(root, ".", filter=_owned_by_root)
    return archive


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    if member.name in (".", "./tmp"):
        member.mode = 0o1777 if member.name == "./tmp" else 0o755
    return member
