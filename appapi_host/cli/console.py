"""What a person sees: plain lines for pipes and files, ticks and bars at a terminal.

A `Console` is a subscriber of the host's `EventBus`. The plain form is stable, because scripts read
it: a label, two spaces, the rest. rich is imported at a terminal only.
"""

import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TextIO

from appapi_host.errors import HostError, InfoError, StepError
from appapi_host.events import (
    AppOutput,
    Direction,
    Event,
    Exchange,
    Notice,
    ProgressChanged,
    StepFailed,
    StepFinished,
    StepStarted,
)
from exapp_sdk.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID

__all__ = [
    "Address",
    "Console",
    "Failure",
    "ProgressOnly",
    "TerminalConsole",
    "forget",
    "open_console",
]

_LABEL_WIDTH: Final = len(Direction.HOST_TO_APP)
_AT_ONCE: Final = 1.0
"""Seconds below which a repeated heartbeat or the progress of a deployment is not worth a line."""

_AT_ONCE_PERCENT: Final = 94
"""What a deployment comes to when nothing had to be pulled."""

_STATUS_REPORTS: Final = ("/ex-app/status", "/apps/status/")
_ESCAPES: Final = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)?")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that went wrong, ready to be shown.

    Args:
        title: what could not be done.
        causes: what happened, one sentence each.
        remedy: what to try.
        output: the last lines that the app printed.
        speaker: who printed them, if it was not the app.
    """

    title: str
    causes: tuple[str, ...]
    remedy: str = ""
    output: tuple[str, ...] = ()
    speaker: str = "app"

    @classmethod
    def of(cls, error: Exception, *, title: str = "") -> Self:
        """What an error of ours has to say."""
        if isinstance(error, InfoError):
            return cls(title or f"{error.source} cannot be used", error.problems, error.remedy)
        if isinstance(error, StepError):
            head = f"{title} ({error.step})" if title else f"the step {error.step} failed"
            return cls(head, (error.cause,), error.remedy, error.output)
        if isinstance(error, HostError):
            causes = (error.cause,) if title else ()
            return cls(title or error.cause, causes, error.remedy, error.output, error.speaker)
        if isinstance(error, ConfigError):
            remedy = f"for example\n{error.example}" if error.example else ""
            return cls(title or "wrong configuration", error.problems, remedy)
        return cls(title or str(error), (str(error),) if title else ())


@dataclass(frozen=True, slots=True)
class Address:
    """An address of an app that a person can open.

    Args:
        url: what to type into a browser.
        who: who may.
        pattern: the route's regular expression where it says more than the URL.
    """

    url: str
    who: str
    pattern: str = ""


class Console:
    """Plain lines.

    Args:
        out: where everything but failures goes.
        err: where failures go.
        several: more than one app is shown, so each line names its app.
    """

    def __init__(self, out: TextIO, err: TextIO, *, several: bool = False) -> None:
        self.has_steps = False
        """While it is true, steps are shown, and only those exchanges that no step stands for."""
        self.is_gone = False
        """Nobody reads any more."""
        self._out = out
        self._err = err
        self._several = several
        # By length: most lines are shorter than the secrets of a thousand apps.
        self._secrets: dict[int, set[str]] = {}
        self._shown: dict[tuple[str, str], int] = {}
        self._began: dict[tuple[str, str], float] = {}
        self._seen_alive: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Exchange():
                if not self.has_steps or _is_remarkable(event):
                    self._exchange(event)
            case StepStarted(app_id, step, detail):
                self._shown.pop((app_id, step), None)
                self._began[app_id, step] = time.monotonic()
                self._step_started(app_id, step, detail)
            case StepFinished(app_id, "heartbeat", seconds, _) if (
                app_id in self._seen_alive and seconds < _AT_ONCE
            ):
                self._step_vanished(app_id, "heartbeat")
            case StepFinished(app_id, step, seconds, detail):
                if step == "heartbeat":
                    self._seen_alive.add(app_id)
                self._step_finished(app_id, step, seconds, detail)
            case StepFailed(app_id, step, cause, _):
                self._step_failed(app_id, step, cause)
            case ProgressChanged(app_id, step, percent, detail, is_part=True):
                self._part(app_id, step, percent, detail)
            case ProgressChanged(app_id, step, percent, detail):
                self._progress(app_id, step, percent, detail)
            case AppOutput(app_id, line):
                self.labelled("app", line, app_id)
            case Notice(app_id, text, is_warning):
                self.labelled("warning" if is_warning else "note", text, app_id)

    def hide(self, secret: str) -> None:
        """Show `***` wherever this text would appear."""
        if len(secret) >= 4:  # a shorter one is a test's, and would garble every line
            self._secrets.setdefault(len(secret), set()).add(secret)

    def say(self, text: str = "") -> None:
        """Show a sentence."""
        self._line(self._clean(text))

    def labelled(self, label: str, text: str, app_id: str = "") -> None:
        """Show a line of somebody: the app, the host, a direction."""
        self._line(self._prefix(app_id) + f"{label:<{_LABEL_WIDTH}}  {self._clean(text)}".rstrip())

    def addresses(self, addresses: Sequence[Address], sign_in: Address | None) -> None:
        """Show what can be opened, by whom, and how to sign in."""
        for address in addresses:
            pattern = f", pattern {address.pattern}" if address.pattern else ""
            self.labelled("open", f"{address.url}  ({address.who}{pattern})")
        if not addresses:
            self.labelled("open", "nothing: appinfo/info.xml has no route for GET")
        self.sign_in(sign_in)

    def sign_in(self, address: Address | None) -> None:
        """Show where to sign in, and how."""
        if address:
            self.labelled("sign in", f"{address.url}  ({address.who})")

    def failure(self, failure: Failure) -> None:
        """Show what went wrong, why, what to try, and what the app said last."""
        lines = [f"ERROR: {failure.title}"]
        lines += [f"  cause: {_indented(cause)}" for cause in failure.causes]
        if failure.remedy:
            lines.append(f"  try:   {_indented(failure.remedy)}")
        if failure.output:
            lines.append(f"  last lines of the {failure.speaker}:")
            lines += [f"    | {line}" for line in failure.output]
        self._write(self._err, "\n".join(self._clean(line) for line in lines) + "\n")

    def close(self) -> None:
        """Leave the terminal as it was."""

    def _exchange(self, exchange: Exchange) -> None:
        self.labelled(exchange.direction.value, _sentence(exchange), exchange.app_id)

    def _step_started(self, app_id: str, step: str, detail: str) -> None:
        """Plain output has one line per step, written when it ends."""

    def _step_finished(self, app_id: str, step: str, seconds: float, detail: str) -> None:
        self.labelled(step, f"ok  {seconds:.2f} s  {detail}".rstrip(), app_id)

    def _step_vanished(self, app_id: str, step: str) -> None:
        """The step is not worth a word: the host asks once more before it enables an app."""

    def _step_failed(self, app_id: str, step: str, cause: str) -> None:
        self.labelled(step, f"failed  {self._why(step, cause)}".rstrip(), app_id)

    def _why(self, step: str, cause: str) -> str:
        """Why a step failed, unless `failure()` is about to tell it at length."""
        return cause if self._several or step == "disabled" else ""

    def _progress(self, app_id: str, step: str, percent: int, detail: str) -> None:
        """One line per ten percent; none for a step that goes from nothing to 100 at once."""
        last = self._shown.get((app_id, step), 0)
        if percent // 10 == last // 10 or (percent >= _AT_ONCE_PERCENT and not last):
            return
        began = self._began.get((app_id, step), 0.0)
        if step == "deploy" and time.monotonic() - began < _AT_ONCE:
            return  # starting a process has percentages too, but nobody can follow them
        self._shown[app_id, step] = percent
        if percent:
            self.labelled(step, f"{percent} %  {detail}".rstrip(), app_id)

    def _part(self, app_id: str, step: str, percent: int, detail: str) -> None:
        """A step came to the next of its parts."""
        self.labelled(step, f"{percent} %  {detail}", app_id)

    def _prefix(self, app_id: str) -> str:
        clock = time.strftime("%H:%M:%S  ") if self._several else ""
        return f"{clock}{self._clean(app_id)}  " if self._several and app_id else clock

    def _clean(self, text: str) -> str:
        """Nothing that another side sent may hide a line, move the cursor or show a secret."""
        for length, secrets in self._secrets.items():
            if len(text) >= length:
                for secret in secrets:
                    text = text.replace(secret, "***")
        return _CONTROLS.sub("�", _ESCAPES.sub("", text))

    def _line(self, text: str) -> None:
        self._write(self._out, text + "\n")

    def _write(self, stream: TextIO, text: str) -> None:
        if self.is_gone:
            return
        try:
            stream.write(text)
            stream.flush()
        except (BrokenPipeError, ValueError):
            self.is_gone = True
            forget(stream)


def forget(stream: TextIO) -> None:
    """Point a stream at nothing: its reader is gone.

    What it still holds would be written when Python ends, fail again, and become exit code 120.
    """
    with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), stream.fileno())


class TerminalConsole(Console):
    """Ticks, seconds and a bar that moves."""

    def __init__(self, out: TextIO, err: TextIO, *, several: bool = False) -> None:
        from rich.console import Console as RichConsole

        super().__init__(out, err, several=several)
        self._rich: RichConsole = RichConsole(file=out, highlight=False, markup=False, emoji=False)
        self._bars: Progress | None = None
        self._tasks: dict[tuple[str, str], TaskID] = {}

    def labelled(self, label: str, text: str, app_id: str = "") -> None:
        """Show a line of somebody, its label in the colour of that somebody."""
        from rich.text import Text

        clock = time.strftime("%H:%M:%S  ")
        line = Text().append(clock, style="dim")
        if self._several and app_id:
            line.append(f"{self._clean(app_id)}  ", style="bold")
        line.append(f"{label:<{_LABEL_WIDTH}}  ", style=_COLOURS.get(label, ""))
        line.append(self._clean(text), style=_text_style(label, text))
        self._rich.print(line, soft_wrap=True)

    def addresses(self, addresses: Sequence[Address], sign_in: Address | None) -> None:
        """Show what can be opened as a table; most terminals make its addresses clickable."""
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for address in addresses:
            who = f"{address.who}  {address.pattern}" if address.pattern else address.who
            url = Text(f"  {self._clean(address.url)}", style="bold cyan", overflow="fold")
            table.add_row(url, Text(self._clean(who), style="dim"))
        self._rich.print()
        if addresses:
            self._rich.print("Open in a browser", style="bold")
            self._rich.print(table)
        else:
            self.say("Nothing to open: appinfo/info.xml has no route for GET.")
        self.sign_in(sign_in)
        self._rich.print()

    def sign_in(self, address: Address | None) -> None:
        """Show where to sign in, and how."""
        from rich.text import Text

        if address:
            line = Text("Sign in at ").append(self._clean(address.url), style="bold cyan")
            line.append(f"  {self._clean(address.who)}", style="dim")
            self._rich.print(line, soft_wrap=True)

    def failure(self, failure: Failure) -> None:
        """Show what went wrong in a frame that cannot be overlooked."""
        from rich.console import Console as RichConsole
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        self.close()
        parts: list[Text] = [Text(self._clean(cause)) for cause in failure.causes]
        if failure.remedy:
            parts += [Text(), Text("Try: ", style="bold") + Text(self._clean(failure.remedy))]
        if failure.output:
            parts += [Text(), Text(f"The {failure.speaker}'s last lines", style="bold")]
            parts += [Text(self._clean(line), style="dim") for line in failure.output]
        title = Text(self._clean(failure.title), style="bold red")
        rich = RichConsole(file=self._err, highlight=False)
        if not parts:
            rich.print(Text("✗ ", style="bold red") + title, soft_wrap=True)
            return
        rich.print(Panel(Group(*parts), title=title, title_align="left", border_style="red"))

    def close(self) -> None:
        """Take the bars away."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def _step_started(self, app_id: str, step: str, detail: str) -> None:
        self._end(app_id, step)
        if self._bars is None:
            self._bars = _bars(self._rich)
            self._bars.start()
        # No total makes the bar pulse, until a first report says how far it is.
        self._tasks[app_id, step] = self._bars.add_task(step, total=None, note=detail)

    def _step_finished(self, app_id: str, step: str, seconds: float, detail: str) -> None:
        from rich.text import Text

        self._end(app_id, step)
        line = Text().append(" ✓ ", style="bold green")
        line.append(f"{self._prefix(app_id)}{step:<{_LABEL_WIDTH}}", style="bold")
        line.append(f"{seconds:7.2f} s", style="cyan")
        if detail:
            line.append(f"  {self._clean(detail)}", style="dim")
        self._rich.print(line, soft_wrap=True)

    def _step_vanished(self, app_id: str, step: str) -> None:
        self._end(app_id, step)

    def _step_failed(self, app_id: str, step: str, cause: str) -> None:
        from rich.text import Text

        self._end(app_id, step)
        line = Text().append(" ✗ ", style="bold red")
        line.append(f"{self._prefix(app_id)}{step:<{_LABEL_WIDTH}}", style="bold")
        line.append(f"  {self._clean(self._why(step, cause)) or 'failed'}", style="red")
        self._rich.print(line, soft_wrap=True)

    def _progress(self, app_id: str, step: str, percent: int, detail: str) -> None:
        self._part(app_id, step, percent, detail)

    def _part(self, app_id: str, step: str, percent: int, detail: str) -> None:
        task = self._tasks.get((app_id, step))
        if self._bars is not None and task is not None:
            self._bars.update(task, completed=percent, total=100)
            if detail:
                self._bars.update(task, note=self._clean(detail))

    def _end(self, app_id: str, step: str) -> None:
        task = self._tasks.pop((app_id, step), None)
        if self._bars is not None and task is not None:
            self._bars.remove_task(task)
        if not self._tasks:
            self.close()

    def _line(self, text: str) -> None:
        self._rich.print(text, soft_wrap=True)


class ProgressOnly(TerminalConsole):
    """The bars alone, for a command whose lines somebody else prints."""

    def labelled(self, label: str, text: str, app_id: str = "") -> None:
        """Nothing: these lines are not part of the command's answer."""

    def _step_finished(self, app_id: str, step: str, seconds: float, detail: str) -> None:
        self._end(app_id, step)

    def _step_failed(self, app_id: str, step: str, cause: str) -> None:
        self._end(app_id, step)


def open_console(out: TextIO, err: TextIO, *, several: bool = False) -> Console:
    """The console that fits where `out` leads to."""
    is_terminal = out.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    kind = TerminalConsole if is_terminal else Console
    return kind(out, err, several=several)


_COLOURS: Final = {
    Direction.HOST_TO_APP.value: "blue",
    Direction.APP_TO_HOST.value: "magenta",
    Direction.USER_TO_APP.value: "green",
    "app": "yellow",
    "warning": "bold yellow",
}


def _text_style(label: str, text: str) -> str:
    if label == "warning":
        return "yellow"
    if label in _COLOURS and label != "app" and re.search(r"  (no answer|[45][0-9]{2})  ", text):
        return "red"
    return ""


def _bars(console: "RichConsole") -> "Progress":
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn(f"{{task.description:<{_LABEL_WIDTH}}}", style="bold"),
        BarColumn(bar_width=32),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=console,
        transient=True,
    )


def _is_remarkable(exchange: Exchange) -> bool:
    """Whether an exchange is worth a line although a step stands for the installation."""
    if exchange.direction is Direction.HOST_TO_APP:
        return False
    is_report = any(part in exchange.target for part in _STATUS_REPORTS)
    return exchange.status >= 400 or not is_report


def _sentence(exchange: Exchange) -> str:
    milliseconds = exchange.seconds * 1000
    parts = [
        f"{exchange.method} {exchange.target}",
        str(exchange.status or "no answer"),
        f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms",
    ]
    if exchange.user_id:
        parts.append(f"as {exchange.user_id}")
    if exchange.note:
        parts.append(f"({exchange.note})")
    return "  ".join(parts)


def _indented(text: str) -> str:
    return text.replace("\n", "\n         ")
