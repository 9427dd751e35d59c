"""Where webhooks may be: the rules for their URLs, and for the addresses that names resolve to.

A tenant chooses the URL, and the service makes the call from inside the operator's network. So only addresses
of the public internet are called, and those in the networks that the operator names. A name is judged by the
addresses that it resolves to, at each call.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from authsvc.model.address import Network
from authsvc.notifications.webhooks.target import Target, read_target

# The special-purpose addresses of IPv4 (RFC 6890 and its registry), multicast and reserved ones.
_SPECIAL_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network; the unspecified address
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by customers of a carrier
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local, with the metadata of most clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # assignments of the IETF, with the metadata of Oracle's cloud
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved; the broadcast address
        ),
    )
)
# Everything beyond this is loopback, link-local, unique-local, multicast, compatible with IPv4 or reserved.
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_SPECIAL_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # assignments of the IETF: Teredo, benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which has an IPv4 address in it
            "3fff::/20",  # documentation
        ),
    )
)
# Translates to the IPv4 address in its last 32 bits. Its local-use sibling, 64:ff9b:1::/48, is not public.
_NAT64 = IPv6Network("64:ff9b::/96")
# Bits 64 to 95 of an address that has an IPv4 address in its last 32 bits (ISATAP, RFC 5214).
_ISATAP = (0x00005EFE, 0x02005EFE)
# Where clouds hand out the credentials of a machine. The network around them does not allow them.
_METADATA = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",
            "169.254.170.2",  # containers of AWS
            "169.254.170.23",  # pods of AWS
            "fd00:ec2::254",  # AWS
            "fd00:ec2::23",  # pods of AWS
            "169.254.42.42",  # Scaleway
            "fd00:42::42",  # Scaleway
            "169.254.0.23",  # Tencent
            "fd20:ce::254",  # Google
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure
            "192.0.0.192",  # Oracle
        ),
    )
)
# Names that are resolved by a machine or a network for itself.
_LOCAL_NAMES = frozenset(("localhost", "local", "localdomain", "internal", "arpa"))
_SETTING = "AUTHSVC_WEBHOOK_NETWORKS"


def url_fault(url: str, networks: Sequence[Network]) -> str:
    """Return why a webhook may not have this URL, and the remedy; "" if it may. Nothing is looked up.

    Allowed is https:// with a public name or address. In `networks`, which the operator names, addresses may
    be private and http:// is allowed, too. With any networks, so are local names and http:// with a name:
    the addresses that it resolves to decide at each call.
    """
    try:
        target = read_target(url)
    except ValueError as error:
        return str(error)
    rules = AddressRules(networks)
    if target.address is not None:
        return _address_fault(target, target.address, rules)
    if networks:
        return ""
    if target.is_plain:
        return f"is not encrypted; use https://, or have the operator name its network in {_SETTING}"
    if "." not in target.host or target.host.rpartition(".")[2] in _LOCAL_NAMES:
        return f"has a local name; use a public name, or have the operator name its network in {_SETTING}"
    return ""


def _address_fault(target: Target, address: IPv4Address | IPv6Address, rules: "AddressRules") -> str:
    if not rules.allows(str(address), is_plain=False):
        return f"has an address that is not public; the operator may name its network in {_SETTING}"
    if target.is_plain and not rules.allows(str(address), is_plain=True):
        return f"is not encrypted; use https://, or have the operator name its network in {_SETTING}"
    return ""


class AddressRules:
    """Says which addresses are called: public ones, and those in the networks that the operator names."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        #: Those that the operator names.
        self.networks = tuple(networks)

    def allows(self, text: str, *, is_plain: bool) -> bool:
        """Return whether an address may be called. Without TLS, it has to be in a network of the operator.

        An address where clouds have their metadata has to be named by itself: it is often inside of a network
        that is named for something else.
        """
        try:
            address = ip_address(text)
        except ValueError:
            return False
        if isinstance(address, IPv6Address):
            if address.scope_id is not None:
                return False
            address = address.ipv4_mapped or address
        naming = [each for each in self.networks if each.version == address.version and address in each]
        if address in _METADATA:
            return any(each.num_addresses == 1 for each in naming)
        return bool(naming) or (not is_plain and _is_public(address))


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if address in _METADATA:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    embedded = IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64:
        return _is_public(embedded)
    if (int(address) >> 32 & 0xFFFFFFFF) in _ISATAP and not _is_public(embedded):
        return False
    return address in _GLOBAL_IPV6 and not any(address in network for network in _SPECIAL_IPV6)
