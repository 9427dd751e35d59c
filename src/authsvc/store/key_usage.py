"""How often keys are used: the counts of workers are added up, and read."""

from collections.abc import Sequence
from datetime import date, datetime

import asyncpg

from authsvc.model.key_usage import Place, UsageGroup, UsageQuery, UsageRow
from authsvc.model.key_use import DETAILED_ROWS, OTHER_ROWS, KeyUse
from authsvc.model.network_preview import NetworkUse
from authsvc.store.batch_writer import BatchWriter
from authsvc.store.pool import Connection, Database
from authsvc.store.queries import load_queries

_SQL = load_queries("key_usage.sql")


class KeyUsageStore:
    """Implements `KeyUseStore` of `verify.key_uses`. Each statement is a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._uses = BatchWriter("a count of uses", self._record, lambda use: use.key_id)

    async def record_key_uses(self, uses: Sequence[KeyUse]) -> None:
        """Add these counts; set aside what the database refuses."""
        await self._uses.write(uses)

    @property
    def refused(self) -> int:
        """How many rows were set aside."""
        return self._uses.refused

    async def _record(self, uses: Sequence[KeyUse]) -> None:
        *columns, _ = zip(*uses, strict=True)
        async with self._database.connection() as connection:
            await connection.execute(_SQL["record_key_uses"], *columns, DETAILED_ROWS, OTHER_ROWS)


async def total(connection: Connection, query: UsageQuery) -> int:
    """Return how many uses of a key there are on some days."""
    found: int = await connection.fetchval(_SQL["total_uses"], query.key_id, query.first_day, query.last_day)
    return found


async def page(
    connection: Connection, query: UsageQuery, *, size: int, after: UsageRow | None
) -> tuple[Sequence[UsageRow], bool]:
    """Return the uses of a key, grouped, newest days first, and whether there are more after them."""
    groups = [group in query.groups for group in UsageGroup]
    last = ("", "", "") if after is None else (after.verifier_id, after.network, after.program)
    rows = await connection.fetch(
        _SQL["list_uses"],
        query.key_id,
        query.first_day,
        query.last_day,
        *groups,
        after is not None,
        None if after is None else after.day,
        *last,
        size + 1,
    )
    return [_row(row) for row in rows[:size]], len(rows) > size


async def users(
    connection: Connection, key_id: str, *, since: date, used_after: datetime, most: int
) -> list[UsageRow]:
    """Return who has used a key since a day, if it was after an instant, the latest first."""
    rows = await connection.fetch(_SQL["list_users"], key_id, since, used_after, most)
    return [_row(row) for row in rows]


async def places(connection: Connection, key_id: str, *, since: date) -> list[Place]:
    """Return the verifiers and networks of the uses of a key since a day."""
    rows = await connection.fetch(_SQL["list_places"], key_id, since)
    return [Place(row["verifier_id"], row["network"]) for row in rows]


async def count_made(
    connection: Connection, key_id: str, owner_id: str | None, now: datetime, *, most: int
) -> tuple[int, int]:
    """Return how many working keys and sessions a key has made, at most `most` of each.

    With `owner_id`, only those of this owner are searched; without, all are.
    """
    keys: int = await connection.fetchval(_SQL["count_keys_made"], key_id, owner_id, now, most)
    sessions: int = await connection.fetchval(_SQL["count_sessions_made"], key_id, owner_id, now, most)
    return keys, sessions


async def networks_of_key(connection: Connection, key_id: str, *, since: date, most: int) -> list[NetworkUse]:
    """Return the networks that a key was used from since a day, the latest first."""
    rows = await connection.fetch(_SQL["list_networks_of_key"], key_id, since, most)
    return [NetworkUse(*row.values()) for row in rows]


async def networks_of_owner(
    connection: Connection, owner_id: str, *, since: date, most: int
) -> list[NetworkUse]:
    """Return the networks that the keys of an owner were used from since a day, the latest first."""
    rows = await connection.fetch(_SQL["list_networks_of_owner"], owner_id, since, most)
    return [NetworkUse(*row.values()) for row in rows]


async def delete_old(connection: Connection, *, before: date, size: int) -> int:
    """Delete up to `size` rows of days before one; return how many."""
    gone: int = await connection.fetchval(_SQL["delete_old_usage"], before, size)
    return gone


def _row(row: asyncpg.Record) -> UsageRow:
    return UsageRow(
        row["day"],
        row["verifier_id"],
        row["network"],
        row["program"],
        row["uses"],
        row["last_use_time"],
    )
