"""The first page: the menu, and every app with its state and its addresses."""

import html

from starlette.responses import Response

from appapi_host.pages.menu import Entry, app_url, entries, header
from appapi_host.pages.visit import Visit
from appapi_host.records import AppRecord, Route
from appapi_host.route_paths import fixed_path
from exapp_sdk.protocol.lifecycle import State

__all__ = ["index"]


async def index(visit: Visit) -> Response:
    """Show what is there."""
    listed = await entries(visit.host, visit.user)
    apps = await visit.host.registry.apps()
    is_admin = visit.user is not None and visit.user.is_admin
    rows = "".join(_row(app, is_admin=is_admin) for app in apps)
    body = _menu(visit, listed)
    if rows:
        body += (
            '<h2 id="apps">Apps</h2>\n<table aria-labelledby="apps">\n<thead><tr><th>App</th>'
            "<th>Version</th><th>State</th><th>Routes for users</th></tr></thead>\n"
            f"<tbody>\n{rows}</tbody>\n</table>\n"
        )
    else:
        body += "<p>No app is registered.</p>\n"
    return visit.page("ExApps", body, header=header(visit, listed))


def _menu(visit: Visit, listed: list[Entry]) -> str:
    if visit.user is None:
        return '<p><a href="/index.php/login">Sign in</a> to see the pages of apps.</p>\n'
    if not listed:
        return "<p>No app has an entry in the menu.</p>\n"
    links = "".join(
        f'<li><a href="{html.escape(entry.href)}">{html.escape(entry.title)}</a></li>\n'
        for entry in listed
    )
    return f'<ul class="tiles">\n{links}</ul>\n'


def _row(app: AppRecord, *, is_admin: bool) -> str:
    routes = "".join(_route(app, route) for route in app.routes)
    # Why something failed may quote the app's output, which is for those who run the host.
    failure = f"<br><small>{html.escape(app.failure)}</small>" if is_admin and app.failure else ""
    return (
        f"<tr><td>{html.escape(app.name)}<br><small>{html.escape(app.app_id)}</small></td>"
        f"<td>{html.escape(app.version)}</td>"
        f'<td><span class="state {_tone(app.state)}">{app.state.value}</span>{failure}</td>'
        f"<td><ul>{routes}</ul></td></tr>\n"
    )


def _tone(state: State) -> str:
    if state is State.FAILED:
        return "bad"
    return "good" if state is State.ENABLED else "other"


def _route(app: AppRecord, route: Route) -> str:
    """A route, with a link where it is known what to open."""
    shown = f"<code>{html.escape(route.verb)} {html.escape(route.url)}</code>"
    path, is_whole = fixed_path(route.url)
    if is_whole and "GET" in route.verb.upper():
        shown = f'<a href="{html.escape(app_url(app.app_id, path))}">{shown}</a>'
    return f"<li>{shown} {route.access_level.name}</li>"
