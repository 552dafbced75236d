"""Waiting for an app that has been started: its first good answer to `GET /heartbeat`.

Source: AppAPI documentation, App Installation Flow; behaviour of AppAPI 32.0.0.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from appapi_host.app_client import Answer, AppClient
from appapi_host.deploy.base import DeployBackend
from appapi_host.errors import StepError, StepTimeout
from appapi_host.records import AppRecord
from appapi_host.settings import Timeouts
from exapp_sdk.errors import TransportError
from exapp_sdk.protocol.lifecycle import is_heartbeat_answer

__all__ = ["Heartbeat", "poll_pause"]

SHORTEST_POLL_SECONDS: Final = 0.025
LONGEST_POLL_SECONDS: Final = 0.25
POLL_SHARE: Final = 0.05
POLL_LOAD: Final = 0.1
"""A heartbeat cannot call us, so it is polled: often at first, when most apps come up, and the more
seldom the longer it takes; who waited for so long does not mind a twentieth more. No more than a
tenth of the time goes into asking, or many apps that start at once would wait for our questions."""

_WRONG: Final = (
    'answer GET /heartbeat with status 200 and {"status": "ok"}, and check that it is this app '
    "that listens on port "
)
_TAKEN: Final = (
    "end that one, or unregister the app and register it again with another port; an app that "
    "something else starts is one for manual-install"
)

# What a wrong answer to the heartbeat means. Statuses that are not here may be a server that is
# still starting, so they are waited out.
_HOPELESS_STATUS: Final = frozenset({401, 403, 404, 405, 406, 410})


def poll_pause(*, waited: float, asking: float) -> float:
    """Seconds until an app is asked again for its heartbeat.

    Args:
        waited: seconds since it was asked first.
        asking: seconds that the last question took, whoever took them.
    """
    pause = max(waited * POLL_SHARE, asking / POLL_LOAD, SHORTEST_POLL_SECONDS)
    return min(pause, LONGEST_POLL_SECONDS)


class Heartbeat:
    """Asks an app whether it is up.

    Args:
        client: how it is spoken to.
        backend: how it was deployed.
        timeouts: limits.
        count: awaited about once a second with the number of questions without a good answer.
        output: the app's last lines, for errors.
    """

    def __init__(
        self,
        *,
        client: AppClient,
        backend: DeployBackend,
        timeouts: Timeouts,
        count: Callable[[int], Awaitable[None]],
        output: Callable[[AppRecord], Awaitable[list[str]]],
    ) -> None:
        self._client = client
        self._backend = backend
        self._timeouts = timeouts
        self._count = count
        self._output = output

    async def wait(self, app: AppRecord) -> None:
        """Ask until the good answer.

        Raises:
            StepTimeout: no good answer within the limit.
            StepError: what answers cannot be an ExApp.
        """
        limit = self._timeouts.heartbeat
        started = noted = time.monotonic()
        hopeless_since: float | None = None
        url = self._backend.url(app)
        seen, stranger = f"nothing answers at {url}", ""
        failures = 0
        with anyio.move_on_after(limit):
            while True:
                asked = time.monotonic()
                try:
                    with anyio.fail_after(self._timeouts.heartbeat_request):
                        answer = await self._client.heartbeat(app, url)
                except TimeoutError:
                    asked = time.monotonic()  # it was waited for, not worked on
                    seen = f"no answer within {self._timeouts.heartbeat_request:g} s"
                    hopeless_since = None
                except TransportError as error:
                    seen = str(error)
                    hopeless_since = None
                else:
                    is_good = is_heartbeat_answer(answer.status, answer.json())
                    stranger = await self._backend.stranger(app) if is_good else ""
                    if is_good and not stranger:
                        return
                    seen = f"{url}/heartbeat answered {answer.status} with {answer.beginning()}"
                    if stranger:
                        seen = f"it is {stranger} that listens on port {app.port}, not the app"
                    if not (stranger or _is_hopeless(answer)):
                        hopeless_since = None
                    elif hopeless_since is None:
                        hopeless_since = time.monotonic()
                failures += 1
                now = time.monotonic()
                if hopeless_since and now - hopeless_since >= self._timeouts.heartbeat_wrong:
                    raise StepError(
                        "heartbeat",
                        seen,
                        remedy=_TAKEN if stranger else f"{_WRONG}{app.port}",
                        output=await self._output(app),
                    )
                if now - noted >= 1.0:
                    noted = now
                    await self._count(failures)
                await anyio.sleep(poll_pause(waited=now - started, asking=now - asked))
        raise StepTimeout(
            "heartbeat",
            limit,
            seen,
            remedy="the app must listen on APP_HOST and APP_PORT and answer GET /heartbeat",
            output=await self._output(app),
        )


def _is_hopeless(answer: Answer) -> bool:
    """Whether waiting longer cannot help: a web server answers, but not with our JSON."""
    if answer.status in _HOPELESS_STATUS:
        return True
    return answer.status == 200 and answer.json() is None
