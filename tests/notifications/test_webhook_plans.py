"""A look for deliveries costs what there is to deliver, and not what there is."""

import json
from typing import Any

import asyncpg
import pytest

from authsvc.store.queries import load_queries
from authsvc.store.webhook_deliveries import claim_lines
from tests.conftest import Clock

_WEBHOOKS, _NOTIFICATIONS = 10_000, 100
# Pages of 8 KiB that a look reads, from memory or not.
_MAX_PAGES = 200
_SET_STATE = """
UPDATE authsvc.webhook_deliveries SET state = $1 WHERE webhook_id IN ('whk_10', 'whk_500', 'whk_9000')
"""
_READ = "SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'webhook_deliveries'"
_SQL = load_queries("webhook_deliveries.sql")
_FILL = """
SET LOCAL session_replication_role = replica;
INSERT INTO authsvc.webhooks (
    webhook_id, owner_id, url, description, event_types, technical_contacts, enabled, create_time, creator_id,
    update_time, version, secrets, line_time)
SELECT 'whk_' || n, 'owner_' || n, 'https://hooks.example.com/', '', '{}', '[]', true, now(), '', now(), 1,
       '[]', now()
  FROM generate_series(1, $WEBHOOKS) AS n;
INSERT INTO authsvc.notifications (
    notification_id, type, owner_id, event_time, target_id, actor_id, actor_owner_id, actor_type, details,
    subject, contacts, spread_time)
SELECT 'evt_' || n, 'key.created', 'acme', now(), '', '', '', '', '{}', '{}', '[]', now()
  FROM generate_series(1, $NOTIFICATIONS) AS n;
INSERT INTO authsvc.webhook_deliveries (
    delivery_id, webhook_id, notification_id, state, create_time, next_time)
SELECT 'dlv_' || w || '_' || n, 'whk_' || w, 'evt_' || n,
       CASE WHEN w IN (10, 500, 9000) THEN 'pending' WHEN n % 10 = 0 THEN 'failed' ELSE 'delivered' END,
       now(), now()
  FROM generate_series(1, $WEBHOOKS) AS w, generate_series(1, $NOTIFICATIONS) AS n;
"""


def _filling(webhooks: int, notifications: int) -> str:
    return _FILL.replace("$WEBHOOKS", str(webhooks)).replace("$NOTIFICATIONS", str(notifications))


@pytest.mark.slow
async def test_a_look_among_10_000_webhooks_and_1_000_000_deliveries(database_url: str, clock: Clock) -> None:
    """Also before the tables are analyzed, with plans of an empty table."""
    connection = await asyncpg.connect(database_url)
    for table in ("webhooks", "webhook_deliveries", "notifications"):
        await connection.execute(f"ALTER TABLE authsvc.{table} SET (autovacuum_enabled = off)")
    for _ in range(10):  # A plan is kept from the sixth time on.
        await _claim(connection)
    async with connection.transaction():
        await connection.execute(_filling(_WEBHOOKS, _NOTIFICATIONS), timeout=300)
    assert await connection.fetchval("SELECT count(*) FROM authsvc.webhook_deliveries") == 1_000_000
    for is_analyzed in (False, True):
        if is_analyzed:
            await connection.execute(
                "VACUUM ANALYZE authsvc.webhooks, authsvc.webhook_deliveries", timeout=300
            )
        assert await _pages(connection, "claim_lines", 32, 16) < _MAX_PAGES
        assert await _pages(connection, "fail_deliveries_of_disabled", 500) < _MAX_PAGES
        await connection.execute(_SET_STATE, "delivered")
        # The first look still visits what has just ended, and marks it in the index.
        await _pages(connection, "claim_lines", 32, 16)
        assert await _pages(connection, "claim_lines", 32, 16) < 20
        await connection.execute(_SET_STATE, "pending")
    async with connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        found = await _claim(connection)
    assert found == ["whk_10", "whk_500", "whk_9000"]
    await connection.close()


async def test_a_look_at_many_deliveries_that_wait(database_url: str) -> None:
    """It does not read all of them for each webhook, with plans of an empty table."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("SET enable_seqscan = off")
    for _ in range(10):
        await _claim(connection)
    async with connection.transaction():
        await connection.execute(_filling(100, 100))
        await connection.execute("UPDATE authsvc.webhook_deliveries SET state = 'pending'")
    async with connection.transaction():
        already = await connection.fetchval(_READ)
        assert len(await _claim(connection)) == 32
        assert await connection.fetchval(_READ) - already < 10 * 100
    await connection.close()


async def _claim(connection: Any) -> list[str]:
    now = await connection.fetchval("SELECT now()")
    lines = await claim_lines(connection, now, now, size=32, failing_size=16, owner_size=8)
    return sorted(line.webhook_id for line in lines)


async def _pages(connection: Any, name: str, *sizes: int) -> int:
    """Return how many pages a statement reads."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SET LOCAL enable_seqscan = off")
    now = await connection.fetchval("SELECT now()")
    arguments = [now, *sizes, *([now, 8] if name == "claim_lines" else [])]
    [plan] = json.loads(
        await connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {_SQL[name]}", *arguments, timeout=60
        )
    )
    await transaction.rollback()
    root = plan["Plan"]
    pages: int = root["Shared Hit Blocks"] + root["Shared Read Blocks"]
    return pages
