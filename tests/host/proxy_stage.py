"""An app with a route of every kind behind AppAPI's own proxy, and requests to it."""

import base64
from dataclasses import replace
from typing import Any

from appapi_host.records import AccessLevel, Route
from tests.host.web_stage import APP, RawAnswer, WebStage, raw_request

PUBLIC, USER, ADMIN = AccessLevel.PUBLIC, AccessLevel.USER, AccessLevel.ADMIN
ROUTES = (
    Route(r"^\/?public", "GET,POST,PUT,DELETE", PUBLIC),
    Route(r"^/?admin/", "GET", ADMIN),
    Route(r"^action_handler", "post", USER),
    Route(r"^/picky", "GET", PUBLIC, headers_to_exclude=("X-Secret", "COOKIE")),
    Route(r"^/head", "GET, HEAD", PUBLIC),
    Route(r"^/(broken", "GET", PUBLIC),
    Route(r"^/?user/", "GET", USER),
    Route(r"^/?$", "GET,POST", PUBLIC),
)
RECORD = replace(APP, routes=ROUTES)
BASE = "/index.php/apps/app_api/proxy/nc_py_api"
SHORT = "/apps/app_api/proxy/nc_py_api"


def basic(user_id: str, password: str | None = None) -> tuple[str, str]:
    pair = f"{user_id}:{user_id if password is None else password}"
    return ("authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")


async def get(s: WebStage, path: str, *headers: tuple[str, str], **scope: Any) -> RawAnswer:
    return await raw_request(s.host, "GET", BASE + path, headers, **scope)


def note(s: WebStage) -> str:
    return s.exchanges()[-1].note
