"""What is remembered of a key prefix, and how much room it takes."""

from sys import getsizeof

from authsvc.model.credential import Credential

# Bytes of texts that an entry of weight 1 may have, besides what every entry has.
_UNIT = 1024


class Entry:
    """What is remembered of a prefix. `credential` is None when no key has it (any more).

    `since` is the second, by the stopwatch, in which it was admitted, or in which `used` was taken back.
    """

    # There are very many. A fifth slot would make each 16 bytes larger.
    __slots__ = ("credential", "digest", "since", "used")

    def __init__(self, digest: bytes, credential: Credential | None) -> None:
        self.digest = digest
        self.credential = credential
        self.since = 0
        self.used = False

    @property
    def weight(self) -> int:
        """Return 1 for a usual key, and one more for each further KiB of scopes and annotations."""
        return 1 if self.credential is None else 1 + (_size(self.credential) - 1) // _UNIT

    @property
    def owner_id(self) -> str:
        """Return whose it is; those of nobody are of one owner without a name."""
        return "" if self.credential is None else self.credential.owner_id


def _size(credential: Credential) -> int:
    """Return the bytes of what can be large in a credential, whether or not others share it."""
    scopes, annotations = credential.scopes, credential.annotations
    size = getsizeof(scopes) + sum(map(getsizeof, scopes))
    if annotations:
        size += getsizeof(annotations) + sum(map(getsizeof, annotations))
        size += sum(map(getsizeof, annotations.values()))
    return size
