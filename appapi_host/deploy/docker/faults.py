"""What goes wrong between the host and an engine, in words that say what to do about it.

An engine and the libraries below us say it in sentences of their own, so the tables look for those.
The first row that fits counts: what is special stands above what is general.
"""

import re
from dataclasses import dataclass
from typing import Final

from appapi_host.errors import DeployError

__all__ = [
    "CONNECTION_FAULTS",
    "ENGINE_FAULTS",
    "PROXY_PAGE",
    "PROXY_STATUSES",
    "EngineError",
    "Fault",
    "explain",
]

_UNREACHABLE: Final = frozenset(
    {
        "connection",  # whatever it was: there was no answer
        "dropped",
        "gone",
        "no-socket",
        "proxied",
        "refused",
        "timeout",
        "unknown-host",
        "unreachable",
    }
)

PROXY_STATUSES: Final = frozenset({502, 503, 504})
"""A proxy that does not reach what is behind it; no engine answers `GET /_ping` with one."""

PROXY_PAGE: Final = "<h1>503 Service Unavailable</h1>"
"""How proxies begin to say it; an engine that quotes such a page of a registry begins otherwise."""


class EngineError(DeployError):
    """An engine refused a request, or could not be reached.

    Args:
        kind: row of the table below, for code that goes on in some cases.
        cause: what happened, one sentence.
        remedy: what to try.
        status: HTTP status of the answer, 0 if there was none.
    """

    def __init__(self, kind: str, cause: str, *, remedy: str = "", status: int = 0) -> None:
        self.kind = kind
        self.status = status
        super().__init__(cause, remedy=remedy)
        self.is_unreachable = kind in _UNREACHABLE


@dataclass(frozen=True, slots=True)
class Fault:
    """One row: how a fault is recognised and what is said about it.

    Args:
        kind: short name of the fault.
        pattern: regular expression, found anywhere in what the engine or library said.
        cause: `{engine}` is how the engine is reached, `{said}` its own words.
        remedy: the same.
    """

    kind: str
    pattern: str
    cause: str
    remedy: str


CONNECTION_FAULTS: Final = (
    Fault(
        "credential-helper",
        r"docker-credential-\S+|[Cc]redentials store",
        "the credential helper of the Docker configuration failed: {said}",
        "see credsStore and credHelpers in ~/.docker/config.json",
    ),
    Fault(
        "permission",
        r"Permission denied",
        "no permission to use the engine at {engine}",
        "run as a user who may, for instance after `sudo usermod -aG docker $USER` and a new login",
    ),
    Fault(
        "certificate-file",
        r"No such file or directory.*(?:\.pem|\.crt|\.key)|invalid path: |TLS CA certificate",
        "a certificate file for {engine} is missing: {said}",
        "check the paths of CA, certificate and key that the daemon was registered with",
    ),
    Fault(
        "no-socket",
        r"No such file or directory|FileNotFoundError",
        "there is no socket {engine}",
        "start the Docker Engine (`systemctl start docker`), or register the daemon with the path "
        "of its socket",
    ),
    Fault(
        "certificate-expired",
        r"certificate has expired|alert certificate expired|CERTIFICATE_EXPIRED",
        "a certificate for {engine} has expired: {said}",
        "renew it; `openssl x509 -enddate -noout -in FILE` shows until when one is valid",
    ),
    Fault(
        "certificate-name",
        r"(?:Hostname|IP address) mismatch[^)\]]*|doesn't match",
        "the certificate of {engine} is for another name",
        "register the daemon with the name in the certificate, or add this one to it "
        "(subjectAltName)",
    ),
    Fault(
        "client-certificate",
        r"alert (?:bad certificate|certificate required|unknown ca|handshake failure)"
        r"|(?:BAD_CERTIFICATE|CERTIFICATE_REQUIRED|UNKNOWN_CA|HANDSHAKE_FAILURE)",
        "{engine} does not accept our client certificate, or wants one",
        "register the daemon with a certificate and key that the engine's CA has signed, and that "
        "have not expired (`openssl x509 -enddate -noout -in FILE`)",
    ),
    Fault(
        "certificate-authority",
        r"CERTIFICATE_VERIFY_FAILED",
        "the certificate of {engine} is not signed by the CA that the daemon was registered with",
        "register the daemon with the CA file (ca.pem) of that engine",
    ),
    Fault(
        "key",
        r"KEY_VALUES_MISMATCH|PEM lib|no start line|NO_CERTIFICATE_OR_CRL_FOUND",
        "certificate and key for {engine} cannot be used: {said}",
        "both must be PEM files, and the key must be that of the certificate",
    ),
    Fault(
        "tls-mismatch",
        r"WRONG_VERSION_NUMBER|wrong version number|record layer failure|RECORD_LAYER_FAILURE"
        r"|PACKET_LENGTH|HTTP_REQUEST|UNEXPECTED_EOF|EOF occurred in violation of protocol",
        "{engine} does not speak TLS",
        "register the daemon with the protocol http, or with the engine's TLS port (often 2376)",
    ),
    Fault(
        "unknown-host",
        r"Name or service not known|nodename nor servname|Temporary failure in name resolution"
        r"|No address associated|NameResolutionError|getaddrinfo",
        "there is no machine of the name in {engine}",
        "check the host that the daemon was registered with",
    ),
    Fault(
        "refused",
        r"Connection refused|ConnectionRefusedError",
        "nothing listens at {engine}",
        "start the Docker Engine there, or register the daemon with the right address",
    ),
    Fault(
        "unreachable",
        r"No route to host|Network is unreachable|ConnectTimeout|connect timeout",
        "{engine} cannot be reached",
        "check the address, the network and the firewall in between",
    ),
    Fault(
        "timeout",
        r"timed out|ReadTimeout|TimeoutError",
        "{engine} did not answer in time",
        "see whether the engine is busy or hangs (`docker info`)",
    ),
    Fault(
        "dropped",
        r"Connection aborted|Connection broken|RemoteDisconnected|IncompleteRead|Connection reset"
        r"|ConnectionResetError|Remote end closed connection"
        r"|Broken pipe|InvalidChunkLength|Bad file descriptor|ended too early",
        "the connection to {engine} was cut",
        "see whether the engine was stopped or restarted, and try again",
    ),
)
"""What a library or the system said; no answer of an engine."""

ENGINE_FAULTS: Final = (
    Fault(
        "proxied",
        r"\A\s*<(?i:!doctype|html|h1)\b.*\b50[234]\b",
        "the proxy at {engine} answers, the engine behind it does not",
        "start the Docker Engine behind it, and see whether the proxy may use its socket",
    ),
    Fault(
        "tls-mismatch",
        r"HTTP request to an HTTPS server",
        "{engine} speaks TLS, but the daemon is registered with http",
        "register the daemon with the protocol https",
    ),
    Fault(
        "version",
        r"client version \S+ is too (?:old|new).*",
        "{engine} does not speak our version of the API: {said}",
        "update the Docker Engine to 20.10 or later",
    ),
    Fault(
        "disk-full",
        r"no space left on device|disk quota exceeded",
        "the disk of the engine at {engine} is full: {said}",
        "make room there (`docker system df`, `docker image prune`) and try again",
    ),
    Fault(
        "rate-limit",
        r"toomanyrequests|rate limit|Too Many Requests|HTTP 429",
        "the registry allows no more pulls for now: {said}",
        "sign in with `docker login`, wait, or map the registry to a mirror "
        "(app_api:daemon:registry:add)",
    ),
    Fault(
        "unsupported-registry",
        r"server gave HTTP response to HTTPS client",
        "the registry does not speak TLS: {said}",
        "add it to insecure-registries in the engine's daemon.json, or give it a certificate",
    ),
    Fault(
        "registry-certificate",
        r"x509: ",
        "the engine does not trust the registry's certificate: {said}",
        "put the registry's CA under /etc/docker/certs.d on the machine of the engine",
    ),
    Fault(
        "platform",
        r"no matching manifest for|does not match the specified platform|no match for platform"
        r"|image operating system .* cannot be used|exec format error",
        "the image is not for the platform of the engine at {engine}: {said}",
        "build it for that platform as well (`docker buildx build --platform`), or use another "
        "engine",
    ),
    Fault(
        "not-found",
        r"manifest for .* not found|manifest unknown|repository does not exist|name unknown"
        r"|repository name not known|repository .* not found|reading manifest .*not found"
        r"|initializing source .*: manifest unknown",
        "the image is not in its registry: {said}",
        "check registry, image and image-tag in info.xml, and that the image was pushed",
    ),
    Fault(
        "credentials",
        r"no basic auth credentials|authentication required|unauthorized|access.*denied|denied:"
        r"|invalid username/password|incorrect username or password",
        "the registry wants other credentials: {said}",
        "sign in with `docker login REGISTRY` as the user who runs the host",
    ),
    Fault(
        "registry-unknown",
        r"no such host|server misbehaving|name resolution",
        "the engine knows no machine of the registry's name: {said}",
        "check the registry in info.xml, the engine's name server, or map the registry "
        "(app_api:daemon:registry:add)",
    ),
    Fault(
        "registry-down",
        r"connection refused|i/o timeout|Client\.Timeout|TLS handshake timeout|deadline exceeded"
        r"|request canceled|no route to host|network is unreachable|503 Service|502 Bad Gateway",
        "the registry cannot be reached from the engine: {said}",
        "see whether it runs; `docker pull` on the machine of the engine shows the same",
    ),
    Fault(
        "registry-dropped",
        r"unexpected EOF|\bEOF$|connection reset|broken pipe|context canceled|closed network"
        r"|http2: |stream error|failed to copy|max retries|digest verification|filesystem layer",
        "the transfer from the registry was cut: {said}",
        "try again; finished layers are kept",
    ),
    Fault(
        "reference",
        r"invalid reference format.*|invalid tag format|repository name must be",
        "the name of the image is not valid: {said}",
        "check registry, image and image-tag in info.xml; names are in lower case",
    ),
    Fault(
        "port",
        r"port is already allocated|address already in use|ports are not available",
        "the port of the app is taken on the machine of the engine: {said}",
        "stop what uses it, or give the app another port with <port> in --json-info",
    ),
    Fault(
        "address",
        r"cannot assign requested address",
        "the port cannot be published: {said}",
        "see which addresses the machine of the engine has",
    ),
    Fault(
        "network",
        r"network \S+ not found|unable to find network|No such network|could not find network",
        "the network of the daemon does not exist: {said}",
        "create it (`docker network create NAME`), or register the daemon with another --net",
    ),
    Fault(
        "device",
        r"could not select device driver.*|error gathering device information.*|unresolvable CDI"
        r"|nvidia-container|stat /dev/\S+: no such file",
        "the engine has no such compute device: {said}",
        "install its driver and container toolkit on the machine of the engine, or register the "
        "daemon with --compute_device cpu",
    ),
    Fault(
        "mount",
        r"bind source path does not exist.*|invalid mount config.*|mount path must be absolute.*"
        r"|Duplicate mount point.*|statfs .*no such file",
        "something cannot be mounted: {said}",
        "the source of --mount is a path on the machine of the engine and must exist there",
    ),
    Fault(
        "name-taken",
        r"is already in use",
        "the name is taken: {said}",
        "remove or rename the other container",
    ),
    Fault(
        "command",
        r"executable file not found|stat \S+: no such file|exec: \S+ no such file|permission denied"
        r"|chdir to cwd",
        "the command of the image cannot be started: {said}",
        "check CMD, ENTRYPOINT and WORKDIR of the Dockerfile; the file must be executable",
    ),
    Fault(
        "no-command",
        r"[Nn]o command (?:or entrypoint )?(?:specified|provided)",
        "the image does not say what to start: {said}",
        "give it CMD or ENTRYPOINT in the Dockerfile",
    ),
    Fault(
        "memory-limit",
        r"[Mm]inimum memory limit|memory limit",
        "the memory limit of the daemon is not accepted: {said}",
        "raise it in the resource limits of the daemon",
    ),
    Fault(
        "no-image",
        r"[Nn]o such image|image not known",
        "the image is not on the engine: {said}",
        "check registry, image and image-tag in info.xml; with a mapping to `local`, build or load "
        "the image on the machine of the engine first",
    ),
    Fault(
        "no-container",
        r"[Nn]o such container|no container with (?:name|ID)",
        "the container is not there any more: {said}",
        "it was removed by somebody else; update the app, or unregister and register it",
    ),
    Fault(
        "in-use",
        r"volume is in use|is being used",
        "it is still in use: {said}",
        "remove the other container that uses it",
    ),
)
"""What an engine answered."""

_STATUS_FAULTS: Final = {
    401: Fault(
        "password",
        "",
        "{engine} does not accept our password",
        "register the daemon with the right --haproxy_password; after several wrong ones the proxy "
        "may drop connections for some minutes",
    ),
    403: Fault(
        "forbidden",
        "",
        "{engine} does not allow this: {said}",
        "a socket proxy lets only some requests through; see its rules",
    ),
    407: Fault("password", "", "{engine} is behind a proxy that wants a password", ""),
}

_UNKNOWN: Final = Fault(
    "engine", "", "{engine} answered: {said}", "the log of the engine may say more"
)
_UNKNOWN_CONNECTION: Final = Fault("connection", "", "{engine} cannot be used: {said}", "")

_LONGEST: Final = 300
"""Characters of an engine's words that are shown; a runtime can be talkative."""


def explain(engine: str, said: str, *, status: int | None = None) -> EngineError:
    """The error for what was said.

    Args:
        engine: how the engine is reached, as shown to people.
        said: by the engine, or by a library if there was no answer.
        status: HTTP status of the answer; 200 for an error within a stream, None for no answer.
    """
    table = CONNECTION_FAULTS if status is None else ENGINE_FAULTS
    unknown = _UNKNOWN_CONNECTION if status is None else _UNKNOWN
    fault = _STATUS_FAULTS.get(status or 0, unknown)
    if fault is unknown or status == 403:
        for row in table:
            if re.search(row.pattern, said, re.DOTALL | re.MULTILINE):
                fault = row
                break
    words = " ".join(said.split()) or (f"status {status}" if status else "nothing")
    if len(words) > _LONGEST:
        words = words[: _LONGEST - 1] + "…"
    cause, remedy = (text.format(engine=engine, said=words) for text in (fault.cause, fault.remedy))
    return EngineError(fault.kind, cause, remedy=remedy, status=status or 0)
