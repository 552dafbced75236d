"""haproxy as AppAPI's Docker socket proxy: basic auth, and only the requests it lets through.

Source: AppAPI documentation, Docker socket proxy; spec of its rules as observed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.docker.engines import accepts, process, until
from tests.ports import free_port

USER = "app_api_haproxy_user"

# The rules are tried in order. A version in front of the path is optional, hence (/v[0-9.]+)?.
_CONFIGURATION = r"""
global
  maxconn 200
  tune.bufsize 65536

defaults
  mode http
  option http-buffer-request
  timeout connect 5s
  timeout client 30m
  timeout server 30m
  timeout http-request 30s

userlist app_api
  user {user} insecure-password {password}

backend attempts
  stick-table type ip size 1k expire 5m store gpc0_rate(5m)

frontend engine
  bind {address}:{port}{tls}
  http-request track-sc0 src table attempts
  http-request silent-drop if {{ sc0_gpc0_rate(attempts) gt 5 }}
  acl signed_in http_auth(app_api)
  http-request sc-inc-gpc0(0) if !signed_in
  http-request return status 401 hdr WWW-Authenticate 'Basic realm="engine"' if !signed_in

  acl get method GET
  acl head method HEAD
  acl post method POST
  acl put method PUT
  acl delete method DELETE
  acl ping path -m reg ^(/v[0-9.]+)?/_ping$
  http-request allow if get ping or head ping
  http-request allow if get {{ path -m reg ^(/v[0-9.]+)?/images/.+/json$ }}
  http-request allow if get {{ path -m reg ^(/v[0-9.]+)?/containers/{ours}/(json|logs)$ }}
  acl change path -m reg ^(/v[0-9.]+)?/containers/{ours}/(start|stop|update|exec)$
  http-request allow if post change
  http-request allow if post {{ path -m reg ^(/v[0-9.]+)?/exec/[0-9a-f]+/start$ }}
  http-request allow if delete {{ path -m reg ^(/v[0-9.]+)?/containers/{ours}$ }}
  http-request allow if put {{ path -m reg ^(/v[0-9.]+)?/containers/{ours}/archive$ }}
  http-request allow if delete {{ path -m reg ^(/v[0-9.]+)?/volumes/{ours}_data$ }}
  http-request allow if post {{ path -m reg ^(/v[0-9.]+)?/images/create$ }}

  acl create path -m reg ^(/v[0-9.]+)?/containers/create$
  acl named urlp(name) -m reg ^{ours}$
  acl mounted req.body -m reg \"Mounts\":\ ?\[\ ?\{{[^}}]*\"Source\":\ ?\"{ours}_data\"
  acl privileged req.body -m sub \"Privileged\"
  http-request allow if post create named mounted !privileged
  acl volume path -m reg ^(/v[0-9.]+)?/volumes/create$
  acl volume_named req.body -m reg -i \"name\":\ ?\"{ours}_data\"
  acl device req.body -m sub -i \"device\"
  http-request allow if post volume volume_named !device
  http-request deny
  default_backend engine

backend engine
  server engine unix@{socket}
"""

# With TLS the proxy guards the ports of apps too, and gives them the header that it has used.
_APPS = r"""
frontend apps
  bind {address}:{app_port}{tls}
  http-request track-sc0 src table attempts
  acl signed_in http_auth(app_api)
  http-request return status 401 hdr WWW-Authenticate 'Basic realm="apps"' if !signed_in
  http-request del-header Authorization
  http-request set-header Authorization %[req.hdr(X-Original-Authorization)] if {{ req.hdr(X-Original-Authorization) -m found }}
  http-request del-header X-Original-Authorization
  default_backend apps

backend apps
  server app 127.0.0.1:{app_port}
"""  # noqa: E501  # haproxy has no other way


@dataclass(frozen=True)
class SocketProxy:
    """A socket proxy in front of an engine.

    Args:
        port: where it listens.
        password: what it wants.
    """

    port: int
    password: str


@contextmanager
def socket_proxy(
    folder: Path,
    socket: Path,
    *,
    address: str = "127.0.0.1",
    password: str = "pass-word1",
    certificate: Path | None = None,
    app_port: int = 0,
) -> Iterator[SocketProxy]:
    """Haproxy in front of the unix socket of an engine.

    Args:
        folder: for its files.
        socket: of the engine.
        address: where it listens.
        password: what it shall want.
        certificate: certificate and key in one file; then it speaks TLS.
        app_port: an app listens there on 127.0.0.1, and is guarded too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    proxy = SocketProxy(free_port(), password)
    path, log = folder / "haproxy.cfg", folder / "haproxy.log"
    path.write_text(
        (_CONFIGURATION + (_APPS if app_port else "")).format(
            app_port=app_port,
            user=USER,
            ours="nc_app_[a-zA-Z0-9_.-]+",
            address=address,
            password=password,
            port=proxy.port,
            tls=f" ssl crt {certificate}" if certificate else "",
            socket=socket,
        )
    )
    with process(["haproxy", "-db", "-f", path], log) as started:
        until(lambda: accepts((address, proxy.port)), started, log)
        yield proxy
