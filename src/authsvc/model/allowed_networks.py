"""The networks that a credential may be used from.

A key may be confined to networks by itself, and by the policy of its owner; then both have to contain the
address of the client. Addresses are normalized, so IPv4-mapped IPv6 addresses are IPv4 ones. An address that
is not known is in no network.
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from socket import AF_INET, AF_INET6, inet_pton

from authsvc.model.address import MAPPED, network
from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.memo import remembered

#: How many networks a key, or a policy, may have.
MAX_NETWORKS = 50
# A network as it is compared: the length of its addresses in bytes, the first one, and the mask.
_Compared = tuple[int, int, int]


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
def _compared(*texts: str) -> tuple[_Compared, ...]:
    """Return each normalized network as it is compared."""
    return tuple(map(_parsed, texts))


def _parsed(text: str) -> _Compared:
    # 1 to 2 µs, and `ip_network` needs 7: a worker reads those of all keys that it loads.
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
    # `network` would make one of all addresses of IPv4 from ::/0, which has those of IPv6.
    return network(text) if isinstance(found, IPv6Network) and found.subnet_of(MAPPED) else found


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
    """Return whether normalized networks contain an address that earlier ones did not.

    An empty list contains all. A network counts as contained if one of the earlier ones contains it.
    """
    if not before:
        return False
    if not after:
        return True
    outer = _compared(*before)
    return not all(any(_is_within(each, one) for one in outer) for each in map(_parsed, after))


def _is_within(inner: _Compared, outer: _Compared) -> bool:
    (size, first, mask), (outer_size, outer_first, outer_mask) = inner, outer
    return size == outer_size and first & outer_mask == outer_first and mask & outer_mask == outer_mask
