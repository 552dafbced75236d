"""Who may: the one place where requests to the OCS API are refused for whom they come from.

Each refusal tells the client the same, whatever the cause; the cause goes to the host's own output,
where the developer of the app looks for it.

Source: AppAPI documentation, Authentication; order of checks measured on AppAPI 32.0.0.
"""

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from appapi_host.basic_auth import CHALLENGE
from appapi_host.callers import Caller, WhileDisabled, identify_caller
from appapi_host.host import Host
from appapi_host.throttling import APPS
from exapp_sdk.errors import OCSError
from exapp_sdk.protocol.ocs import NOT_AUTHENTICATED

__all__ = ["Auth", "Caller", "OCSRefusal", "WhileDisabled", "authenticate"]


class Auth(Enum):
    """Who may call an endpoint."""

    PUBLIC = auto()
    """Anybody; a request with bad authentication counts as anonymous."""
    APP = auto()
    """An app that signs, in anybody's name."""
    APP_USER = auto()
    """An app that signs in the name of a user."""
    EX_APP = auto()
    """An app that signs, in anybody's name, at a route of the server itself: refused with 412."""
    EX_APP_OR_ADMIN = auto()
    """An app that signs in nobody's name, or an administrator; the webhooks are like that."""
    USER = auto()
    """A user, through basic auth, a session or an app that signs in their name."""
    ADMIN = auto()
    """The same, for members of the group `admin`."""


_OF_APPS: Final = frozenset({Auth.APP, Auth.APP_USER, Auth.EX_APP})


class OCSRefusal(OCSError):  # noqa: N818  # how endpoints say "no", not something gone wrong
    """An endpoint refuses a call.

    Args:
        statuscode: OCS status code, for instance 404.
        message: the words that the caller gets.
        data: payload of the answer; mostly none.
        note: the reason, for the host's own output only.
        headers: additional headers of the answer.
        is_bare: the answer is the data alone, without the envelope.
    """

    def __init__(
        self,
        statuscode: int,
        message: str = "",
        *,
        data: object = (),
        note: str = "",
        headers: Iterable[tuple[str, str]] = (),
        is_bare: bool = False,
    ) -> None:
        self.is_bare = is_bare
        self.data = data
        self.note = note
        self.headers = tuple(headers)
        super().__init__(statuscode, message)


async def authenticate(
    host: Host,
    headers: Iterable[tuple[bytes, bytes]],
    auth: Auth,
    while_disabled: WhileDisabled = WhileDisabled.REFUSED,
    *,
    address: str = "",
) -> Caller:
    """Find out who asks and whether they may.

    Args:
        host: knows apps and users.
        headers: as ASGI gives them.
        auth: who may call the endpoint.
        while_disabled: whether a disabled app may.
        address: from where they ask.

    Raises:
        OCSRefusal: they may not.
        Throttled: too many attempts from there failed.
    """
    caller = await identify_caller(host, headers, while_disabled, address=address)
    if auth is Auth.PUBLIC:
        return caller if caller.has_proof and not caller.refusal else Caller()
    if auth in _OF_APPS:
        if caller.app is None:
            if caller.is_attempt and auth is not Auth.EX_APP:
                # The real one looks at the signature twice at these, and counts each time.
                host.throttle.check(APPS, address)
                host.throttle.failed(APPS, address)
            raise _not_signed(auth, caller.refusal or "the request is not signed by an app")
        if auth is Auth.APP_USER and caller.user is None:
            raise _not_logged_in("this needs an acting user, the app asked in nobody's name")
        return caller
    if auth is Auth.EX_APP_OR_ADMIN and caller.app is not None and caller.user is None:
        return caller
    _check_user(caller, needs_admin=auth in (Auth.ADMIN, Auth.EX_APP_OR_ADMIN))
    return caller


def _check_user(caller: Caller, *, needs_admin: bool) -> None:
    """Refuse who is no user, or none of those who may."""
    if caller.has_wrong_password:
        raise OCSRefusal(
            NOT_AUTHENTICATED,
            "Unauthorised",
            note=caller.refusal,
            headers=[CHALLENGE],
        )
    if not caller.has_proof:
        note = "a request by session needs the header OCS-APIRequest or a valid requesttoken"
        message = {"message": "CSRF check failed"}
        raise OCSRefusal(412, data=message, note=note, is_bare=True)
    if caller.user is None:
        raise _not_logged_in(caller.refusal or "this needs a user, and there is none")
    if not caller.user.is_enabled:
        raise _not_logged_in(f"the user {caller.user.user_id!r} is disabled")
    if needs_admin and not caller.user.is_admin:
        raise OCSRefusal(
            403,
            "Logged in account must be an admin",
            note=f"the user {caller.user.user_id!r} is no admin",
        )


def _not_signed(auth: Auth, note: str) -> OCSRefusal:
    if auth is Auth.EX_APP:
        return OCSRefusal(412, data={"message": "ExApp required"}, note=note, is_bare=True)
    return OCSRefusal(NOT_AUTHENTICATED, "AppAPI authentication failed", note=note)


def _not_logged_in(note: str) -> OCSRefusal:
    return OCSRefusal(NOT_AUTHENTICATED, "Current user is not logged in", note=note)
