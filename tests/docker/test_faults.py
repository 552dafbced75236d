"""What engines and libraries say, and what we make of it; without an engine."""

import re
import string

import pytest

from appapi_host.deploy.docker.faults import CONNECTION_FAULTS, ENGINE_FAULTS, Fault, explain

ENGINE = "/var/run/docker.sock"

# Seen with Engine 20.10.24, Podman 4.3, docker-registry 2.8.2, haproxy 2.6 and requests, or quoted
# from their sources where it needs what cannot be had here; shortened to what identifies it.
SAID_BY_LIBRARIES = [
    ("permission", "('Connection aborted.', PermissionError(13, 'Permission denied'))"),
    ("no-socket", "FileNotFoundError: [Errno 2] No such file or directory"),
    ("certificate-file", "FileNotFoundError: [Errno 2] No such file or directory: '/c/ca.pem'"),
    ("refused", "ConnectionError: … NewConnectionError(…: [Errno 111] Connection refused)"),
    ("unreachable", "OSError: [Errno 113] No route to host"),
    ("unknown-host", "socket.gaierror: [Errno -2] Name or service not known"),
    ("tls-mismatch", "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"),
    ("tls-mismatch", "SSLError(1, '[SSL] record layer failure (_ssl.c:1006)')"),
    ("client-certificate", "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 …"),
    ("client-certificate", "[SSL: SSLV3_ALERT_BAD_CERTIFICATE] sslv3 alert bad certificate"),
    ("certificate-authority", "[SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer"),
    ("certificate-expired", "[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired"),
    (
        "certificate-name",
        "[SSL: CERTIFICATE_VERIFY_FAILED] Hostname mismatch, not valid for 'engine'",
    ),
    ("key", "SSLError(116, '[X509: KEY_VALUES_MISMATCH] key values mismatch')"),
    ("timeout", "ReadTimeout: HTTPConnectionPool(…): Read timed out. (read timeout=30)"),
    ("dropped", "IncompleteRead(0 bytes read)"),
    ("dropped", "RemoteDisconnected: Remote end closed connection without response"),
    (
        "dropped",
        "ConnectionError: Remote end closed connection without response | ProtocolError: …",
    ),
    ("credential-helper", "DockerException: Credentials store error: StoreError('…')"),
    ("connection", "something that nobody has seen yet"),
]
SAID_BY_ENGINES = [
    (400, "tls-mismatch", "Client sent an HTTP request to an HTTPS server."),
    (400, "version", "client version 1.40 is too old. Minimum supported API version is 1.44"),
    (
        503,
        "proxied",
        "<html><body><h1>503 Service Unavailable</h1>\nNo server is available …",
    ),
    (
        500,
        "registry-down",
        "error parsing HTTP 503 response body: … '<html><body><h1>503 Service Unavailable</h1>…'",
    ),
    (502, "proxied", "<html><head><title>502 Bad Gateway</title></head></html>"),
    (401, "password", "<html><body><h1>401 Unauthorized</h1></body></html>"),
    (407, "password", "Proxy Authentication Required"),
    (403, "forbidden", "<html><body><h1>403 Forbidden</h1></body></html>"),
    (500, "disk-full", "write /data/x: no space left on device"),
    (200, "rate-limit", "toomanyrequests: You have reached your pull rate limit."),
    (404, "not-found", "manifest for localhost:5000/x:1 not found: manifest unknown"),
    (404, "not-found", "pull access denied for x, repository does not exist or may require login"),
    (500, "credentials", 'Get "http://…": no basic auth credentials'),
    (500, "credentials", "unauthorized: authentication required"),
    (500, "registry-unknown", "dial tcp: lookup nowhere.test: no such host"),
    (500, "registry-down", "dial tcp 127.0.0.1:5000: connect: connection refused"),
    (500, "registry-certificate", "tls: x509: certificate signed by unknown authority"),
    (500, "unsupported-registry", "http: server gave HTTP response to HTTPS client"),
    (200, "registry-dropped", "unexpected EOF"),
    (404, "platform", "no matching manifest for linux/arm64/v8 in the manifest list entries"),
    (500, "platform", "exec /app/run: exec format error"),
    (400, "reference", "invalid reference format: repository name must be lowercase"),
    (500, "port", "Bind for 127.0.0.1:23000 failed: port is already allocated"),
    (500, "address", "listen tcp6 [::1]:23000: bind: cannot assign requested address"),
    (404, "network", "network nosuchnet not found"),
    (500, "device", 'could not select device driver "nvidia" with capabilities: …'),
    (500, "device", "error gathering device information while adding custom device …"),
    (500, "device", "container create: stat /dev/kfd: no such file or directory"),
    (400, "mount", "invalid mount config: bind source path does not exist: /nowhere"),
    (409, "name-taken", 'The container name "/nc_app_x" is already in use by container …'),
    (400, "command", 'exec: "run": executable file not found in $PATH'),
    (400, "no-command", "No command specified"),
    (400, "memory-limit", "Minimum memory limit allowed is 6MB"),
    (404, "no-image", "No such image: localhost:5000/t/absent:1"),
    (404, "no-container", "No such container: nc_app_x"),
    (409, "in-use", "remove nc_app_x_data: volume is in use - [7af2bc2f]"),
    (500, "engine", "something that nobody has seen yet"),
]


@pytest.mark.parametrize(("kind", "said"), SAID_BY_LIBRARIES)
def test_words_of_a_library_are_recognised(kind: str, said: str) -> None:
    error = explain(ENGINE, said)
    assert (error.kind, error.status) == (kind, 0)
    assert ENGINE in error.cause or kind == "credential-helper"


@pytest.mark.parametrize(("status", "kind", "said"), SAID_BY_ENGINES)
def test_words_of_an_engine_are_recognised(status: int, kind: str, said: str) -> None:
    error = explain(ENGINE, said, status=status)
    assert (error.kind, error.status) == (kind, status)


@pytest.mark.parametrize("fault", [*CONNECTION_FAULTS, *ENGINE_FAULTS], ids=lambda row: row.kind)
def test_every_row_can_be_shown_and_says_what_to_do(fault: Fault) -> None:
    texts = (fault.cause, fault.remedy)
    fields = {field for text in texts for _, field, *_ in string.Formatter().parse(text)}
    assert fields <= {None, "engine", "said"}
    assert fault.remedy
    assert re.compile(fault.pattern)


def test_every_row_is_seen_above() -> None:
    seen = {kind for kind, _ in SAID_BY_LIBRARIES} | {kind for _, kind, _ in SAID_BY_ENGINES}
    assert {fault.kind for fault in (*CONNECTION_FAULTS, *ENGINE_FAULTS)} <= seen


def test_long_words_are_cut() -> None:
    error = explain(ENGINE, "x" * 5000, status=500)
    assert len(error.cause) < 400
    assert "status 500" in explain(ENGINE, "", status=500).cause
