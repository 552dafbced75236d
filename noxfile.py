"""What is checked before a change goes in; `nox` alone runs tests, lint and typing."""

import subprocess
import sys

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests", "lint", "typing"]
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"

PROJECT = nox.project.load_toml("pyproject.toml")
VERSIONS = nox.project.python_versions(PROJECT)


def runs(version: str) -> bool:
    """Whether this interpreter is here and starts; a version manager's empty shim is not."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return True
    try:
        found = subprocess.run([f"python{version}", "-c", ""], capture_output=True, check=False)
    except OSError:
        return False
    return found.returncode == 0


PRESENT = [version for version in VERSIONS if runs(version)]


def install(session: nox.Session, *groups: str, extra: str) -> None:
    """Install the checkout, editable so that coverage sees these files, and what the session needs.

    Args:
        session: the session to install into.
        groups: dependency groups of pyproject.toml.
        extra: the extra of ours that brings what is tested.
    """
    wanted = nox.project.dependency_groups(PROJECT, *groups)
    session.install("-e", f".[{extra}]", *wanted)


PARALLEL = ("-n", "2")
"""Two processes: one for the tests with engines, which mostly wait; `-n 0` after it is none."""


@nox.session(python=PRESENT)
def tests(session: nox.Session) -> None:
    """The whole suite with branch coverage, processes that it starts included.

    As root on Debian it installs engines and a browser for the tests that start them; where they
    are missing, those tests are skipped.
    """
    install(session, "dev", "browser", extra="test")
    session.run("python", "-m", "tests.install")
    # Not in the session's folder for temporary files: below it, names of sockets grow too long.
    session.env["COVERAGE_FILE"] = f"{session.virtualenv.location}/coverage"
    session.run("coverage", "erase")
    # Compiled once instead of by each of the hundreds of processes that tests start.
    session.run("python", "-m", "compileall", "-q", "appapi_host", "exapp_sdk")
    session.run("coverage", "run", "-m", "pytest", *PARALLEL, *session.posargs)
    session.run("coverage", "combine", "--quiet")
    if not session.posargs:  # a part of the suite cannot reach the floor
        session.run("coverage", "report")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and layout of every Python file."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")


@nox.session
def typing(session: nox.Session) -> None:
    """Strict types of both packages, as their users see them."""
    install(session, "typing", extra="test")
    session.run("mypy")


BENCHMARKS = ("run", "ocs", "proxy", "containers", "many_apps", "info_xml")


@nox.session
def bench(session: nox.Session) -> None:
    """The tables of speed, from one run; fails in the end when a limit is missed.

    As root on Debian it installs the engine that one of them starts. `nox -s bench -- run --rounds
    15` runs one of them with its options.
    """
    install(session, "bench", extra="test")
    session.run("python", "-m", "tests.install")
    wanted, options = BENCHMARKS, session.posargs
    if options and options[0] in BENCHMARKS:
        wanted, options = options[:1], options[1:]
    missed = []
    for name in wanted:
        try:
            session.run("python", f"tests/benchmarks/{name}.py", *options)
        except CommandFailed:
            missed.append(name)
    if missed:
        session.error(f"limits are missed: {', '.join(missed)}")


@nox.session
def fuzz(session: nox.Session) -> None:
    """20,000 generated requests to the OCS API of a running host; fails when one breaks it."""
    install(session, "dev", extra="test")
    session.run("python", "-m", "tests.fuzz.ocs", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The pages as HTML in site/; a dead link is an error."""
    session.install(*nox.project.dependency_groups(PROJECT, "docs"))
    session.run("mkdocs", "build", "--strict", "--config-file", ".mkdocs.yml")
