"""The purge: deletes what has ended long ago.

Sessions that ended a retention time ago, the rows that ended all of an owner's, and the
request ids of keys that were deleted 30 days ago. DeleteKey takes all else of a key along.

Mechanism: a walk over the sessions in the order of their ids, a batch at a time, each
in a transaction of its own that holds the lock of the job's row: so one worker of
all replicas works at a time, and any goes on where another stopped. An hour after a
walk has come to its end the next one begins.

Bound: `BATCH` sessions looked at in a transaction, `BATCH` request ids deleted, and a pause after each.

Failure: a batch that fails is tried again; one that was cut off has left no trace.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from authsvc.model.errors import RetryableError
from authsvc.store import purge as purge_store
from authsvc.store.pool import Database

_log = logging.getLogger(__name__)

BATCH = 500
EVERY = timedelta(hours=1)
# How long the request_id of a deleted key stays taken; CreateKeyRequest promises it.
REQUEST_ID_KEPT = timedelta(days=30)


class Purge:
    """Deletes ended sessions after the retention time, and request ids of deleted keys."""

    def __init__(self, database: Database, *, retention: timedelta, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._retention = retention
        self._clock = clock
        self.deleted = 0

    async def step(self) -> bool:
        """Do one batch; return whether there is more to do now, for this worker."""
        now = self._clock()
        async with self._database.transaction() as connection:
            job = await purge_store.take(connection, "purge", now)
            if job is None:
                return False
            position, deleted = await purge_store.delete_ended(
                connection, after=job, ended_before=now - self._retention, size=BATCH
            )
            freed = await purge_store.delete_key_requests(
                connection, deleted_before=now - REQUEST_ID_KEPT, size=BATCH
            )
            more = bool(position) or freed == BATCH
            await purge_store.put_back(connection, "purge", position, now if more else now + EVERY)
        self.deleted += deleted
        return more

    async def run(
        self, tick: Callable[[], Awaitable[object]], pause: Callable[[], Awaitable[object]]
    ) -> None:
        """After each tick, do what is due, with a pause after each batch, for ever."""
        while True:
            await tick()
            try:
                while await self.step():
                    await pause()
            except RetryableError as error:
                _log.debug("nothing can be purged now: %s", error)
            except Exception:  # noqa: BLE001 - a fault here must not end the purging for good
                _log.exception("a fault in purging")
