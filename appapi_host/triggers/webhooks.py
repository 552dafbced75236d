"""Something that happens, for the webhooks of an app.

Source: Nextcloud administration manual, Webhook Listeners.
"""

from collections.abc import Mapping
from typing import Any, Final

from appapi_host.errors import HostError, NotFoundError
from appapi_host.events import Direction
from appapi_host.happenings import Happening
from appapi_host.host import Host
from appapi_host.triggers.outcome import Outcome, Told, exchanges_with
from appapi_host.triggers.targets import acting_user, enabled_app
from appapi_host.webhooks import EVENTS, KIND, Delivery

__all__ = ["trigger_webhook"]

_TWO_NODES: Final = ("Renamed", "Copied", "Restored")


async def trigger_webhook(
    host: Host,
    app_id: str,
    *,
    event: str | None = None,
    data: Mapping[str, Any] | None = None,
    user_id: str | None = None,
) -> Outcome:
    """Have something happen, and tell the webhooks of an app.

    Args:
        host: where the app is installed.
        app_id: the app.
        event: class of the event, or its last part: `NodeCreatedEvent`; not needed if the app
            listens to only one.
        data: members of the event; samples if not given.
        user_id: who does it; the first user who is no administrator if not given, and nobody if
            it is empty.

    Raises:
        NotFoundError: there is no such app or user, or it does not listen to that.
        HostError: the app or the user is disabled, or it is not clear which event is meant.
    """
    await enabled_app(host, app_id)
    chosen = await _event(host, app_id, event)
    user = None if user_id == "" else await acting_user(host, user_id)
    who = user.user_id if user else ""
    happening = Happening(chosen, _sample(chosen, who) if data is None else data, who)
    with exchanges_with(host.bus, app_id, Direction.HOST_TO_APP) as seen:
        deliveries = await host.webhooks.deliver(happening, app_id=app_id)
    told = tuple(Told.of(exchange, user_id=who) for exchange in seen)
    notes = tuple(_note(delivery) for delivery in deliveries if not delivery.is_success)
    wanted = [delivery for delivery in deliveries if delivery.is_wanted]
    return Outcome(told, notes, bool(wanted) and all(each.is_success for each in wanted))


async def _event(host: Host, app_id: str, wanted: str | None) -> str:
    found = await host.documents.read(lambda documents: documents.find(KIND, app_id=app_id))
    events = list(dict.fromkeys(document.label for document in found))
    if not events:
        raise NotFoundError(
            f"ExApp {app_id} has registered no webhook.",
            remedy="apps register when they are enabled; look at what it asked the host then",
        )
    names = ", ".join(events)
    if wanted is None and len(events) == 1:
        return events[0]
    if wanted is None:
        raise HostError(f"ExApp {app_id} listens to several events: {names}", remedy="name one")
    wanted = wanted.lstrip("\\")
    for event in events:
        if wanted in (event, event.rpartition("\\")[2]):
            return event
    if "\\" in wanted and not EVENTS.fullmatch(wanted):
        raise HostError(f"{wanted} is not an event that webhooks can listen to")
    raise NotFoundError(
        f"ExApp {app_id} does not listen to {wanted}.", remedy=f"it listens to {names}"
    )


def _note(delivery: Delivery) -> str:
    what = "was told" if delivery.is_wanted else "was not told"
    reason = delivery.note or f"answered {delivery.answer.status if delivery.answer else 0}"
    return f"webhook {delivery.number}, {delivery.method} {delivery.uri}, {what}: {reason}"


def _sample(event: str, user_id: str) -> dict[str, Any]:
    """Members that an event of this class has."""
    name = event.rpartition("\\")[2]
    folder = f"/{user_id or 'user'}/files"
    if name.startswith("Tag"):
        return {"objectType": "files", "objectIds": ["437"], "tagIds": [3]}
    if any(word in name for word in _TWO_NODES) and "Node" in name:
        source: dict[str, Any] = {"id": 436, "path": f"{folder}/old.txt"}
        target: dict[str, Any] = {"path": f"{folder}/new.txt"}
        if not name.startswith("Before"):
            target["id"] = 437
            if "Renamed" in name:
                del source["id"]
        return {"source": source, "target": target}
    if "Node" in name:
        node: dict[str, Any] = {"id": 437, "path": f"{folder}/notes.txt"}
        if name in ("BeforeNodeCreatedEvent", "NodeDeletedEvent"):
            del node["id"]
        return {"node": node}
    if name == "CalendarObjectMovedEvent":
        return {
            "sourceCalendarId": 9,
            "sourceCalendarData": {"id": 9, "uri": "work"},
            "targetCalendarId": 11,
            "targetCalendarData": {"id": 11, "uri": "meetings"},
            "sourceShares": [],
            "targetShares": [],
            "objectData": {"id": 22, "uri": "event.ics"},
        }
    if name.startswith("CalendarObject"):
        return {
            "calendarId": 9,
            "calendarData": {"id": 9, "uri": "work"},
            "shares": [],
            "objectData": {"id": 22, "uri": "event.ics", "calendarid": 9, "component": "VEVENT"},
        }
    return {}
