"""Ports that a test gives away before somebody listens on them."""

import os
import socket
from itertools import count

_FIRST = 24000
"""Above those that hosts give to apps, and below those that the system gives to connections: a port
from among these could be taken before the test has used it."""

_EACH = 1000
"""Ports for each process of pytest-xdist, which start at once; 8 have their own."""

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
_numbers = count(os.getpid())  # two sessions on one machine begin at different ones


def free_port() -> int:
    """A port that nobody has now, and that no other test is given."""
    while True:
        port = _FIRST + _EACH * _worker + next(_numbers) % _EACH
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
