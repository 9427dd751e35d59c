"""A cached key prefix, and its weight in the cache."""

from sys import getsizeof

from authsvc.model.credential import Credential

# The scopes, annotations, networks, rate limits and credits of an entry of weight 1 have at most this size.
_BYTES_PER_WEIGHT = 1024
# A text, a tuple, and two numbers of up to 128 bits.
_BYTES_PER_NETWORK = 256
# The limit, and the budget of a worker for it; likewise for credits.
_BYTES_PER_LIMIT = 512

#: Equal to no digest.
UNPROVED = b""


class Entry:
    """What the cache knows of a prefix.

    `digest` is that of the proved string, and UNPROVED when no string was proved yet: then the entry says
    nothing about any string. `credential` is None when no credential has this prefix. `used` is set by each
    hit. `since` is the second on the stopwatch in which the entry was added or `used` was reset.
    """

    # A fifth slot would make each entry 16 bytes larger.
    __slots__ = ("credential", "digest", "since", "used")

    def __init__(self, digest: bytes, credential: Credential | None) -> None:
        self.digest = digest
        self.credential = credential
        self.since = 0
        self.used = False

    @property
    def weight(self) -> int:
        """1 for a usual key, and one more for each further KiB of scopes, annotations, networks, limits."""
        return 1 if self.credential is None else 1 + (_size(self.credential) - 1) // _BYTES_PER_WEIGHT

    @property
    def owner_id(self) -> str:
        """The owner of the credential; "" for a prefix without one."""
        return "" if self.credential is None else self.credential.owner_id


def _size(credential: Credential) -> int:
    """Return the bytes of scopes, annotations, networks and limits, even if other credentials share them."""
    scopes, annotations, networks = credential.scopes, credential.annotations, credential.networks
    size = getsizeof(scopes) + sum(map(getsizeof, scopes))
    if annotations:
        size += getsizeof(annotations) + sum(map(getsizeof, annotations))
        size += sum(map(getsizeof, annotations.values()))
    if networks is not None:
        size += _BYTES_PER_NETWORK * len(networks.texts)
    if (limits := credential.limits) is not None:
        size += _BYTES_PER_LIMIT * (len(limits.of_key) + len(limits.of_owner) + bool(limits.account_id))
    return size
