"""The feed of changes, as values that `store`, `revocation` and `verify` share."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from authsvc.model.credential import CredentialKind
from authsvc.model.tag_key import AcceptedTagKeys


class Place(NamedTuple):
    """A place in the feed. The nonce distinguishes it from the same `seq` in another history."""

    seq: int
    nonce: UUID


class FeedEntry(NamedTuple):
    """A change: the credentials to drop from the cache, or the tag keys from now on."""

    place: Place
    key_prefixes: Sequence[str]
    owner_id: str | None
    # With an owner: only the credentials of this kind; None for all.
    kind: CredentialKind | None = None
    # Read in the same snapshot as the entry; None if the change is not about tag keys.
    tag_keys: AcceptedTagKeys | None = None


@dataclass(frozen=True, slots=True)
class Renewal:
    """The result of a renewal: the time of the database, and the entries after the worker's place."""

    now: datetime
    entries: Sequence[FeedEntry]
