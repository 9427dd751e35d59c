"""Publishing a change: its entry in the feed, the place of the entry, and the hint to all workers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
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


class Announced(NamedTuple):
    """The place of an entry, and how many clients held credentials, and workers were registered, then."""

    place: Place
    holders: int
    workers: int = 0


async def announce(database: Database, entries: Sequence[NewEntry]) -> list[Announced | None]:
    """Send a hint to all workers, with the entry if it is one and small; return the places of the entries.

    None, and no hint, for an entry that the node does not have: it is a primary that was replaced.
    """
    nonces = [entry.nonce for entry in entries]
    # Those who hear of several have to read the feed. PostgreSQL sends equal hints of one transaction once.
    hints = [_hint(entry) if len(entries) == 1 else None for entry in entries]
    async with database.connection() as connection:
        rows = await connection.fetch(_SQL["announce"], nonces, hints)
    found = {
        row["nonce"]: Announced(Place(row["seq"], row["nonce"]), row["holders"], row["workers"])
        for row in rows
    }
    return [found.get(nonce) for nonce in nonces]


def _hint(entry: NewEntry) -> str | None:
    """Return the prefixes for a hint; None if there are too many, or if they are not all there is."""
    has_more = entry.owner_id is not None or entry.about_tag_keys
    if has_more or len(entry.key_prefixes) > _MAX_HINT_PREFIXES:
        return None
    return " ".join(sorted(entry.key_prefixes))


async def find_place(database: Database, entry: NewEntry) -> Place | None:
    """Return the place of an entry; None when the node does not have it."""
    async with database.connection() as connection:
        seq = await connection.fetchval(_SQL["find_place"], entry.nonce)
    return None if seq is None else Place(seq, entry.nonce)
