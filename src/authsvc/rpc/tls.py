"""The server's side of TLS: certificate, key and authorities, reloaded when their files change.

Mechanism: a look every few seconds reads the files, see `reloaded_files`. A connection of the lane gets the
latest context. Before each handshake grpcio asks, on a thread of its own, whether there is a new
configuration, which costs a comparison.

Bound: open connections stay as they are until AUTHSVC_CONNECTION_AGE ends them. Session tickets from before
the change are not accepted, since their key was replaced with the configuration.

grpcio can ask no client for a certificate, or every client. The lane can also let clients choose.
"""

import ssl
import time
from pathlib import Path
from typing import NamedTuple

import grpc

from authsvc.config.file import read_file
from authsvc.config.reloaded_files import Contents, ReloadedFiles
from authsvc.config.settings import ConfigError
from authsvc.rpc.certificate import check_certificates, check_pair

_CERT, _KEY, _CLIENT_CA = "AUTHSVC_TLS_CERT", "AUTHSVC_TLS_KEY", "AUTHSVC_TLS_CLIENT_CA"


# Those of TLS 1.2 that HTTP/2 allows (RFC 9113, 9.2.2); those of TLS 1.3 are always allowed.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class _Checked(NamedTuple):
    contents: Contents
    # For the lane, and for HTTP/1.1.
    context: ssl.SSLContext
    web_context: ssl.SSLContext


class Tls:
    """The certificate that a server shows, and the authorities of its clients' certificates."""

    def __init__(
        self, cert: Path, key: Path, client_ca: Path | None = None, *, certificates_optional: bool = False
    ) -> None:
        """Read the files; raise ConfigError that names the setting, the file and the remedy.

        Every client has to show a certificate of `client_ca`, unless they are optional (the lane only).
        """
        self._mode = ssl.CERT_OPTIONAL if certificates_optional else ssl.CERT_REQUIRED
        files = {_CERT: cert, _KEY: key}
        if client_ca is not None:
            files[_CLIENT_CA] = client_ca
        self._files = files
        self._not_after = 0.0
        self._reloaded = ReloadedFiles(files, self._check)
        self._served = self._reloaded.value

    def seconds_left(self) -> float:
        """Return for how many seconds the certificate is still valid, by the wall clock."""
        return self._not_after - time.time()

    @property
    def is_stale(self) -> bool:
        """Whether there are newer files, which are broken."""
        return self._reloaded.is_stale

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials to serve with, which follow each change of the files."""
        self._served = self._reloaded.value
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._served.contents),
            self._fetch,
            require_client_authentication=_CLIENT_CA in self._files,
        )

    @property
    def context(self) -> ssl.SSLContext:
        """The context of a new connection to the lane."""
        return self._reloaded.value.context

    @property
    def web_context(self) -> ssl.SSLContext:
        """The context of a new connection over HTTP/1.1."""
        return self._reloaded.value.web_context

    async def look(self) -> None:
        """Reload the files if they have changed; keep the previous ones if they are broken."""
        await self._reloaded.look()

    def _fetch(self) -> grpc.ServerCertificateConfiguration:
        """Return the configuration if it is new; gRPC calls this before each handshake, on its own thread."""
        latest = self._reloaded.value
        if latest is self._served:
            return None  # type: ignore[return-value]  # nothing new; the stubs lack it
        self._served = latest
        return _configuration(latest.contents)

    # Without gRPC, so that a supervisor, which forks, can check files, too.
    def _check(self, contents: Contents) -> _Checked:
        for setting in self._files:
            if setting != _KEY:
                check_certificates(setting, self._files[setting], contents[setting])
        not_after = check_pair(self._files[_CERT], self._files[_KEY], contents[_CERT])
        contexts = self._made(contents, "h2"), self._made(contents, "http/1.1")
        # OpenSSL read the files itself, and they may have changed since they were read here.
        if contents != {setting: read_file(setting, path) for setting, path in self._files.items()}:
            raise ConfigError(
                f"{_CERT}: {self._files[_CERT]} or its key changed while it was read; try again"
            )
        self._not_after = not_after
        return _Checked(contents, *contexts)

    def _made(self, contents: Contents, protocol: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.set_alpn_protocols([protocol])
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.load_cert_chain(self._files[_CERT], self._files[_KEY], password="")
        if _CLIENT_CA in contents:
            context.verify_mode = self._mode
            context.load_verify_locations(cadata=contents[_CLIENT_CA].decode("ascii"))
        return context


def _configuration(contents: Contents) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(contents[_KEY], contents[_CERT])], contents.get(_CLIENT_CA)
    )
