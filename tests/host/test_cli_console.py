"""What a person reads: the plain form, which scripts read too, and the one for terminals."""

import io
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from appapi_host.cli.console import (
    Address,
    Console,
    Failure,
    ProgressOnly,
    TerminalConsole,
    open_console,
)
from appapi_host.errors import (
    DeployError,
    HostError,
    InfoError,
    NotFoundError,
    RefusedError,
    StepTimeout,
)
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
from exapp_sdk.errors import ConfigError, TransportError


class Terminal(io.StringIO):
    """A text stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


class Pipe(io.StringIO):
    """A text stream whose reader may go away."""

    has_reader = True

    def write(self, text: str) -> int:
        if not self.has_reader:
            raise BrokenPipeError
        return super().write(text)


@pytest.fixture
def out() -> Pipe:
    return Pipe()


@pytest.fixture
def err() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def console(out: Pipe, err: io.StringIO) -> Console:
    return Console(out, err)


@pytest.fixture
def screen() -> Terminal:
    return Terminal()


@pytest.fixture
def terminal(
    screen: Terminal, err: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TerminalConsole]:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    console = TerminalConsole(screen, err)
    yield console
    console.close()


EXCHANGE = Exchange(Direction.USER_TO_APP, "notes", "GET", "/hello?x=1", 200, 0.0123, "alice")
INSTALLATION: list[Event] = [
    StepStarted("notes", "deploy"),
    ProgressChanged("notes", "deploy", 0),
    ProgressChanged("notes", "deploy", 100),
    StepFinished("notes", "deploy", 0.12, "main.py"),
    StepStarted("notes", "heartbeat"),
    StepFinished("notes", "heartbeat", 1.5),
    StepStarted("notes", "init"),
    ProgressChanged("notes", "init", 4),
    ProgressChanged("notes", "init", 17),
    ProgressChanged("notes", "init", 19),
    ProgressChanged("notes", "init", 50),
    ProgressChanged("notes", "init", 100),
    StepFinished("notes", "init", 2.0),
    StepStarted("notes", "heartbeat"),
    StepFinished("notes", "heartbeat", 0.01),
    StepStarted("notes", "enabled"),
    StepFinished("notes", "enabled", 0.02),
]


def test_plain_steps_are_one_line_each_and_one_per_ten_percent(console: Console, out: Pipe) -> None:
    for event in INSTALLATION:
        console(event)
    assert out.getvalue().splitlines() == [
        "deploy      ok  0.12 s  main.py",
        "heartbeat   ok  1.50 s",
        "init        17 %",
        "init        50 %",
        "init        100 %",
        "init        ok  2.00 s",
        "enabled     ok  0.02 s",
    ]


def test_progress_that_goes_back_is_shown_too(console: Console, out: Pipe) -> None:
    for percent in (60, 30, 0, 40):
        console(ProgressChanged("notes", "init", percent))
    assert out.getvalue().split() == ["init", "60", "%", "init", "30", "%", "init", "40", "%"]


def test_detail_of_a_pull_is_shown_with_its_percentage(console: Console, out: Pipe) -> None:
    for percent, megabytes in ((12, 12.5), (13, 13.1), (31, 30.9)):
        detail = f"{megabytes} of 100.0 MB, 1 of 4 layers"
        console(ProgressChanged("notes", "fetch", percent, detail))
    assert out.getvalue().splitlines() == [
        "fetch       12 %  12.5 of 100.0 MB, 1 of 4 layers",
        "fetch       31 %  30.9 of 100.0 MB, 1 of 4 layers",
    ]


def test_second_heartbeat_that_takes_its_time_is_shown(console: Console, out: Pipe) -> None:
    console(StepFinished("notes", "heartbeat", 0.1))
    console(StepFinished("notes", "heartbeat", 3.0))
    assert out.getvalue().splitlines() == ["heartbeat   ok  0.10 s", "heartbeat   ok  3.00 s"]


def test_exchange_shows_who_asked_what_and_how_it_ended(console: Console, out: Pipe) -> None:
    console(EXCHANGE)
    console(replace(EXCHANGE, seconds=0.001, user_id="", status=0, note="app is gone"))
    assert out.getvalue().splitlines() == [
        "user → app  GET /hello?x=1  200  12 ms  as alice",
        "user → app  GET /hello?x=1  no answer  1.0 ms  (app is gone)",
    ]


def test_while_installing_only_what_no_step_stands_for_is_shown(
    console: Console, out: Pipe
) -> None:
    console.has_steps = True
    report = replace(
        EXCHANGE,
        direction=Direction.APP_TO_HOST,
        method="PUT",
        target="/ocs/v1.php/apps/app_api/ex-app/status",
    )
    console(replace(EXCHANGE, direction=Direction.HOST_TO_APP, target="/heartbeat"))
    console(report)
    assert out.getvalue() == ""
    console(replace(report, status=401))
    console(replace(report, target="/ocs/v1.php/cloud/capabilities"))
    assert [line.split()[5] for line in out.getvalue().splitlines()] == ["401", "200"]


def test_app_notes_and_warnings_are_labelled(console: Console, out: Pipe) -> None:
    console(AppOutput("notes", "listening"))
    console(Notice("notes", "asked for an unknown path"))
    console(Notice("notes", "by the way", is_warning=False))
    assert out.getvalue().splitlines() == [
        "app         listening",
        "warning     asked for an unknown path",
        "note        by the way",
    ]


def test_several_apps_are_told_apart_and_events_have_a_time(err: io.StringIO) -> None:
    out = io.StringIO()
    console = Console(out, err, several=True)
    console(AppOutput("notes", "listening"))
    console(StepFailed("notes", "init", "no space left"))
    console.labelled("note", "stopping")
    assert [line[10:] for line in out.getvalue().splitlines()] == [
        "notes  app         listening",
        "notes  init        failed  no space left",
        "note        stopping",
    ]


def test_secret_is_never_shown_whoever_prints_it(
    console: Console, out: Pipe, err: io.StringIO
) -> None:
    console.hide("s3cr3t-text")
    console.hide("1")
    console(AppOutput("notes", "APP_SECRET=s3cr3t-text, attempt 1"))
    console(replace(EXCHANGE, target="/?key=s3cr3t-text"))
    console.say("s3cr3t-text")
    console.failure(Failure("title", ("s3cr3t-text",), "s3cr3t-text", ("s3cr3t-text",)))
    shown = out.getvalue() + err.getvalue()
    assert "s3cr3t" not in shown
    assert shown.count("***") == 6
    assert "attempt 1" in shown


def test_what_others_send_cannot_steer_the_terminal(console: Console, out: Pipe) -> None:
    console(AppOutput("notes", "\x1b[31mred\x1b[0m \x1b]0;title\x07end\rstart\x9b2J"))
    assert out.getvalue() == "app         red end�start�2J\n"


def test_failure_says_what_why_what_to_try_and_the_last_words(
    console: Console, out: Pipe, err: io.StringIO
) -> None:
    error = StepTimeout("heartbeat", 2, "refused", remedy="listen", output=["one", "two"])
    console(StepFailed("notes", "heartbeat", error.cause))
    console.failure(Failure.of(error, title="notes could not be installed"))
    assert out.getvalue() == "heartbeat   failed\n"
    assert err.getvalue().splitlines() == [
        "ERROR: notes could not be installed (heartbeat)",
        "  cause: no success within 2 s; refused",
        "  try:   listen",
        "  last lines of the app:",
        "    | one",
        "    | two",
    ]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (
            InfoError("info.xml", ["line 1: a", "line 2: b"], remedy="c"),
            Failure("info.xml cannot be used", ("line 1: a", "line 2: b"), "c"),
        ),
        (RefusedError("no"), None),
        (NotFoundError("no such app", remedy="look"), Failure("no such app", (), "look")),
        (ConfigError(["A", "B"]), Failure("wrong configuration", ("A", "B"))),
        (ConfigError(["A"], example="X=1"), None),
        (TransportError("GET /x", "refused"), Failure("GET /x: refused", ())),
    ],
)
def test_each_error_of_ours_becomes_a_failure(error: Exception, failure: Failure | None) -> None:
    made = Failure.of(error)
    assert failure in (None, made)
    assert made.title


def test_title_of_a_failure_puts_the_error_below_it() -> None:
    assert Failure.of(DeployError("gone", output=["x"]), title="notes") == Failure(
        "notes", ("gone",), "", ("x",)
    )
    assert Failure.of(TransportError("GET /x", "no"), title="notes").causes == ("GET /x: no",)
    assert Failure.of(RefusedError("no")).title == "the step enabled failed"
    assert "X=1" in Failure.of(ConfigError(["A"], example="X=1")).remedy


def test_addresses_are_lines_with_who_may(console: Console, out: Pipe) -> None:
    console.addresses(
        [Address("http://x/", "anyone"), Address("http://y/", "admin", "^y")],
        Address("http://z/login", "admin, password a"),
    )
    assert out.getvalue().splitlines() == [
        "open        http://x/  (anyone)",
        "open        http://y/  (admin, pattern ^y)",
        "sign in     http://z/login  (admin, password a)",
    ]


def test_app_without_addresses_says_so(console: Console, out: Pipe) -> None:
    console.addresses([], None)
    assert out.getvalue() == "open        nothing: appinfo/info.xml has no route for GET\n"


def test_reader_that_went_away_is_noticed_and_nothing_is_raised(
    console: Console, out: Pipe
) -> None:
    out.has_reader = False
    console.say("hello")
    assert console.is_gone
    out.has_reader = True
    console.say("again")
    assert out.getvalue() == ""


def test_console_fits_where_it_leads_to(
    out: Pipe, screen: Terminal, err: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert type(open_console(out, err)) is Console
    assert type(open_console(screen, err)) is TerminalConsole
    monkeypatch.setenv("TERM", "dumb")
    assert type(open_console(screen, err)) is Console


def test_terminal_shows_ticks_and_a_bar_that_moves(
    terminal: TerminalConsole, screen: Terminal
) -> None:
    for event in INSTALLATION:
        terminal(event)
        if event == ProgressChanged("notes", "init", 50):
            assert terminal._bars is not None
            terminal._bars.refresh()
            assert "50%" in screen.getvalue()
            assert "━" in screen.getvalue()
    assert screen.getvalue().count("✓") == 4
    assert terminal._bars is None


def test_bar_of_a_pull_says_what_it_means(terminal: TerminalConsole, screen: Terminal) -> None:
    terminal(StepStarted("notes", "deploy"))
    terminal(ProgressChanged("notes", "deploy", 31, "30.9 of 100.0 MB, 1 of 4 layers"))
    assert terminal._bars is not None
    terminal._bars.refresh()
    assert "31%" in screen.getvalue()
    assert "30.9 of 100.0 MB, 1 of 4 layers" in screen.getvalue()
    terminal.close()


def test_terminal_shows_lines_above_the_bar(terminal: TerminalConsole, screen: Terminal) -> None:
    terminal(StepStarted("notes", "init"))
    terminal(AppOutput("notes", "[bold]loading[/bold] :smile:"))
    terminal(replace(EXCHANGE, status=404))
    terminal(Notice("notes", "careful"))
    terminal.say("a sentence")
    terminal(ProgressChanged("other", "init", 5))
    terminal(StepFailed("notes", "init", "broken"))
    for text in ("[bold]loading[/bold] :smile:", "404", "careful", "a sentence", "✗"):
        assert text in screen.getvalue()


def test_terminal_frames_a_failure(terminal: TerminalConsole, err: io.StringIO) -> None:
    terminal(StepStarted("notes", "heartbeat"))
    terminal.failure(Failure("it failed", ("because",), "this", ("last",)))
    assert terminal._bars is None
    for text in ("╭", "it failed", "because", "Try:", "this", "last"):
        assert text in err.getvalue()
    terminal.failure(Failure("only a title", ()))
    assert err.getvalue().endswith("✗ only a title\n")


def test_terminal_lists_addresses_and_passwords(
    terminal: TerminalConsole, screen: Terminal
) -> None:
    terminal.addresses(
        [Address("http://x/", "anyone", "^x")], Address("http://z/login", "admin, password admin")
    )
    terminal.addresses([], None)
    for text in (
        "http://x/",
        "anyone",
        "^x",
        "http://z/login",
        "admin, password admin",
        "Nothing to open",
    ):
        assert text in screen.getvalue()


def test_terminal_names_the_app_where_there_are_several(screen: Terminal, err: io.StringIO) -> None:
    terminal = TerminalConsole(screen, err, several=True)
    terminal(StepStarted("notes", "init"))
    terminal(StepFailed("notes", "init", "no space left"))
    terminal(AppOutput("notes", "hello"))
    assert "notes" in screen.getvalue()
    assert "no space left" in screen.getvalue()


def test_bars_alone_print_no_lines(screen: Terminal, err: io.StringIO) -> None:
    bars = ProgressOnly(screen, err)
    for event in INSTALLATION:
        bars(event)
    bars(StepStarted("notes", "enabled"))
    bars(StepFailed("notes", "enabled", "no"))
    bars(AppOutput("notes", "hello"))
    bars.close()
    assert "✓" not in screen.getvalue()
    assert "hello" not in screen.getvalue()


def test_error_of_the_host_without_remedy_is_one_line(err: io.StringIO, console: Console) -> None:
    console.failure(Failure.of(HostError("no room")))
    assert err.getvalue() == "ERROR: no room\n"


def test_what_a_gone_reader_did_not_get_is_not_written_again_at_the_end() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        console = Console(stream, stream)
        console.say("hello")
        assert console.is_gone  # and closing it does not raise
