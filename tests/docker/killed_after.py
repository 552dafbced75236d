"""Runs a command of the host that is killed right after a request to the engine was answered.

usage: killed_after.py METHOD WORDS...
"""

import os
import signal
import sys
from typing import Any

from appapi_host.__main__ import main
from appapi_host.deploy.docker.engine import Engine

METHOD = sys.argv[1]
answered = getattr(Engine, METHOD)


async def killed(engine: Engine, *args: Any, **options: Any) -> None:
    """Do what the engine does, and then be gone."""
    await answered(engine, *args, **options)
    os.kill(os.getpid(), signal.SIGKILL)


setattr(Engine, METHOD, killed)
sys.exit(main(sys.argv[2:]))
