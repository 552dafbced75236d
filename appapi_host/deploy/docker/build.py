"""The image of an app's folder, built by the engine.

What is built gets a name of its own, which no registry has: it never stands in for a published
image, and nobody asks a registry for it. The engine's classic builder does the work, because the
newer one can only be used with a client of its own.

Source: Docker Engine API, ImageBuild; Dockerfile reference.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import anyio

from appapi_host.deploy.docker.context import Context, IgnoreRules
from appapi_host.deploy.docker.engine import Engine, EngineError
from appapi_host.deploy.docker.faults import explain
from appapi_host.errors import DeployError
from appapi_host.info_xml import AppInfo

__all__ = [
    "DOCKERFILE",
    "LOCAL_REGISTRY",
    "BuildError",
    "BuildStep",
    "Builder",
    "Instruction",
    "image_name",
    "instructions",
]

DOCKERFILE: Final = "Dockerfile"

LOCAL_REGISTRY: Final = "localhost"
"""Where images of ours seem to come from. Podman uses the same word for what it has built."""

LAST_LINES: Final = 20

_LONGEST: Final = 100
"""Characters of an instruction that are shown."""

_STEP: Final = re.compile(r"\AStep (\d+)/(\d+) ?: ?(.*)|\ASTEP (\d+)/(\d+): (.*)", re.DOTALL)
_LAYER: Final = re.compile(r"\A ?---> ([0-9a-f]{12,})\s*\Z|\A--> ([0-9a-f]{11,})\s*\Z")
_RUNNING: Final = re.compile(r"\A ---> Running in ([0-9a-f]{12,})")
_BOOKKEEPING: Final = re.compile(
    r"\A ?--->|\ARemoving intermediate container|\ASuccessfully (built|tagged)|\A--> |\ACOMMIT "
)
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_MISSING: Final = re.compile(r"\bl?stat (\S+?):? (?:file does not exist|no such file)")
_DIRECTIVE: Final = re.compile(r"\A#\s*(\w+)\s*=\s*(\S+)\s*\Z")
_NAMED_LINE: Final = re.compile(r"\b(?:on )?line (\d+)", re.IGNORECASE)
_CLEANUP_SECONDS: Final = 10.0

_EXAMPLE: Final = """\
FROM python:3.11-slim
COPY requirements.txt /app/
RUN pip install --no-cache-dir -r /app/requirements.txt
COPY . /app
WORKDIR /app
CMD ["python", "ex_app/lib/main.py"]"""


@dataclass(frozen=True, slots=True)
class BuildStep:
    """A step of a build begins.

    Args:
        number: from 1.
        total: of all steps.
        text: the instruction.
    """

    number: int
    total: int
    text: str

    @property
    def percent(self) -> int:
        """How much of the build is done when it begins."""
        return 100 * (self.number - 1) // self.total


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile.

    Args:
        line: where it begins, from 1.
        text: without line continuations.
    """

    line: int
    text: str


class BuildError(DeployError):
    """An image could not be built; `output` is what the build printed last."""

    speaker: ClassVar[str] = "build"


def instructions(text: str) -> list[Instruction]:
    """What a Dockerfile consists of, to find the line of a step by its number."""
    found: list[Instruction] = []
    escape = "\\"
    parts: list[str] = []
    begin = 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not found and not parts and (directive := _DIRECTIVE.match(stripped)):
            if directive[1].lower() == "escape":
                escape = directive[2]
            continue
        if not stripped or stripped.startswith("#"):
            continue  # between the lines of an instruction too
        begin = begin if parts else number
        parts.append(stripped.removesuffix(escape).strip())
        if not stripped.endswith(escape):
            found.append(Instruction(begin, " ".join(parts)))
            parts = []
    if parts:
        found.append(Instruction(begin, " ".join(parts)))
    return found


def image_name(info: AppInfo) -> tuple[str, str]:
    """Name and tag of the image that is built for an app; a reference is valid with both."""
    name = re.sub(r"[^a-z0-9]+", "-", info.id.lower()).strip("-") or "app"
    tag = re.sub(r"[^A-Za-z0-9_.-]", "-", info.version)[:128].lstrip("-.") or "latest"
    return f"exapp/{name}", tag


class Builder:
    """One build of a folder's image.

    Args:
        engine: builds it.
        folder: with a Dockerfile.
        reference: name and tag of the image.
        labels: of the image.
        arguments: values for `ARG` instructions.
        on_step: told of each step.
    """

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        *,
        reference: str,
        labels: Mapping[str, str],
        arguments: Mapping[str, str],
        on_step: Callable[[BuildStep], None],
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._reference = reference
        self._labels = labels
        self._arguments = arguments
        self._on_step = on_step
        self._instructions: list[Instruction] = []
        self._ignored = IgnoreRules()
        self._step: BuildStep | None = None
        self._layer = ""
        self._image = ""
        self._container = ""
        self._output: list[str] = []
        self._begun_line = ""

    async def context(self) -> Context:
        """What will be sent.

        Raises:
            BuildError: there is no Dockerfile.
            DeployError: the folder cannot be read.
        """
        return await anyio.to_thread.run_sync(self._look)

    async def run(self, context: Context) -> str:
        """Build and tag the image.

        Returns:
            Its id.

        Raises:
            BuildError: an instruction failed, or the Dockerfile is wrong.
            EngineError: the engine cannot be reached, or the connection was cut.
        """
        build = self._engine.build(
            context.tar(),
            reference=self._reference,
            dockerfile=DOCKERFILE,
            arguments=self._arguments,
            labels=self._labels,
        )
        self._ignored = context.ignored
        try:
            async with AsyncExitStack() as stack:
                try:
                    messages = await stack.enter_async_context(build)
                except EngineError as error:
                    raise self._refused(error) from error
                await self._read(messages)
        except BaseException:
            await self._remove_container()
            raise
        if not self._image:
            raise self._failed("the build ended without an image")
        return self._image

    def _look(self) -> Context:
        path = self._folder / DOCKERFILE
        try:
            text = path.read_text(encoding="utf-8-sig", errors="replace")
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            raise BuildError(
                f"there is no {path}" if missing else f"{path} cannot be read: {error.strerror}",
                remedy=f"it says how to build the app's image, for example\n{_EXAMPLE}",
            ) from error
        self._instructions = instructions(text)
        if not self._instructions:
            raise BuildError(f"{path} is empty", remedy=f"for example\n{_EXAMPLE}")
        return Context(self._folder, always=(DOCKERFILE,))

    async def _read(self, messages: AsyncIterator[dict[str, Any]]) -> None:
        async for message in messages:
            if "error" in message or "errorDetail" in message:
                detail = message.get("errorDetail") or {}
                raise self._failed(str(detail.get("message") or message.get("error")).strip())
            if image := (message.get("aux") or {}).get("ID"):
                self._image = str(image)
            elif text := message.get("stream"):
                self._note(str(text))
            elif (status := message.get("status")) and not message.get("progressDetail"):
                self._output.append(f"{message.get('id', '')} {status}".strip())
            del self._output[:-LAST_LINES]

    def _note(self, text: str) -> None:
        if step := _STEP.match(text):
            number, total, what = (group for group in step.groups() if group is not None)
            known = len(self._instructions)
            self._step = BuildStep(int(number), min(int(total), known), " ".join(what.split()))
            self._output.clear()
            self._begun_line = ""
            if self._step.number <= known:  # the engine adds steps of its own for labels
                self._on_step(self._step)
        elif layer := _LAYER.match(text):
            self._layer, self._container = layer[1] or layer[2], ""
        elif running := _RUNNING.match(text):
            self._container = running[1]
        elif not _BOOKKEEPING.match(text):
            self._print(_COLOUR.sub("", text))  # it colours what went to standard error

    def _print(self, text: str) -> None:
        """Take in what a command printed; the engine cuts it where it likes."""
        *lines, self._begun_line = (self._begun_line + text).split("\n")
        self._output += [line.rstrip() for line in lines if line.strip()]

    @property
    def _printed(self) -> list[str]:
        rest = self._begun_line.rstrip()
        return [*self._output, *([rest] if rest else [])]

    async def _remove_container(self) -> None:
        """The container of a `RUN` that did not end; the engine removes it only when it notices."""
        if not self._container:
            return
        with anyio.move_on_after(_CLEANUP_SECONDS, shield=True):
            try:
                await self._engine.remove(self._container)
            except EngineError:
                return  # the engine is gone, or removes it at this moment

    def _refused(self, error: EngineError) -> DeployError:
        """The engine did not begin: it is not there, or cannot read the Dockerfile."""
        said = error.cause
        if error.status != 400:
            return error
        return self._failed(said.removeprefix(f"{self._engine.shown} answered: "))

    def _failed(self, said: str) -> BuildError:
        """What a person can do something with: instruction, line, reason, remedy."""
        cause = f"{self._where(said)}{said}"
        if self._step and "--from=" in self._step.text and _MISSING.search(said):
            return BuildError(cause, remedy=_STAGE_REMEDY, output=self._printed)
        for remedy in _REMEDIES:
            if re.search(remedy.pattern, said, re.IGNORECASE):
                text = remedy.text.format(
                    layer=self._layer or "IMAGE",
                    rule=self._excluding(said),
                    folder=self._folder,
                )
                return BuildError(cause, remedy=text, output=self._printed)
        if self._step and self._step.text.upper().startswith("FROM "):
            return BuildError(cause, remedy=_BASE_REMEDY, output=self._printed)
        known = explain(self._engine.shown, said, status=200)
        text = known.remedy if known.kind in _ENGINE_KINDS else _UNKNOWN_REMEDY
        return BuildError(cause, remedy=text, output=self._printed)

    def _where(self, said: str) -> str:
        """The instruction that failed, and its line in the Dockerfile."""
        if self._step:
            text, number = self._step.text, self._step.number
            line = self._instructions[number - 1].line if number <= len(self._instructions) else 0
        else:
            named = _NAMED_LINE.search(said)
            line = int(named[1]) if named else 0
            text = next((i.text for i in self._instructions if i.line == line), "")
        place = f"{DOCKERFILE} line {line}" if line else DOCKERFILE
        if not text:
            return f"{place}: "
        return f"{place}, {text if len(text) <= _LONGEST else text[: _LONGEST - 1] + '…'}\n"

    def _excluding(self, said: str) -> str:
        """Which line of .dockerignore is to blame for a file that is missing."""
        missing = _MISSING.search(said)
        rule = self._ignored.excluding(missing[1].strip("/")) if missing else None
        if rule is None:
            return ""
        return f"line {rule.line} of .dockerignore leaves it out: {rule.pattern}; "


_UNKNOWN_REMEDY: Final = "`docker build` in the folder shows the same"
_BASE_REMEDY: Final = (
    "the base image is not on the engine, and the engine cannot pull it: check the name after "
    "FROM; with ARG BASE and FROM $BASE another one can be given as --build-arg BASE=NAME"
)
_STAGE_REMEDY: Final = (
    "the path counts from the root of the stage or image that --from names, and must be there"
)
_ENGINE_KINDS: Final = frozenset({"disk-full", "memory-limit", "platform"})
"""Faults of an engine that have the same remedy in a build."""


@dataclass(frozen=True, slots=True)
class _Remedy:
    """What to do about something that the builder says."""

    pattern: str
    text: str


_REMEDIES: Final = (
    _Remedy(
        r"returned a non-zero code: 127\b|exit status 127\b",
        "the command is not in the image at that point: install it first, or use another base "
        "image; `docker run --rm -it {layer} sh` shows what is there",
    ),
    _Remedy(
        r"returned a non-zero code|exit status \d+",
        "the last lines of the build should say why; `docker run --rm -it {layer} sh` is the "
        "state before this instruction",
    ),
    _Remedy(
        r"COPY failed|ADD failed|l?stat \S+:? (?:file does not exist|no such file)",
        "{rule}paths in COPY and ADD count from {folder}, and must be inside it",
    ),
    _Remedy(
        r"requires BuildKit|unknown flag: (?:mount|chmod|link|parents|exclude|network|security)",
        "this needs BuildKit, and the host builds with the engine's classic builder: write it "
        "without, for instance RUN without --mount",
    ),
    _Remedy(
        r"unknown instruction|unknown flag",
        "see whether it is misspelt, or the line before needs a \\ at its end; heredocs (<<) need "
        "BuildKit, and the host builds with the engine's classic builder",
    ),
)
"""The first one that fits counts; `{layer}`, `{rule}` and `{folder}` are filled in."""
