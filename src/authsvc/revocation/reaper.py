"""The reaper: deletes the registrations of replicas that died without deleting their own.

Mechanism: one worker of each replica looks at all registrations from time to time. Where the beat has not
changed for a lease, and the margin that the barrier adds, nobody can hold the lease any more. The
registration is deleted unless it has been renewed since. Entries of the feed that all workers applied an hour
ago are deleted, too.

Failure: without the reaper, each change waits for the lease of each dead replica, and is correct all the
same. A replica whose registration is deleted by mistake notices at its next renewal and registers again.
"""

import logging
from uuid import UUID

from authsvc.store import feed as feed_store
from authsvc.store.pool import Database
from authsvc.verify.clock import Stopwatch, boottime
from authsvc.verify.lease import certainly_over

_log = logging.getLogger(__name__)


class Reaper:
    """Deletes the registrations of dead replicas."""

    def __init__(self, database: Database, *, stopwatch: Stopwatch = boottime) -> None:
        self._database = database
        self._stopwatch = stopwatch
        # The last beat of each worker, and the instant at which it was first seen.
        self._seen: dict[UUID, tuple[UUID, float]] = {}
        #: At the last look: how many registrations there were, and for how many seconds one of them had had a
        #: change to apply, at most.
        self.registered, self.lag = 0, 0.0

    async def look(self) -> None:
        """Look at all registrations once. Raises RetryableError when the database is out of reach."""
        workers, _, read_time = await feed_store.find_workers(self._database)
        # Read after the answer, so that a beat is never taken to be older than it is.
        now = self._stopwatch()
        self.registered = len(workers)
        behind = (read_time - each.behind_since for each in workers if each.behind_since is not None)
        self.lag = max((each.total_seconds() for each in behind), default=0.0)
        seen, self._seen = self._seen, {}
        for worker in workers:
            beat, since = seen.get(worker.worker_id, (worker.beat, now))
            if beat != worker.beat:
                since = now
            elif now - since >= certainly_over(worker.lease) and await feed_store.reap(
                self._database, worker
            ):
                _log.warning(
                    "worker %s on %s has not renewed its lease for %.0f s; its registration was deleted",
                    worker.worker_id,
                    worker.host,
                    now - since,
                )
                continue
            self._seen[worker.worker_id] = worker.beat, since

    async def trim(self) -> None:
        """Delete old entries of the feed. Raises RetryableError when the database is out of reach."""
        await feed_store.trim(self._database)
