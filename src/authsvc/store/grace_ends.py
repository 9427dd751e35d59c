"""Old keys whose grace period ends by itself."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from authsvc.model.rotation import GraceEnd
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("key_usage.sql")


class GraceBatch(NamedTuple):
    """Some old keys: those whose grace period is over, and those that seem to be unused for long enough.

    `position` is the last key of the batch; "" at the end of the table.
    """

    position: str
    over: list[str]
    due: list[str]


async def insert(connection: Connection, end: GraceEnd) -> None:
    """Have the grace period of a key that is being rotated end by itself."""
    await connection.execute(_SQL["insert_grace_end"], end.key_id, end.rotate_time, end.when_unused_for)


async def find(connection: Connection, key_id: str) -> GraceEnd | None:
    """Return how the grace period of a key ends by itself; None if it does not."""
    row = await connection.fetchrow(_SQL["find_grace_end"], key_id)
    return None if row is None else GraceEnd(row["key_id"], row["rotate_time"], row["when_unused_for"])


async def batch(
    connection: Connection, *, after: str, now: datetime, unused_since: datetime, size: int
) -> GraceBatch:
    """Return the next keys after one, up to `size`. Uses before `unused_since` are surely recorded."""
    rows = await connection.fetch(_SQL["list_grace_ends"], after, now, unused_since, size)
    return GraceBatch(
        rows[-1]["key_id"] if len(rows) == size else "",
        [row["key_id"] for row in rows if row["is_over"]],
        [row["key_id"] for row in rows if row["is_due"] and not row["is_over"]],
    )


async def delete(connection: Connection, key_ids: Collection[str]) -> None:
    """Forget that the grace periods of keys end by themselves."""
    await connection.execute(_SQL["delete_grace_ends"], list(key_ids))
