"""Install the programs that tests start, where that can be done without asking anybody.

usage: python -m tests.install

As root on Debian, packages that are missing are installed; elsewhere nothing happens, and the tests
say what they miss.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ENGINES = {
    "dockerd": "docker.io",
    "iptables": "iptables",
    "docker-registry": "docker-registry",
    "haproxy": "haproxy",
    "podman": "podman",
    "runc": "runc",
    "openssl": "openssl",
    "ip": "iproute2",
    "debootstrap": "debootstrap",
}
"""Program → the Debian package that it is in; for `tests/docker`."""

BROWSER = {"chromium": "chromium", "chromedriver": "chromium-driver"}
"""The same for `tests/browser`."""

LITMUS = {"litmus": "litmus"}
"""The same for `tests/live/test_files_litmus.py`."""

PEERS = {"nginx": "nginx-light"}
"""The same for `tests/benchmarks`."""

# An unprivileged user's PATH leaves out where Debian puts the daemons.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def missing(programs: Mapping[str, str]) -> list[str]:
    """Those that are not there."""
    return [program for program in programs if shutil.which(program, path=PATH) is None]


def is_debian() -> bool:
    """Whether packages can be installed by their Debian names."""
    release = Path("/etc/os-release")
    return shutil.which("apt-get") is not None and (
        release.is_file() and "debian" in release.read_text(encoding="utf-8")
    )


def engine_obstacle() -> str:
    """Why tests with engines cannot run here; empty if they can."""
    if not sys.platform.startswith("linux"):
        return "they start engines of their own, which needs Linux"
    if os.geteuid() != 0:
        return "they start engines of their own, which needs root"
    if not is_debian():
        return "they make their images of Debian packages, which needs Debian"
    return _lacking(ENGINES)


def browser_obstacle() -> str:
    """Why tests with a browser cannot run here; empty if they can."""
    return _lacking(BROWSER)


def litmus_obstacle() -> str:
    """Why the tests of WebDAV with litmus cannot run here; empty if they can."""
    return _lacking(LITMUS)


def _lacking(programs: Mapping[str, str]) -> str:
    lacking = ", ".join(missing(programs))
    remedy = "`python -m tests.install` as root on Debian installs what is missing"
    return f"{lacking} not found: {remedy}" if lacking else ""


def main() -> int:
    """Install the packages; returns the exit code."""
    programs = ENGINES | BROWSER | PEERS | LITMUS
    lacking = missing(programs)
    if not lacking or os.geteuid() != 0 or not is_debian():
        return 0
    # A package that starts its daemon would do so before the tests can say where.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    packages = [programs[program] for program in lacking]
    for words in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-qy", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(words, env=environment, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
