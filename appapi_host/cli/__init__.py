"""The command line: the only place of this package that prints.

`run` installs one folder, `serve` keeps a host running, `occ` manages it in the words of AppAPI.
Modules are imported when their command is used: `--help` needs neither the host nor rich.
"""

import os
import sys
from collections.abc import Sequence

__all__ = ["DEBUG_VARIABLE", "main"]

DEBUG_VARIABLE = "APPAPI_HOST_DEBUG"
"""Set it to see the traceback of an error that is ours."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after the program's name; those of this process when None.

    Returns:
        The exit code: 0, 1 when something failed, 2 when the command line of `run` or `serve` is
        wrong; `occ` returns the codes of AppAPI's occ.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show an arrow must not end the program.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _dispatch(words)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        from appapi_host.cli.console import forget

        forget(sys.stdout)
        return 1
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  # whatever it is, no traceback
        return _report(error)


def _dispatch(words: list[str]) -> int:
    if words[:1] == ["occ"]:
        # Not a click command of its own: Symfony's rules, not click's, hold behind this word.
        from appapi_host.cli.occ import main as occ

        return occ(words[1:])
    from appapi_host.cli.commands import main as commands

    return commands(words)


def _report(error: BaseException) -> int:
    """Say what went wrong: our own errors with their remedy, all others as what they are, bugs."""
    from exapp_sdk.errors import ExAppError

    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, ExAppError):
        from appapi_host.cli.console import Failure, open_console

        open_console(sys.stdout, sys.stderr).failure(Failure.of(error))
        return 1
    text = str(error).partition("\n")[0]
    print(
        f"appapi_host: unexpected {type(error).__name__}: {text}\n"
        f"This is a bug. Please report it to the project, with what the same command prints when "
        f"{DEBUG_VARIABLE}=1 is set.",
        file=sys.stderr,
    )
    return 1
