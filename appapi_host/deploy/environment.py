"""What an app is told through its environment, and where it is reached."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from appapi_host.info_xml import AppInfo
from appapi_host.records import AppRecord, Daemon
from appapi_host.settings import HostSettings
from exapp_sdk.protocol.environ import Settings

__all__ = ["bind_address", "build_environment", "override_app_host", "reachable_override"]

_UNREACHABLE: Final = frozenset({"", "0.0.0.0", "127.0.0.1", "::", "::1"})
"""Addresses that say where to listen, but not where others find the listener."""


def build_environment(
    settings: HostSettings,
    app: AppRecord,
    info: AppInfo,
    *,
    app_host: str | None = None,
    storage: Path | None = None,
    overrides: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """All variables that an app gets, in the order of the documentation.

    Args:
        settings: of the host.
        app: id, version, name, port, secret and daemon.
        info: declares further variables.
        app_host: address to listen on; `bind_address()` of the daemon if not given.
        storage: folder that survives updates, as the app sees it.
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
        nextcloud_url=app.daemon.nextcloud_url or f"http://127.0.0.1:{settings.port}",
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
