"""What is known of the use of keys, besides their last use."""

from collections.abc import Sequence
from datetime import datetime

from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("key_uses.sql")


async def due_to_be_told(
    connection: Connection, key_ids: Sequence[str], *, now: datetime, since: datetime
) -> list[str]:
    """Return those keys whose contacts were told of no refused address since then; note that they are now.

    `key_ids` are sorted, so that two workers never wait for each other. Keys that were deleted are left out.
    """
    rows = await connection.fetch(_SQL["due_to_be_told"], key_ids, now, since)
    return [row["key_id"] for row in rows]
