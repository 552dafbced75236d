"""A person at a browser without scripts: follows no redirect unless told, keeps cookies."""

import html
import re
from typing import Any

import httpx

from tests.host.web_stage import WebStage


def fields(page: str) -> dict[str, str]:
    """Names and values of the hidden inputs of a page."""
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page)
    return {name: html.unescape(value) for name, value in found}


async def sign_in(
    s: WebStage, user: str = "user", password: str | None = None, *, target: str = ""
) -> httpx.Response:
    """Fill in the login form and send it off; the client keeps the session."""
    shown = await s.client.get("/login", params={"redirect_url": target} if target else None)
    given = fields(shown.text) | {"user": user, "password": user if password is None else password}
    return await s.client.post("/index.php/login", data=given, headers={"origin": "http://host"})


def cookie_attributes(response: httpx.Response, beginning: str) -> dict[str, Any]:
    """Attributes of a cookie that is set, in lower case, its name and value too."""
    for value in response.headers.get_list("set-cookie"):
        if value.startswith(beginning):
            name_and_value, *rest = (part.strip() for part in value.split(";"))
            name, _, content = name_and_value.partition("=")
            pairs = (part.partition("=") for part in rest)
            return {"name": name, "value": content} | {
                key.lower(): text or True for key, _, text in pairs
            }
    return {}
