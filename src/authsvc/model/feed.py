"""The feed of changes, in the words that store and verification share."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from authsvc.model.credential import CredentialKind
from authsvc.model.tag_key import AcceptedTagKeys


class Place(NamedTuple):
    """A place in the feed. The nonce tells it from the same `seq` in another history."""

    seq: int
    nonce: UUID


class FeedEntry(NamedTuple):
    """A change: what to forget, or the tag keys from now on."""

    place: Place
    key_prefixes: Sequence[str]
    owner_id: str | None
    # With an owner: all of that owner, or what is of this kind.
    kind: CredentialKind | None = None
    # Read in the snapshot that showed the entry; None: it is not about them.
    tag_keys: AcceptedTagKeys | None = None


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a renewal showed: the database's time, and the entries after our place."""

    now: datetime
    entries: Sequence[FeedEntry]
