"""What an app is told through its environment, and where it is reached."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from appapi_host.info_xml import AppInfo
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import LOOPBACK_ADDRESSES, HostSettings
from exapp_sdk.protocol.environ import Settings

__all__ = [
    "bind_address",
    "build_environment",
    "host_url",
    "is_loopback_url",
    "override_app_host",
    "reachable_override",
    "through_gateway",
]

_UNREACHABLE: Final = frozenset({"", "0.0.0.0", "127.0.0.1", "::", "::1"})
"""Addresses that say where to listen, but not where others find the listener."""


def build_environment(
    settings: HostSettings,
    app: AppRecord,
    info: AppInfo,
    *,
    app_host: str | None = None,
    storage: Path | None = None,
    gateway: str = "",
    overrides: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """All variables that an app gets, in the order of the documentation.

    Args:
        settings: of the host.
        app: id, version, name, port, secret and daemon.
        info: declares further variables.
        app_host: address to listen on; `bind_address()` of the daemon if not given.
        storage: folder that survives updates, as the app sees it.
        gateway: where the app finds this machine, if its loopback is not ours.
        overrides: values for declared variables; names that `info` does not declare are ignored,
            and an empty value removes the variable.

    Returns:
        Variables and values; holds the secret, so it must not be shown.

    Source: AppAPI documentation, Deployment, Deploy env variables.
    """
    device = app.daemon.deploy_config.get("computeDevice")
    environment = Settings(
        app_id=app.app_id,
        app_secret=app.secret,
        app_version=app.version,
        nextcloud_url=through_gateway(host_url(settings, app.daemon), gateway),
        app_host=bind_address(app.daemon) if app_host is None else app_host,
        app_port=app.port,
        app_display_name=app.name,
        aa_version=settings.aa_version,
        persistent_storage=storage,
        compute_device=str(device.get("id", "cpu")) if isinstance(device, Mapping) else "cpu",
    ).to_environ()
    overrides = overrides or {}
    for name, variable in info.environment_variables.items():
        if value := overrides.get(name, variable.value):
            environment[name] = value
    return environment


def host_url(settings: HostSettings, daemon: Daemon) -> str:
    """Where apps of a daemon reach the host, as seen from this machine."""
    return daemon.nextcloud_url or f"http://127.0.0.1:{settings.port}"


def is_loopback_url(url: str) -> bool:
    """Whether a URL means another machine to each one that uses it, a container included."""
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:  # nobody checks what a person enters there; not even the real one
        return False
    return name in LOOPBACK_ADDRESSES or name.startswith("127.")


def through_gateway(url: str, gateway: str) -> str:
    """The same URL, with the gateway of the app's network in place of a loopback address."""
    if not gateway or not is_loopback_url(url):
        return url
    parts = urlsplit(url)
    name = f"[{gateway}]" if ":" in gateway else gateway
    return parts._replace(netloc=name if parts.port is None else f"{name}:{parts.port}").geturl()


def override_app_host(daemon: Daemon) -> str | None:
    """What an administrator set as `OVERRIDE_APP_HOST`; an empty text counts as set."""
    options = daemon.deploy_config.get("additional_options")
    value = options.get("OVERRIDE_APP_HOST") if isinstance(options, Mapping) else None
    return None if value is None else str(value)


def reachable_override(daemon: Daemon) -> str:
    """The same where it says how an app is reached, else empty.

    Source: AppAPI 32.0.0; addresses that only mean "listen here" are not used for requests.
    """
    value = override_app_host(daemon) or ""
    return "" if value in _UNREACHABLE else value


def bind_address(daemon: Daemon) -> str:
    """`APP_HOST`: where an app of this daemon listens."""
    override = override_app_host(daemon)
    if override is not None:
        return override
    in_own_network = (
        daemon.accepts_deploy_id == "docker-install" and daemon.deploy_config.get("net") != "host"
    )
    return "0.0.0.0" if in_own_network else "127.0.0.1"
