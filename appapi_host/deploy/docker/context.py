"""What a build sends to the engine: a folder without what its .dockerignore leaves out, as tar.

Source: Docker documentation, Build context and .dockerignore.
"""

import os
import re
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from appapi_host.errors import DeployError

__all__ = ["IGNORE_FILE", "Context", "IgnoreRule", "IgnoreRules"]

IGNORE_FILE: Final = ".dockerignore"

_CHUNK: Final = 256 * 1024
_BLOCK: Final = 512
_END_OF_TAR: Final = bytes(2 * _BLOCK)
_TOKEN: Final = re.compile(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|\\.|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class IgnoreRule:
    """One line of a .dockerignore.

    Args:
        line: where it stands, from 1.
        pattern: as written, without `!` and what means nothing in a path.
        is_exception: begins with `!`: what fits is sent after all.
        expression: fits whole paths.
    """

    line: int
    pattern: str
    is_exception: bool
    expression: re.Pattern[str]

    def fits(self, path: str) -> bool:
        """Whether a path or one of the folders above it fits."""
        parts = path.split("/")
        return any(
            self.expression.fullmatch("/".join(parts[:depth])) for depth in range(1, len(parts) + 1)
        )


class IgnoreRules:
    """The lines of a .dockerignore; the last one that fits a path counts.

    Args:
        rules: in the order of the file.
    """

    def __init__(self, rules: tuple[IgnoreRule, ...] = ()) -> None:
        self.rules = rules

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Those of a folder; none if it has no such file."""
        try:
            text = (folder / IGNORE_FILE).read_text(encoding="utf-8-sig", errors="replace")
        except FileNotFoundError:
            return cls()
        return cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the file's text."""
        rules = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith("#"):
                continue
            pattern = line.strip()
            is_exception = pattern.startswith("!")
            if is_exception:
                pattern = pattern[1:].strip()
            cleaned = os.path.normpath(pattern).lstrip("/") if pattern else ""
            if cleaned and cleaned != ".":
                rules.append(IgnoreRule(number, cleaned, is_exception, _expression(cleaned)))
        return cls(tuple(rules))

    def excluding(self, path: str) -> IgnoreRule | None:
        """The rule that leaves a path out, None if it is sent.

        Args:
            path: from the folder, with `/`.
        """
        for rule in reversed(self.rules):
            if rule.fits(path):
                return None if rule.is_exception else rule
        return None

    def may_skip(self, path: str) -> bool:
        """Whether a folder need not be looked into.

        As with the docker command, an exception is looked for only in folders that it names.
        """
        return self.excluding(path) is not None and not any(
            rule.is_exception and f"{rule.pattern}/".startswith(f"{path}/") for rule in self.rules
        )


class Context:
    """A folder as the engine gets it.

    Args:
        folder: to be sent.
        always: paths that are sent even if a rule leaves them out: the Dockerfile.

    Raises:
        DeployError: the folder cannot be read.
    """

    def __init__(self, folder: Path, *, always: tuple[str, ...] = ()) -> None:
        self.folder = folder
        try:
            self.ignored = IgnoreRules.of(folder)
            self._entries = list(self._walk("", frozenset((*always, IGNORE_FILE))))
        except OSError as error:
            raise _unreadable(error) from error

    @property
    def files(self) -> int:
        """How many files are sent."""
        return sum(stat.S_ISREG(status.st_mode) for _, status in self._entries)

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(status.st_size for _, status in self._entries if stat.S_ISREG(status.st_mode))

    @property
    def paths(self) -> list[str]:
        """Everything that is sent, folders too, from the folder."""
        return [path for path, _ in self._entries]

    def tar(self) -> Iterator[bytes]:
        """The archive, piece by piece; it is never in memory or on disk as a whole.

        Owners are left out, as the docker command does: they mean nothing on the other side.

        Raises:
            DeployError: a file cannot be read.
        """
        try:
            for path, status in self._entries:
                yield from self._member(path, status)
        except OSError as error:
            raise _unreadable(error) from error
        yield _END_OF_TAR

    def _walk(self, prefix: str, always: frozenset[str]) -> Iterator[tuple[str, os.stat_result]]:
        for entry in sorted(os.scandir(self.folder / prefix), key=lambda entry: entry.name):
            path = f"{prefix}{entry.name}"
            status = entry.stat(follow_symlinks=False)
            is_sent = path in always or self.ignored.excluding(path) is None
            if is_sent and _is_sendable(status.st_mode):
                yield path, status
            if stat.S_ISDIR(status.st_mode) and not (
                self.ignored.may_skip(path) and not any(a.startswith(f"{path}/") for a in always)
            ):
                yield from self._walk(f"{path}/", always)

    def _member(self, path: str, status: os.stat_result) -> Iterator[bytes]:
        info = tarfile.TarInfo(path)
        info.mode = stat.S_IMODE(status.st_mode)
        info.mtime = int(status.st_mtime)
        if stat.S_ISDIR(status.st_mode):
            info.type = tarfile.DIRTYPE
            yield info.tobuf(tarfile.PAX_FORMAT)
        elif stat.S_ISLNK(status.st_mode):
            info.type = tarfile.SYMTYPE
            info.linkname = str((self.folder / path).readlink())
            yield info.tobuf(tarfile.PAX_FORMAT)
        else:
            with (self.folder / path).open("rb") as file:
                # Its size now: an editor may have saved it since the folder was looked through.
                info.size = missing = os.fstat(file.fileno()).st_size
                yield info.tobuf(tarfile.PAX_FORMAT)
                while missing:
                    piece = file.read(min(_CHUNK, missing)) or bytes(min(_CHUNK, missing))
                    missing -= len(piece)
                    yield piece
                yield bytes(-info.size % _BLOCK)


def _is_sendable(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)


def _expression(pattern: str) -> re.Pattern[str]:
    """A pattern of Go's filepath.Match, with `**` for any number of folders."""
    parts = []
    for token in _TOKEN.findall(pattern):
        match token:
            case "**/":
                parts.append("(?:.*/)?")
            case "**":
                parts.append(".*")
            case "*":
                parts.append("[^/]*")
            case "?":
                parts.append("[^/]")
            case _ if token.startswith("[") and len(token) > 1:
                parts.append(token)
            case _:
                parts.append(re.escape(token[-1]))
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error:
        return re.compile(re.escape(pattern))


def _unreadable(error: OSError) -> DeployError:
    return DeployError(
        f"{error.filename} cannot be read: {error.strerror}",
        remedy=f"make it readable, or leave it out with a line in {IGNORE_FILE}",
    )
