"""Who listens on the port of an app: what answers there may be somebody else's."""

from contextlib import suppress
from typing import Any

import psutil

from appapi_host.deploy.process.plan import Plan
from appapi_host.deploy.process.processes import members

__all__ = ["stranger_on"]

_REACHED_BY_US = frozenset({"0.0.0.0", "127.0.0.1", "::", "::ffff:127.0.0.1"})

_OF_ONE_APP = ("APP_ID", "APP_SECRET", "APP_PERSISTENT_STORAGE")
"""The folder tells apart what two hosts have registered with the same id and secret."""


def stranger_on(port: int, app_id: str, plan: Plan) -> str:
    """Who listens on a port of this machine, if it is no process of an app.

    Args:
        port: on loopback.
        app_id: the app.
        plan: how it was started.

    Returns:
        Something for a sentence; empty if the app listens, or it cannot be seen whether it does.
    """
    if plan.identity is None:
        return ""
    for process in members(app_id, plan.identity, set()):
        try:
            connections = process.net_connections(kind="tcp")
        except psutil.AccessDenied:
            return ""  # it has become another user
        except psutil.Error:
            continue  # it has ended
        if any(_listens(connection, port) for connection in connections):
            return ""
    try:
        listening = [one for one in psutil.net_connections(kind="tcp") if _listens(one, port)]
    except psutil.Error:
        return ""
    for connection in listening:
        if connection.pid is None:
            return "a process of another user"
        with suppress(psutil.Error):
            process = psutil.Process(connection.pid)
            if not _was_started_by_it(process, plan):
                return f"process {process.pid} ({process.name()})"
    return "" if listening else "nobody any more"


def _was_started_by_it(process: psutil.Process, plan: Plan) -> bool:
    """Whether a process has left the session of an app and lost its parent, as daemons do."""
    try:
        inherited = process.environ()
    except psutil.Error:
        return False
    return all(inherited.get(name) == plan.environment.get(name) for name in _OF_ONE_APP)


def _listens(connection: Any, port: int) -> bool:
    return (
        connection.status == psutil.CONN_LISTEN
        and connection.laddr.port == port
        and connection.laddr.ip in _REACHED_BY_US
    )
