"""The purge deletes notifications with their mails and deliveries, and reads little for it."""

import asyncio
from datetime import timedelta
from functools import partial

import asyncpg
import pytest

from authsvc.notifications import purge as purge_module
from authsvc.notifications.purge import RETENTION, NotificationPurge
from authsvc.store.notifications import delete_old
from authsvc.store.pool import Database
from tests.conftest import Clock, Service, eventually
from tests.notifications.smtp import add, notification
from tests.notifications.webhook_rows import insert_deliveries, insert_webhook

_LEFT = "SELECT notification_id FROM authsvc.notifications ORDER BY 1"
_READ = """
SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint
  FROM pg_stat_xact_user_tables WHERE relname IN ('mails', 'notifications', 'webhook_deliveries')
"""
# The purge deletes the last one first, and the deletion of a webhook does not.
_OLD_DELIVERIES = """
WITH told AS (
    INSERT INTO authsvc.notifications (
        notification_id, type, owner_id, event_time, target_id, actor_id, actor_owner_id, actor_type, details,
        subject, contacts, spread_time)
    SELECT 'evt_' || n, 'key.created', 'acme', $2, '', '', '', '', '{}', '{}', '[]',
           $2::timestamptz - n * interval '1 second'
      FROM generate_series(1, 40) AS n
    RETURNING notification_id, spread_time)
INSERT INTO authsvc.webhook_deliveries (
    delivery_id, webhook_id, notification_id, state, create_time, next_time)
SELECT replace(notification_id, 'evt', 'dlv'), $1, notification_id,
       'delivered', $2, $2
  FROM told
"""
_WAITING = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"


async def _no_pause() -> None:
    """Pause for no time."""


async def test_the_old_that_wait_for_nobody(
    database: Database, database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches, until none is left; the next purge is an hour later."""
    monkeypatch.setattr(purge_module, "BATCH", 1)
    connection = await asyncpg.connect(database_url)
    await insert_webhook(connection, clock())
    await add(database, clock, ["ann@example.org"], *(notification(number) for number in range(3)))
    await insert_deliveries(connection, clock(), 2)
    await connection.execute("UPDATE authsvc.mails SET state = 'sent' WHERE notification_id <> 'evt_2'")
    await connection.execute(
        "UPDATE authsvc.webhook_deliveries SET state = 'failed' WHERE delivery_id LIKE '%1'"
    )
    purge = NotificationPurge(database, clock=clock)
    clock.now += RETENTION
    await purge.work(_no_pause)
    assert len(await connection.fetch(_LEFT)) == 5
    clock.advance(hours=1)
    await purge.work(_no_pause)
    assert [row[0] for row in await connection.fetch(_LEFT)] == ["evt_2", "evt_whk_1_2"]
    await connection.execute("UPDATE authsvc.mails SET state = 'sent'")
    await purge.work(_no_pause)
    assert len(await connection.fetch(_LEFT)) == 2
    clock.advance(hours=1)
    await purge.work(_no_pause)
    assert [row[0] for row in await connection.fetch(_LEFT)] == ["evt_whk_1_2"]
    assert await connection.fetchval("SELECT count(*) FROM authsvc.mails") == 0
    await connection.close()


async def test_a_batch_reads_what_it_deletes(database_url: str, clock: Clock) -> None:
    """And not all that waits for each, with the plans of an empty table."""
    async with Database.open(database_url, size=1) as database:

        async def delete(size: int) -> int:
            async with database.transaction() as connection:
                already = int(await connection.fetchval(_READ))
                before = clock() + timedelta(seconds=1)
                deleted = await delete_old(
                    connection, spread_before=before, kept_after=clock() - timedelta(days=30), size=50
                )
                assert deleted == (size, 0)
                return int(await connection.fetchval(_READ)) - already

        for _ in range(7):  # A plan is kept from the sixth time on.
            await delete(0)
        await add(database, clock, ["ann@example.org"], *(notification(number) for number in range(100)))
        async with database.connection() as connection:
            await connection.execute("UPDATE authsvc.mails SET state = 'sent'")
        later = Clock(clock() + timedelta(days=1))
        await add(
            database, later, ["ann@example.org"], *(notification(number) for number in range(100, 1000))
        )
        assert await delete(50) < 50 * 10


async def test_a_webhook_is_deleted_during_a_purge(service: Service, database_url: str, clock: Clock) -> None:
    """Neither waits for what the other has locked."""
    made = await service.admin.CreateWebhook(owner_id="acme", url="https://example.org/")
    webhook_id = made.webhook.webhook_id
    connection = await asyncpg.connect(database_url)
    await connection.execute(_OLD_DELIVERIES, webhook_id, clock() - RETENTION - timedelta(days=1))
    clock.advance(hours=1)  # The worker may have purged already.
    blocker = await asyncpg.connect(database_url)
    async with blocker.transaction():
        await blocker.execute(
            "SELECT FROM authsvc.webhook_deliveries WHERE delivery_id = 'dlv_36' FOR UPDATE"
        )
        purging = asyncio.create_task(service.notifier.purge.step())
        await eventually(partial(connection.fetchval, _WAITING), lambda waiting: waiting >= 1)
        deleting = asyncio.ensure_future(service.admin.DeleteWebhook(webhook_id=webhook_id))
        await eventually(partial(connection.fetchval, _WAITING), lambda waiting: waiting >= 2)
    await asyncio.gather(purging, deleting)
    assert await connection.fetchval("SELECT count(*) FROM authsvc.webhook_deliveries") == 0
    await blocker.close()
    await connection.close()
