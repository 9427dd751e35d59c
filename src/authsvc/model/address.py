"""Addresses: how they are written, and where a call comes from.

An address has one spelling, that of RFC 5952, and IPv4 in IPv6 is IPv4 (`normalized`). A call comes from its
peer or, behind proxies that are trusted, from the peer's client.

Each proxy appends the address of its own client to `x-forwarded-for`. So the list is read from its right
end, for as long as what stands there is a trusted proxy: the first that is none is the client. All left of it
is the client's own tale, and not read.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from authsvc.model.memo import Memo, remembered

Network = IPv4Network | IPv6Network

# "[", an IPv6 address of eight groups, "]:" and a port; a zone may make it longer.
LONGEST = 64
# IPv4 in IPv6 (RFC 4291, 2.5.5.2).
_MAPPED = IPv6Network("::ffff:0:0/96")
# Of proxies in a row. A client may write any number of addresses before them.
_MAX_HOPS = 64
# Providers give a customer a whole /64, and somebody who guesses uses all of it.
_SITE = 64


class Proxies:
    """The networks whose word on where a call comes from is taken."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        # GatewayRequest on each call, mostly of the same few.
        self._trusts = Memo(self._is_within, max_entries=4096, max_length=LONGEST)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of the client, given its peer's and the values of x-forwarded-for.

        When a trusted proxy hands on what is no address, nobody knows better than that proxy's
        address, and it is returned. When all are trusted, it is the left-most. Addresses are
        normalized; a peer that has none has the address "".
        """
        client = normalized(peer)
        if not self._trusted or not forwarded:
            return client
        # The first of the split is what stands before the last hops, whole.
        hops = ",".join(forwarded).rsplit(",", _MAX_HOPS)[-_MAX_HOPS:]
        while self._trusts(client) and hops:
            found = normalized(hops.pop())
            if not found:
                break
            client = found
        return client

    def _is_within(self, address: str) -> bool:
        found = read(address)
        return found is not None and any(
            network.version == found.version and found in network for network in self._trusted
        )


def network(text: str) -> Network:
    """Return a network in which normalized addresses are looked for; raise ValueError for what is none.

    One of v4-mapped addresses is a network of IPv4. One that holds all of those is 0.0.0.0/0.
    """
    found = ip_network(text)
    if isinstance(found, IPv6Network) and found.overlaps(_MAPPED):
        address = int(found.network_address) & int(_MAPPED.hostmask)
        return IPv4Network((address, max(found.prefixlen - _MAPPED.prefixlen, 0)))
    return found


def normalized(text: str) -> str:
    """Return an address as it is kept and shown; "" for what is none.

    It may come with a port, in brackets or with a zone, which means something on one machine only.
    """
    text = text.strip()
    return _written(text) if 0 < len(text) <= LONGEST else ""


@remembered(max_entries=4096, max_length=LONGEST)
def _written(text: str) -> str:
    # The text is remembered and not the address, which Python writes anew each time, and slowly.
    found = read(text)
    return "" if found is None else str(found)


@remembered(max_entries=4096, max_length=LONGEST)
def site(address: str) -> str:
    """Return what is counted as one place: an IPv4 address, or the /64 of an IPv6 address."""
    found = read(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Address(int(found) >> 128 - _SITE << 128 - _SITE))
    return address if found is None else str(found)


def read(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address in a text, which may bear a port or a zone; None for anything else.

    `authsvc.client.client_info.address` reads by the same rules.
    """
    text = text.strip()
    if len(text) > LONGEST:
        return None
    if text.startswith("["):
        text, _, port = text[1:].partition("]")
        if port and not port.startswith(":"):
            return None
    elif text.count(":") == 1:
        text, _, _ = text.partition(":")
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        return found.ipv4_mapped or IPv6Address(int(found))
    return found
