"""A large number of keys, inserted as rows, because creation by RPC would take too long."""

import time
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from tests.bench.bench import say

LARGEST, MIDDLE, SMALL = "largest", "middle", "other-7"
FILL = Path(__file__).with_name("fill.sql").read_text()
# Keys that are inserted by one statement.
_BATCH = 50_000
# Seconds between two reports of progress.
_SAID_SECONDS = 5.0
_INDEXES = """
    SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition
      FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid
     WHERE i.indrelid IN ('authsvc.keys'::regclass, 'authsvc.key_uses'::regclass) AND c.oid IS NULL
"""


async def fill(url: str, keys: int) -> None:
    """Fill a new database with keys, of a hundredth as many owners; say how far it is.

    The largest owner has a tenth of all keys, the one in the middle a hundredth, and the others, "other-1"
    and so on, have some 90 each. Indexes are built at the end, which is faster.
    """
    others, middle = keys // 100 - 2, max(keys // 100, 200)
    each = (keys - keys // 10 - middle) // others
    owners = {f"other-{number}": each for number in range(1, others + 1)}
    owners[MIDDLE] = middle
    owners[LARGEST] = keys - sum(owners.values())
    now = datetime.now(UTC).replace(microsecond=0)
    connection = await asyncpg.connect(url)
    try:
        indexes = await connection.fetch(_INDEXES)
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['name']}")
        # Without the check of foreign keys.
        await connection.execute("SET session_replication_role = replica")
        said, done = time.monotonic(), 0
        batch: dict[str, int] = {}
        for owner_id, size in owners.items():
            batch[owner_id] = size
            if sum(batch.values()) < _BATCH and owner_id != LARGEST:
                continue
            await connection.execute(FILL, list(batch), list(batch.values()), now, timeout=600)
            done += sum(batch.values())
            batch = {}
            if done == keys or time.monotonic() - said > _SAID_SECONDS:
                said = time.monotonic()
                say(f"scale: {done:,} of {keys:,} keys are inserted")
        for number, index in enumerate(indexes, 1):
            await connection.execute(index["definition"], timeout=600)
            if number == len(indexes) or time.monotonic() - said > _SAID_SECONDS:
                said = time.monotonic()
                say(f"scale: {number} of {len(indexes)} indexes are built")
        await connection.execute("VACUUM ANALYZE", timeout=600)
    finally:
        await connection.close()
