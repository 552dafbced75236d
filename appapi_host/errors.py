"""What can go wrong on the host's side; the branch `HostError` of the tree in `exapp_sdk.errors`.

```
HostError
├── NotFoundError           no such app, daemon or user
├── BusyError               another process is at work on the app
├── AlreadyExistsError      the id, name or port is taken
├── InfoError               info.xml or JSON info is missing or broken; names each problem
├── DeployError             the app could not be put in place; last lines of its output
│   └── AppInterruptedError what it ran on went away under it, and is back
├── StepError               a step of the handshake failed; says which, why and what to try
│   └── StepTimeout         it took longer than its limit
└── RefusedError            the app refused to be enabled or disabled; its own words
```
"""

from collections.abc import Sequence
from typing import ClassVar

from exapp_sdk.errors import ExAppError

__all__ = [
    "AlreadyExistsError",
    "AppInterruptedError",
    "BusyError",
    "DeployError",
    "HostError",
    "InfoError",
    "NotFoundError",
    "RefusedError",
    "StepError",
    "StepTimeout",
]


class HostError(ExAppError):
    """Base of all errors that only the host raises.

    Args:
        cause: what happened, one sentence.
        remedy: what to try; empty where nobody can know.
        output: the last lines that the app printed, oldest first.
    """

    speaker: ClassVar[str] = "app"
    """Whose last lines `output` are."""

    is_unreachable: bool = False
    """The place where apps run could not be reached, so it may be different later."""

    def __init__(self, cause: str, *, remedy: str = "", output: Sequence[str] = ()) -> None:
        self.cause = cause
        self.remedy = remedy
        self.output = tuple(output)
        super().__init__(cause)


class NotFoundError(HostError):
    """No app, daemon or user of that name."""


class BusyError(HostError):
    """Another operation on the same app is under way.

    Args:
        app_id: the app.
        verb: what is being done to it.
        step: how far that is.
        pid: the process that does it.
    """

    def __init__(self, app_id: str, verb: str, step: str, pid: int) -> None:
        self.app_id = app_id
        self.verb = verb
        self.step = step
        self.pid = pid
        super().__init__(
            f"ExApp {app_id} is busy: process {pid} is about to {verb} it (step {step})",
            remedy=f"wait until it is done, or end process {pid} first",
        )


class AlreadyExistsError(HostError):
    """An app, daemon or user of that name is there already, or the port is taken."""


class InfoError(HostError):
    """The description of an app cannot be used.

    Args:
        source: file, URL or option it came from.
        problems: one sentence each, with the line where one is known.
        remedy: what to try.
        kind: `read` (not there), `load` (no XML), `json` (no JSON object), `routes`, `environment`,
            or `content` for the rest, with which AppAPI fails only when it stores the app.
        headline: the line that the real occ prints for it; empty for `content`.
    """

    def __init__(
        self,
        source: str,
        problems: Sequence[str],
        *,
        remedy: str = "",
        kind: str = "content",
        headline: str = "",
    ) -> None:
        self.source = source
        self.problems = tuple(problems)
        self.kind = kind
        self.headline = headline
        super().__init__(f"{source}: {'; '.join(problems)}", remedy=remedy)


class DeployError(HostError):
    """The app could not be put in place or started."""


class AppInterruptedError(DeployError):
    """What the app ran on went away under it, and has started it again."""


class StepError(HostError):
    """A step of the handshake failed.

    Args:
        step: name of the step: `deploy`, `heartbeat`, `init` or `enabled`.
        cause: what happened, one sentence.
        remedy: what to try.
        output: the last lines that the app printed.
    """

    def __init__(
        self, step: str, cause: str, *, remedy: str = "", output: Sequence[str] = ()
    ) -> None:
        self.step = step
        super().__init__(cause, remedy=remedy, output=output)


class StepTimeout(StepError):  # noqa: N818  # the field's word for it, as in style: StepTimeout
    """A step of the handshake took longer than its limit.

    Args:
        step: name of the step.
        seconds: the limit.
        cause: what was seen until then.
        remedy: what to try.
        output: the last lines that the app printed.
    """

    def __init__(
        self,
        step: str,
        seconds: float,
        cause: str = "",
        *,
        remedy: str = "",
        output: Sequence[str] = (),
    ) -> None:
        self.seconds = seconds
        text = f"no success within {seconds:g} s" + (f"; {cause}" if cause else "")
        super().__init__(step, text, remedy=remedy, output=output)


class RefusedError(StepError):
    """The app answered `PUT /enabled` with an error: its own words are the cause."""

    def __init__(self, error: str, *, output: Sequence[str] = ()) -> None:
        super().__init__(
            "enabled",
            error,
            remedy="the text comes from the app's enabled handler; its log says more",
            output=output,
        )
