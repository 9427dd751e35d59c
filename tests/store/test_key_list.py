"""Each order and each filter of ListKeys has an index."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from authsvc.model.key import KeyState
from authsvc.model.key_query import KeyFilter, KeyOrder, KeyQuery
from authsvc.model.page_token import Position
from authsvc.store.key_list import _Statement

NOW = datetime(2026, 11, 21, tzinfo=UTC)
# An owner among others, with few revoked, expired, unused and similar keys.
FILL = """
    INSERT INTO authsvc.keys
    SELECT 'key_' || lpad(n::text, 26, '0'), 'owner' || n % 3, 'p_live_' || lpad(n::text, 12, '0'), 'hash', 'minted',
           name, name, '', ARRAY['common', 'scope' || n % 1000], '[]', '{}',
           $1::timestamptz - n * interval '1 minute', 'creator' || n % 1000, $1,
           CASE WHEN n % 500 = 1 THEN $1::timestamptz - interval '1 day' END,
           CASE WHEN n % 500 = 2 THEN $1::timestamptz - interval '1 day' END, '', '', '', '', NULL, 1
      FROM (SELECT n, left(md5(n::text), 12) AS name FROM generate_series($2::int, $3::int) AS n) AS named
"""  # noqa: E501
USES = """
    INSERT INTO authsvc.key_uses
    SELECT key_id, owner_id, CASE WHEN right(key_id, 3) <> '007' THEN $1::timestamptz END, ''
      FROM authsvc.keys
        ON CONFLICT DO NOTHING
"""
# So many that a scan of them is never the best way to read those of one key.
CREDITS = """
    INSERT INTO authsvc.credit_accounts (account_id, remaining, epoch) SELECT key_id, 1, 1 FROM authsvc.keys;
    INSERT INTO authsvc.key_credits (key_id, account_id, epoch) SELECT key_id, key_id, 1 FROM authsvc.keys
"""
# Each filter, chosen so that few keys match it, and the index that finds them.
FILTERS = {
    "keys_by_revoke_time": KeyFilter(states=(KeyState.REVOKED,)),
    "keys_by_expire_time": KeyFilter(states=(KeyState.EXPIRED,)),
    "keys_by_trigram": KeyFilter(query="c4ca4"),
    "keys_key_prefix_key": KeyFilter(query="p_live_000000012"),
    "keys_by_creator": KeyFilter(creator_id="creator33"),
    "keys_by_scope": KeyFilter(scope="scope33"),
    "keys_by_create_time": KeyFilter(create_time_after=NOW - timedelta(hours=1)),
    "keys_by_create_time ": KeyFilter(create_time_before=NOW - timedelta(minutes=11900)),
    "keys_by_expire_time ": KeyFilter(expire_time_before=NOW),
    "key_uses_by_time": KeyFilter(unused_since=NOW),
}


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(FILL, NOW, 1, 12000)
        await connection.execute(USES, NOW)
        await connection.execute(CREDITS)
        await connection.execute("ANALYZE")
        yield connection
    finally:
        await connection.close()


async def plan(connection: "asyncpg.Connection[asyncpg.Record]", statement: _Statement, sql: str) -> str:
    async with connection.transaction():
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {sql}", *statement.values))


async def test_each_order_and_each_filter_has_its_index(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    """No order needs a sort; neither orders nor filters need a table scan."""
    indexes: dict[str, tuple[str, str | datetime | None]] = {
        "display_name": ("keys_by_name", "7"),
        "create_time": ("keys_by_create_time", NOW - timedelta(days=5)),
        "expire_time": ("keys_by_expire_time", None),
        "last_use_time": ("key_uses_by_time", NOW),
    }
    for order, (index, value) in indexes.items():
        for descending in (False, True):
            for after in (None, Position(value, "key_" + "0" * 22 + "6000")):
                statement = _Statement(KeyQuery("owner0", KeyFilter(), KeyOrder(order, descending)), NOW)
                told = await plan(connection, statement, statement.walk(after, 51, None))
                assert index in told, told
                assert "Seq Scan" not in told, told
                assert "Sort" not in told, told
    for index, filter_ in FILTERS.items():
        query = KeyQuery("owner0", filter_, KeyOrder("display_name", descending=False))
        statement = _Statement(query, NOW)
        told = await plan(connection, statement, statement.find(None, 51))
        assert index.strip() in told, told
        assert "Seq Scan" not in told, told


async def test_an_owner_of_few_of_all_keys(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """A walk reads no more than it was told to, also if PostgreSQL expects the owner to have hardly any keys.

    It expects 1200 keys among 13,200 to have 109 last uses, which is less than the length of the walk.
    """
    await connection.execute(FILL, NOW, 20_001, 21_200)
    await connection.execute(
        "UPDATE authsvc.keys SET owner_id = 'few' WHERE key_id > $1", f"key_{20_000:026}"
    )
    await connection.execute(USES, NOW)
    await connection.execute("ANALYZE")
    for order in ("display_name", "create_time", "expire_time", "last_use_time"):
        for filter_ in (KeyFilter(), KeyFilter(states=(KeyState.ACTIVE,)), KeyFilter(unused_since=NOW)):
            for max_walked in (306, None):
                statement = _Statement(KeyQuery("few", filter_, KeyOrder(order, descending=True)), NOW)
                told = await plan(connection, statement, statement.walk(None, 51, max_walked))
                assert "Sort" not in told, told
