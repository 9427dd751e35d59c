"""The barrier: a change is answered when no worker anywhere can act on what was before.

Mechanism: the change and its entry in the feed commit together. Then this waits
until every registered worker has acknowledged the entry, or the lease of those who
have not is over for certain: they cannot answer from memory then. docs/revocation.md has the proof.

Bound: with all workers well, a few milliseconds after the commit. With one out of
reach, its lease, 2 % for clocks that run apart, and a sixth of it as a margin.

Failure: who gives up earlier is told that the change is durable and who has not confirmed
it. Asking again waits for the rest: "already revoked" is answered like a change.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from authsvc.clock import Stopwatch, boottime
from authsvc.errors import AlreadyExists, AuthsvcError, DeadlineExceeded, FailedPrecondition, Passing
from authsvc.model.caller import Caller
from authsvc.model.feed import FeedEntry
from authsvc.store import feed as rows
from authsvc.store.pool import Connection, Database

_log = logging.getLogger(__name__)

# How far two stopwatches may run apart, and what is added to the lease of the others for good measure.
_DRIFT = 1.02
_MARGIN = 1 / 6
_FIRST_LOOK, _GROWTH, _SLOWEST_LOOK = 0.0005, 1.6, 0.1


def certainly_over(lease: float) -> float:
    """Return the seconds after which a lease of that length, held by anybody, is over by our stopwatch."""
    return lease * (_DRIFT + _MARGIN)


@dataclass(slots=True)
class Change:
    """A transaction, and whom verification has to forget when it is committed."""

    connection: Connection
    key_prefixes: set[str] = field(default_factory=set)
    owner_id: str | None = None  # all of this owner


class Barrier:
    """Carries out changes that verification has to know of."""

    def __init__(
        self,
        database: Database,
        *,
        hint: Callable[[FeedEntry | None], object] = lambda _: None,
        stopwatch: Stopwatch = boottime,
    ) -> None:
        self._database = database
        self._hint = hint
        self._stopwatch = stopwatch

    @asynccontextmanager
    async def change(self, caller: Caller, done: str = "changed") -> AsyncIterator[Change]:
        """Lend a transaction; at its end commit, and wait until all workers act on it (R6).

        Whoever refuses in it, with FailedPrecondition or AlreadyExists, has written nothing
        before: the refusal is raised after the same commit and the same wait.

        `done` is what to tell who cannot wait: "revoked" makes "durably revoked". Raises
        Unavailable when the outcome of the commit is unknown, and DeadlineExceeded when the
        caller cannot wait for the workers; the change is durable then.
        """
        entry: FeedEntry | None = None
        refusal: AuthsvcError | None = None
        try:
            async with self._database.transaction() as connection:
                change = Change(connection)
                try:
                    yield change
                except (FailedPrecondition, AlreadyExists) as error:
                    # Who is told that it was done before may rely on that, too (R7). So the entry is written
                    # by the transaction that saw it: what that saw is on the standby when this is.
                    refusal = error
                if change.key_prefixes or change.owner_id is not None:
                    entry = await rows.publish(connection, change.key_prefixes, change.owner_id)
        except Passing:
            self._hint(None)  # It may have been committed all the same.
            raise
        if entry is not None:
            self._hint(entry)
            await self._wait(entry, self._stopwatch(), caller.deadline, done)
        if refusal is not None:
            raise refusal

    async def _wait(self, entry: FeedEntry, committed: float, deadline: float, done: str) -> None:
        await self._notify(entry)
        behind: dict[UUID, float] | None = None
        pause = _FIRST_LOOK
        await asyncio.sleep(pause)
        while True:
            try:
                listed = await rows.find_behind(self._database, entry.place)
            except Passing as error:
                _log.debug("the workers cannot be listed: %s", error)
            else:
                if listed is None:
                    await self._database.refresh()
                # Who was behind when they could not be listed may still be; nobody who came later can be.
                behind = behind if listed is None else listed
            if behind is not None and not behind:
                return
            now = self._stopwatch()
            over = committed + certainly_over(max(behind.values())) if behind else deadline
            if behind and now >= over:
                _log.warning(
                    "change %d was answered without %s: their leases are over",
                    entry.place.seq,
                    ", ".join(map(str, behind)),
                )
                return
            if now >= deadline:
                raise _unconfirmed(behind, done)
            await asyncio.sleep(max(0.0, min(pause, over - now, deadline - now)))
            pause = min(_GROWTH * pause, _SLOWEST_LOOK)

    async def _notify(self, entry: FeedEntry) -> None:
        try:
            await rows.notify(self._database, entry)
        except Exception as error:  # noqa: BLE001 - the change is durable, and who polls will see it
            _log.warning("no hint was sent, so workers will take longer: %s", error)


def _unconfirmed(behind: dict[UUID, float] | None, done: str) -> DeadlineExceeded:
    if behind is None:
        missing = "an unknown number of workers"
    else:
        missing = "1 worker" if len(behind) == 1 else f"{len(behind)} workers"
    return DeadlineExceeded(
        f"durably {done}, {missing} unconfirmed; repeat the call to wait for the rest",
        reason="WORKERS_UNCONFIRMED",
        retry_after=1,
        workers=",".join(map(str, behind or ())),
    )
