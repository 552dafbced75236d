"""Random sequences of everything that can happen to an app, compared with a small model."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import anyio
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appapi_host.errors import AlreadyExistsError, DeployError, NotFoundError, RefusedError
from appapi_host.recovery import was_never_deployed
from exapp_sdk.protocol.lifecycle import State
from tests.host.stub_app import INFO, Stage, stage

YES: dict[str, str] = {"error": ""}
NO: dict[str, str] = {"error": "no"}

ON = (State.ENABLED, State.INITIALIZING)


@dataclass
class Model:
    """What should be stored about the app."""

    version: str
    state: State
    enabled: bool
    init: int = 100


class Installed(RuleBasedStateMachine):
    """One app on a host in memory, and what is expected of it."""

    def __init__(self) -> None:
        super().__init__()
        self.model: Model | None = None
        self.stack = AsyncExitStack()
        self.portal_scope = start_blocking_portal("asyncio")
        self.portal = self.portal_scope.__enter__()
        self.stage_scope = self.portal.wrap_async_context_manager(stage())
        self.s: Stage = self.stage_scope.__enter__()
        self.s.host.recovery.grace = 0.0

    def teardown(self) -> None:
        self.stage_scope.__exit__(None, None, None)
        self.portal_scope.__exit__(None, None, None)

    def do(self, work: Callable[[], Awaitable[Any]], *expected: type[Exception]) -> None:
        """Do it, and see that it fails in the way that is expected, if it should."""

        async def run() -> type[Exception] | None:
            try:
                await work()
            except (AlreadyExistsError, DeployError, NotFoundError, RefusedError) as error:
                return type(error)
            return None

        caught = self.portal.call(run)
        assert caught in (expected or (None,)), caught

    def answers(self, *, init: int = 404, agrees: bool = True) -> None:
        self.s.app.answer("/init", init, {})
        self.s.app.answer("/enabled", 200, YES if agrees else NO)
        self.s.backend.prepare_error = self.s.backend.deploy_error = ""

    @property
    def known(self) -> Model:
        assert self.model is not None
        return self.model

    @rule(kind=st.sampled_from(["quick", "initializes", "refuses", "undeployable"]))
    def register(self, kind: str) -> None:
        self.answers(init=200 if kind == "initializes" else 404, agrees=kind != "refuses")
        self.s.backend.deploy_error = "no image" if kind == "undeployable" else ""
        work = lambda: self.s.register(wait_finish=False)  # noqa: E731
        if self.model is not None:
            self.do(work, AlreadyExistsError)
            return
        match kind:
            case "quick":
                self.do(work)
                self.model = Model("1.0.0", State.ENABLED, enabled=True)
            case "initializes":
                self.do(work)
                self.model = Model("1.0.0", State.INITIALIZING, enabled=True, init=0)
            case "refuses":
                self.do(work, RefusedError)
                self.model = Model("1.0.0", State.DISABLED, enabled=False)
            case _:
                self.do(work, DeployError)

    @rule(
        version=st.sampled_from(["1.0.0", "2.0.0", "3.0.0"]),
        kind=st.sampled_from(["works", "refuses", "unfetchable", "undeployable"]),
    )
    def update(self, version: str, kind: str) -> None:
        self.answers(agrees=kind != "refuses")
        self.s.backend.prepare_error = "no network" if kind == "unfetchable" else ""
        self.s.backend.deploy_error = "no image" if kind == "undeployable" else ""
        info = replace(INFO, version=version)
        work = lambda: self.s.host.update(info, wait_finish=False)  # noqa: E731
        if self.model is None:
            self.do(work, NotFoundError)
        elif version == self.model.version:
            self.do(work)
        elif kind == "works":
            self.do(work)
            self.model = Model(version, State.ENABLED, enabled=True)
        elif kind == "unfetchable":
            self.do(work, DeployError)
        elif kind == "undeployable":
            self.do(work, DeployError)
            self.went_back()
        else:
            self.do(work, RefusedError)
            # The old version does not want to either: nothing changes its mind.
            self.known.state, self.known.enabled = State.DISABLED, False

    def went_back(self) -> None:
        """The old version is in place again, and on if it was."""
        self.known.state = State.ENABLED if self.known.enabled else State.DISABLED

    @rule(agrees=st.booleans())
    def enable(self, agrees: bool) -> None:
        self.answers(agrees=agrees)
        work = lambda: self.s.host.enable("stub")  # noqa: E731
        if self.model is None:
            self.do(work, NotFoundError)
        elif self.model.enabled and self.model.state is not State.FAILED:
            self.do(work)
        elif agrees:
            self.do(work)
            self.model.state, self.model.enabled = State.ENABLED, True
        else:
            self.do(work, RefusedError)
            self.model.state, self.model.enabled = State.DISABLED, False

    @rule(agrees=st.booleans())
    def disable(self, agrees: bool) -> None:
        self.answers(agrees=agrees)
        work = lambda: self.s.host.disable("stub")  # noqa: E731
        if self.model is None:
            self.do(work, NotFoundError)
        elif not self.model.enabled:
            self.do(work)
        else:
            self.do(work, *(() if agrees else (RefusedError,)))
            self.model.state, self.model.enabled = State.DISABLED, False

    @rule(agrees=st.booleans(), force=st.booleans())
    def unregister(self, agrees: bool, force: bool) -> None:
        self.answers(agrees=agrees)
        work = lambda: self.s.host.unregister("stub", force=force)  # noqa: E731
        if self.model is None:
            self.do(work, NotFoundError)
        elif self.model.enabled and not agrees and not force:
            self.do(work, RefusedError)
            self.model.state, self.model.enabled = State.DISABLED, False
        else:
            self.do(work)
            self.model = None

    @rule(progress=st.sampled_from([0, 30, 60, 100]), fails=st.booleans())
    def report(self, progress: int, fails: bool) -> None:
        self.answers()
        error = "models are missing" if fails else ""
        work = lambda: self.s.host.report_init("stub", progress, error)  # noqa: E731
        if self.model is None:
            self.do(work, NotFoundError)
            return
        self.do(work)
        self.reported(self.model, progress, fails=fails)

    def reported(self, model: Model, progress: int, *, fails: bool) -> None:
        """Source: the table of writers of the status object."""
        if progress and model.init == 100:
            return
        if progress == 100:
            if model.state in (State.INITIALIZING, State.FAILED):
                model.state, model.enabled = State.ENABLED, True
                model.init = model.init if fails else 100
        elif fails:
            if model.state in (State.INITIALIZING, State.FAILED):
                model.state, model.enabled = State.FAILED, True
        elif progress == 0:
            if model.state in (State.INITIALIZING, State.FAILED, State.ENABLED):
                model.state, model.enabled, model.init = State.INITIALIZING, True, 0
        elif model.state in (State.INITIALIZING, State.FAILED):
            model.enabled, model.init = True, progress

    @precondition(lambda self: self.model and self.model.state in ON)
    @rule()
    def crash(self) -> None:
        async def die() -> None:
            app = await self.s.record()
            self.s.backend.end.set()
            await self.s.host.recovery.follow_end(app)
            self.s.backend.end = anyio.Event()

        self.do(die)
        self.known.state = State.FAILED

    @precondition(lambda self: self.model and self.model.state is not State.FAILED)
    @rule(patient=st.booleans())
    def kill_while_switching(self, patient: bool) -> None:
        """The host is gone while the app is being asked, and another takes over."""
        self.answers()
        turns_on = not self.known.enabled
        work = self.s.host.enable if turns_on else self.s.host.disable
        self.portal.call(self.interrupted, lambda: work("stub"), "/enabled")
        self.portal.call(self.taken_over, patient)
        if not turns_on or not patient:
            self.known.enabled = False
            self.known.state = State.FAILED if turns_on else State.DISABLED
        else:
            self.known.state, self.known.enabled = State.ENABLED, True

    @precondition(lambda self: self.model and self.model.version != "2.0.0")
    @rule(path=st.sampled_from(["/heartbeat", "/init"]))
    def kill_while_updating(self, path: str) -> None:
        self.answers()
        info = replace(INFO, version="2.0.0")
        self.portal.call(self.interrupted, lambda: self.s.host.update(info), path)
        self.portal.call(self.taken_over, False)
        self.went_back()

    async def interrupted(self, work: Callable[[], Awaitable[Any]], path: str) -> None:
        """Do something, and end it when the app is asked for that path."""
        with anyio.CancelScope() as scope:

            async def end() -> None:
                self.s.app.before.clear()
                scope.cancel()
                await anyio.sleep_forever()

            self.s.app.before[path] = end
            await work()
        assert scope.cancelled_caught

    async def taken_over(self, patient: bool) -> None:
        for operation in await self.s.host.recovery.orphans():
            await self.s.host.recovery.settle(operation, finish=patient)

    @invariant()
    def registry_is_as_the_model_says(self) -> None:
        async def look() -> None:
            assert await self.s.host.operations.all() == []
            apps = await self.s.host.registry.apps()
            if self.model is None:
                assert apps == []
                return
            (app,) = apps
            found = Model(app.version, app.state, app.enabled, app.status.init)
            assert found == self.model
            assert (app.port, app.secret) == (INFO.port, INFO.secret)
            assert not was_never_deployed(app)

        self.portal.call(look)


TestInstalled = Installed.TestCase
TestInstalled.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,  # a failure belongs to a change, not to a day
    suppress_health_check=[HealthCheck.too_slow],
)
