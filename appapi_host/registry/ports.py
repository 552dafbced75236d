"""Ports for apps that ask for none."""

import os
import socket
import sqlite3
from typing import Final

from appapi_host.errors import HostError

__all__ = ["PORTS", "free_port"]

PORTS: Final = range(23000, 24000)
"""Ports that the host gives to apps that ask for none; the same as AppAPI's."""


def free_port(connection: sqlite3.Connection) -> int:
    """The lowest port that no app of any daemon has and that can be bound now.

    Raises:
        HostError: none is free.
    """
    used = {row["port"] for row in connection.execute("SELECT port FROM apps")}
    for port in PORTS:
        if port not in used and _can_bind(port):
            return port
    raise HostError(
        f"no port from {PORTS.start} to {PORTS.stop - 1} is free",
        remedy="unregister apps, or give the port in the app's info",
    )


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if os.name == "posix":
            # As ASGI servers do: connections that linger do not count. Elsewhere the option means
            # that two may listen at once.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
