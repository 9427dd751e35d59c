"""What is remembered of a key prefix, and how much room it takes."""

from sys import getsizeof

from authsvc.model.credential import Credential

# Bytes of texts that an entry of weight 1 may have, besides what every entry has.
_UNIT = 1024


class Entry:
    """What is remembered of a prefix. `credential` is None when no key has it (any more).

    `weight` is 1 for a usual key, and one more for each further KiB of scopes and annotations. `prefix`
    is set when it is admitted; `since` is the second, by the stopwatch, of that or of when `used` was taken
    back.
    """

    __slots__ = ("credential", "digest", "prefix", "since", "used", "weight")

    def __init__(self, digest: bytes, credential: Credential | None) -> None:
        self.digest = digest
        self.credential = credential
        self.prefix = ""
        self.since = 0
        self.used = False
        self.weight = 1 if credential is None else 1 + (_size(credential) - 1) // _UNIT

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
