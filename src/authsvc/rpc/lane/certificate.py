"""The names in a client's certificate, by the names and in the forms of gRPC's auth context."""

import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# The types of strings, by their tags; values of other types are written in hexadecimal.
_ENCODINGS = {
    12: "utf-8",
    18: "latin-1",
    19: "latin-1",
    20: "latin-1",
    22: "latin-1",
    23: "latin-1",
    24: "latin-1",
    26: "latin-1",
    28: "utf-32-be",
    30: "utf-16-be",
}
# What RFC 2253 escapes anywhere, at the beginning, and at the end of a value.
_SPECIAL, _FIRST, _LAST = frozenset(',+"<>;\\'), "# ", " "
_SPIFFE, _MAX_SPIFFE_LENGTH, _MAX_DOMAIN_LENGTH = "spiffe://", 2048, 255


def auth_context(shown: ssl.SSLObject) -> Mapping[str, Iterable[bytes]]:
    """Return what gRPC would say of the certificate that a client has shown: {} without one."""
    der = shown.getpeercert(binary_form=True)
    if der is None:
        return {}
    try:
        told: dict[str, Any] = shown.getpeercert() or {}
        named = subject(der).encode()
    except ValueError:  # names that cannot be read are no names
        return {"x509_subject": [b""]}
    uris = [value for kind, value in told.get("subjectAltName", ()) if kind == "URI"]
    return {
        "x509_subject": [named],
        "peer_uri": [uri.encode() for uri in uris],
        "peer_spiffe_id": [uri.encode() for uri in uris if len(uris) == 1 and _is_spiffe_id(uri)],
    }


def _is_spiffe_id(uri: str) -> bool:
    """Return whether gRPC takes a URI for a SPIFFE id."""
    if not uri.startswith(_SPIFFE) or len(uri) > _MAX_SPIFFE_LENGTH:
        return False
    domain, _, path = uri[len(_SPIFFE) :].partition("/")
    return 0 < len(domain) <= _MAX_DOMAIN_LENGTH and bool(path.partition("/")[0])


def subject(der: bytes) -> str:
    """Return the subject of a certificate as OpenSSL writes it with `-nameopt RFC2253`."""
    (_, certificate), *_ = _items(der)
    (_, content), *_ = _items(certificate)
    fields = [value for tag, value in _items(content) if tag != 0xA0]  # the version is optional
    names = [list(_attributes(value)) for _, value in _items(fields[4])]
    return ",".join("+".join(reversed(pairs)) for pairs in reversed(names))


def _attributes(data: bytes) -> Iterator[str]:
    """Yield the attributes of one relative name."""
    for _, pair in _items(data):
        (_, identifier), (tag, value) = _items(pair)
        yield _attribute(identifier, tag, value)


def _attribute(identifier: bytes, tag: int, value: bytes) -> str:
    name = _dotted(identifier)
    try:
        # OpenSSL's own table of names; ssl.Purpose is made of the same class.
        short = ssl._ASN1Object(name).shortname
    except ValueError:
        return f"{name}=#{_dumped(tag, value)}"
    encoding = _ENCODINGS.get(tag)
    return (
        f"{short}=#{_dumped(tag, value)}"
        if encoding is None
        else f"{short}={_escaped(value.decode(encoding))}"
    )


def _escaped(text: str) -> str:
    last = len(text) - 1
    return "".join(
        f"\\{character}"
        if character in _SPECIAL
        or (place == 0 != last and character in _FIRST)
        or (place == last and character in _LAST)
        else character
        if " " <= character <= "~"
        else "".join(f"\\{byte:02X}" for byte in character.encode())
        for place, character in enumerate(text)
    )


def _dumped(tag: int, value: bytes) -> str:
    return (bytes([tag]) + _length(len(value)) + value).hex().upper()


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes([size])
    encoded = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([0x80 | len(encoded)]) + encoded


def _dotted(identifier: bytes) -> str:
    """Return an object identifier as text (X.690, 8.19)."""
    arcs, value = [], 0
    for byte in identifier:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each item in DER, which OpenSSL has read before us (X.690, 8.1)."""
    place = 0
    while place < len(data):
        tag, size, place = data[place], data[place + 1], place + 2
        if size & 0x80:
            count = size & 0x7F
            size, place = int.from_bytes(data[place : place + count]), place + count
        yield tag, data[place : place + size]
        place += size
