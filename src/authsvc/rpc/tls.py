"""The server's side of TLS: certificate, key and authorities, taken anew when their files change.

Mechanism: a look every few seconds reads the files, see `watched`. Before each handshake gRPC asks us, on a
thread of its own, what to serve with, and is told what is new since the last time: it costs a comparison.

Bound: connections that are open stay as they are, until AUTHSVC_CONNECTION_AGE ends them. Session tickets of
before the change open nothing, since their key is gone with what they were made for.

gRPC's Python can ask for no client certificate or for one from everybody, and for nothing in between.
"""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc

from authsvc.config.file import read_file
from authsvc.config.reloaded_files import Contents, ReloadedFiles
from authsvc.config.settings import ConfigError
from authsvc.rpc.certificate import check_certificates, check_pair

_CERT, _KEY, _CLIENT_CA = "AUTHSVC_TLS_CERT", "AUTHSVC_TLS_KEY", "AUTHSVC_TLS_CLIENT_CA"


class Tls:
    """What a server shows, and what it asks of its clients."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None = None) -> None:
        """Read the files; raise ConfigError that names the setting, the file and the remedy."""
        files = {_CERT: cert, _KEY: key}
        if client_ca is not None:
            files[_CLIENT_CA] = client_ca
        self._files = files
        self._not_after = 0.0
        self._watched = ReloadedFiles(files, self._check)
        self._served = self._watched.value

    def seconds_left(self) -> float:
        """Return for how long the certificate is valid, by the wall clock."""
        return self._not_after - time.time()

    @property
    def is_stale(self) -> bool:
        """Whether there are newer files, which are broken."""
        return self._watched.is_stale

    def credentials(self) -> grpc.ServerCredentials:
        """Return what to serve with, now and after each change."""
        self._served = self._watched.value
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._served), self._fetch, require_client_authentication=_CLIENT_CA in self._files
        )

    async def run(self, tick: Callable[[], Awaitable[object]]) -> None:
        """Look after each tick whether the files have changed, for ever."""
        await self._watched.run(tick)

    async def look(self) -> None:
        """Take the files anew if they have changed, unless they are broken."""
        await self._watched.look()

    def _fetch(self) -> grpc.ServerCertificateConfiguration:
        """Return what is new since the last time, on a thread of gRPC's before each handshake."""
        latest = self._watched.value
        if latest is self._served:
            return None  # type: ignore[return-value]  # nothing new; the stubs do not know it
        self._served = latest
        return _configuration(latest)

    # Nothing of gRPC's here: a supervisor that forks can check files, too.
    def _check(self, contents: Contents) -> Contents:
        for setting in self._files:
            if setting != _KEY:
                check_certificates(setting, self._files[setting], contents[setting])
        not_after = check_pair(self._files[_CERT], self._files[_KEY], contents[_CERT])
        # It was the files that OpenSSL looked at, and they may have changed since they were read.
        if contents != {setting: read_file(setting, path) for setting, path in self._files.items()}:
            raise ConfigError(
                f"{_CERT}: {self._files[_CERT]} or its key changed while it was read; try again"
            )
        self._not_after = not_after
        return contents


def _configuration(contents: Contents) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(contents[_KEY], contents[_CERT])], contents.get(_CLIENT_CA)
    )
