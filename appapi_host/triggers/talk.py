"""A message in a conversation that a bot takes part in.

It passes the door through which Talk hands messages to AppAPI, signed with the bot's secret.

Source: AppAPI documentation, Talk bots; Nextcloud Talk, Bots.
"""

import hmac
import json
import secrets
from dataclasses import dataclass
from typing import Any, Final

import anyio

from appapi_host.documents import Documents
from appapi_host.events import Direction
from appapi_host.host import Host
from appapi_host.ocs.talk import BOT, MESSAGE, PROXY
from appapi_host.records import User
from appapi_host.triggers.outcome import Outcome, Told, exchanges_with
from appapi_host.triggers.targets import acting_user, enabled_app, registration, signed_in

__all__ = ["TalkOutcome", "trigger_talk"]

SAMPLE_TOKEN: Final = "n3xtc10ud"


@dataclass(frozen=True, slots=True)
class TalkOutcome(Outcome):
    """The same, and what the bot had to say.

    Args:
        said: its messages and reactions, as far as they came in time.
    """

    said: tuple[str, ...] = ()


async def trigger_talk(
    host: Host,
    app_id: str,
    *,
    route: str | None = None,
    message: str = "Hello",
    conversation: str = SAMPLE_TOKEN,
    user_id: str | None = None,
    seconds: float = 0.0,
) -> TalkOutcome:
    """Say something to a bot.

    Args:
        host: where the app is installed.
        app_id: the app.
        route: of the bot; not needed if the app has only one.
        message: what is said.
        conversation: token of the conversation.
        user_id: who says it; the first user who is no administrator if not given.
        seconds: how long to wait for a message of the bot.

    Raises:
        NotFoundError: there is no such app, bot or user.
        HostError: the app or the user is disabled, or it is not clear which bot is meant.
    """
    await enabled_app(host, app_id)
    bot = await registration(host, app_id, BOT, route and route.lstrip("/"), what="bot")
    user = await acting_user(host, user_id)
    already = await _said(host, app_id, conversation)
    with exchanges_with(host.bus, app_id, Direction.HOST_TO_APP) as seen:
        status = await _hand_over(host, app_id, bot.name, _activity(user, message, conversation))
    told = tuple(Told.of(exchange) for exchange in seen)
    said: list[tuple[int, str, bool]] = []
    with anyio.move_on_after(seconds):
        revision = None
        while not any(is_message for _, _, is_message in said):
            revision = await host.registry.next_change(revision)
            said = (await _said(host, app_id, conversation))[len(already) :]
    return TalkOutcome(
        told,
        is_success=status == 200 and all(one.is_success for one in told),
        said=tuple(text for _, text, _ in said),
    )


async def _hand_over(host: Host, app_id: str, route: str, activity: dict[str, Any]) -> int:
    def read(documents: Documents) -> str:
        bot = documents.get(BOT, app_id, route)
        stored = bot.content["secret"] if bot else ""
        return host.values.decrypted(stored, "of a bot")

    secret = await host.documents.read(read)
    body = json.dumps(activity)
    random = secrets.token_hex(32)
    signature = hmac.digest(secret.encode(), (random + body).encode(), "sha256").hex()
    async with signed_in(host, None) as talk:
        answer = await talk.post(
            f"/ocs/v2.php{PROXY}/{app_id}/{route}",
            content=body,
            headers={
                "Content-Type": "application/json",
                "X-Nextcloud-Talk-Backend": f"{host.settings.url}/",
                "X-Nextcloud-Talk-Random": random,
                "X-Nextcloud-Talk-Signature": signature,
            },
        )
    return answer.status_code


def _activity(user: User, message: str, conversation: str) -> dict[str, Any]:
    return {
        "type": "Create",
        "actor": {
            "type": "Person",
            "id": f"users/{user.user_id}",
            "name": user.display_name or user.user_id,
        },
        "object": {
            "type": "Note",
            "id": str(secrets.randbelow(1_000_000) + 1),
            "name": "message",
            "content": json.dumps({"message": message, "parameters": {}}, separators=(",", ":")),
            "mediaType": "text/markdown",
        },
        "target": {"type": "Collection", "id": conversation, "name": "Sample conversation"},
    }


async def _said(host: Host, app_id: str, conversation: str) -> list[tuple[int, str, bool]]:
    """Number, text and whether it is a message, of what the bots of an app have said."""
    found = await host.documents.read(
        lambda documents: documents.find(MESSAGE, app_id=app_id, label=conversation)
    )
    said = []
    for document in found:
        is_message = document.content["kind"] == "message"
        text = document.content["message" if is_message else "reaction"]
        said.append((document.id, text, is_message))
    return said
