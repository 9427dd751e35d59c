"""Deletes sessions that ended before the retention time, and other rows that are of no use any more.

These are request ids of keys deleted 30 days ago, refunds of that time, old counts of uses, budgets of
rate limits that are back in full, and credits that no key has any more. A row that revoked all sessions of
an owner is deleted when none of these sessions is left, unless it is the newest of the owner. DeleteKey
deletes all else that belongs to a key.

Mechanism: a scan over the sessions in the order of their ids, in batches. Each batch is a transaction that
holds the lock of the job's row. So one worker of all replicas works at a time, and any worker continues where
another stopped. An hour after a scan has ended, the next one begins.

Bound: `BATCH_ROWS` of each kind in a transaction, with a pause after each.

Failure: a batch that fails is tried again. A transaction that was interrupted is rolled back.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from authsvc.model.key_usage import utc_day
from authsvc.store import credits as credit_store
from authsvc.store import key_usage, rate_budgets
from authsvc.store import purge as purge_store
from authsvc.store.pool import Database

_log = logging.getLogger(__name__)

BATCH_ROWS = 500
# From the end of a scan to the start of the next one.
SCAN_INTERVAL = timedelta(hours=1)
# How long the request_id of a deleted key cannot be used again, as CreateKeyRequest documents.
REQUEST_ID_RETENTION = timedelta(days=30)
# How long a repeated refund is recognized, as RefundCreditsRequest documents.
REFUND_RETENTION = timedelta(days=30)


class Purge:
    """Deletes sessions that ended `retention` ago, request ids of deleted keys, and counts of old uses."""

    def __init__(
        self,
        database: Database,
        *,
        retention: timedelta,
        usage_retention: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._retention = retention
        self._usage_retention = usage_retention
        self._clock = clock
        self.deleted = 0

    async def step(self) -> bool:
        """Delete one batch; return whether this worker has more to do now."""
        now = self._clock()
        async with self._database.transaction() as connection:
            job = await purge_store.take(connection, "purge", now)
            if job is None:
                return False
            position, deleted = await purge_store.delete_ended(
                connection, after=job, ended_before=now - self._retention, size=BATCH_ROWS
            )
            freed = await purge_store.delete_key_requests(
                connection, deleted_before=now - REQUEST_ID_RETENTION, size=BATCH_ROWS
            )
            uncounted = await key_usage.delete_old(
                connection, before=utc_day(now - self._usage_retention), size=BATCH_ROWS
            )
            due = await rate_budgets.delete_due(connection, size=BATCH_ROWS)
            refunds = await credit_store.delete_old_refunds(
                connection, before=now - REFUND_RETENTION, size=BATCH_ROWS
            )
            unused = await credit_store.delete_unused_accounts(connection, size=BATCH_ROWS)
            more = bool(position) or BATCH_ROWS in (freed, uncounted, due, refunds, unused)
            await purge_store.put_back(connection, "purge", position, now if more else now + SCAN_INTERVAL)
        self.deleted += deleted
        return more

    async def work(self, pause: Callable[[], Awaitable[object]]) -> None:
        """Delete all that is due, with a pause after each batch."""
        while await self.step():
            await pause()
