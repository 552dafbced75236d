"""Apps as containers of a Docker Engine: pulled, created, started, watched and removed."""

from appapi_host.deploy.docker.backend import DockerBackend as DockerBackend

__all__ = ["DockerBackend"]
