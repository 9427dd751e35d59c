"""IP addresses: their normal form, and the address of a client behind proxies.

Addresses are written as in RFC 5952, and IPv4-mapped IPv6 addresses as IPv4 (`normalized`).

Each proxy appends the address of its own client to `x-forwarded-for`. So the list is read from the right for
as long as the address is a trusted proxy. The first address that is not is the client. What comes before it
was written by the client, and is ignored.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from authsvc.model.memo import Memo, remembered

Network = IPv4Network | IPv6Network

# The characters of "[", an IPv6 address with a short zone, "]:" and a port.
MAX_ADDRESS_LENGTH = 64
# IPv4-mapped IPv6 addresses (RFC 4291, 2.5.5.2).
MAPPED = IPv6Network("::ffff:0:0/96")
# The longest chain of proxies. A client may put any number of addresses before it.
_MAX_HOPS = 64
# Providers assign a whole /64 to a customer, so an attacker can use all of it.
_SITE_PREFIX_LENGTH = 64


class Proxies:
    """The trusted proxies, by their networks."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        # Looked up for each call, and mostly for the same few addresses.
        self._trusts = Memo(self._is_within, max_entries=4096, max_length=MAX_ADDRESS_LENGTH)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of the client, given its peer's and the values of x-forwarded-for.

        When a trusted proxy forwards something that is not an address, the address of that proxy is returned;
        when all addresses are trusted, the left-most. The result is normalized; "" for a peer without an
        address.
        """
        client = normalized(peer)
        if not self._trusted or not forwarded:
            return client
        # The first part of the split is everything before the last hops.
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
    """Return a network for normalized addresses. Raises ValueError for a text that is not a network.

    A network of IPv4-mapped addresses becomes one of IPv4; one that contains all of them becomes 0.0.0.0/0.
    """
    found = ip_network(text)
    if isinstance(found, IPv6Network) and found.overlaps(MAPPED):
        address = int(found.network_address) & int(MAPPED.hostmask)
        return IPv4Network((address, max(found.prefixlen - MAPPED.prefixlen, 0)))
    return found


def normalized(text: str) -> str:
    """Return an address in the form in which it is stored and shown; "" for anything else.

    A port, brackets and a zone are dropped. A zone has a meaning on one machine only.
    """
    text = text.strip()
    return _written.short(text) if 0 < len(text) <= MAX_ADDRESS_LENGTH else ""


@remembered(max_entries=4096, max_length=MAX_ADDRESS_LENGTH)
def _written(text: str) -> str:
    # Remember the text and not the address object, because formatting one is slow.
    found = read(text)
    return "" if found is None else str(found)


@remembered(max_entries=4096, max_length=MAX_ADDRESS_LENGTH)
def site(address: str) -> str:
    """Return what limits count as one client: an IPv4 address, or the /64 of an IPv6 address."""
    found = read(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Address(int(found) >> 128 - _SITE_PREFIX_LENGTH << 128 - _SITE_PREFIX_LENGTH))
    return address if found is None else str(found)


def read(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address in a text, which may have a port or a zone; None for anything else.

    `authsvc.client.client_info.address` reads by the same rules.
    """
    text = text.strip()
    if len(text) > MAX_ADDRESS_LENGTH:
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
