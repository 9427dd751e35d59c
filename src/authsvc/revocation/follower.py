"""The feed of changes, and how this worker follows it. docs/revocation.md proves why this is enough.

Mechanism: every change of a credential appends one entry to the feed, in the
transaction of the change, under a lock that makes their order the order of commits.
A worker registers, follows the feed from its end, forgets what entries name, and
acknowledges. Renewing its lease is one statement that proves that it is registered, that
its place is in this very feed, and that the node is the primary, and that shows
what it has not applied yet. One task does all this, one statement at a time. An entry about tag keys
brings them along, read in the snapshot that shows it; so does a registration.

Bound: a hint (NOTIFY) makes it look at once; without hints it looks at each renewal,
ten times a lease or every three seconds, or every `poll_interval` where there are none. Memory: the
nonces of the last `_REMEMBERED` entries.

Failure: a registration that is gone, or a place that the feed does not know (a
failover that lost it, a restored back-up), drops lease and memory and registers anew. With
the database out of reach the lease runs out.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Protocol
from uuid import UUID, uuid4

from authsvc.model.errors import RetryableError, Unavailable
from authsvc.model.feed import FeedEntry, Place, Renewal
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.verify.clock import DatabaseClock, Stopwatch, boottime
from authsvc.verify.lease import Lease
from authsvc.verify.prefix_cache import PrefixCache

_log = logging.getLogger(__name__)

_RENEWALS = 10  # in each lease
_SELDOM = 3.0  # And a lost hint is made up for within this.
_REMEMBERED = 10_000
_NAMES_KEPT = 100
_PATIENCE = 5.0
_RETRY = 0.2
_GONE = "this worker is not registered any more, or the database has another history"


class FeedStore(Protocol):
    """The database as a worker's feed sees it. All raise RetryableError when it is out of reach."""

    @property
    def hears(self) -> bool:
        """Whether hints arrive."""

    async def register(self, worker_id: UUID, lease: float, predecessors: Collection[UUID]) -> FeedEntry:
        """Make this worker known in a transaction of its own; then return the feed's end and the tag keys."""

    async def renew(self, worker_id: UUID, place: Place) -> Renewal | None:
        """Prove registration, place and primary; None when the first two do not hold."""

    async def read(self, place: Place) -> Sequence[FeedEntry] | None:
        """Return the entries after a place; None when it is not in this feed."""

    async def acknowledge(self, worker_id: UUID, place: Place, before: Place | None = None) -> bool:
        """Say up to where entries were applied; return False when registration or place do not hold.

        With `before`, that one has to hold, too.
        """

    async def leave(self, worker_id: UUID) -> None:
        """Take the registration back."""


class Follower:
    """Follows the feed for one worker, and renews its lease."""

    def __init__(
        self,
        store: FeedStore,
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
        self._seconds = seconds
        self._poll_interval = poll_interval
        self._stopwatch = stopwatch
        self._on_register = on_register
        self._on_tag_keys = on_tag_keys
        self._predecessors = predecessors
        self._worker_id = uuid4()
        self._place: Place | None = None
        self._oldest = 0
        # The nonces of what was applied, in order: the history that this worker knows.
        self._history: dict[int, UUID] = {}
        self._renew_at = 0.0
        self._hint = asyncio.Event()
        self._look = False
        self._told: FeedEntry | None = None
        self._advanced = asyncio.Event()
        self.registrations = 0

    @property
    def worker_id(self) -> UUID:
        """Who this worker is in the database; a new one for each registration."""
        return self._worker_id

    @property
    def seq(self) -> int:
        """Up to where this worker has forgotten what changed."""
        return self._oldest

    def hint(self, entry: FeedEntry | None = None) -> None:
        """Look at the feed soon; there may be news. If they are but this entry, it need not be read."""
        if entry is None or entry.tag_keys is not None:
            self._look = True
        elif self._told is None or entry.place.seq > self._told.place.seq:
            self._told = entry  # Hints may come in any order.
        self._hint.set()

    async def start(self) -> None:
        """Register and take the lease; raise RetryableError when that cannot be done now."""
        await self._renew(await self._register())
        self._lease.check()

    async def run(self) -> None:
        """Follow for ever. Trouble that passes is logged when it begins and when it ends."""
        failing = False
        while True:
            try:
                await self._wait()
                await self._follow()
            except RetryableError as error:
                if not failing:
                    _log.warning(
                        "the feed is out of reach; the lease holds for %.1f s: %s", self._lease.left, error
                    )
                failing = True
                await asyncio.sleep(_RETRY)
                self.hint()
            except Exception:  # noqa: BLE001 - a fault here must not end the following for good
                _log.exception("a fault in following the feed")
                await asyncio.sleep(_RETRY)
            else:
                if failing:
                    _log.info("the feed is back; the lease is renewed")
                failing = False

    async def stop(self) -> None:
        """Give up the lease, then the registration. Whoever calls this has stopped answering."""
        self._drop("this worker has stopped")
        with suppress(RetryableError):
            await self._store.leave(self._worker_id)

    async def knows(self, place: Place, since: int) -> bool:
        """Say whether a read at `place` is of the history that was applied, and not before `since`.

        Catches up first when the read was ahead. False means: read again, over a new
        connection, since the node that answered is behind or on another history.
        """
        if place.seq < since:
            return False
        try:
            async with asyncio.timeout(_PATIENCE):
                while self._place is not None and self._place.seq < place.seq:
                    self.hint()
                    await self._advanced.wait()
        except TimeoutError as error:
            raise Unavailable(
                "this worker is behind with what has changed; retry", reason="FEED_BEHIND", retry_after=1
            ) from error
        return self._history.get(place.seq) == place.nonce

    async def _wait(self) -> None:
        """Wait for a hint, or for the time to look."""
        # The loop's own clock stands still while the machine is suspended.
        seconds = min(self._renew_at - self._stopwatch(), _SELDOM)
        if not self._store.hears:
            seconds = min(seconds, self._poll_interval)
        try:
            async with asyncio.timeout(max(0, seconds)):
                await self._hint.wait()
        except TimeoutError:
            self._look = True
        self._hint.clear()

    async def _follow(self) -> None:
        """Do one thing, the most urgent."""
        place, look, told = self._place, self._look, self._told
        self._look, self._told = False, None
        if place is None:
            await self.start()
        elif self._stopwatch() >= self._renew_at:
            await self._renew(place)
        elif look or (told is not None and told.place.seq > place.seq + 1):
            await self._read(place)
        elif told is not None and told.place.seq > place.seq:
            await self._take(place, told)

    async def _register(self) -> Place:
        """R1: from the feed's end, with nothing in memory, under a name that nobody else can mean."""
        if self.registrations:
            # This one answers nothing any more under the names that it had.
            self._predecessors = [*self._predecessors, self._worker_id][-_NAMES_KEPT:]
        self._worker_id = uuid4()
        self._on_register(self._worker_id)  # Before: who dies in between can be named.
        end = await self._store.register(self._worker_id, self._seconds, self._predecessors)
        place = end.place
        self._cache.clear()
        self._use(end.tag_keys)
        self._history = {place.seq: place.nonce}
        self._move(place)
        self._predecessors = ()
        self.registrations += 1
        return place

    async def _renew(self, place: Place) -> None:
        """R2: the lease counts from before the question, and is taken after the news was applied."""
        asked = self._stopwatch()
        renewal = await self._store.renew(self._worker_id, place)
        answered = self._stopwatch()
        if renewal is None:
            self._lose(_GONE)
            return
        self._apply(renewal.entries)
        self._clock.set(renewal.now, asked, answered)
        self._lease.renew(asked + self._seconds)
        self._renew_at = asked + min(self._seconds / _RENEWALS, _SELDOM)
        if renewal.entries:
            await self._acknowledge(renewal.entries[-1].place)

    async def _read(self, place: Place) -> None:
        """R3: never extends the lease."""
        entries = await self._store.read(place)
        if entries is None:
            self._lose(_GONE)
        elif entries:
            self._apply(entries)
            await self._acknowledge(entries[-1].place)

    async def _take(self, place: Place, entry: FeedEntry) -> None:
        """R3, a statement less: forget what a hint names, which never does harm, then see whether it is so.

        The acknowledgement proves that the entry is in the feed, and follows our place in it.
        Reads from before the entry are too old from now on, although it is not proved yet.
        """
        self._forget(entry)
        self._oldest = entry.place.seq
        if await self._store.acknowledge(self._worker_id, entry.place, place):
            self._advance(entry)
            return
        # Our registration or place does not hold, or anybody who may send hints has sent this one.
        await self._read(place)
        if self._place == place:
            self._oldest = place.seq

    async def _acknowledge(self, place: Place) -> None:
        if not await self._store.acknowledge(self._worker_id, place):
            self._lose(_GONE)

    def _apply(self, entries: Sequence[FeedEntry]) -> None:
        for entry in entries:
            self._forget(entry)
            self._use(entry.tag_keys)
            self._advance(entry)

    def _use(self, tag_keys: AcceptedTagKeys | None) -> None:
        if tag_keys is not None:
            self._on_tag_keys(tag_keys)

    def _forget(self, entry: FeedEntry) -> None:
        self._cache.forget(entry.key_prefixes)
        if entry.owner_id is not None:
            self._cache.forget_owner(entry.owner_id, entry.kind)

    def _advance(self, entry: FeedEntry) -> None:
        self._history[entry.place.seq] = entry.place.nonce
        if len(self._history) > _REMEMBERED:
            del self._history[next(iter(self._history))]
        self._move(entry.place)

    def _move(self, place: Place | None) -> None:
        self._place = place
        self._oldest = place.seq if place else 0
        self._advanced.set()
        self._advanced = asyncio.Event()

    def _lose(self, reason: str) -> None:
        _log.warning("lease and memory are dropped: %s", reason)
        self._drop(reason)

    def _drop(self, reason: str) -> None:
        """Drop lease and memory; the next step registers anew."""
        self._lease.end(reason)
        self._cache.clear()
        self._history = {}
        self._renew_at = 0.0
        self._move(None)
