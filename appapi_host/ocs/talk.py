"""Bots of apps in Talk's conversations.

A conversation here is what is said in it: who tries a bot sends it a message as Talk would, and
reads what it answers.

Source: AppAPI documentation, Talk bots; Nextcloud Talk, Bots.
"""

import hashlib
import hmac
import json
import secrets
import string
from typing import Any, Final

from appapi_host.documents import Document, Documents
from appapi_host.ocs._endpoints import Answer, Auth, Call, Family, OCSRefusal
from appapi_host.ocs._parameters import ParameterError
from appapi_host.throttling import APPS, client_address
from exapp_sdk.protocol.ocs import NOT_FOUND

__all__ = ["BOT", "MESSAGE", "family"]

BOT: Final = "talk-bot"
MESSAGE: Final = "talk-message"

PATH: Final = "/apps/app_api/api/v1/talk_bot"
PROXY: Final = "/apps/app_api/api/v1/talk_proxy"
TALK: Final = "/apps/spreed/api/v1/bot"

_MIRRORED_UNTIL: Final = 33
"""The last Nextcloud whose apps find the secrets of their bots in their own configuration."""

_ROUTE_KEY: Final = "talk_bot_route_"
_SECRET_ALPHABET: Final = string.ascii_letters + string.digits
_SECRET_LENGTH: Final = 64
_RANDOM_LENGTH: Final = 32
_MAX_MESSAGE: Final = 32_000

family = Family()


@family.post(PATH, auth=Auth.APP)
async def register_bot(call: Call, name: str, route: str, description: str) -> dict[str, str]:
    """Add a bot, or rename the one of that route; its secret stays."""
    route = route.lstrip("/")
    app_id = call.app.app_id
    bot_id = _bot_id(app_id, route)

    def put(documents: Documents) -> str:
        present = documents.get(BOT, app_id, route)
        if present is None:
            secret = "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(_SECRET_LENGTH))
            stored = call.host.values.encrypted(secret)
        else:
            stored = present.content["secret"]
            secret = call.host.values.decrypted(stored, "of a bot")
        content = {
            "bot_id": bot_id,
            "name": name,
            "description": description,
            "secret": stored,
        }
        documents.put(BOT, app_id, route, content)
        return secret

    secret = await call.host.documents.write(put)
    if call.host.settings.nextcloud_version <= _MIRRORED_UNTIL:
        await call.host.values.set(app_id, bot_id, secret, is_sensitive=True)
        await call.host.values.set(app_id, f"{_ROUTE_KEY}{bot_id}", route)
    return {"id": bot_id, "secret": secret}


@family.delete(PATH, auth=Auth.APP)
async def unregister_bot(call: Call, route: str) -> bool:
    """Remove a bot."""
    route = route.lstrip("/")
    if not await call.discard(BOT, route):
        raise OCSRefusal(NOT_FOUND, "Talk bots could not be unregistered")
    bot_id = _bot_id(call.app.app_id, route)
    await call.host.values.delete(call.app.app_id, [bot_id, f"{_ROUTE_KEY}{bot_id}"])
    return True


@family.post(f"{PROXY}/{{appId}}/{{route:path}}", auth=Auth.PUBLIC)
async def hand_over(call: Call, app_id: str, route: str) -> list[Any]:
    """Take a message from Talk and hand it to the bot."""
    # From the path, whatever the body says: the signature is that of this bot.
    app_id = call.path["appId"]
    route = call.path["route"].lstrip("/")
    address = client_address(call.request.scope)
    call.host.throttle.check(APPS, address)
    headers = call.request.headers
    random = headers.get("x-nextcloud-talk-random", "")
    signature = headers.get("x-nextcloud-talk-signature", "")

    def read(documents: Documents) -> bool:
        bot = documents.get(BOT, app_id, route)
        return bot is not None and _is_signed(call, bot, random, call.body, signature)

    if not await call.host.documents.read(read):
        call.host.throttle.failed(APPS, address)
        raise OCSRefusal(NOT_FOUND, note="no such bot, or the signature is not that of the bot")
    try:
        activity = json.loads(call.body)
    except ValueError as error:
        raise ParameterError("the body is not JSON") from error
    if not isinstance(activity, dict):
        raise ParameterError("the body is no JSON object")
    if await call.host.errands.deliver_message(app_id, route, activity) is None:
        raise OCSRefusal(500)
    return []


@family.post(f"{TALK}/{{token}}/message", auth=Auth.PUBLIC)
async def say(
    call: Call,
    token: str,
    message: str,
    reply_to: int = 0,
    reference_id: str = "",
    silent: bool = False,  # noqa: FBT001, FBT002  # a parameter of the wire
) -> Answer:
    """Say something, as a bot."""
    if not message:
        raise OCSRefusal(400)
    if len(message) > _MAX_MESSAGE:
        raise OCSRefusal(413)
    bot = await _author(call, message)
    content = {
        "kind": "message",
        "bot": bot.content["name"],
        "message": message,
        "reply_to": reply_to,
        "reference_id": reference_id,
        "silent": silent,
        "time": int(call.host.now()),
    }
    await call.host.documents.write(
        lambda documents: documents.add(MESSAGE, bot.app_id, content, label=token)
    )
    return Answer(None, 201)


@family.post(f"{TALK}/{{token}}/reaction/{{messageId}}", auth=Auth.PUBLIC)
async def react(call: Call, token: str, message_id: int, reaction: str) -> Answer:
    """React to a message, as a bot."""
    bot = await _author(call, reaction)
    name = json.dumps([token, message_id, bot.name, reaction])
    content = {
        "kind": "reaction",
        "bot": bot.content["name"],
        "message_id": message_id,
        "reaction": reaction,
        "time": int(call.host.now()),
    }

    def put(documents: Documents) -> bool:
        present = documents.get(MESSAGE, bot.app_id, name)
        documents.put(MESSAGE, bot.app_id, name, content, label=token)
        return present is None

    return Answer(None, 201 if await call.host.documents.write(put) else 200)


@family.delete(f"{TALK}/{{token}}/reaction/{{messageId}}", auth=Auth.PUBLIC)
async def take_reaction_back(call: Call, token: str, message_id: int, reaction: str) -> None:
    """Take a reaction back, as a bot."""
    bot = await _author(call, reaction)
    name = json.dumps([token, message_id, bot.name, reaction])
    count = await call.host.documents.write(
        lambda documents: documents.delete(MESSAGE, bot.app_id, [name])
    )
    if not count:
        raise OCSRefusal(NOT_FOUND, data=None)


def _bot_id(app_id: str, route: str) -> str:
    return hashlib.sha1(f"{app_id}_{route}".encode(), usedforsecurity=False).hexdigest()


async def _author(call: Call, signed: str) -> Document:
    """The bot, of an enabled app, that signed this text.

    Raises:
        OCSRefusal: none did.
    """
    headers = call.request.headers
    random = headers.get("x-nextcloud-talk-bot-random", "")
    signature = headers.get("x-nextcloud-talk-bot-signature", "")

    def find(documents: Documents) -> Document | None:
        for bot in documents.find(BOT, of_enabled=True):
            if _is_signed(call, bot, random, signed.encode(), signature):
                return bot
        return None

    bot = await call.host.documents.read(find) if len(random) >= _RANDOM_LENGTH else None
    if bot is None:
        raise OCSRefusal(401, data=None, note="the signature is that of no bot")
    return bot


def _is_signed(call: Call, bot: Document, random: str, text: bytes, signature: str) -> bool:
    secret = call.host.values.decrypted(bot.content["secret"], "of a bot")
    expected = hmac.digest(secret.encode(), random.encode() + text, "sha256").hex()
    return bool(random) and hmac.compare_digest(expected.encode(), signature.lower().encode())
