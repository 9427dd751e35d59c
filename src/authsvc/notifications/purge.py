"""Deletes notifications 30 days after their recipients were written down.

Bound: one worker of all replicas at a time, `BATCH` notifications in a transaction, with a pause after each.
What still waits to be sent is kept.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from authsvc.store import notifications as notification_store
from authsvc.store import purge as jobs
from authsvc.store.pool import Database

BATCH = 500
#: How long notifications are shown, and can be delivered again.
RETENTION = timedelta(days=30)
# From the end of a purge to the next one.
_INTERVAL = timedelta(hours=1)
_JOB = "notification_purge"


class NotificationPurge:
    """Deletes old notifications."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def step(self) -> bool:
        """Delete one batch; return whether this worker has more to do now."""
        now = self._clock()
        async with self._database.transaction() as connection:
            if await jobs.take(connection, _JOB, now) is None:
                return False
            deleted = await notification_store.delete_old(
                connection, spread_before=now - RETENTION, size=BATCH
            )
            more = deleted == BATCH
            await jobs.put_back(connection, _JOB, "", now if more else now + _INTERVAL)
        return more

    async def work(self, pause: Callable[[], Awaitable[object]]) -> None:
        """Delete all that is old, with a pause after each batch."""
        while await self.step():
            await pause()
