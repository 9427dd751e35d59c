"""The names in a client's certificate, compared with those that OpenSSL writes."""

import re
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.rpc.context import certificate_name
from authsvc.rpc.lane.certificate import _is_spiffe_id, auth_context, subject

_KEY = ec.generate_private_key(ec.SECP256R1())
_NOW = datetime(2026, 11, 21, tzinfo=UTC)
_OIDS = [
    NameOID.COMMON_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.LOCALITY_NAME,
    NameOID.DOMAIN_COMPONENT,
    NameOID.EMAIL_ADDRESS,
    NameOID.SERIAL_NUMBER,
    NameOID.SURNAME,
    NameOID.GIVEN_NAME,
    NameOID.TITLE,
    NameOID.USER_ID,
    NameOID.STREET_ADDRESS,
    NameOID.JURISDICTION_COUNTRY_NAME,
    # Nobody's.
    x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"),
    x509.ObjectIdentifier("2.999.3"),
]
_TYPES = [_ASN1Type.UTF8String, _ASN1Type.PrintableString, _ASN1Type.IA5String, _ASN1Type.BMPString]
_TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=40
) | st.sampled_from([" a ", "#a", "a#", ',+"<>;\\', "=", "\x7f\x00", "Zoë", "日本", "𝄞", "  ", "a" * 60])


@st.composite
def _attributes(draw: st.DrawFn) -> x509.NameAttribute[str]:
    oid, kind, text = draw(st.sampled_from(_OIDS)), draw(st.sampled_from(_TYPES)), draw(_TEXTS)
    if kind is _ASN1Type.PrintableString:
        text = re.sub(r"[^A-Za-z0-9 '()+,./:=?-]", "", text) or "x"
    if kind is _ASN1Type.IA5String:
        text = text.encode("ascii", "ignore").decode() or "x"
    if kind is _ASN1Type.BMPString:
        text = "".join(character for character in text if ord(character) < 0x10000) or "x"
    if oid == NameOID.JURISDICTION_COUNTRY_NAME:
        text, kind = "DE", _ASN1Type.PrintableString
    return x509.NameAttribute(oid, text, kind, _validate=False)


def _certificate(name: x509.Name) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")]))
        .public_key(_KEY.public_key())
        .serial_number(1)
        .not_valid_before(_NOW)
        .not_valid_after(_NOW + timedelta(days=1))
        .sign(_KEY, hashes.SHA256())
    )


def _of_openssl(certificate: x509.Certificate) -> str:
    written = subprocess.run(
        ("openssl", "x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "RFC2253"),
        input=certificate.public_bytes(serialization.Encoding.DER),
        capture_output=True,
        check=True,
    ).stdout
    return written.decode().removeprefix("subject=").removesuffix("\n")


@pytest.mark.filterwarnings("ignore:Attribute.s length must be")
@settings(max_examples=150)
@given(st.lists(st.lists(_attributes(), min_size=1, max_size=3), max_size=5))
def test_subjects_are_written_as_openssl_does(names: list[list[x509.NameAttribute[str]]]) -> None:
    """Of any types, with several attributes in one name, and with characters that are escaped."""
    relative = []
    for attributes in names:
        kept = {attribute.oid: attribute for attribute in attributes}
        relative.append(x509.RelativeDistinguishedName(kept.values()))
    certificate = _certificate(x509.Name(relative))
    assert subject(certificate.public_bytes(serialization.Encoding.DER)) == _of_openssl(certificate)


@pytest.mark.parametrize(
    ("uri", "is_one"),
    [
        ("spiffe://example.org/orders", True),
        ("spiffe://example.org/", False),
        ("spiffe://example.org", False),
        ("spiffe:///orders", False),
        ("SPIFFE://example.org/orders", False),
        ("https://example.org/orders", False),
        (f"spiffe://{'a' * 255}/orders", True),
        (f"spiffe://{'a' * 256}/orders", False),
        ("spiffe://example.org/" + "a" * 2027, True),
        ("spiffe://example.org/" + "a" * 2028, False),
    ],
)
def test_what_is_a_spiffe_id(uri: str, is_one: bool) -> None:
    """By the rules of gRPC."""
    assert _is_spiffe_id(uri) is is_one


class _Shown:
    """A connection with a certificate whose names Python cannot read."""

    def getpeercert(self, binary_form: bool = False) -> bytes:
        if not binary_form:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orders")])
        return _certificate(name).public_bytes(serialization.Encoding.DER)


def test_names_that_cannot_be_read_are_none() -> None:
    """The client has shown a certificate, which identifies nobody."""
    assert certificate_name(auth_context(_Shown())) == ""  # type: ignore[arg-type]
    assert certificate_name({}) is None
