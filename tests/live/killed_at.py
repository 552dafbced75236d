"""Runs a command of the host that is killed as soon as it has written down a certain step.

usage: killed_at.py VERB STEP WORDS...
"""

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from appapi_host.__main__ import main
from appapi_host.operations import Operation, Operations, Verb

VERB, STEP = Verb(sys.argv[1]), sys.argv[2]


class Killed(Operations):
    """Writes down what the real one does, and then is gone."""

    async def begin(
        self, app_id: str, verb: Verb, step: str, details: Mapping[str, Any]
    ) -> Operation | None:
        other = await Operations.begin(self, app_id, verb, step, details)
        if (verb, step) == (VERB, STEP):
            os.kill(os.getpid(), signal.SIGKILL)
        return other

    async def step(self, app_id: str, step: str, details: Mapping[str, Any] | None = None) -> None:
        await Operations.step(self, app_id, step, details)
        present = await self.of(app_id)
        if present is not None and (present.verb, step) == (VERB, STEP):
            os.kill(os.getpid(), signal.SIGKILL)


import appapi_host.host  # noqa: E402  # after the class that takes the place of one of its names

appapi_host.host.Operations = Killed  # type: ignore[misc]
sys.exit(main(sys.argv[3:]))
