"""Which image an app gets, and how the engine comes by it.

AppAPI has changed its mind about names of images for a compute device, so all its forms are tried:
`image:tag-cpu`, `image-cpu:tag`, `image:tag`. What is tried and what comes of it is told.

Source: AppAPI 2.5 to 32.0.0; Docker Engine API, ImageCreate.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import anyio

from appapi_host.deploy.base import ReportProgress
from appapi_host.deploy.docker.build import LOCAL_REGISTRY
from appapi_host.deploy.docker.engine import Engine, EngineError
from appapi_host.deploy.docker.faults import explain
from appapi_host.errors import DeployError
from appapi_host.info_rules import DockerInstall
from appapi_host.records import Daemon

__all__ = ["PULLED_PERCENT", "Candidates", "PullProgress", "candidates", "fetch"]

PULLED_PERCENT: Final = 94
"""The progress at which AppAPI's deployment goes on from the pull."""

_ATTEMPTS: Final = 4
_FIRST_PAUSE: Final = 0.5
"""Seconds before a pull that was cut is taken up again; doubled each time."""

_DOWNLOAD_SHARE: Final = 0.8
"""How much of a layer's work is its download; the rest is its extraction."""

_A_LOOK_SECONDS: Final = 0.2
"""How often it is told how far a pull is that has not come to the next percent."""

_HOPELESS: Final = frozenset({"disk-full", "rate-limit", "forbidden"})
"""Faults that another name of the image would meet too."""

_REGISTRY_AWAY: Final = frozenset({"registry-down", "registry-unknown", "registry-dropped"})


@dataclass(frozen=True, slots=True)
class Candidates:
    """The references of an image to try, best first.

    Args:
        references: each with its tag.
        is_local: they are only looked for on the engine.
    """

    references: tuple[str, ...]
    is_local: bool = False


def candidates(image: DockerInstall, daemon: Daemon) -> Candidates:
    """What to try for an app on a daemon: names for its compute device, and mapped registries."""
    config = daemon.deploy_config
    device = config.get("computeDevice")
    device_id = str(device.get("id") or "") if isinstance(device, Mapping) else ""
    mapped = _mapped(image.registry, config.get("registries") or ())
    is_local = mapped == "local"
    base = f"{image.registry if is_local else mapped}/{image.image}"
    if image.registry == LOCAL_REGISTRY:
        return Candidates((f"{base}:{image.image_tag}",), is_local=True)
    names = []
    if device_id:
        names.append(f"{base}:{image.image_tag}-{device_id}")
        if config.get("name_suffix", True):
            names.append(f"{base}-{device_id}:{image.image_tag}")
    names.append(f"{base}:{image.image_tag}")
    return Candidates(tuple(names), is_local=is_local)


def _mapped(registry: str, mappings: Any) -> str:
    """Where images of a registry come from on this daemon.

    Source: AppAPI 32.0.0; `local` switches pulling off for the registry, whatever stands above.
    """
    ends = [str(entry.get("to", "")) for entry in mappings if entry.get("from") == registry]
    if "local" in ends:
        return "local"
    return ends[0].rstrip("/") if ends else registry


async def fetch(
    engine: Engine, wanted: Candidates, report: ReportProgress, tell: Callable[[str], None]
) -> str:
    """See to it that the engine has the image.

    Args:
        engine: where it is needed.
        wanted: what to try.
        report: told the percentage, 0 to 94.
        tell: told each name and its outcome.

    Returns:
        The reference that is there.

    Raises:
        DeployError: none of them can be had; all are named with the reason.
    """
    outcomes: list[tuple[str, EngineError | None]] = []
    is_away = False
    for reference in wanted.references:
        if wanted.is_local or is_away:
            if await engine.image(reference) is not None:
                tell(f"image {reference}: already on the engine, used without asking a registry")
                await report(PULLED_PERCENT)
                return reference
            outcomes.append((reference, None))
            tell(f"image {reference}: not on the engine")
            continue
        try:
            pulled = await _pull(engine, reference, report, tell)
        except EngineError as error:
            if not error.status or error.kind in ("password", "proxied"):
                raise  # no answer of the engine: another name would get none either
            outcomes.append((reference, error))
            tell(f"image {reference}: {_outcome(error)}")
            if error.kind in _HOPELESS:
                break
            if error.kind in _REGISTRY_AWAY:
                is_away = True
                if await engine.image(reference) is not None:
                    tell(f"image {reference}: already on the engine, used as it is")
                    await report(PULLED_PERCENT)
                    return reference
            continue
        tell(f"image {reference}: {pulled}")
        await report(PULLED_PERCENT)
        return reference
    raise _none_of(outcomes, engine)


def _outcome(error: EngineError) -> str:
    return "not in the registry" if error.kind == "not-found" else error.cause


def _none_of(outcomes: list[tuple[str, EngineError | None]], engine: Engine) -> DeployError:
    errors = [error for _, error in outcomes if error is not None]
    if not errors:
        return DeployError(
            f"the image is not on the engine {engine.shown}: "
            + ", ".join(reference for reference, _ in outcomes),
            remedy="it is never pulled: build or load it there first, or take the mapping of its "
            "registry to `local` away (app_api:daemon:registry:remove)",
        )
    # What is wrong besides a name that does not exist is what a person can do something about.
    told = next((error for error in errors if error.kind != "not-found"), errors[-1])
    lines = [
        f"{reference}: {'not on the engine' if error is None else _outcome(error)}"
        for reference, error in outcomes
    ]
    return DeployError("no image could be had: " + "; ".join(lines), remedy=told.remedy)


async def _pull(
    engine: Engine, reference: str, report: ReportProgress, tell: Callable[[str], None]
) -> str:
    """Pull, and take up again what was cut; the engine keeps the layers that are complete."""
    progress = PullProgress()
    pause = _FIRST_PAUSE
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with engine.pull(reference) as messages:
                return await _read(engine, messages, progress, report)
        except EngineError as error:
            if error.kind == "timeout" and progress.has_begun:
                raise _stalled(reference, engine.silence) from error
            # Nothing was cut if the engine was never reached.
            was_reached = progress.has_begun or error.kind in ("dropped", "registry-dropped")
            is_cut = error.is_unreachable or error.kind == "registry-dropped"
            if attempt == _ATTEMPTS or not is_cut or not was_reached:
                raise
            tell(f"image {reference}: {error.cause}; trying again ({attempt} of {_ATTEMPTS - 1})")
            if not await engine.is_back():
                raise engine.gone() from error
        await anyio.sleep(pause)
        pause *= 2
    raise AssertionError  # pragma: no cover  # the last attempt returns or raises


def _stalled(reference: str, seconds: float) -> EngineError:
    return EngineError(
        "stalled",
        f"the registry of {reference} has sent nothing for {seconds:g} s",
        remedy="see whether it is busy or the network slow, and try again; finished layers are "
        "kept",
    )


async def _read(
    engine: Engine,
    messages: AsyncIterator[dict[str, Any]],
    progress: "PullProgress",
    report: ReportProgress,
) -> str:
    percent, told = progress.percent, 0.0
    async for message in messages:
        if "error" in message or "errorDetail" in message:
            detail = message.get("errorDetail") or {}
            said = str(message.get("error") or detail.get("message") or detail)
            raise explain(engine.shown, said, status=200)
        progress.note(message)
        now = time.monotonic()
        if progress.percent > percent or now >= told + _A_LOOK_SECONDS:
            percent, told = progress.percent, now
            await report(percent, progress.detail)
    if not progress.is_complete:
        raise explain(engine.shown, "the stream of the pull ended too early")
    return progress.summary


@dataclass(slots=True)
class _Layer:
    """How far a layer is; sizes in bytes."""

    size: int = 0
    downloaded: int = 0
    extracted: int = 0
    is_done: bool = False
    was_there: bool = False


@dataclass(slots=True)
class PullProgress:
    """How far a pull is, by what the engine says about each layer."""

    is_complete: bool = False
    _layers: dict[str, _Layer] = field(default_factory=dict)
    _status: str = ""
    _began: float = field(default_factory=time.monotonic)
    _best: int = 0

    @property
    def has_begun(self) -> bool:
        """Whether the engine has found the image."""
        return bool(self._status or self._layers)

    @property
    def percent(self) -> int:
        """0 to 94, never less than before."""
        layers = self._layers.values()
        known = [layer.size for layer in layers if layer.size]
        # What has not begun is taken for as large as the average of what has.
        typical = sum(known) / len(known) if known else 1.0
        total = done = 0.0
        for layer in layers:
            if layer.was_there:
                continue
            size = layer.size or typical
            total += size
            if layer.is_done:
                done += size
            else:
                done += _DOWNLOAD_SHARE * layer.downloaded
                done += (1 - _DOWNLOAD_SHARE) * layer.extracted
        if self.is_complete:
            self._best = PULLED_PERCENT
        elif total:
            self._best = max(self._best, int(PULLED_PERCENT * min(1.0, done / total)))
        return self._best

    @property
    def detail(self) -> str:
        """Bytes and layers, for people; empty before there are any."""
        new = [layer for layer in self._layers.values() if not layer.was_there]
        done = sum(layer.size if layer.is_done else layer.downloaded for layer in new)
        if not done:
            return ""
        size = f"{done / 1e6:.1f}"
        if all(layer.size for layer in new):  # otherwise nobody knows yet how much it will be
            size += f" of {sum(layer.size for layer in new) / 1e6:.1f}"
        return f"{size} MB, {sum(layer.is_done for layer in new)} of {len(new)} layers"

    @property
    def summary(self) -> str:
        """What was done, for people."""
        new = [layer for layer in self._layers.values() if not layer.was_there]
        size = sum(layer.size for layer in new)
        if not new:
            return "up to date"
        seconds = time.monotonic() - self._began
        return f"pulled, {len(new)} layers, {size / 1e6:.1f} MB in {seconds:.1f} s"

    def note(self, message: Mapping[str, Any]) -> None:
        """Take in one message of the stream."""
        status = str(message.get("status") or "")
        name = str(message.get("id") or "")
        self._status = status or self._status
        if status.startswith(("Status:", "Download complete for")) or "images" in message:
            self.is_complete = True  # the latter is Podman's last word
        if not name or not status or status.startswith(("Pulling from", "Digest:")):
            # Podman's very last message has an id and nothing else.
            self.is_complete = self.is_complete or (bool(name) and not status and len(name) >= 12)
            return
        layer = self._layers.setdefault(name, _Layer())
        detail = message.get("progressDetail") or {}
        current, total = int(detail.get("current") or 0), int(detail.get("total") or 0)
        layer.size = max(layer.size, total)
        if status == "Downloading":
            layer.downloaded = current
        elif status in ("Verifying Checksum", "Download complete"):
            layer.downloaded = layer.size
        elif status == "Extracting":
            layer.downloaded, layer.extracted = layer.size, current
        elif status == "Pull complete":
            layer.is_done = True
        elif status == "Already exists":
            layer.is_done = layer.was_there = True
