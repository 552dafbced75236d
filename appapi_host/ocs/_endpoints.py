"""What an OCS endpoint is.

It is a function in the file of its family:

```python
family = Family()

@family.get("/apps/app_api/api/v1/users", auth=Auth.APP)
async def list_users(call: Call) -> list[str]:
    ...
```

Its parameters after `call` are filled from path, query and body. It returns the data of the answer,
or an `Answer` where more than data is to be said, or a `File`, or raises `OCSRefusal`.
"""

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from starlette.requests import Request

from appapi_host.documents import Document
from appapi_host.host import Host
from appapi_host.ocs._authentication import Auth, OCSRefusal, WhileDisabled
from appapi_host.ocs._parameters import Parameter, declared_parameters
from appapi_host.records import AppRecord, User
from exapp_sdk.errors import LocalProtocolError
from exapp_sdk.protocol.ocs import OK_V2

__all__ = [
    "Answer",
    "Auth",
    "Call",
    "Endpoint",
    "Family",
    "File",
    "OCSRefusal",
    "Rules",
    "WhileDisabled",
]

MAX_BODY_BYTES: Final = 10 * 1024 * 1024
"""Longest body of an OCS request; the largest real ones are initial states of some hundred KiB."""

HandlerT = TypeVar("HandlerT", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated call of an endpoint.

    Args:
        host: the host that is called.
        request: the request; its body is in `body`.
        body: the raw body.
        user: the acting user, None for nobody.
        signed_by: the app that signed the request, None if none did.
        path: placeholders of the path, whatever the parameters of that name became.
    """

    host: Host
    request: Request
    body: bytes
    user: User | None
    signed_by: AppRecord | None
    path: Mapping[str, str] = field(default_factory=dict)

    @property
    def app(self) -> AppRecord:
        """The app that calls, for endpoints with `Auth.APP` and `Auth.APP_USER`.

        Raises:
            LocalProtocolError: the endpoint is open to others, and one of them calls.
        """
        if self.signed_by is None:
            raise LocalProtocolError("this call was not signed by an app")
        return self.signed_by

    @property
    def acting_user(self) -> User:
        """The user who calls, for endpoints that need one.

        Raises:
            LocalProtocolError: the endpoint is open to nobody, and nobody calls.
        """
        if self.user is None:
            raise LocalProtocolError("this call is in nobody's name")
        return self.user

    async def store(self, kind: str, name: str, content: Mapping[str, Any]) -> Document:
        """Keep a document of the calling app, in place of the one of that name."""
        return await self.host.documents.write(
            lambda documents: documents.put(kind, self.app.app_id, name, content)
        )

    async def stored(self, kind: str, name: str) -> Document | None:
        """The document of the calling app of that name."""
        return await self.host.documents.look(
            lambda documents: documents.get(kind, self.app.app_id, name)
        )

    async def discard(self, kind: str, name: str) -> bool:
        """Delete a document of the calling app; whether there was one."""
        count = await self.host.documents.write(
            lambda documents: documents.delete(kind, self.app.app_id, [name])
        )
        return count > 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of an endpoint that has to say more than data.

    Args:
        data: payload.
        statuscode: OCS status code; 200 is success in both versions.
        headers: additional headers.
    """

    data: Any
    statuscode: int = OK_V2
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """The answer of an endpoint that hands out bytes, without the envelope.

    Args:
        content: the bytes.
        content_type: what they are.
    """

    content: bytes
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Rules:
    """What has to be true before an endpoint is called.

    Args:
        auth: who may call.
        while_disabled: whether a disabled app may.
        since: the first major version of Nextcloud that serves it.
        until: the last one.
        max_body: longest body, in bytes.
    """

    auth: Auth
    while_disabled: WhileDisabled = WhileDisabled.REFUSED
    since: int = 0
    until: int = sys.maxsize
    max_body: int = MAX_BODY_BYTES


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A function and what has to be true before it is called."""

    method: str
    path: str
    rules: Rules
    handler: Callable[..., Awaitable[Any]]
    parameters: tuple[Parameter, ...]


class Family:
    """The endpoints of one file."""

    def __init__(self) -> None:
        self.endpoints: list[Endpoint] = []

    def get(self, path: str, *, auth: Auth, **rules: Any) -> Callable[[HandlerT], HandlerT]:
        """Serve `GET`, and `HEAD` with it.

        Args:
            path: behind `/ocs/v1.php`; `{name}` stands for one segment, `{name:path}` for several.
            auth: who may call.
            rules: other members of `Rules`.
        """
        return self._endpoint("GET", path, Rules(auth, **rules))

    def post(self, path: str, *, auth: Auth, **rules: Any) -> Callable[[HandlerT], HandlerT]:
        """Serve `POST`, see `get()`."""
        return self._endpoint("POST", path, Rules(auth, **rules))

    def put(self, path: str, *, auth: Auth, **rules: Any) -> Callable[[HandlerT], HandlerT]:
        """Serve `PUT`, see `get()`."""
        return self._endpoint("PUT", path, Rules(auth, **rules))

    def delete(self, path: str, *, auth: Auth, **rules: Any) -> Callable[[HandlerT], HandlerT]:
        """Serve `DELETE`, see `get()`."""
        return self._endpoint("DELETE", path, Rules(auth, **rules))

    def _endpoint(self, method: str, path: str, rules: Rules) -> Callable[[HandlerT], HandlerT]:
        def add(handler: HandlerT) -> HandlerT:
            self.endpoints.append(
                Endpoint(method, path, rules, handler, declared_parameters(handler))
            )
            return handler

        return add
