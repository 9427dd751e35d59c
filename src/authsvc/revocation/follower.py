"""The follower: applies the changes of all workers to the cache of this one, and renews its lease.

Mechanism: each change of a credential appends one entry to the feed, in its own transaction and under a
lock, so that the entries are in the order of the commits. A worker registers, follows the feed from its end,
drops from its cache what an entry names, and acknowledges the entry. The statement that renews the lease
checks that the worker is registered, that its place is in this feed, and that the node is the primary. It
returns the entries that the worker has not applied yet. One task does all this, one statement at a time. An
entry about tag keys comes with all of them, read in the same snapshot; so does a registration.

Bound: with hints (NOTIFY), an entry is read at once, and a lost hint is made up for at the next renewal, ten
times in each lease and at least every three seconds. Without hints, the feed is read every `poll_interval`
seconds. The nonces of the last `_MAX_HISTORY` entries are kept in memory.

Failure: without the registration, or when the feed does not know this worker's place (after a failover that
lost it, or a restored backup), the worker drops its lease and its cache and registers again. While the
database is out of reach, the lease runs out.

docs/revocation.md proves that this is enough.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from uuid import UUID, uuid4

from authsvc.model.errors import RetryableError, Unavailable
from authsvc.model.feed import FeedEntry, Place
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.revocation.worker_feed import WorkerFeed
from authsvc.verify.clock import DatabaseClock, Stopwatch, boottime
from authsvc.verify.lease import Lease
from authsvc.verify.prefix_cache import PrefixCache

_log = logging.getLogger(__name__)

_RENEWALS_PER_LEASE = 10
# The longest pause between two looks at the feed.
_MAX_PAUSE_SECONDS = 3.0
# How many applied entries are known by their nonce.
_MAX_HISTORY = 10_000
_MAX_PREDECESSORS = 100
# How long a read waits until this worker has applied what it contains.
_MAX_WAIT_SECONDS = 5.0
_RETRY_SECONDS = 0.2
_PLACE_LOST = "the registration of this worker is gone, or the database has another history"


class Follower:
    """Follows the feed for one worker, and renews its lease."""

    def __init__(
        self,
        store: WorkerFeed,
        *,
        cache: PrefixCache,
        lease: Lease,
        clock: DatabaseClock,
        seconds: float,
        poll_interval: float = 0.1,
        stopwatch: Stopwatch = boottime,
        on_register: Callable[[UUID], object] = lambda _: None,
        on_tag_keys: Callable[[AcceptedTagKeys], object] = lambda _: None,
        predecessors: Collection[UUID] = (),
    ) -> None:
        self._store = store
        self._cache = cache
        self._lease = lease
        self._clock = clock
        self._lease_seconds = seconds
        self._poll_interval = poll_interval
        self._stopwatch = stopwatch
        self._on_register = on_register
        self._on_tag_keys = on_tag_keys
        self._predecessors = predecessors
        self._worker_id = uuid4()
        self._place: Place | None = None
        self._forgotten_seq = 0
        # The nonces of the applied entries by `seq`, in order: the history that this worker knows.
        self._history: dict[int, UUID] = {}
        self._renew_at = 0.0
        self._hint = asyncio.Event()
        self._must_read = False
        self._hinted: FeedEntry | None = None
        self._advanced = asyncio.Event()
        self.registrations = 0

    @property
    def worker_id(self) -> UUID:
        """The id of this worker in the database; a new one for each registration."""
        return self._worker_id

    @property
    def seq(self) -> int:
        """The last entry whose credentials this worker has dropped from its cache."""
        return self._forgotten_seq

    def hint(self, entry: FeedEntry | None = None) -> None:
        """Look at the feed soon. With an entry, the feed is read only if others come before it."""
        if entry is None or entry.tag_keys is not None:
            self._must_read = True
        elif self._hinted is None or entry.place.seq > self._hinted.place.seq:
            self._hinted = entry  # Hints may come in any order.
        self._hint.set()

    async def start(self) -> None:
        """Register and take the lease; raise RetryableError when the database cannot answer."""
        await self._renew(await self._register())
        self._lease.check()

    async def run(self) -> None:
        """Follow until cancelled. An outage is logged when it begins and when it ends."""
        failing = False
        while True:
            try:
                await self._wait()
                await self._step()
            except RetryableError as error:
                if not failing:
                    _log.warning(
                        "the feed is unreachable; the lease is valid for another %.1f s: %s",
                        self._lease.left,
                        error,
                    )
                failing = True
                await asyncio.sleep(_RETRY_SECONDS)
                self.hint()
            except Exception:  # noqa: BLE001 - an unexpected error must not end this task
                _log.exception("an unexpected error while following the feed")
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                if failing:
                    _log.info("the feed is reachable again; the lease was renewed")
                failing = False

    async def stop(self) -> None:
        """Give up the lease, then the registration (R8). Call it after the last answer."""
        self._drop("this worker has stopped")
        with suppress(RetryableError):
            await self._store.leave(self._worker_id)

    async def knows(self, place: Place, since: int) -> bool:
        """Return whether a row that was read at `place` may be remembered (R5).

        It may if this worker has applied all changes that the row contains, and the read is not older than
        `since`, which is `seq` from before the read. Waits until this worker has caught up with the read.
        False means that the node is behind or has another history: read again, over a new connection. Raises
        Unavailable when this worker does not catch up within 5 s.
        """
        if place.seq < since:
            return False
        try:
            async with asyncio.timeout(_MAX_WAIT_SECONDS):
                while self._place is not None and self._place.seq < place.seq:
                    self.hint()
                    await self._advanced.wait()
        except TimeoutError as error:
            raise Unavailable(
                "this worker has not applied the latest changes yet; retry",
                reason="FEED_BEHIND",
                retry_after=1,
            ) from error
        return self._history.get(place.seq) == place.nonce

    async def _wait(self) -> None:
        """Wait for a hint, or until the feed has to be read or the lease renewed."""
        # The clock of the event loop stops while the machine is suspended, so no wait is long.
        seconds = min(self._renew_at - self._stopwatch(), _MAX_PAUSE_SECONDS)
        if not self._store.hears:
            seconds = min(seconds, self._poll_interval)
        try:
            async with asyncio.timeout(max(0, seconds)):
                await self._hint.wait()
        except TimeoutError:
            self._must_read = True
        self._hint.clear()

    async def _step(self) -> None:
        """Do the most urgent thing: register, renew, read, or apply a hint."""
        place, must_read, hinted = self._place, self._must_read, self._hinted
        self._must_read, self._hinted = False, None
        if place is None:
            await self.start()
        elif self._stopwatch() >= self._renew_at:
            await self._renew(place)
        elif must_read or (hinted is not None and hinted.place.seq > place.seq + 1):
            await self._read(place)
        elif hinted is not None and hinted.place.seq > place.seq:
            await self._apply_hint(place, hinted)

    async def _register(self) -> Place:
        """Start at the end of the feed with an empty cache, under a new id (R1)."""
        if self.registrations:
            # This worker no longer answers under its former ids.
            self._predecessors = [*self._predecessors, self._worker_id][-_MAX_PREDECESSORS:]
        self._worker_id = uuid4()
        # Before the commit, so that a worker that dies in between is known.
        self._on_register(self._worker_id)
        end = await self._store.register(self._worker_id, self._lease_seconds, self._predecessors)
        place = end.place
        self._cache.clear()
        self._use_tag_keys(end.tag_keys)
        self._history = {place.seq: place.nonce}
        self._set_place(place)
        self._predecessors = ()
        self.registrations += 1
        return place

    async def _renew(self, place: Place) -> None:
        """Renew the lease, which counts from before the query; first apply the entries that came (R2)."""
        asked = self._stopwatch()
        renewal = await self._store.renew(self._worker_id, place)
        answered = self._stopwatch()
        if renewal is None:
            self._lose(_PLACE_LOST)
            return
        self._apply(renewal.entries)
        self._clock.set(renewal.now, asked, answered)
        self._lease.renew(asked + self._lease_seconds)
        self._renew_at = asked + min(self._lease_seconds / _RENEWALS_PER_LEASE, _MAX_PAUSE_SECONDS)
        if renewal.entries:
            await self._acknowledge(renewal.entries[-1].place)

    async def _read(self, place: Place) -> None:
        """Read and apply the entries after a place (R3). Does not extend the lease."""
        entries = await self._store.read(place)
        if entries is None:
            self._lose(_PLACE_LOST)
        elif entries:
            self._apply(entries)
            await self._acknowledge(entries[-1].place)

    async def _apply_hint(self, place: Place, entry: FeedEntry) -> None:
        """Apply the entry in a hint without reading the feed (R3).

        Anybody in the database may send a hint. To drop what it names from the cache is always safe. The
        acknowledgement then checks that the entry is in the feed and follows this worker's place. Until it
        has, reads from before the entry already count as too old.
        """
        self._forget(entry)
        self._forgotten_seq = entry.place.seq
        if await self._store.acknowledge(self._worker_id, entry.place, place):
            self._advance(entry)
            return
        # The hint is false, or the registration or the place is gone. Reading tells.
        await self._read(place)
        if self._place == place:
            self._forgotten_seq = place.seq

    async def _acknowledge(self, place: Place) -> None:
        if not await self._store.acknowledge(self._worker_id, place):
            self._lose(_PLACE_LOST)

    def _apply(self, entries: Sequence[FeedEntry]) -> None:
        for entry in entries:
            self._forget(entry)
            self._use_tag_keys(entry.tag_keys)
            self._advance(entry)

    def _use_tag_keys(self, tag_keys: AcceptedTagKeys | None) -> None:
        if tag_keys is not None:
            self._on_tag_keys(tag_keys)

    def _forget(self, entry: FeedEntry) -> None:
        self._cache.forget(entry.key_prefixes)
        if entry.owner_id is not None:
            self._cache.forget_owner(entry.owner_id, entry.kind)

    def _advance(self, entry: FeedEntry) -> None:
        self._history[entry.place.seq] = entry.place.nonce
        if len(self._history) > _MAX_HISTORY:
            del self._history[next(iter(self._history))]
        self._set_place(entry.place)

    def _set_place(self, place: Place | None) -> None:
        self._place = place
        self._forgotten_seq = place.seq if place else 0
        self._advanced.set()
        self._advanced = asyncio.Event()

    def _lose(self, reason: str) -> None:
        _log.warning("the lease and the cache are dropped: %s", reason)
        self._drop(reason)

    def _drop(self, reason: str) -> None:
        """Drop the lease and the cache; the next step registers again."""
        self._lease.end(reason)
        self._cache.clear()
        self._history = {}
        self._renew_at = 0.0
        self._set_place(None)
