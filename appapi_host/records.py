"""What the host knows about daemons, apps and users: plain values, kept by the registry."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Self

from exapp_sdk.protocol.auth import Credentials, Secret
from exapp_sdk.protocol.lifecycle import Event, State, advance
from exapp_sdk.protocol.status import Status

__all__ = ["AccessLevel", "AppRecord", "Daemon", "Route", "User"]


def _empty() -> Mapping[str, Any]:
    # A factory, because Python 3.11 takes a mapping proxy for a mutable default.
    return MappingProxyType({})


class AccessLevel(IntEnum):
    """Who may use a route; everyone of a higher level may too."""

    PUBLIC = 0
    USER = 1
    ADMIN = 2


@dataclass(frozen=True, slots=True)
class Route:
    """What users can reach of an app through the proxy.

    Args:
        url: regular expression, matched at the start of the path (with or without its slash).
        verb: comma-separated HTTP verbs.
        access_level: who may use it.
        headers_to_exclude: request headers that the app does not get.
        bruteforce_protection: answers that count as an attack attempt.
    """

    url: str
    verb: str
    access_level: AccessLevel
    headers_to_exclude: tuple[str, ...] = ()
    bruteforce_protection: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Daemon:
    """Where apps run, and how they get there ("daemon config").

    Args:
        name: unique name.
        display_name: name for people.
        accepts_deploy_id: id of the deploy backend, for instance `manual-install`.
        protocol: `http` or `https`, towards the daemon and its apps.
        host: host name, `host:port`, or the path of a unix socket.
        deploy_config: the rest as AppAPI stores it: `net`, `nextcloud_url` and so on.
    """

    name: str
    display_name: str
    accepts_deploy_id: str
    protocol: str
    host: str
    deploy_config: Mapping[str, Any] = field(default_factory=_empty)

    @property
    def nextcloud_url(self) -> str:
        """Where apps of this daemon reach the host."""
        return str(self.deploy_config.get("nextcloud_url", ""))


@dataclass(frozen=True, slots=True)
class AppRecord:
    """One registered app.

    Args:
        app_id: unique id.
        version: version that was last installed, or reported by the app itself.
        name: display name.
        daemon: where it runs.
        port: where it listens.
        secret: shared with the app.
        state: where it stands.
        enabled: the wire's idea of "enabled", which is true during init too.
        status: the wire's status object.
        routes: what users can reach, in order.
        created_time: unix seconds.
        failure: why the last operation failed; kept beside `status.error`, which AppAPI clears when
            an app refuses to be enabled.
        deployment: what the deploy backend noted, for instance a process id.
        options: what the person who installed it chose, kept for updates: `environment`
            (name → value), `mounts` (list of source, target, mode), `source`, `command`.
    """

    app_id: str
    version: str
    name: str
    daemon: Daemon
    port: int
    secret: Secret
    state: State = State.DEPLOYING
    enabled: bool = False
    status: Status = field(default_factory=Status)
    routes: tuple[Route, ...] = ()
    created_time: int = 0
    failure: str = ""
    deployment: Mapping[str, Any] = field(default_factory=_empty)
    options: Mapping[str, Any] = field(default_factory=_empty, repr=False)

    def credentials(self, user_id: str = "") -> Credentials:
        """How the host signs requests to this app."""
        return Credentials(self.app_id, self.version, self.secret, user_id)

    def after(
        self,
        event: Event,
        *,
        status: Status | None = None,
        enabled: bool | None = None,
        failure: str = "",
    ) -> Self:
        """The record after an event: the only place where a state changes.

        Raises:
            LocalProtocolError: the event must not happen in this state.
        """
        return replace(
            self,
            state=advance(self.state, event),
            status=self.status if status is None else status,
            enabled=self.enabled if enabled is None else enabled,
            failure=failure,
        )


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who can sign in at the host.

    Args:
        user_id: unique id.
        display_name: name for people.
        password_hash: `algorithm$parameters$salt$hash`, see `appapi_host.users`.
        is_admin: member of the group `admin`.
        is_enabled: a disabled user cannot sign in or be acted for.
    """

    user_id: str
    display_name: str = ""
    password_hash: str = field(default="", repr=False)
    is_admin: bool = False
    is_enabled: bool = True

    @property
    def access_level(self) -> AccessLevel:
        """What the user may reach."""
        return AccessLevel.ADMIN if self.is_admin else AccessLevel.USER
