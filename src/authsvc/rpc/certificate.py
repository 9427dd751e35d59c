"""Whether a server can use a certificate and its key: OpenSSL reads them, and does a handshake with itself.

So the checks are those of a client, except for the name and the authority, which depend on the client.
"""

import ssl
from pathlib import Path

from authsvc.config.settings import ConfigError

_CERT, _KEY = "AUTHSVC_TLS_CERT", "AUTHSVC_TLS_KEY"
_TOO_WEAK = ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL")
# TLS 1.2 takes the most, which is one less.
_MAX_FLIGHTS = 5


def check_certificates(setting: str, path: Path, content: bytes) -> None:
    """Raise ConfigError unless a file holds certificates."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise ConfigError(
            f"{setting}: {path} contains no valid certificate; use PEM, with its chain"
        ) from None


def check_pair(cert: Path, key: Path, content: bytes) -> float:
    """Return when the certificate, whose file holds the content, expires, in seconds since the epoch.

    Raises ConfigError when the key does not belong to it, or when clients would refuse it now.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password OpenSSL would ask for one at the terminal, and wait.
        server.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"{_KEY}: {key} is not the key of the certificate in {cert}; use a certificate and a key "
                "that belong together"
            ) from None
        if error.reason in _TOO_WEAK:
            raise ConfigError(f"{_CERT}: {cert} is too weak ({error.reason}); issue a stronger one") from None
        raise ConfigError(
            f"{_KEY}: {key} contains no readable private key; use PEM, without a password"
        ) from None
    except OSError as error:
        raise ConfigError(f"{_KEY}: {key} or {cert} cannot be read: {error.strerror or error}") from None
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # The certificate is its own authority here.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=content.decode("ascii"))
    try:
        shown = _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(
            f"{_CERT}: clients would refuse {cert}: {error.verify_message}; issue a new certificate"
        ) from None
    except ssl.SSLError as error:
        raise ConfigError(
            f"{_CERT}: clients would refuse {cert} ({error.reason}); "
            "issue one with an RSA, P-256 or P-384 key"
        ) from None
    return ssl.cert_time_to_seconds(str(shown["notAfter"]))


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, object]:
    """Return the certificate that a server shows to a client; both are in memory."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_MAX_FLIGHTS):
        done = [_is_done(side) for side in (asking, answering)]
        if all(done):
            return dict(asking.getpeercert() or {})
    raise AssertionError("a handshake takes a few flights")


def _is_done(side: ssl.SSLObject) -> bool:
    """Continue the handshake as far as possible; say whether it is done."""
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
