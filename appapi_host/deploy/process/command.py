"""What starts the app of a folder, and the environment it inherits."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from appapi_host.errors import DeployError

__all__ = ["inherited_environment", "program_of", "start_command"]

_OWN_PREFIXES: Final = ("APP_", "AA_", "HP_", "EX_APP")
_OWN_NAMES: Final = frozenset({"NEXTCLOUD_URL", "COMPUTE_DEVICE"})
_SHELL_SYNTAX: Final = re.compile(r"[$;|&<>()`*?~\n]|^\w+=")
"""What only a shell understands in the line of a Procfile."""


def start_command(folder: Path, command: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What starts the app of a folder.

    Args:
        folder: of the app.
        command: takes the place of what the folder declares.

    Returns:
        The command, else the line `web:` of a `Procfile`, else `ex_app/lib/main.py` or `main.py`
        with the Python of the folder's `.venv`, or the one that runs the host.

    Raises:
        DeployError: there is nothing of all that.
    """
    if not folder.is_dir() and not command:
        raise DeployError(
            f"the folder {folder} does not exist", remedy="give the folder that holds the app"
        )
    if command:
        return command
    procfile = folder / "Procfile"
    if procfile.is_file():
        text = procfile.read_text(encoding="utf-8", errors="replace")
        if line := re.search(r"^web:[ \t]*(\S.*?)\s*$", text, re.MULTILINE):
            return _split(line[1])
    for script in ("ex_app/lib/main.py", "main.py"):
        if (folder / script).is_file():
            return (_python(folder), script)
    raise DeployError(
        f"nothing in {folder} says how to start the app; looked for a line `web:` in Procfile,"
        " ex_app/lib/main.py and main.py",
        remedy="add one of them, or give the command: -- python3 my_app.py",
    )


def inherited_environment(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What an app gets of the host's own environment.

    Args:
        environ: the host's.
        folder: of the app; the programs of its `.venv` are found first.

    Returns:
        All but the variables that tell an ExApp who it is: the host may itself run inside one.
    """
    inherited = {
        name: value
        for name, value in environ.items()
        if not name.startswith(_OWN_PREFIXES) and name not in _OWN_NAMES
    }
    virtual = folder / ".venv" / "bin"
    first = virtual if virtual.is_dir() else Path(sys.executable).parent
    inherited["PATH"] = os.pathsep.join(filter(None, (str(first), environ.get("PATH", os.defpath))))
    inherited["PYTHONUNBUFFERED"] = "1"  # a line is to be seen when it is printed
    return inherited


def program_of(name: str, source: Path, path: str) -> str:
    """The program that a command names, as an absolute path.

    Raises:
        DeployError: it, or the folder to start it in, is not there or may not be executed.
    """
    if not source.is_dir():
        raise DeployError(
            f"the folder {source} does not exist", remedy="give the folder that holds the app"
        )
    named = source / name if os.path.dirname(name) else None  # noqa: PTH120  # a name has no folder
    found = shutil.which(named or name, path=path)
    if found:
        return found
    if named and named.exists():
        raise DeployError(
            f"{named} is not executable",
            remedy=f"chmod +x {named}, or give the program that runs it: -- python3 {name}",
        )
    raise DeployError(
        f"the command {name!r} was not found" + (f": {named} does not exist" if named else ""),
        remedy="install it, or give another start command after `--`; looked in " + path
        if not named
        else "paths in a start command count from the folder of the app",
    )


def _python(folder: Path) -> str:
    virtual = folder / ".venv"
    if not virtual.is_dir():
        return sys.executable
    python = virtual / "bin" / "python3"
    if not os.access(python, os.X_OK):
        raise DeployError(
            f"{virtual} has no working Python: {python} is missing",
            remedy=f"make it anew: python3 -m venv --clear {virtual}",
        )
    return str(python)


def _split(line: str) -> tuple[str, ...]:
    if _SHELL_SYNTAX.search(line):
        return ("/bin/sh", "-c", line)
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise DeployError(
            f"the line `web:` of Procfile cannot be read: {error}",
            remedy="close the quotation: web: python3 'my app.py'",
        ) from error
