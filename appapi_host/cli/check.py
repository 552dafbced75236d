"""`check PATH`: what is wrong with the description of an app, and what may be."""

from typing import TextIO

import anyio

from appapi_host.cli.console import Failure, open_console
from appapi_host.errors import InfoError
from appapi_host.info_source import load_info
from appapi_host.info_xml import AppInfo

__all__ = ["check"]


def check(source: str, out: TextIO, err: TextIO, *, strict: bool = False) -> int:
    """Print a report about a description.

    Args:
        source: an app's folder, the path of an info.xml, or its URL.
        out: where the report goes.
        err: where problems go.
        strict: take warnings for problems.

    Returns:
        0 if the app can be installed from it, else 1.
    """
    console = open_console(out, err)
    try:
        info = anyio.run(load_info, source)
    except InfoError as error:
        console.failure(Failure.of(error))
        return 1
    for warning in info.warnings:
        console.labelled("warning", warning)
    console.say(f"{source}: {info.name} {info.version} ({info.id})")
    console.labelled("image", _image(info))
    for route in info.routes:
        console.labelled("route", f"{route.access_level.name:<6}  {route.verb:<12}  {route.url}")
    if not info.routes:
        console.labelled("route", "none: users reach nothing of the app")
    for variable in info.environment_variables.values():
        default = f", default {variable.default!r}" if variable.default else ""
        console.labelled("variable", f"{variable.name}{default}")
    count = len(info.warnings)
    console.say(f"No problems, {count} warning{'' if count == 1 else 's'}.")
    return 1 if strict and count else 0


def _image(info: AppInfo) -> str:
    image = info.docker_install
    return f"{image.registry}/{image.image}:{image.image_tag}" if image else "none"
