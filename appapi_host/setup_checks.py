"""What apps have to say about their own health, for the overview of administrators.

Source: AppAPI documentation, Setup checks.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import anyio

from appapi_host.app_client import Answer, AppClient
from appapi_host.documents import DocumentStore
from appapi_host.errors import HostError
from appapi_host.events import EventBus, Notice
from appapi_host.records import AppRecord
from appapi_host.registry import Registry
from exapp_sdk.errors import TransportError

__all__ = ["KIND", "SINCE", "Issue", "SetupChecks"]

KIND: Final = "setup-check"
SINCE: Final = 35
"""The first Nextcloud whose AppAPI asks."""

INTERVAL: Final = 600.0
"""Seconds between two rounds of those that nobody asked for."""

APP_SECONDS: Final = 5.0
MAX_BYTES: Final = 262_144
MAX_ENTRIES: Final = 1000
MAX_ISSUES: Final = 16
MAX_TEXT: Final = 4096
MAX_URL: Final = 2048

_SEVERITIES: Final = frozenset({"error", "warning"})
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_URL: Final = re.compile(r"https?://[^\x00-\x20\x7f\"'<>]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that is not as it should be.

    Args:
        app_id: whose.
        app_name: the name of that app.
        severity: `error` or `warning`.
        text: what.
        link_url: where more is written; empty for nowhere.
        link_label: what the link is called.
    """

    app_id: str
    app_name: str
    severity: str
    text: str
    link_url: str = ""
    link_label: str = ""


class SetupChecks:
    """Asks the apps that want to be asked.

    Args:
        documents: which ones do.
        registry: which of them are enabled.
        client: how they are asked.
        url_of: where they are.
        bus: told of what was found in rounds that nobody asked for.
    """

    def __init__(
        self,
        documents: DocumentStore,
        *,
        registry: Registry,
        client: AppClient,
        url_of: Callable[[AppRecord], str],
        bus: EventBus,
    ) -> None:
        self._documents = documents
        self._registry = registry
        self._client = client
        self._url_of = url_of
        self._bus = bus

    async def issues(self) -> list[Issue]:
        """What the apps that are enabled and have finished their init have to say, by app."""
        found: list[Issue] = []
        wanting = await self._documents.read(lambda documents: documents.find(KIND))
        for app_id in sorted(document.app_id for document in wanting):
            app = await self._registry.app(app_id)
            if app and app.enabled and app.status.init == 100 and app.status.action != "init":
                found += await self._issues_of(app)
        return found

    async def watch(self, *, interval: float = INTERVAL) -> None:
        """Ask again and again, and say what is new; runs until it is cancelled."""
        known: set[Issue] = set()
        while True:
            await anyio.sleep(interval)
            present = await self.issues()
            for issue in present:
                if issue not in known:
                    text = f"setup check, {issue.severity}: {issue.text}"
                    self._bus.emit(Notice(issue.app_id, text))
            known = set(present)

    async def _issues_of(self, app: AppRecord) -> list[Issue]:
        try:
            with anyio.fail_after(APP_SECONDS):
                answer = await self._client.ask(app, self._url_of(app), "GET", "/setup_checks")
        except TimeoutError:
            reason = f"no answer within {APP_SECONDS:g} s"
        except (TransportError, HostError) as error:
            reason = str(error)
        else:
            reason = _why_unusable(answer)
            if not reason:
                return list(islice(_listed(app, _entries(answer.json())), MAX_ISSUES))
        # The administrator only reads that the app does not respond; why, its developer wants to.
        self._bus.emit(Notice(app.app_id, f"GET /setup_checks: {reason}"))
        return [Issue(app.app_id, app.name or app.app_id, "warning", "not responding")]


def _why_unusable(answer: Answer) -> str:
    """Why AppAPI takes an answer for none; empty if it does not."""
    if not 200 <= answer.status < 300:
        return f"answered {answer.status}"
    headers = {name.lower(): value for name, value in answer.headers}
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        return "the answer has no Content-Length, which AppAPI insists on"
    if int(length) > MAX_BYTES:
        return f"the answer is longer than {MAX_BYTES} bytes"
    if not isinstance(answer.json(), (dict, list)):
        return "the answer is neither a JSON object nor a list"
    return ""


def _entries(answer: Any) -> Iterable[Any]:
    return islice(answer.values() if isinstance(answer, dict) else answer, MAX_ENTRIES)


def _listed(app: AppRecord, entries: Iterable[Any]) -> Iterator[Issue]:
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        severity = _text(entry, "status").strip().lower()
        if severity in _SEVERITIES:
            url = _text(entry, "link_url")
            yield Issue(
                app.app_id,
                app.name or app.app_id,
                severity,
                _shown(_text(entry, "text")) or "reported a problem",
                url if len(url) <= MAX_URL and _URL.fullmatch(url) else "",
                _shown(_text(entry, "link_label")),
            )


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _shown(text: str) -> str:
    """A text for terminals and pages: cut, and without what would steer them."""
    return _CONTROLS.sub("", text[:MAX_TEXT])
