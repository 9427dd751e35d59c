"""What the metrics say of what waits to be sent."""

from datetime import timedelta

import asyncpg

from authsvc.notifications.backlog import Backlog
from authsvc.store import notifications as notification_store
from authsvc.store.pool import Database
from tests.conftest import Clock
from tests.notifications.smtp import add, notification
from tests.notifications.webhook_rows import insert_deliveries, insert_webhook


async def test_nothing_waits(database: Database, clock: Clock) -> None:
    """Each kind is shown all the same, so that an alarm can tell this from a worker that does not look."""
    backlog = Backlog(database, clock)
    assert (backlog.pending, backlog.oldest_seconds) == ({}, {})
    await backlog.look()
    assert backlog.pending == backlog.oldest_seconds == {"notification": 0, "mail": 0, "webhook": 0}


async def test_what_is_due_and_since_when(database: Database, database_url: str, clock: Clock) -> None:
    """What waits for its next attempt, or for a webhook that fails or is disabled, counts, and is not due."""
    connection = await asyncpg.connect(database_url)
    backlog = Backlog(database, clock)
    start = clock()
    for webhook_id in ("whk_well", "whk_failing", "whk_disabled"):
        await insert_webhook(connection, start, webhook_id)
        await insert_deliveries(connection, start, 2, webhook_id)
    await connection.execute(
        "UPDATE authsvc.webhooks SET enabled = webhook_id <> 'whk_disabled',"
        " failing_since = CASE webhook_id WHEN 'whk_failing' THEN now() END"
    )
    await connection.execute(
        "UPDATE authsvc.webhook_deliveries SET next_time = $1 WHERE delivery_id LIKE '%well_00001'",
        start + timedelta(days=1),
    )
    await add(database, clock, ["ann@example.org", "bob@example.org"], notification(1))
    await connection.execute(
        "UPDATE authsvc.mails SET next_time = $1 WHERE address LIKE 'ann@%'", start + timedelta(seconds=40)
    )
    async with database.transaction() as transaction:
        await notification_store.insert(transaction, [notification(2)])
    clock.advance(seconds=50)
    await backlog.look()
    assert backlog.pending == {"notification": 1, "mail": 2, "webhook": 6}
    event_age = (clock() - notification(2).event_time).total_seconds()
    assert backlog.oldest_seconds == {"notification": event_age, "mail": 50, "webhook": 50}
    await connection.execute("UPDATE authsvc.mails SET state = 'sent' WHERE address LIKE 'bob@%'")
    await connection.execute("DELETE FROM authsvc.webhook_deliveries WHERE delivery_id LIKE '%well_00002'")
    await connection.execute("DELETE FROM authsvc.notifications WHERE spread_time IS NULL")
    await backlog.look()
    assert backlog.oldest_seconds == {"notification": 0, "mail": 10, "webhook": 0}
    await connection.close()
