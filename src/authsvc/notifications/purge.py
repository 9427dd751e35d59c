"""Deletes notifications 30 days after their recipients were written down.

Bound: one notifier at a time, `BATCH` notifications in a transaction, with a pause after each.
What still waits to be sent is kept for 30 days more: a receiver that is too slow for what it is told, or a
setting that was removed, does not have the tables grow for ever.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from authsvc.store import notifications as notification_store
from authsvc.store import purge as jobs
from authsvc.store.pool import Database

_log = logging.getLogger(__name__)

BATCH = 500
#: How long notifications are shown, and can be delivered again.
RETENTION = timedelta(days=30)
#: How long they are kept if something of them still waits to be sent.
WAITING_RETENTION = timedelta(days=60)
# From the end of a purge to the next one.
_INTERVAL = timedelta(hours=1)
_JOB = "notification_purge"


class NotificationPurge:
    """Deletes old notifications."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def step(self) -> bool:
        """Delete one batch; return whether there is more to do now."""
        now = self._clock()
        async with self._database.transaction() as connection:
            if await jobs.take(connection, _JOB, now) is None:
                return False
            deleted, waited = await notification_store.delete_old(
                connection, spread_before=now - RETENTION, kept_after=now - WAITING_RETENTION, size=BATCH
            )
            more = deleted == BATCH
            await jobs.put_back(connection, _JOB, "", now if more else now + _INTERVAL)
        if waited:
            _log.warning(
                "%d notifications were deleted although they still had to be sent, because they waited for "
                "60 days; authsvc_notifications_oldest_seconds shows how long others wait",
                waited,
            )
        return more

    async def work(self, pause: Callable[[], Awaitable[object]]) -> None:
        """Delete all that is old, with a pause after each batch."""
        while await self.step():
            await pause()
