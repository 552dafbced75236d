"""Apps as plain processes of this machine."""

from appapi_host.deploy.process.backend import ProcessBackend
from appapi_host.deploy.process.command import inherited_environment, start_command

__all__ = ["ProcessBackend", "inherited_environment", "start_command"]
