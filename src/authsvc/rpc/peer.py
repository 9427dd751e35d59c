"""The other end of a connection, as gRPC writes it: `ipv4:192.0.2.1:4711`, `ipv6:%5B2001:db8::1%5D:4711`."""

from urllib.parse import quote, unquote

# An address, and a port.
End = tuple[str, int]


def peer_of(host: str, port: int) -> str:
    """Return the other end that has this address, which a socket of both families may show as mapped."""
    host = host.removeprefix("::ffff:") if "." in host else host
    return f"ipv6:%5B{quote(host, safe=':')}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


def address_of(peer: str) -> str:
    """Return the address; "" for a peer that has none."""
    if peer.startswith("ipv4:"):
        return peer[5 : peer.rindex(":")]
    return unquote(peer[5:]).rpartition(":")[0].strip("[]") if peer.startswith("ipv6:") else ""


def end_of(peer: str) -> End:
    """Return the address and the port; "" and 0 for a peer that has none, whose connection is gone."""
    port = peer.rpartition(":")[2]
    return address_of(peer), int(port) if port.isdecimal() else 0
