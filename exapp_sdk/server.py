"""Serving an ExApp from its own script.

Source: AppAPI documentation, Deployment, Deploy env variables; HaRP for the unix socket.
"""

import importlib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

from exapp_sdk.errors import ConfigError
from exapp_sdk.protocol.environ import EXAMPLE, Settings

__all__ = ["address_options", "import_string", "run"]

_USAGE_ERROR: Final = 2
"""Exit code: what was configured cannot work, so trying again does not help."""

_FAILURE: Final = 1
_UVICORN_FAILURE: Final = 3

_LAST_ANSWERS: Final = 3
"""Seconds for open connections when the app is stopped. Engines kill after 10, and the report that
init was interrupted needs up to 5 of them."""


def run(
    app: Any,
    *,
    settings: Settings | None = None,
    server: Callable[..., object] | None = None,
    **options: Any,
) -> None:
    """Serve an application until it is stopped; `ExApp.run()` calls this.

    What is wrong with the configuration goes to stderr in words, and the process exits with 2.

    Args:
        app: any ASGI application.
        settings: by default read from the environment.
        server: called as `server(app, **options)` instead of `uvicorn.run`.
        options: for the server; they win over what is chosen here.
    """
    try:
        settings = settings or Settings.from_environ(os.environ)
        chosen: dict[str, Any] = address_options(settings) if _needs_address(options) else {}
        if server is None:
            server = _uvicorn()
            chosen |= {
                "access_log": False,
                "lifespan": "on",
                "timeout_graceful_shutdown": _LAST_ANSWERS,
            }
            if options.get("reload") or options.get("workers", 1) > 1:
                app, folder = import_string(app, sys.modules["__main__"])
                chosen["app_dir"] = folder
    except ConfigError as error:
        _exit_with(str(error))
    _show_own_log_lines()
    try:
        server(app, **(chosen | options))
    except SystemExit as end:
        # Versions of uvicorn differ in this when they cannot start, for instance on a port in use.
        sys.exit(_FAILURE if end.code == _UVICORN_FAILURE else end.code)


def address_options(settings: Settings) -> dict[str, Any]:
    """Where to listen, as options of uvicorn: `host` and `port`, or `uds`.

    Raises:
        ConfigError: there is no port, or the socket cannot be where it should be.
    """
    path = settings.harp_socket
    if path is None:
        if not settings.app_port:
            raise ConfigError(["APP_PORT is not set"], example=EXAMPLE)
        return {"host": settings.app_host, "port": settings.app_port}
    if not path.parent.is_dir():
        raise ConfigError([f"HP_EXAPP_SOCK is {str(path)!r}: {path.parent} is no folder"])
    if path.is_socket():
        path.unlink()  # left behind by a process that was killed
    elif path.exists():
        raise ConfigError([f"HP_EXAPP_SOCK is {str(path)!r}: there is a file, and no socket"])
    return {"uds": str(path)}


def import_string(app: object, main: ModuleType) -> tuple[str, str]:
    """How another process can import an application that lives in a script.

    Args:
        app: the application.
        main: the module of the script, `__main__`.

    Returns:
        `module:name`, and the folder of the module.

    Raises:
        ConfigError: it is no global of a script.
    """
    file = getattr(main, "__file__", None)
    names = [name for name, value in vars(main).items() if value is app]
    if not file or not names:
        raise ConfigError(
            ["workers and reload start other processes, which must be able to import the app"],
            example='app = ExApp()  # at the top of a script\n\nif __name__ == "__main__":\n'
            "    app.run(workers=2)",
        )
    path = Path(file).resolve()
    return f"{path.stem}:{names[0]}", str(path.parent)


def _needs_address(options: Mapping[str, Any]) -> bool:
    return not options.keys() & {"fd", "uds"} and not {"host", "port"} <= options.keys()


def _uvicorn() -> Callable[..., object]:
    try:
        run_server: Callable[..., object] = importlib.import_module("uvicorn").run
    except ModuleNotFoundError as error:
        if error.name != "uvicorn":
            raise
        raise ConfigError(['there is no ASGI server: pip install "exapp-sdk[server]"']) from None
    return run_server


def _show_own_log_lines() -> None:
    """Python shows nothing below a warning unless somebody asks, and here nobody has."""
    own = logging.getLogger("exapp_sdk")
    if own.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s:     %(message)s"))
    own.addHandler(handler)
    own.setLevel(logging.INFO)
    own.propagate = False


def _exit_with(text: str) -> NoReturn:
    sys.stderr.write(f"{text}\n")
    sys.exit(_USAGE_ERROR)
