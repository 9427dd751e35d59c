"""What changes read of large tables."""

import pytest

from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.policy import OwnerPolicy
from authsvc.model.webhook_delivery import DeliveryQuery, DeliveryState
from authsvc.store.authority import Claim, hold, share_at_once
from authsvc.store.pool import Connection, Database
from authsvc.store.webhooks import delivery_page
from tests.bench import session_rows
from tests.conftest import Service

_READ = """
SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
  FROM pg_stat_xact_user_tables WHERE relname = 'sessions'
"""
_READ_DELIVERIES = """
SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))
  FROM pg_stat_xact_user_tables WHERE relname IN ('webhook_deliveries', 'notifications')
"""
_INSERT_DELIVERIES = """
    WITH told AS (
        INSERT INTO authsvc.notifications (
            notification_id, type, owner_id, event_time, target_id, actor_id, actor_owner_id, actor_type,
            details, subject, contacts, spread_time)
        SELECT 'evt_' || lpad(n::text, 26, '0'), 'key.created', 'acme', now(), '', '', '', '', '{}', '{}',
               '[]', now()
          FROM generate_series(1, 5000) AS n
        RETURNING notification_id)
    INSERT INTO authsvc.webhook_deliveries (
        delivery_id, webhook_id, notification_id, state, create_time, next_time)
    SELECT replace(notification_id, 'evt', 'dlv'), $1, notification_id,
           CASE WHEN notification_id LIKE '%500' THEN 'failed' ELSE 'delivered' END, now(), now()
      FROM told
"""


async def test_plans_of_an_empty_table_do_not_read_all_of_a_large_one(
    service: Service, database_url: str
) -> None:
    """A deployment begins empty, and its tables are analyzed some time after they have grown."""
    key = await service.admin.LookupKey(key_string=service.admin_key)
    caller = Caller(key.key_id, "authsvc", ("full_access",), CredentialKind.KEY)
    claim = Claim(relies_on=["acme"], opens_sessions_of=["acme"])

    async def open_one(connection: Connection) -> None:
        await share_at_once(connection, [caller], ["acme"])
        held = await hold(connection, [caller], claim, OwnerPolicy())
        assert list(held) == [key.key_id]

    async with Database.open(database_url, size=1) as database:
        async with database.connection() as connection:
            await connection.execute("ALTER TABLE authsvc.sessions SET (autovacuum_enabled = off)")
        for _ in range(10):  # A plan is kept from the sixth time on.
            async with database.transaction() as connection:
                await open_one(connection)
        async with database.connection() as connection:
            await session_rows.generate(connection, "acme", 5000)  # type: ignore[arg-type]
        async with database.transaction() as connection:
            await open_one(connection)
            assert await connection.fetchval(_READ) < 10


@pytest.mark.parametrize(
    ("states", "before", "count"),
    [
        (tuple(DeliveryState), "", 10),
        (tuple(DeliveryState), "dlv_00000000000000000000002600", 10),
        ((DeliveryState.FAILED,), "", 5),
        ((DeliveryState.FAILED,), "dlv_00000000000000000000002600", 3),
        ((DeliveryState.PENDING,), "", 0),
    ],
)
async def test_a_page_of_deliveries_reads_a_page_of_each_state(
    service: Service, database_url: str, states: tuple[DeliveryState, ...], before: str, count: int
) -> None:
    """However few are in a state, and whatever the statistics say."""
    made = await service.admin.CreateWebhook(
        owner_id="acme", url="https://example.org/", event_types=["key.expired"]
    )
    query = DeliveryQuery(made.webhook.webhook_id, states)
    async with Database.open(database_url, size=1) as database:
        async with database.connection() as connection:
            await connection.execute(_INSERT_DELIVERIES, query.webhook_id)
            await connection.execute("ANALYZE authsvc.webhook_deliveries, authsvc.notifications")
        for _ in range(7):  # A plan is kept from the sixth time on.
            async with database.transaction() as connection:
                already = await connection.fetchval(_READ_DELIVERIES)
                page, _ = await delivery_page(connection, query, size=10, before=before)
                read = await connection.fetchval(_READ_DELIVERIES) - already
        assert len(page) == count
        assert read <= 11 * (len(states) + 1)
