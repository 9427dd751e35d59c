"""The reaper: takes back the registrations of workers that died with nobody to say so.

Mechanism: every worker looks at the registrations now and then. One whose beat has
not changed for a whole lease, and the margin that the barrier adds, cannot be holding
that lease, and is deleted, unless it has renewed since. The same look trims the feed of
what all have applied an hour ago.

Failure: without it, a change waits a lease for each dead worker's sake, and no harm
is done. A worker that is reaped in error finds out at its next renewal and registers anew.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from uuid import UUID

from authsvc.model.errors import RetryableError
from authsvc.revocation.barrier import certainly_over
from authsvc.store import feed as feed_store
from authsvc.store.pool import Database
from authsvc.verify.clock import Stopwatch, boottime

_log = logging.getLogger(__name__)


class Reaper:
    """Looks at the registrations of all workers."""

    def __init__(self, database: Database, *, stopwatch: Stopwatch = boottime) -> None:
        self._database = database
        self._stopwatch = stopwatch
        # The beat that was seen of each worker, and when it was seen first.
        self._seen: dict[UUID, tuple[UUID, float]] = {}

    async def look(self) -> None:
        """Look once; raise RetryableError when the database is out of reach."""
        workers, _, _ = await feed_store.find_workers(self._database)
        # After the answer: the beat was not changed before this.
        now = self._stopwatch()
        seen, self._seen = self._seen, {}
        for worker in workers:
            beat, since = seen.get(worker.worker_id, (worker.beat, now))
            if beat != worker.beat:
                since = now
            elif now - since >= certainly_over(worker.lease) and await feed_store.reap(
                self._database, worker
            ):
                _log.warning(
                    "worker %s of %s was gone for %.0f s and is not waited for any more",
                    worker.worker_id,
                    worker.host,
                    now - since,
                )
                continue
            self._seen[worker.worker_id] = worker.beat, since
        await feed_store.trim(self._database)

    async def run(self, tick: Callable[[], Awaitable[object]]) -> None:
        """Look after each tick, for ever."""
        while True:
            await tick()
            try:
                await self.look()
            except RetryableError as error:
                _log.debug("the registrations cannot be looked at: %s", error)
            except asyncio.CancelledError:
                raise
            except Exception:  # noqa: BLE001 - a fault here must not end the looking for good
                _log.exception("a fault in looking at the registrations")
