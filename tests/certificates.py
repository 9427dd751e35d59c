"""Authorities and certificates for tests."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAYS = timedelta(days=30)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM."""

    cert: bytes
    key: bytes

    def write(self, cert: Path, key: Path) -> None:
        """Write both, each as a file that atomically replaces the previous one."""
        for path, content in ((cert, self.cert), (key, self.key)):
            replace(path, content)


def replace(path: Path, content: bytes) -> None:
    """Replace a file atomically, as rotation does."""
    fresh = path.with_name(path.name + ".fresh")
    fresh.write_bytes(content)
    fresh.replace(path)


@dataclass
class Authority:
    """Issues certificates."""

    name: str = "Test CA"
    _key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False
    )

    def __post_init__(self) -> None:
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        self._certificate = (
            _builder(self._subject, self._subject, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def cert(self) -> bytes:
        """The authority's own certificate, as PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        subject: str = "CN=somebody",
        *,
        uris: tuple[str, ...] = (),
        names: tuple[str, ...] = ("localhost",),
        addresses: tuple[str, ...] = ("127.0.0.1",),
        begins: timedelta = -_DAYS,
        curve: ec.EllipticCurve | None = None,
    ) -> Pair:
        """Issue a certificate for a subject as in RFC 4514, and for alternative names.

        It is valid for sixty days, beginning at this offset from now.
        """
        key = ec.generate_private_key(curve or ec.SECP256R1())
        alternatives = x509.SubjectAlternativeName(
            [
                *(x509.UniformResourceIdentifier(uri) for uri in uris),
                *(x509.DNSName(name) for name in names),
                *(x509.IPAddress(ip_address(address)) for address in addresses),
            ]
        )
        certificate = (
            _builder(x509.Name.from_rfc4514_string(subject), self._subject, key, begins)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(alternatives, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Pair(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: timedelta = -_DAYS
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + begins + 2 * _DAYS)
    )
