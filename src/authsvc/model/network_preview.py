"""Which of the networks that keys were used from would be refused by other allowed networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import NamedTuple

from authsvc.model.address import Network, network
from authsvc.model.key_use import OTHER

#: How many networks that would be refused are shown.
MAX_SHOWN = 100


class NetworkRefusal(Enum):
    """How much of a network would be refused. UNKNOWN: the networks were not counted separately."""

    WHOLE = "WHOLE"
    PART = "PART"
    UNKNOWN = "UNKNOWN"


class NetworkUse(NamedTuple):
    """The uses from a network, and of how many keys they are."""

    network: str
    uses: int
    last_use_time: datetime
    keys: int


@dataclass(frozen=True, slots=True)
class NetworkPreview:
    """The networks that would be refused, whether there are more networks, and the uses from the others."""

    refused: Sequence[tuple[NetworkUse, NetworkRefusal]]
    more: bool
    allowed_uses: int


def preview_networks(allowed: Sequence[str], used: Sequence[NetworkUse], *, most: int) -> NetworkPreview:
    """Return which of the first `most` used networks would be refused by others, in their normal form."""
    nets = [network(text) for text in allowed]
    # Neighbours together may allow what none of them allows.
    merged: list[Network] = [
        *collapse_addresses(net for net in nets if isinstance(net, IPv4Network)),
        *collapse_addresses(net for net in nets if isinstance(net, IPv6Network)),
    ]
    judged = [(use, _refusal(merged, use.network)) for use in used[:most]]
    refused = [(use, refusal) for use, refusal in judged if refusal is not None]
    return NetworkPreview(
        refused[:MAX_SHOWN],
        len(used) > most or len(refused) > MAX_SHOWN,
        sum(use.uses for use, refusal in judged if refusal is None),
    )


def _refusal(allowed: Sequence[Network], used: str) -> NetworkRefusal | None:
    if not allowed:
        return None
    if used == OTHER:
        return NetworkRefusal.UNKNOWN
    if not used:
        return NetworkRefusal.WHOLE
    place = network(used)
    for each in allowed:
        if isinstance(each, IPv4Network) and isinstance(place, IPv4Network):
            if place.subnet_of(each):
                return None
        elif isinstance(each, IPv6Network) and isinstance(place, IPv6Network) and place.subnet_of(each):
            return None
    is_partial = any(each.version == place.version and each.overlaps(place) for each in allowed)
    return NetworkRefusal.PART if is_partial else NetworkRefusal.WHOLE
