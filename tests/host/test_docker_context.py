"""What a build sends: the folder without what its .dockerignore leaves out."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from docker.utils import exclude_paths
from hypothesis import given, settings
from hypothesis import strategies as st

from appapi_host.deploy.docker.context import Context, IgnoreRules
from appapi_host.errors import DeployError


def write(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return folder


def unpacked(context: Context) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(context.tar()))) as archive:
        return {member.name: member for member in archive.getmembers()}


@pytest.mark.parametrize(
    ("pattern", "left_out", "sent"),
    [
        ("*.pyc", ["a.pyc"], ["sub/a.pyc", "a.py"]),
        ("**/*.pyc", ["a.pyc", "sub/a.pyc", "sub/deep/a.pyc"], ["a.py"]),
        ("node_modules", ["node_modules", "node_modules/x/y"], ["sub/node_modules"]),
        ("/build/", ["build", "build/x"], ["sub/build"]),
        ("docs/*", ["docs/a", "docs/b/c"], ["docs", "a"]),
        ("docs/**", ["docs/a", "docs/b/c"], ["docs"]),
        ("**/secret", ["secret", "a/secret", "a/b/secret/c"], ["secrets"]),
        ("te?t", ["test", "text"], ["tet", "te/t"]),
        ("[ab].txt", ["a.txt", "b.txt"], ["c.txt", "[ab].txt"]),
        ("[^a].txt", ["b.txt"], ["a.txt"]),
        (r"\*.txt", ["*.txt"], ["a.txt"]),
        ("[z-a]", ["[z-a]"], ["z"]),
        ("a+b(1).txt", ["a+b(1).txt"], ["aab1.txt"]),
        ("./a/../b", ["b"], ["a"]),
        ("  spaced  ", ["spaced"], ["other"]),
    ],
)
def test_patterns_mean_what_the_documentation_says(
    pattern: str, left_out: list[str], sent: list[str]
) -> None:
    rules = IgnoreRules.parse(pattern)
    assert [path for path in left_out if rules.excluding(path) is None] == []
    assert [path for path in sent if rules.excluding(path) is not None] == []


def test_last_pattern_that_fits_counts() -> None:
    rules = IgnoreRules.parse("# comment\n\n*.md\n!README.md\n!docs/*.md\nREADME-secret.md\n.\n!\n")
    assert rules.excluding("README.md") is None
    assert rules.excluding("docs/a.md") is None
    found = rules.excluding("other.md")
    assert found is not None
    assert (found.line, found.pattern) == (3, "*.md")
    assert rules.excluding("README-secret.md") is not None


FOLDERS = st.lists(st.sampled_from(["a", "b", "data"]), max_size=2)
NAMES = st.sampled_from(["a", "b", "c.py", "c.pyc", "data"])
PATHS = st.builds(lambda folders, name: "/".join([*folders, name]), FOLDERS, NAMES)
# No folder fits `**/*.pyc`: the docker command takes what is in such a one for excluded as we do,
# and the library does not if there is an exception.
PATTERNS = st.one_of(
    st.builds("{}{}".format, st.sampled_from(["", "!"]), PATHS),
    st.sampled_from(["*", "*.pyc", "a/*", "*/b", "?", "data/**", "**/*.pyc", "!a/*.py"]),
)


@settings(max_examples=300, deadline=None)
@given(patterns=st.lists(PATTERNS, max_size=4), paths=st.lists(PATHS, min_size=1, max_size=6))
def test_files_are_chosen_as_the_library_of_docker_chooses_them(
    patterns: list[str], paths: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("context")
    for path in paths:
        if (
            not any((folder / part).is_file() for part in Path(path).parents)
            and not (folder / path).is_dir()
        ):
            write(folder, path)
    (folder / ".dockerignore").write_text("\n".join(patterns))
    expected = exclude_paths(str(folder), patterns)
    files = {p for p in Context(folder).paths if (folder / p).is_file()} - {".dockerignore"}
    assert files == {p for p in expected if (folder / p).is_file()} - {".dockerignore"}


def test_dockerfile_and_the_patterns_themselves_are_always_sent(tmp_path: Path) -> None:
    write(tmp_path, "Dockerfile", "main.py", "sub/x")
    (tmp_path / ".dockerignore").write_text("*\n")
    assert Context(tmp_path, always=("Dockerfile",)).paths == [".dockerignore", "Dockerfile"]


def test_exception_below_a_folder_that_is_left_out_is_found(tmp_path: Path) -> None:
    write(tmp_path, "data/a", "data/keep/b", "main.py")
    (tmp_path / ".dockerignore").write_text("data\n!data/keep\n")
    assert Context(tmp_path).paths == [".dockerignore", "data/keep", "data/keep/b", "main.py"]


def test_tar_holds_files_folders_links_and_modes_but_no_owners(tmp_path: Path) -> None:
    write(tmp_path, "sub/run.sh", "empty")
    (tmp_path / "empty").write_text("")
    (tmp_path / "sub" / "run.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("sub/run.sh")
    (tmp_path / "long" / ("x" * 150)).mkdir(parents=True)
    (tmp_path / "größe.txt").write_text("ü")
    os.mkfifo(tmp_path / "pipe")
    context = Context(tmp_path)
    members = unpacked(context)
    assert sorted(members) == sorted(
        ["empty", "größe.txt", "link", "long", f"long/{'x' * 150}", "sub", "sub/run.sh"]
    )
    assert members["sub/run.sh"].mode == 0o755
    assert members["sub"].isdir()
    assert (members["link"].issym(), members["link"].linkname) == (True, "sub/run.sh")
    assert {(m.uid, m.gid, m.uname) for m in members.values()} == {(0, 0, "")}
    assert (context.files, context.size) == (3, len("sub/run.sh") + 2)


def test_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    content = os.urandom(700_001)
    (tmp_path / "big").write_bytes(content)
    pieces = list(Context(tmp_path).tar())
    assert max(map(len, pieces)) <= 256 * 1024
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        file = archive.extractfile("big")
        assert file is not None
        assert file.read() == content


def test_file_that_grows_or_shrinks_meanwhile_does_not_break_the_tar(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    context = Context(tmp_path)
    (tmp_path / "a").write_text("longer than before")
    (tmp_path / "b").write_text("")
    members = unpacked(context)
    assert (members["a"].size, members["b"].size) == (18, 0)


def test_file_that_vanishes_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a")
    context = Context(tmp_path)
    (tmp_path / "a").unlink()
    with pytest.raises(DeployError, match="/a cannot be read: No such file"):
        list(context.tar())


def test_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="nope cannot be read") as caught:
        Context(tmp_path / "nope")
    assert ".dockerignore" in caught.value.remedy
