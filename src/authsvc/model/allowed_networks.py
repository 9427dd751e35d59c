"""The networks that a credential may be used from.

A key may be confined to networks by itself, and by the policy of its owner; then both have to contain the
address of the client. Addresses are normalized, so IPv4-mapped IPv6 addresses are IPv4 ones. An address that
is not known is in no network.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from socket import AF_INET, AF_INET6, inet_pton

from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.memo import remembered

#: How many networks a key, or a policy, may have.
MAX_NETWORKS = 50
# IPv4-mapped IPv6 addresses (RFC 4291, 2.5.5.2).
_MAPPED = IPv6Network("::ffff:0:0/96")


class AllowedNetworks:
    """Networks as they are compared with addresses. They never change."""

    __slots__ = ("_groups", "_last", "of_key", "of_owner")

    def __init__(self, of_key: Sequence[str], of_owner: Sequence[str]) -> None:
        """Take normalized networks. Those of an empty list contain all addresses."""
        self.of_key = tuple(of_key)
        self.of_owner = tuple(of_owner)
        self._groups = tuple(_compared(*group) for group in (self.of_key, self.of_owner) if group)
        # The last address that they contained: most keys are used from few addresses.
        self._last = ""

    def contain(self, client_ip: str) -> bool:
        """Return whether a normalized address is in all of the lists; False for an empty one."""
        if client_ip == self._last:
            return client_ip != ""
        try:
            packed = inet_pton(AF_INET6 if ":" in client_ip else AF_INET, client_ip)
        except (OSError, ValueError):
            return False
        address, length = int.from_bytes(packed), len(packed)
        for group in self._groups:
            for size, first, mask in group:
                if address & mask == first and size == length:
                    break
            else:
                return False
        self._last = client_ip
        return True

    @property
    def texts(self) -> tuple[str, ...]:
        """All networks."""
        return self.of_key + self.of_owner


@remembered(max_entries=512, max_length=2200)  # those of a policy are those of all keys of an owner
def _compared(*texts: str) -> tuple[tuple[int, int, int], ...]:
    """Return the length of an address in bytes, the first address and the mask of each normalized network."""
    return tuple(map(_parsed, texts))


def _parsed(text: str) -> tuple[int, int, int]:
    # A fiftieth of the time of `ip_network`.
    address, _, prefix = text.partition("/")
    packed = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    bits = 8 * len(packed)
    return len(packed), int.from_bytes(packed), (1 << bits) - (1 << bits - int(prefix))


def checked_networks(texts: Sequence[str], path: str) -> tuple[str, ...]:
    """Return networks in their normal form, sorted, each once.

    Raises InvalidArgument, for the field `path`, for texts that are not networks.
    """
    found: set[IPv4Network | IPv6Network] = set()
    violations = []
    for number, text in enumerate(map(str.strip, texts)):
        problem = _problem(text)
        if problem:
            violations.append(FieldViolation(f"{path}[{number}]", "network", problem))
        else:
            found.add(_network(text))
    if violations:
        raise InvalidArgument(*violations)
    return tuple(map(str, sorted(found, key=lambda n: (n.version, n.network_address, n.prefixlen))))


def _network(text: str) -> IPv4Network | IPv6Network:
    """Return a network; one of IPv4-mapped addresses becomes one of IPv4."""
    found = ip_network(text)
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        address = int(found.network_address) & int(_MAPPED.hostmask)
        return IPv4Network((address, found.prefixlen - _MAPPED.prefixlen))
    return found


def _problem(text: str) -> str:
    """Return what is wrong with a text that is not a network, and what to use instead; "" for a network."""
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        meant = None
    if meant is None or "%" in text:  # a zone has a meaning on one machine only
        return "is not a network; use a form like 192.0.2.0/24, 2001:db8::/32, or a single address"
    try:
        ip_network(text)
    except ValueError:
        return f"has bits after the prefix; use {meant} for the network, or the address without a prefix"
    return ""


def widens(before: Sequence[str], after: Sequence[str]) -> bool:
    """Return whether networks contain an address that earlier ones did not; an empty list contains all."""
    if not before:
        return False
    if not after:
        return True
    old = [ip_network(text) for text in before]
    return not all(_is_within(ip_network(text), old) for text in after)


def _is_within(inner: IPv4Network | IPv6Network, outer: Iterable[IPv4Network | IPv6Network]) -> bool:
    return any(
        (isinstance(inner, IPv4Network) and isinstance(each, IPv4Network) and inner.subnet_of(each))
        or (isinstance(inner, IPv6Network) and isinstance(each, IPv6Network) and inner.subnet_of(each))
        for each in outer
    )
