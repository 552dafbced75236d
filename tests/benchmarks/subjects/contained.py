"""The plain app of the tests in a container; it prints when it begins to listen."""

import http.server
import runpy
import sys
import time


class Timed(http.server.ThreadingHTTPServer):
    """Tells the time, in seconds since 1970."""

    def server_activate(self) -> None:
        """Listen."""
        super().server_activate()
        sys.stdout.write(f"listening {time.time()}\n")
        sys.stdout.flush()


http.server.ThreadingHTTPServer = Timed  # type: ignore[misc]
runpy.run_path("/plain_app.py", run_name="__main__")
