"""The preparation that `POST /init` starts, and the reports about it.

Every job runs in the task group of the app's lifespan: a task of the response would make a host in
the same process wait for its own handshake, and shutdown would not cancel it.

Source: AppAPI documentation, App Installation Flow, Init; behaviour of AppAPI 32.0.0.
"""

import inspect
import logging
import math
import numbers
import threading
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from exapp_sdk.errors import InitInterruptedError, OCSError, TransportError
from exapp_sdk.protocol.auth import Secret
from exapp_sdk.protocol.ocs import NOT_AUTHENTICATED

__all__ = [
    "Handler",
    "HostSide",
    "InitJobs",
    "Pace",
    "Progress",
    "call_handler",
    "is_async",
    "log_exception",
    "sentence",
]

logger = logging.getLogger("exapp_sdk")

Handler = Callable[..., Any]

_LONGEST_SENTENCE: Final = 200
"""Characters; the host shows the text in one line of a list."""


class HostSide(Protocol):
    """What a job needs of the client."""

    async def status(self, progress: int, *, error: str = "") -> None:
        """Report `progress` percent, or an error."""
        ...

    async def state(self) -> bool:
        """Ask whether the host has the app enabled."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast and how long reports are sent, in seconds.

    Args:
        interval: at least this long between two reports of progress; a progress bar that moves
            five times a second is smooth.
        first_retry: pause after the first failure of a final report; doubles each time ...
        longest_retry: ... until here.
        give_up: how long a final report is tried; AppAPI itself waits 40 minutes.
        farewell: for reporting the interruption while the app stops; engines kill after 10.
        flush: for a report of progress that is on its way when the handler returns.
        clock: what time it is.
        sleep: how to wait.
    """

    interval: float = 0.2
    first_retry: float = 0.25
    longest_retry: float = 15.0
    give_up: float = 45 * 60.0
    farewell: float = 5.0
    flush: float = 5.0
    clock: Callable[[], float] = anyio.current_time
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep


class _Checkpoint:
    """Awaiting it gives other tasks a turn; not awaiting it is fine too, unlike a coroutine."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return anyio.lowlevel.checkpoint().__await__()


_CHECKPOINT: Final = _Checkpoint()


class Progress:
    """Tells the host how far the preparation has come; handed to the handler of `@app.init`.

    Calls are cheap: the values are sent by another task, the latest one at a time. May be called
    from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._percent = 0
        self._sent = 0
        self._interrupted = False
        self._over = False
        self._pause = anyio.CancelScope()
        self._changed = anyio.Event()
        self._loop_thread = threading.get_ident()
        self._loop_token = anyio.lowlevel.current_token()

    @property
    def percent(self) -> int:
        """The highest value so far, 0 to 100."""
        return self._percent

    def set(self, percent: float) -> Awaitable[None]:
        """Record how far the preparation has come.

        Recorded at once: `await progress.set(50)` in an async handler lets other tasks run, and
        `progress.set(50)` in a sync handler is complete. A value below an earlier one is ignored.
        100 is reported when the handler returns, not before, because it makes the host enable the
        app.

        Args:
            percent: 0 to 100; fractions are cut off.

        Raises:
            ValueError: not a number, or not within 0..100.
            InitInterruptedError: in a thread: the app is being stopped, so return.
        """
        if not _is_percent(percent):
            raise ValueError(f"progress must be a number within 0..100, not {percent!r}")
        in_loop = threading.get_ident() == self._loop_thread
        if self._interrupted and not in_loop:
            raise InitInterruptedError
        with self._lock:
            if percent < self._percent + 1:
                return _CHECKPOINT
            self._percent = math.floor(percent)
            wake = not self._changed.is_set()
        if wake and in_loop:
            self._changed.set()
        elif wake:
            # By token, so that threads the handler has started itself may report, too.
            anyio.from_thread.run_sync(self._wake, token=self._loop_token)
        return _CHECKPOINT

    def _wake(self) -> None:
        self._changed.set()

    def interrupt(self) -> None:
        """From now on `set()` ends threads. For the supervisor."""
        self._interrupted = True

    def finish(self) -> None:
        """Let `unsent()` end. For the supervisor."""
        self._over = True
        self._changed.set()
        self._pause.cancel()

    async def unsent(self, *, pace: Pace) -> AsyncGenerator[int, None]:
        """Values that are worth a report, no more often than `pace` allows. For the supervisor.

        100 is kept back as 99.
        """
        while True:
            await self._changed.wait()
            # In this order: a thread stores its value first and looks at the event afterwards.
            self._changed = anyio.Event()
            if self._over:
                return
            percent = min(self._percent, 99)
            if percent > self._sent:
                self._sent = percent
                began = pace.clock()
                yield percent
                if not self._over:
                    with anyio.CancelScope() as self._pause:
                        await pace.sleep(max(0.0, began + pace.interval - pace.clock()))


def _is_percent(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False  # a bool is a number to Python, but a mistake here; numpy's numbers are Real
    number: Any = value
    return bool(0 <= number <= 100)


class InitJobs:
    """Runs the handler of `@app.init`, at most one at a time, and reports what becomes of it.

    Args:
        handler: the author's function.
        task_group: of the app's lifespan.
        connect: gives the client; called within the job, because loading it takes a while.
        on_disabled: told when the host says that it has the app disabled.
        secret: kept out of reports and logs.
        pace: how fast.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        task_group: TaskGroup,
        connect: Callable[[], Awaitable[HostSide]],
        on_disabled: Callable[[], None],
        secret: Secret,
        pace: Pace,
    ) -> None:
        self._handler = handler
        self._task_group = task_group
        self._connect = connect
        self._on_disabled = on_disabled
        self._secret = secret
        self._pace = pace
        self._running = False
        self._reporting_the_end = False
        self._switched = False
        self._again = False

    @property
    def running(self) -> bool:
        """Whether a preparation is under way, its last report included."""
        return self._running

    async def start(self) -> bool:
        """Begin, unless one runs already.

        Returns:
            Whether the handler will run because of this call.
        """
        if self._running:
            # Only if the host has moved on, and merely its answer to "100" is still on its way to
            # us, is this a new request; otherwise it is a repeated one.
            self._again = self._reporting_the_end and self._switched
            if not self._again:
                logger.info("init runs already, the second request starts nothing")
            return self._again
        self._running = True
        # Not start_soon(): a task that is cancelled before its first step could report nothing.
        await self._task_group.start(self._supervise, name="exapp-sdk init")
        return True

    def switched(self) -> None:
        """The host has sent `PUT /enabled`: it has taken notice of a "100" that is under way."""
        self._switched = True

    async def _supervise(self, *, task_status: TaskStatus[None]) -> None:
        task_status.started()
        try:
            self._again = True
            while self._again:
                self._again = False
                await self._run_once()
        except Exception as error:  # noqa: BLE001  # escaping, it would end the app's task group
            log_exception("init ended without a report", error, self._secret)
        finally:
            self._running = False

    async def _run_once(self) -> None:
        with anyio.CancelScope(shield=True):  # without a client nothing can be reported
            host = await self._connect()
        progress = Progress()
        last = 0
        try:
            error = await self._prepare(host, progress)
            # AppAPI enables an app that reports 100, even if it reports an error as well.
            last = min(progress.percent, 99) if error else 100
            self._switched, self._reporting_the_end = False, True
            await self._deliver(host, last, error)
        except anyio.get_cancelled_exc_class():
            progress.interrupt()
            last = min(last or progress.percent, 99)
            with anyio.move_on_after(self._pace.farewell, shield=True):
                await self._report(host, last, str(InitInterruptedError()))
            raise
        finally:
            self._reporting_the_end = False

    async def _prepare(self, host: HostSide, progress: Progress) -> str:
        """Run the handler beside the task that reports.

        Returns:
            What went wrong, empty if nothing did.
        """
        logger.info("init started")
        error = ""
        async with anyio.create_task_group() as group:
            group.start_soon(self._report_progress, host, progress)
            try:
                # A thread cannot be cancelled; it is left behind, and progress.set() ends it.
                await call_handler(self._handler, progress, abandon_on_cancel=True)
            except Exception as failure:  # noqa: BLE001  # whatever it is, the host hears of it
                log_exception("init failed", failure, self._secret)
                error = sentence(failure, self._secret)
            progress.finish()
            # A report on its way is let through rather than cut off, but not for ever.
            group.cancel_scope.deadline = anyio.current_time() + self._pace.flush
        return error

    async def _report_progress(self, host: HostSide, progress: Progress) -> None:
        async with aclosing(progress.unsent(pace=self._pace)) as values:
            async for percent in values:
                await self._report(host, percent)

    async def _report(self, host: HostSide, progress: int, error: str = "") -> Exception | None:
        """Report once, and return instead of raise what went wrong."""
        try:
            await host.status(progress, error=error)
        except Exception as failure:  # noqa: BLE001  # no failing report ends the preparation
            logger.warning(
                "the host did not take the report of %d %%: %s",
                progress,
                sentence(failure, self._secret),
            )
            return failure
        return None

    async def _deliver(self, host: HostSide, progress: int, error: str) -> None:
        """Report the end until the host has taken it."""
        give_up = self._pace.clock() + self._pace.give_up
        pause = self._pace.first_retry
        while failure := await self._report(host, progress, error):
            if await self._is_settled(host, failure):
                return
            if self._pace.clock() + pause > give_up:
                logger.error("the end of init could not be reported, giving up")
                return
            await self._pace.sleep(pause)
            pause = min(2 * pause, self._pace.longest_retry)
        logger.info("init finished")

    async def _is_settled(self, host: HostSide, failure: Exception) -> bool:
        """Whether a report that failed need not be repeated."""
        if self._switched:
            logger.info("the host has gone on, so it has received the report")
            return True
        unknown = isinstance(failure, TransportError) and failure.outcome_unknown
        refused = isinstance(failure, OCSError) and failure.statuscode == NOT_AUTHENTICATED
        if not (unknown or refused):
            return False
        try:
            enabled = await host.state()
        except Exception as silence:  # noqa: BLE001  # no answer is no reason to stop
            logger.info("the host does not say either: %s", sentence(silence, self._secret))
            return False
        if not enabled:
            logger.warning("the host has disabled the app, so the end of init is not reported")
            self._on_disabled()
        return not enabled


def is_async(handler: Handler) -> bool:
    """Whether calling the handler gives something to await."""
    while isinstance(handler, partial):
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004  # objects with an async __call__
    )


async def call_handler(handler: Handler, *args: object, abandon_on_cancel: bool = False) -> Any:
    """Call a function of the author: async ones here, sync ones in a worker thread."""
    if is_async(handler):
        return await handler(*args)
    return await anyio.to_thread.run_sync(handler, *args, abandon_on_cancel=abandon_on_cancel)


def sentence(error: BaseException, secret: Secret) -> str:
    """What happened, in one line that a person can read; without the secret."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = " ".join(str(error).split())
    if not text:
        text = f"{type(error).__name__} without a message"
    elif isinstance(error, LookupError):
        text = f"{type(error).__name__}: {text}"  # the text of a KeyError is the bare key
    text = secret.mask(text)
    return text if len(text) <= _LONGEST_SENTENCE else f"{text[: _LONGEST_SENTENCE - 1]}…"


def log_exception(message: str, error: BaseException, secret: Secret) -> None:
    """Write message and traceback to the log, without the secret."""
    text = "".join(traceback.format_exception(error))
    if secret.mask(text) == text:
        logger.error(message, exc_info=error)
    else:
        logger.error("%s\n%s", message, secret.mask(text))
