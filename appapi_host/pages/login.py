"""Signing in and out: the login page, its session, and the proof that a request was meant.

Paths and parameters are Nextcloud's: `/login` with `redirect_url`, `/logout` with `requesttoken`,
`/csrftoken`.
"""

import html
import secrets
from typing import Final
from urllib.parse import quote

from starlette.responses import Response

from appapi_host.basic_auth import CHALLENGE
from appapi_host.events import Notice
from appapi_host.identity import cookie_name, is_own_origin, is_secure
from appapi_host.pages.visit import PageRefusal, Visit, is_own_path, redirect
from appapi_host.sessions import COOKIE_PREFIX, LIFETIME, cookies, is_valid_token, request_token
from appapi_host.throttling import client_address

__all__ = [
    "csrf_token",
    "hidden",
    "is_meant",
    "login",
    "logout",
    "request_sign_in",
    "sign_out_form",
]

_EXPIRED: Final = "The form was too old, or came from elsewhere. Please try again."
_WRONG: Final = "Wrong user or password."
_FORM_LIFETIME: Final = 3600
"""Seconds for which a login form can be sent off; after that it is shown anew."""


async def login(visit: Visit) -> Response:
    """Ask who somebody is, and remember it."""
    if visit.scope["method"] == "POST":
        return await _sign_in(visit)
    target = _own_target(visit.query("redirect_url"))
    if visit.identity.refusal:
        raise PageRefusal(401, "Unauthorized", _WRONG, [CHALLENGE])
    if visit.user:
        return redirect(visit, target)
    return _login_form(visit, target)


async def _sign_in(visit: Visit) -> Response:
    form = await visit.form()
    target = _own_target(form.get("redirect_url", ""))
    if not is_meant(visit, _form_secret(visit), form):
        _explain(visit)
        return _login_form(visit, target, status=412, complaint=_EXPIRED)
    user = await visit.host.users.sign_in(
        form.get("user", ""), form.get("password", ""), address=client_address(visit.scope)
    )
    if user is None:
        # One answer for everybody who cannot sign in, known here or not.
        return _login_form(visit, target, status=403, complaint=_WRONG, user=form.get("user", ""))
    if visit.identity.session:
        await visit.host.sessions.end(visit.identity.session)
    response = redirect(visit, target)
    token = await visit.host.sessions.begin(user)
    _set_cookie(visit, response, cookie_name(visit.host), token, lifetime=LIFETIME)
    _set_cookie(visit, response, _form_cookie(visit), "", lifetime=0)
    return response


def _explain(visit: Visit) -> None:
    """Say what a person at the browser cannot see: which name the host goes by."""
    if not is_own_origin(visit.host, visit.headers):
        text = (
            f"a form to sign in came from a page of {visit.headers['origin']}, but the host was "
            f"asked as {visit.own_name}; a reverse proxy has to pass the header Host on"
        )
        visit.host.bus.emit(Notice("", text))


def _login_form(
    visit: Visit, target: str, *, status: int = 200, complaint: str = "", user: str = ""
) -> Response:
    secret = secrets.token_urlsafe(32)
    said = f'<p class="complaint" role="alert">{html.escape(complaint)}</p>\n' if complaint else ""
    focus = [" autofocus", ""] if not user else ["", " autofocus"]
    response = visit.page(
        "Sign in",
        f"{said}"
        '<form method="post" action="/index.php/login" class="card">\n'
        f"{hidden('requesttoken', request_token(secret))}{hidden('redirect_url', target)}"
        '<label for="user">User</label>\n'
        f'<input id="user" name="user" value="{html.escape(user)}" autocomplete="username" '
        f'autocapitalize="none" spellcheck="false" required{focus[0]}>\n'
        '<label for="password">Password</label>\n'
        '<input id="password" name="password" type="password" '
        f'autocomplete="current-password" required{focus[1]}>\n'
        "<button>Sign in</button>\n</form>\n",
        status=status,
    )
    _set_cookie(visit, response, _form_cookie(visit), secret, lifetime=_FORM_LIFETIME)
    return response


async def logout(visit: Visit) -> Response:
    """End the session."""
    form = await visit.form() if visit.scope["method"] == "POST" else {}
    given = form or {"requesttoken": visit.query("requesttoken")}
    session = visit.identity.session
    if not session:
        return redirect(visit, "/")
    if not is_meant(visit, session, given):
        # Reached by an address, or from elsewhere: ask.
        return visit.page("Sign out", sign_out_form(visit, "card"))
    await visit.host.sessions.end(session)
    response = redirect(visit, "/")
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    _set_cookie(visit, response, cookie_name(visit.host), "", lifetime=0)
    return response


def sign_out_form(visit: Visit, name: str) -> str:
    """A button that ends the session.

    Args:
        visit: who has the session.
        name: a class for the form.
    """
    token = hidden("requesttoken", request_token(visit.identity.session))
    return (
        f'<form method="post" action="/index.php/logout" class="{name}">'
        f"{token}<button>Sign out</button></form>\n"
    )


async def csrf_token(visit: Visit) -> Response:
    """A fresh token for the scripts of a page that was open for long."""
    # As in Nextcloud, only for pages of the same origin; `Origin` is not sent along with GET.
    site = visit.headers.get("sec-fetch-site", "same-origin")
    if not visit.identity.session or site not in ("same-origin", "none"):
        return visit.json({}, status=403)
    return visit.json({"token": request_token(visit.identity.session)})


def request_sign_in(visit: Visit) -> Response:
    """What somebody anonymous gets from a page for users; in Nextcloud's form."""
    if visit.identity.refusal:
        raise PageRefusal(401, "Unauthorized", _WRONG, [CHALLENGE])
    if not visit.wants_html:
        return visit.json({"message": "Current user is not logged in"}, status=401)
    return redirect(visit, f"/index.php/login?redirect_url={quote(visit.target, safe='/')}")


def is_meant(visit: Visit, secret: str, form: dict[str, str]) -> bool:
    """Whether a form was sent off from the host's own page.

    Args:
        visit: how it came.
        secret: whose `request_token()` the page has shown.
        form: what was sent.
    """
    is_own = is_own_origin(visit.host, visit.headers)
    return is_own and is_valid_token(secret, form.get("requesttoken", ""))


def _own_target(path: str) -> str:
    """Where to go after signing in; never to another site."""
    return path if is_own_path(path) else "/"


def _form_cookie(visit: Visit) -> str:
    return f"{COOKIE_PREFIX}login_{visit.host.instance}"


def _form_secret(visit: Visit) -> str:
    return dict(cookies(visit.headers.get("cookie", ""))).get(_form_cookie(visit), "")


def _set_cookie(visit: Visit, response: Response, name: str, value: str, *, lifetime: int) -> None:
    response.set_cookie(
        name,
        value,
        max_age=lifetime,
        path="/",
        secure=is_secure(visit.host, visit.own_name),
        httponly=True,
        samesite="lax",
    )


def hidden(name: str, value: str) -> str:
    """An input that nobody sees."""
    return f'<input type="hidden" name="{name}" value="{html.escape(value)}">\n'
