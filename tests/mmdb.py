"""Writes MMDB files (MaxMind DB file format 2.0), as small as tests need them."""

import struct
from collections.abc import Mapping
from ipaddress import IPv4Network, ip_network

_MARKER = b"\xab\xcd\xefMaxMind.com"
_SEPARATOR = bytes(16)


def encode(
    records: Mapping[str, object],
    *,
    ip_version: int = 6,
    record_size: int = 24,
    database_type: str = "Test-City",
) -> bytes:
    """Return a file with these records, by network; IPv4 is under ::/96 in an IPv6 file.

    Networks must not overlap.
    """
    root = Node([None, None])
    data = b""
    for network, record in records.items():
        _insert(root, _bits(network, ip_version), len(data))
        data += _value(record)
    nodes = _flatten(root)
    places = {id(node): number for number, node in enumerate(nodes)}

    def number(side: Node | int | None) -> int:
        if side is None:
            return len(nodes)
        return len(nodes) + len(_SEPARATOR) + side if isinstance(side, int) else places[id(side)]

    tree = b"".join(_node(number(node[0]), number(node[1]), record_size) for node in nodes)
    metadata = {
        "binary_format_major_version": Uint16(2),
        "binary_format_minor_version": Uint16(0),
        "build_epoch": Uint64(1_700_000_000),
        "database_type": database_type,
        "description": {"en": "made for a test"},
        "ip_version": Uint16(ip_version),
        "languages": ["en"],
        "node_count": len(nodes),
        "record_size": Uint16(record_size),
    }
    return tree + _SEPARATOR + data + _MARKER + _value(metadata)


class Node(list["Node | int | None"]):
    """Two sides; each leads to a node, to the position of a record in the data, or nowhere."""


class Uint16(int):
    """An integer that is stored as uint16; others are uint32."""


class Uint64(int):
    """An integer that is stored as uint64."""


def _bits(network: str, ip_version: int) -> str:
    parsed = ip_network(network)
    prefix = f"{int(parsed.network_address):0{parsed.max_prefixlen}b}"[: parsed.prefixlen]
    if isinstance(parsed, IPv4Network):
        return prefix if ip_version == 4 else "0" * 96 + prefix
    assert ip_version == 6, "a file of IPv4 has no room for IPv6"
    return prefix


def _insert(root: Node, bits: str, offset: int) -> None:
    node: Node = root
    for bit in bits[:-1]:
        side = node[int(bit)]
        if side is None:
            side = node[int(bit)] = Node([None, None])
        assert isinstance(side, Node), "networks within each other"
        node = side
    assert node[int(bits[-1])] is None, "networks within each other"
    node[int(bits[-1])] = offset


def _flatten(root: Node) -> list[Node]:
    nodes = [root]
    # Grows during the iteration.
    for node in nodes:
        nodes.extend(side for side in node if isinstance(side, Node))
    return nodes


def _node(left: int, right: int, record_size: int) -> bytes:
    if record_size == 28:
        middle = left >> 24 << 4 | right >> 24
        return (left & 0xFFFFFF).to_bytes(3, "big") + bytes([middle]) + (right & 0xFFFFFF).to_bytes(3, "big")
    return left.to_bytes(record_size // 8, "big") + right.to_bytes(record_size // 8, "big")


def _value(value: object) -> bytes:
    match value:
        case str():
            text = value.encode()
            return _control(2, len(text)) + text
        case bool():
            return _control(14, int(value))
        case float():
            return _control(3, 8) + struct.pack(">d", value)
        case int():
            size = (value.bit_length() + 7) // 8
            kind = 5 if isinstance(value, Uint16) else 9 if isinstance(value, Uint64) else 6
            return _control(kind, size) + value.to_bytes(size, "big")
        case Mapping():
            return _control(7, len(value)) + b"".join(_value(k) + _value(v) for k, v in value.items())
        case list():
            return _control(11, len(value)) + b"".join(map(_value, value))
    raise TypeError(f"no MMDB type for {value!r}")


def _control(kind: int, size: int) -> bytes:
    """Return the control byte, and the bytes for a kind above 7 and a size above 28."""
    assert size < 29 + 256, "longer than any test needs"
    first, more = (size, b"") if size < 29 else (29, bytes([size - 29]))
    return bytes([kind << 5 | first]) + more if kind < 8 else bytes([first, kind - 7]) + more
