"""Certificates for engines behind TLS, made by openssl, the wrong ones too."""

from dataclasses import dataclass
from pathlib import Path

from tests.docker.engines import run

_SERVER = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
_CLIENT = "extendedKeyUsage=clientAuth\n"
_DAYS = 2


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as paths of PEM files."""

    cert: Path
    key: Path

    @property
    def as_one_file(self) -> Path:
        """Both in one file, as haproxy wants it."""
        path = self.cert.with_suffix(".both.pem")
        path.write_text(self.cert.read_text() + self.key.read_text())
        return path


class Authority:
    """A certificate authority.

    Args:
        folder: for its files.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._own = Pair(folder / "ca.pem", folder / "ca-key.pem")
        _make_key(self._own.key)
        run(
            *("openssl", "req", "-x509", "-new", "-key", self._own.key, "-out", self._own.cert),
            *("-subj", f"/CN={folder.name}", "-days", _DAYS),
        )

    @property
    def ca(self) -> Path:
        """Its own certificate."""
        return self._own.cert

    def server(self, name: str = "server", *, days: int = _DAYS, names: str = _SERVER) -> Pair:
        """A certificate for `localhost` and `127.0.0.1`; with negative days it has expired."""
        return self._signed(name, names, days)

    def client(self, name: str = "client", *, days: int = _DAYS) -> Pair:
        """A certificate to show to a server."""
        return self._signed(name, _CLIENT, days)

    def _signed(self, name: str, extensions: str, days: int) -> Pair:
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}-key.pem")
        request, extra = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extra.write_text(extensions)
        _make_key(pair.key)
        run("openssl", "req", "-new", "-key", pair.key, "-subj", f"/CN={name}", "-out", request)
        run(
            *("openssl", "x509", "-req", "-in", request, "-out", pair.cert, "-days", days),
            *("-CA", self._own.cert, "-CAkey", self._own.key, "-CAcreateserial"),
            *("-extfile", extra),
        )
        return pair


def _make_key(path: Path) -> None:
    run("openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", path)
