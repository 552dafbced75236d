"""Init work and its reports, on a clock that the tests move."""

import functools
import logging
import math
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from fractions import Fraction
from typing import Any

import anyio
import pytest

from exapp_sdk import InitInterruptedError, OCSError, Progress, TransportError
from exapp_sdk.jobs import InitJobs, Pace, call_handler, is_async
from exapp_sdk.protocol.auth import Secret

SECRET = Secret("s3cr3t")
UNKNOWN = TransportError("PUT status", "no answer in time", outcome_unknown=True)
UNREACHED = TransportError("PUT status", "could not connect")
REFUSED = OCSError(997, "AppAPI authentication failed")


class Clock:
    """Time that passes only while somebody sleeps; `hold()` makes sleepers wait to be let go."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self._gate: anyio.Event | None = None
        self.asleep = anyio.Event()

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.asleep.set()
        if self._gate:
            await self._gate.wait()
        self.now += seconds
        await anyio.lowlevel.checkpoint()

    def hold(self) -> None:
        self._gate = anyio.Event()

    def let_go(self) -> None:
        if self._gate:
            self._gate.set()
            self._gate = None


class Host:
    """What a job sees of the host: takes reports, or raises what the test has prepared."""

    def __init__(self, *outcomes: BaseException | Callable[[], Awaitable[None]] | None) -> None:
        self.reports: list[tuple[int, str]] = []
        self.outcomes = list(outcomes)
        self.states: list[bool | BaseException] = []
        self.asked = 0

    async def status(self, progress: int, *, error: str = "") -> None:
        self.reports.append((progress, error))
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is not None:
            await outcome()
        await anyio.lowlevel.checkpoint()

    async def state(self) -> bool:
        self.asked += 1
        state = self.states.pop(0)
        if isinstance(state, BaseException):
            raise state
        return state


class Stage:
    """A supervisor with its host and clock."""

    def __init__(self, jobs: InitJobs, host: Host, clock: Clock, group: Any) -> None:
        self.jobs = jobs
        self.host = host
        self.clock = clock
        self.group = group
        self.disabled: list[bool] = []

    async def run(self) -> list[tuple[int, str]]:
        """Start, wait for the end, and return what was reported."""
        assert await self.jobs.start()
        with anyio.fail_after(20):
            while self.jobs.running:
                await anyio.lowlevel.checkpoint()
        return self.host.reports


@asynccontextmanager
async def stage(handler: Callable[..., Any], host: Host | None = None) -> AsyncIterator[Stage]:
    host, clock = host or Host(), Clock()

    async def connect() -> Host:
        return host

    disabled: list[bool] = []
    async with anyio.create_task_group() as group:
        jobs = InitJobs(
            handler,
            task_group=group,
            connect=connect,
            on_disabled=lambda: disabled.append(True),
            secret=SECRET,
            pace=Pace(clock=clock.time, sleep=clock.sleep),
        )
        made = Stage(jobs, host, clock, group)
        made.disabled = disabled
        yield made
        group.cancel_scope.cancel()


async def nothing(progress: Progress) -> None: ...


# Progress


@pytest.mark.parametrize(
    "wrong",
    [-1, 100.5, 101, math.nan, math.inf, "50", None, True, Decimal(5), 10**400, -(10**400)],
)
async def test_progress_takes_percent_and_nothing_else(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"within 0\.\.100"):
        Progress().set(wrong)


async def test_progress_is_whole_and_never_goes_back() -> None:
    progress = Progress()
    await progress.set(7.99)
    assert progress.percent == 7
    progress.set(3)
    progress.set(7)
    assert progress.percent == 7
    progress.set(Fraction(17, 2))  # type: ignore[arg-type]
    assert progress.percent == 8


async def test_awaiting_progress_lets_other_tasks_run() -> None:
    progress = Progress()
    ran: list[int] = []
    async with anyio.create_task_group() as group:

        async def other() -> None:
            ran.append(progress.percent)

        group.start_soon(other)
        while not ran:
            await progress.set(5)
    assert ran == [5]


# The reports of a preparation that goes well


async def test_each_step_is_reported_and_then_100() -> None:
    async def prepare(progress: Progress) -> None:
        for percent in (10, 50, 90):
            await progress.set(percent)
            while s.host.reports[-1:] != [(percent, "")]:
                await anyio.lowlevel.checkpoint()

    async with stage(prepare) as s:
        assert await s.run() == [(10, ""), (50, ""), (90, ""), (100, "")]


async def test_no_step_means_100_alone() -> None:
    async with stage(nothing) as s:
        assert await s.run() == [(100, "")]


async def test_0_is_not_sent_because_it_would_restart_the_hosts_clock() -> None:
    async def prepare(progress: Progress) -> None:
        await progress.set(0)
        await progress.set(0.9)

    async with stage(prepare) as s:
        assert await s.run() == [(100, "")]


async def test_100_of_the_handler_waits_for_its_return() -> None:
    async def prepare(progress: Progress) -> None:
        await progress.set(100)
        while not s.host.reports:
            await anyio.lowlevel.checkpoint()
        assert s.host.reports == [(99, "")]

    async with stage(prepare) as s:
        assert await s.run() == [(99, ""), (100, "")]


async def test_ten_thousand_steps_between_two_reports_are_one_report() -> None:
    async def prepare(progress: Progress) -> None:
        s.clock.hold()
        await progress.set(1)
        await s.clock.asleep.wait()
        for step in range(10_000):
            progress.set(1 + step / 200)
        s.clock.let_go()
        while len(s.host.reports) < 2:
            await anyio.lowlevel.checkpoint()

    async with stage(prepare) as s:
        assert await s.run() == [(1, ""), (50, ""), (100, "")]
    assert s.clock.slept[0] == Pace().interval


async def test_sync_handlers_report_from_their_thread() -> None:
    threads: set[int] = set()
    reported = threading.Event()

    def prepare(progress: Progress) -> None:
        threads.add(threading.get_ident())
        progress.set(30)
        assert reported.wait(5)

    async def note() -> None:
        reported.set()

    async with stage(prepare, Host(note)) as s:
        assert await s.run() == [(30, ""), (100, "")]
    assert threading.get_ident() not in threads


async def test_threads_that_the_handler_started_itself_may_report_too() -> None:
    reported = threading.Event()

    def prepare(progress: Progress) -> None:
        own = threading.Thread(target=progress.set, args=(30,))
        own.start()
        own.join()
        assert reported.wait(5)

    async def note() -> None:
        reported.set()

    async with stage(prepare, Host(note)) as s:
        assert await s.run() == [(30, ""), (100, "")]


async def test_a_report_on_its_way_is_let_through_before_the_last_one() -> None:
    on_its_way, go_on = anyio.Event(), anyio.Event()

    async def slow() -> None:
        on_its_way.set()
        await go_on.wait()
        s.host.reports.append((-1, "answered"))

    async def prepare(progress: Progress) -> None:
        await progress.set(10)
        await on_its_way.wait()
        s.group.start_soon(let_go)

    async def let_go() -> None:
        go_on.set()

    async with stage(prepare, Host(slow)) as s:
        assert await s.run() == [(10, ""), (-1, "answered"), (100, "")]


# A host that does not take reports


async def test_failed_steps_are_superseded_and_end_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def prepare(progress: Progress) -> None:
        for count, percent in enumerate((10, 20, 30), start=1):
            await progress.set(percent)
            while len(s.host.reports) < count:
                await anyio.lowlevel.checkpoint()

    host = Host(UNREACHED, REFUSED, RuntimeError("from a transport"))
    async with stage(prepare, host) as s:
        assert await s.run() == [(10, ""), (20, ""), (30, ""), (100, "")]
    assert "did not take the report of 10 %" in caplog.text


async def test_the_last_report_is_repeated_until_it_is_taken() -> None:
    host = Host(*[UNREACHED] * 9)
    async with stage(nothing, host) as s:
        assert await s.run() == [(100, "")] * 10
    assert s.clock.slept == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert s.host.asked == 0


async def test_the_last_report_is_given_up_after_45_minutes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = Host(*[UNREACHED] * 1000)
    async with stage(nothing, host) as s:
        await s.run()
        assert 44 * 60 < s.clock.now <= 45 * 60
    assert "giving up" in caplog.text


async def test_unknown_outcome_asks_and_sends_again_when_the_host_says_enabled() -> None:
    host = Host(UNKNOWN, UNKNOWN)
    host.states = [True, UNREACHED]
    async with stage(nothing, host) as s:
        assert await s.run() == [(100, "")] * 3
    assert host.asked == 2
    assert s.disabled == []


@pytest.mark.parametrize("failure", [UNKNOWN, REFUSED])
async def test_a_host_that_disabled_the_app_is_not_told_any_more(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(failure)
    host.states = [False]
    async with stage(nothing, host) as s:
        assert await s.run() == [(100, "")]
        assert s.disabled == [True]
    assert "the host has disabled the app" in caplog.text


async def test_unknown_outcome_is_settled_once_the_host_has_called_enabled() -> None:
    async def call_back_and_fail() -> None:
        s.jobs.switched()
        raise UNKNOWN

    async with stage(nothing, Host(call_back_and_fail)) as s:
        assert await s.run() == [(100, "")]
    assert s.host.asked == 0


async def test_an_enabled_call_before_the_last_report_settles_nothing() -> None:
    async def prepare(progress: Progress) -> None:
        s.jobs.switched()

    async with stage(prepare, Host(UNREACHED)) as s:
        assert await s.run() == [(100, "")] * 2


# A preparation that fails


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("no space left"), "no space left"),
        (RuntimeError("token s3cr3t\nis wrong"), "token *** is wrong"),
        (KeyError("x"), "KeyError: 'x'"),
        (OSError(), "OSError without a message"),
        (RuntimeError("x" * 500), "x" * 199 + "…"),
    ],
)
async def test_an_exception_becomes_one_sentence(
    error: Exception, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def prepare(progress: Progress) -> None:
        progress.set(42)
        raise error

    async with stage(prepare) as s:
        reports = await s.run()
    assert reports[-1] == (42, sentence)
    assert (100, "") not in reports
    assert "Traceback" in caplog.text
    assert "s3cr3t" not in caplog.text


async def test_an_error_after_100_is_reported_below_100_so_that_nothing_is_enabled() -> None:
    async def prepare(progress: Progress) -> None:
        progress.set(100)
        raise RuntimeError("late")

    async with stage(prepare) as s:
        assert (await s.run())[-1] == (99, "late")


async def test_an_error_report_is_repeated_too() -> None:
    def prepare(progress: Progress) -> None:
        raise RuntimeError("x")

    async with stage(prepare, Host(UNKNOWN, UNREACHED)) as s:
        s.host.states = [True]
        assert await s.run() == [(0, "x")] * 3


async def test_a_broken_client_ends_the_job_and_not_the_app(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def connect() -> Any:
        raise ImportError("no HTTP client")

    async with anyio.create_task_group() as group:
        jobs = InitJobs(
            nothing,
            task_group=group,
            connect=connect,
            on_disabled=lambda: None,
            secret=SECRET,
            pace=Pace(),
        )
        await jobs.start()
    assert not jobs.running
    assert "init ended without a report" in caplog.text


# Shutdown


INTERRUPTED = "Initialization was interrupted because the app was stopped."


async def test_cancellation_is_reported_before_it_passes_through() -> None:
    began = anyio.Event()

    async def prepare(progress: Progress) -> None:
        progress.set(61)
        began.set()
        await anyio.sleep_forever()

    async with stage(prepare) as s:
        await s.jobs.start()
        await began.wait()
        s.group.cancel_scope.cancel()
    assert s.host.reports[-1] == (61, INTERRUPTED)


async def test_cancellation_before_the_first_step_is_reported() -> None:
    async with stage(nothing) as s:
        await s.jobs.start()
        s.group.cancel_scope.cancel()
    assert s.host.reports == [(0, INTERRUPTED)]


async def test_cancellation_while_100_is_under_way_is_reported_below_100() -> None:
    on_its_way = anyio.Event()

    async def never() -> None:
        on_its_way.set()
        await anyio.sleep_forever()

    async with stage(nothing, Host(never)) as s:
        await s.jobs.start()
        await on_its_way.wait()
        s.group.cancel_scope.cancel()
    assert s.host.reports == [(100, ""), (99, INTERRUPTED)]


async def test_a_host_that_is_gone_does_not_hold_up_the_shutdown() -> None:
    began = anyio.Event()

    async def prepare(progress: Progress) -> None:
        began.set()
        await anyio.sleep_forever()

    async with stage(prepare, Host(UNREACHED)) as s:
        await s.jobs.start()
        await began.wait()
        s.group.cancel_scope.cancel()
    assert s.host.reports == [(0, INTERRUPTED)]


async def test_a_thread_that_was_left_behind_is_ended_by_its_next_step() -> None:
    began, cancelled = anyio.Event(), threading.Event()
    ended: list[BaseException] = []
    over = threading.Event()

    def prepare(progress: Progress) -> None:
        anyio.from_thread.run_sync(began.set)
        try:
            assert cancelled.wait(5)
            progress.set(50)
        except BaseException as error:
            ended.append(error)
            raise
        finally:
            over.set()

    async with stage(prepare) as s:
        await s.jobs.start()
        await began.wait()
        s.group.cancel_scope.cancel()
    cancelled.set()
    assert await anyio.to_thread.run_sync(over.wait, 5)
    assert [type(error) for error in ended] == [InitInterruptedError]
    assert s.host.reports == [(0, INTERRUPTED)]


# One at a time


async def test_a_new_request_after_the_host_went_on_runs_once_more() -> None:
    runs: list[int] = []

    async def prepare(progress: Progress) -> None:
        runs.append(1)

    async def update_at_once() -> None:
        assert not await s.jobs.start(), "the host has not gone on yet"
        s.jobs.switched()
        assert await s.jobs.start()

    async with stage(prepare, Host(update_at_once)) as s:
        assert await s.run() == [(100, "")] * 2
    assert len(runs) == 2


async def test_a_job_that_ended_can_be_started_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "exapp_sdk")
    async with stage(nothing) as s:
        await s.run()
        await s.run()
    assert s.host.reports == [(100, "")] * 2
    assert caplog.messages == ["init started", "init finished"] * 2


# Handlers


async def test_handlers_are_called_where_they_belong() -> None:
    async def here() -> int:
        return threading.get_ident()

    class Both:
        async def __call__(self) -> int:
            return threading.get_ident()

    mine = threading.get_ident()
    assert await call_handler(here) == mine
    assert await call_handler(Both()) == mine
    assert await call_handler(functools.partial(functools.partial(here))) == mine
    assert await call_handler(threading.get_ident) != mine
    assert not is_async(threading.get_ident)
