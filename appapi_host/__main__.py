"""`python -m appapi_host`, and the script `appapi-host`."""

import sys

from appapi_host.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
