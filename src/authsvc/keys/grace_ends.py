"""Ends the grace period of old keys that are not used any more, where a rotation has asked for that.

Mechanism: a walk over these keys in the order of their ids, in batches, with the lock of the job's row as in
`sessions.purge`: one worker of all replicas at a time. What the walk finds is revoked after that, each key in
a transaction of its own, through the barrier, and judged once more under its locks: the old key and the new
one are locked, so that the new one works when the old one ends.

Uses are written some seconds after they were seen, and later if a worker is cut off from the database. So a
key counts as unused only up to `margin` ago; uses since then that are known count as well.

Bound: `_BATCH` keys in a transaction that reads, and as many revocations after it.

Failure: a worker that dies between the two leaves it to the next walk. A revocation that fails is tried again
by the next walk. What would end the last administrator key is left to the end of the grace period.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta

from authsvc.keys.last_administrator import refuse_to_end_last
from authsvc.model.audit_event import Action
from authsvc.model.caller import GRACE_END
from authsvc.model.errors import FailedPrecondition, RetryableError
from authsvc.model.key_event import key_events
from authsvc.revocation.authority import Claim
from authsvc.revocation.barrier import Barrier
from authsvc.store import grace_ends as grace_store
from authsvc.store import keys as key_store
from authsvc.store import purge as jobs
from authsvc.store.pool import Connection, Database

_log = logging.getLogger(__name__)

_JOB = "grace_ends"
_BATCH = 50
#: From the end of a walk to the start of the next one.
WALK_INTERVAL = timedelta(seconds=30)


class GraceEnds:
    """Revokes old keys that were unused for as long as their rotation says."""

    def __init__(
        self, database: Database, barrier: Barrier, clock: Callable[[], datetime], *, margin: timedelta
    ) -> None:
        self._database, self._barrier, self._clock = database, barrier, clock
        self._margin = margin
        #: How many keys were revoked.
        self.ended = 0

    async def step(self) -> bool:
        """Look at one batch; return whether this worker has more to do now."""
        now = self._clock()
        async with self._database.transaction() as connection:
            job = await jobs.take(connection, _JOB, now)
            if job is None:
                return False
            batch = await grace_store.batch(
                connection, after=job, now=now, unused_since=now - self._margin, size=_BATCH
            )
            if batch.over:
                await grace_store.delete(connection, batch.over)
            more = bool(batch.position)
            await jobs.put_back(connection, _JOB, batch.position, now if more else now + WALK_INTERVAL)
        for key_id in batch.due:
            try:
                await self.end(key_id)
            except RetryableError as error:
                _log.warning("the grace period of %s does not end yet: %s", key_id, error.message)
        return more

    async def work(self, pause: Callable[[], Awaitable[object]]) -> None:
        """Look at all keys if that is due, with a pause after each batch."""
        while await self.step():
            await pause()

    async def end(self, key_id: str) -> bool:
        """Revoke an old key if it is unused still; return whether it was revoked.

        Raises what `Barrier.change` raises.
        """
        async with self._database.connection() as connection:
            successor_id = await self._successor(connection, key_id)
        claim = Claim(changes=[each for each in (key_id, successor_id) if each], revokes=True)
        # What is refused is left to the end of the grace period.
        with suppress(FailedPrecondition):
            async with self._barrier.change(GRACE_END, claim, done="revoked") as change:
                keys = await key_store.find(change.connection, claim.changes)
                end = await grace_store.find(change.connection, key_id)
                old, new, now = keys.get(key_id), keys.get(successor_id), self._clock()
                if old is None or end is None:
                    return False
                earliest = end.earliest(old, new, now, self._margin)
                if earliest is None or earliest > now:
                    return False
                await refuse_to_end_last(change.connection, [old], self._clock, allowed=False)
                by = GRACE_END.credential_id
                revoked = old.revoked(now, at=now, by=by, reason=end.reason)
                change.key_prefixes.add(old.key_prefix)
                events = key_events(GRACE_END, Action.KEY_REVOKED, [revoked], at=now)
                await key_store.revoke(change.connection, [revoked], events)
            self.ended += 1
            return True
        return False

    async def _successor(self, connection: Connection, key_id: str) -> str:
        found = await key_store.find(connection, [key_id])
        return found[key_id].rotated_to_key_id if key_id in found else ""
