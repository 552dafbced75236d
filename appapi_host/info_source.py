"""Where the description of an app comes from: a file, or an address of the web."""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from appapi_host.app_client import fetch
from appapi_host.errors import InfoError
from appapi_host.info_xml import MAX_BYTES, AppInfo, load_xml
from exapp_sdk.errors import TransportError

__all__ = ["FETCH_SECONDS", "is_url", "load_info"]

FETCH_SECONDS: Final = 30.0
"""Until the whole document must be there; it is a few KiB."""


def is_url(source: str) -> bool:
    """Whether a source is an address rather than a path."""
    return "://" in source


async def load_info(source: str | Path, *, seconds: float = FETCH_SECONDS) -> AppInfo:
    """Read an info.xml.

    Args:
        source: path of the file, or of the app's folder with `appinfo/info.xml` in it; or a URL
            with http or https; also what it redirects to must be one.
        seconds: limit for a URL.

    Raises:
        InfoError: it cannot be read, or has problems.
    """
    source = str(source)
    if not is_url(source):
        return await anyio.to_thread.run_sync(_load, source)
    if urlsplit(source).scheme.lower() not in ("http", "https"):
        raise _unreadable(source, "only http and https are asked; a file is given by its path")
    try:
        with anyio.fail_after(seconds):
            # One byte more than is accepted: the reader then says that it is too large.
            data = await fetch(source, limit=MAX_BYTES + 1)
    except TimeoutError as error:
        raise _unreadable(source, f"it did not come within {seconds:g} s") from error
    except TransportError as error:
        raise _unreadable(source, error.reason) from error
    return await anyio.to_thread.run_sync(AppInfo.from_xml, data, source)


def _load(source: str) -> AppInfo:
    folder = Path(source)
    return AppInfo.from_folder(folder) if folder.is_dir() else load_xml(source)


def _unreadable(source: str, reason: str) -> InfoError:
    return InfoError(
        source,
        [reason],
        remedy="give the path or the URL of an info.xml file that is open to everybody",
        kind="read",
        headline=f"Failed to read info.xml from {source}",
    )
