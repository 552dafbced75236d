"""Apps of the host, as administrators see and change them.

Source: AppAPI documentation, ExApp; Nextcloud OCS API, Provisioning.
"""

from typing import Any, Final
from urllib.parse import urlencode

import anyio

from appapi_host.app_client import php_json
from appapi_host.errors import HostError
from appapi_host.ocs._endpoints import Auth, Call, Family, OCSRefusal
from appapi_host.records import AppRecord
from exapp_sdk.errors import TransportError
from exapp_sdk.protocol.ocs import NOT_FOUND, UNKNOWN_ROUTE

__all__ = ["family"]

EX_APP: Final = "/apps/app_api/api/v1/ex-app"

SERVER_APPS: Final = (
    "app_api",
    "files",
    "notifications",
    "provisioning_api",
    "settings",
    "spreed",
    "theming",
    "user_status",
    "webhook_listeners",
)
"""Apps of the server itself that this host stands in for; always enabled."""

_REQUEST_SECONDS: Final = 3.0
"""How long an app may take to answer what another app of the server asks it."""

family = Family()


def _shown(app: AppRecord) -> dict[str, Any]:
    return {
        "id": app.app_id,
        "name": app.name,
        "version": app.version,
        "enabled": app.enabled,
        "status": app.status.to_wire(),
    }


async def _existing(call: Call, app_id: str) -> AppRecord:
    app = await call.host.registry.app(app_id)
    if app is None:
        raise OCSRefusal(NOT_FOUND)
    return app


@family.get(f"{EX_APP}/{{list}}", auth=Auth.ADMIN)
async def list_apps(call: Call, list: str) -> Any:  # noqa: A002  # the name on the wire
    """All apps, or those that are enabled, sorted by id."""
    if list not in ("all", "enabled"):
        raise OCSRefusal(400)
    apps = await call.host.registry.apps()
    return [_shown(app) for app in apps if list == "all" or app.enabled]


@family.get(f"{EX_APP}/info/{{appId}}", auth=Auth.ADMIN)
async def get_app(call: Call, app_id: str) -> dict[str, Any]:
    """One app."""
    return _shown(await _existing(call, app_id))


@family.put(f"{EX_APP}/{{appId}}/enabled", auth=Auth.ADMIN)
async def switch(call: Call, app_id: str, enabled: int) -> list[Any]:
    """Enable or disable an app; answered when that is done."""
    app = await _existing(call, app_id)
    word = "enable" if enabled else "disable"
    if app.enabled == bool(enabled):
        raise OCSRefusal(400, f"ExApp already {word}d")
    try:
        await (call.host.enable(app_id) if enabled else call.host.disable(app_id))
    except HostError as error:
        raise OCSRefusal(400, f"Failed to {word} ExApp", note=error.cause) from error
    return []


@family.post(f"{EX_APP}/request/{{appId}}", auth=Auth.ADMIN)
@family.post(f"{EX_APP}/request/{{appId}}/", auth=Auth.ADMIN)
@family.post(f"{EX_APP}/request/{{appId}}/{{userId}}", auth=Auth.ADMIN)
async def request_app(
    call: Call,
    app_id: str,
    route: str,
    user_id: str = "",
    method: str = "POST",
    params: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Ask an app something and hand its answer back."""
    app = await call.host.registry.app(app_id)
    if app is None:
        return {"error": f"ExApp `{app_id}` not found"}
    method = method.upper()
    if method not in ("GET", "POST", "PUT", "DELETE"):
        raise OCSRefusal(400, data={"error": f"Bad HTTP method {method}"})
    target, body = f"/{route.lstrip('/')}", b""
    if params and method == "GET":
        target += ("&" if "?" in target else "?") + urlencode(params, doseq=True)
    elif params:
        body = php_json(params)
    try:
        with anyio.fail_after(_REQUEST_SECONDS):
            answer = await call.host.client.ask(
                app,
                call.host.url_of(app),
                method,
                target,
                user_id=user_id,
                content=body,
                content_type="application/json" if body else "",
                request_id="",
            )
    except (TransportError, TimeoutError) as error:
        text = str(error) or f"no answer within {_REQUEST_SECONDS:g} s"
        raise OCSRefusal(400, data={"error": text}) from error
    headers: dict[str, list[str]] = {}
    for name, value in answer.headers:
        headers.setdefault(name, []).append(value)
    return {
        "status_code": answer.status,
        "headers": headers,
        "body": answer.body.decode("utf-8", "replace"),
    }


@family.get("/cloud/apps", auth=Auth.ADMIN)
async def list_server_apps(call: Call, filter: str = "") -> dict[str, Any]:  # noqa: A002
    """Ids of the server's own apps; ExApps are not among them."""
    if filter not in ("", "enabled", "disabled"):
        raise OCSRefusal(101)
    return {"apps": [] if filter == "disabled" else list(SERVER_APPS)}


@family.get("/cloud/apps/{app}", auth=Auth.ADMIN)
async def get_server_app(call: Call, app: str) -> dict[str, Any]:
    """One of the server's own apps."""
    if app not in SERVER_APPS:
        raise OCSRefusal(UNKNOWN_ROUTE, "The request app was not found")
    return {"id": app, "name": app, "version": call.host.settings.aa_version}
