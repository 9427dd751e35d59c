"""Tag keys: what the tags of key strings are computed under; see `key_string`."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


@dataclass(frozen=True, slots=True)
class AcceptedTagKeys:
    """The tag keys that a worker accepts. The first one mints; none is ever shown."""

    secrets: tuple[bytes, ...] = field(repr=False)

    @property
    def minting(self) -> bytes:
        """The one that mints."""
        return self.secrets[0]


class TagKeyState(Enum):
    """NEW: workers are being taught it. MINTING: one at a time. ACCEPTED: minted once. RETIRED: refused."""

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
    # Since when no worker mints under it; None for one that may still be minted under.
    rest_time: datetime | None
    retire_time: datetime | None
