"""Tag keys: the secret keys of the HMAC in key strings; see `key_string`."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


@dataclass(frozen=True, slots=True)
class AcceptedTagKeys:
    """The tag keys that a worker accepts. The first one mints. None is ever shown."""

    secrets: tuple[bytes, ...] = field(repr=False)

    @property
    def minting(self) -> bytes:
        """The one that mints."""
        return self.secrets[0]


class TagKeyState(Enum):
    """NEW: not yet used to mint. MINTING: the one in use. ACCEPTED: used before. RETIRED: refused."""

    NEW = "new"
    MINTING = "minting"
    ACCEPTED = "accepted"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class TagKey:
    """A tag key as operators see it, without the secret."""

    tag_key_id: int
    state: TagKeyState
    create_time: datetime
    mint_time: datetime | None
    # When the last worker stopped minting with it; None if one may still do so.
    rest_time: datetime | None
    retire_time: datetime | None
