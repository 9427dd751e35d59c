"""Publishing a change: its entry in the feed, the place of the entry, and the hint to all workers."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from authsvc.model.credential import CredentialKind
from authsvc.model.feed import FeedEntry, Place
from authsvc.store.literal import quoted, quoted_array
from authsvc.store.pool import Database
from authsvc.store.queries import load_queries

_SQL = load_queries("feed.sql")
# The payload of NOTIFY has at most 8,000 bytes.
_MAX_HINT_PREFIXES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """An entry that a transaction appends when it commits. Its place is known afterwards, by the nonce."""

    key_prefixes: Collection[str] = ()
    owner_id: str | None = None
    kind: CredentialKind | None = None
    about_tag_keys: bool = False
    nonce: UUID = field(default_factory=uuid4)

    def at(self, place: Place) -> FeedEntry | None:
        """Return the entry as others read it; None if it is about tag keys, which have to be read."""
        if self.about_tag_keys:
            return None
        return FeedEntry(place, sorted(self.key_prefixes), self.owner_id, self.kind)


def publication(entry: NewEntry, end: datetime | None = None, now: datetime | None = None) -> str:
    """Return the statement that appends an entry (R6), to be sent in one message with COMMIT.

    It fails with AuthorityOver if it waits for the end of the feed until `end`; it is sent `now`.
    """
    times = [None if moment is None else moment.isoformat() for moment in (end, now)]
    return (
        f"SELECT authsvc.publish({quoted(str(entry.nonce))}, {quoted_array(sorted(entry.key_prefixes))}, "
        f"{quoted(entry.owner_id)}, {quoted(entry.kind and entry.kind.value)}, {entry.about_tag_keys}, "
        f"{', '.join(map(quoted, times))})"
    )


async def announce(database: Database, entry: NewEntry) -> Place | None:
    """Send a hint to all workers, with the entry if it is small; return the place of the entry.

    None, and no hint, when the node does not have the entry: it is a primary that was replaced.
    """
    has_more = entry.owner_id is not None or entry.about_tag_keys
    prefixes = (
        None
        if has_more or len(entry.key_prefixes) > _MAX_HINT_PREFIXES
        else " ".join(sorted(entry.key_prefixes))
    )
    async with database.connection() as connection:
        row = await connection.fetchrow(_SQL["announce"], entry.nonce, prefixes)
    return None if row is None else Place(row["seq"], entry.nonce)


async def find_place(database: Database, entry: NewEntry) -> Place | None:
    """Return the place of an entry; None when the node does not have it."""
    async with database.connection() as connection:
        seq = await connection.fetchval(_SQL["find_place"], entry.nonce)
    return None if seq is None else Place(seq, entry.nonce)
