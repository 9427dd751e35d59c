"""The follower: has all workers of a replica apply the changes of all workers, and renews their lease.

Mechanism: each change of a credential appends one entry to the feed, in its own transaction and under a
lock, so that the entries are in the order of the commits. A follower registers, follows the feed from its
end, has its holders drop from their caches what an entry names, and acknowledges the entry when all of them
have confirmed that. The statement that renews the lease checks that the registration is there, that the place
is in this feed, and that the node is the primary. It returns the entries that follow. One task does all this.
An entry about tag keys comes with all of them, read in the same snapshot; so does a registration.

Bound: with hints (NOTIFY), an entry is read at once, and a lost hint is made up for at the next renewal, ten
times in each lease and at least every three seconds; otherwise it is read every `poll_interval` seconds.

Failure: without the registration, or when the feed does not know the place (after a failover or a restored
backup), the holders drop leases and caches, and it registers again. docs/revocation.md has the proof.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from uuid import UUID, uuid4

from authsvc.model.errors import RetryableError
from authsvc.model.feed import FeedEntry, Place
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.revocation.catch_up import catch_up
from authsvc.revocation.history import History
from authsvc.revocation.holders import Holders
from authsvc.revocation.orders import Advance, Apply, Drop, Forget, Grant, Order, Reconnect, Start
from authsvc.revocation.predecessors import Predecessors
from authsvc.revocation.worker_feed import WorkerFeed
from authsvc.verify.clock import Stopwatch, boottime
from authsvc.verify.lease import Lease

_log = logging.getLogger(__name__)

_RENEWALS_PER_LEASE = 10
# The longest pause between two looks at the feed.
_MAX_PAUSE_SECONDS = 3.0
_RETRY_SECONDS = 0.2
_PLACE_LOST = "the registration of this worker is gone, or the database has another history"


class Follower:
    """Follows the feed for the holders of one replica, and renews their lease."""

    def __init__(
        self,
        store: WorkerFeed,
        *,
        seconds: float,
        poll_interval: float = 0.1,
        stopwatch: Stopwatch = boottime,
        on_register: Callable[[UUID], object] = lambda _: None,
        on_turn: Callable[[], object] = lambda: None,
        predecessors: Predecessors | None = None,
        lent_until: Callable[[int], float] = lambda _: -inf,
    ) -> None:
        """`seconds` is the length of the lease, and `lent_until` that of `Holders`."""
        self._woken = asyncio.Event()
        self.holders = Holders(stopwatch, self._woken.set, lent_until)
        self.lease = Lease(stopwatch)
        self.registrations = 0
        self._store = store
        self._lease_seconds = seconds
        self._poll_interval = poll_interval
        self._stopwatch = stopwatch
        self._on_register = on_register
        self._on_turn = on_turn
        self._predecessors = predecessors or Predecessors()
        self._worker_id = uuid4()
        self._place: Place | None = None
        self._tag_keys: AcceptedTagKeys | None = None
        # Places that a holder may still have to confirm.
        self._history = History()
        # What the database has as applied by this registration.
        self._acknowledged_seq = -1
        # An entry that the holders forget because of a hint, and that is not acknowledged yet.
        self._forgetting: FeedEntry | None = None
        self._renew_at = 0.0
        self._is_place_due = False  # somebody attached who may have followed a hint
        self._shown_pids: list[int] = []  # to operators, with the last renewal
        self._must_read = False
        self._hinted: FeedEntry | None = None

    @property
    def worker_id(self) -> UUID:
        """The id of the registration in the database; a new one for each registration."""
        return self._worker_id

    def hint(self, entry: FeedEntry | None = None) -> None:
        """Look at the feed soon. With an entry, the feed is read only if others come before it."""
        if entry is None or entry.tag_keys is not None:
            self._must_read = True
        elif self._hinted is None or entry.place.seq > self._hinted.place.seq:  # they come in any order
            self._hinted = entry
        self._woken.set()

    async def start(self) -> None:
        """Register and take the lease; raise RetryableError when the database cannot answer."""
        await self._renew(await self._register())
        self.lease.check()
        await self._settle()

    async def run(self) -> None:
        """Follow until cancelled; log when an outage begins and when it ends."""
        failing = False
        while True:
            self._on_turn()
            try:
                await self._wait()
                await self._step()
            except RetryableError as error:
                if not failing:
                    _log.warning(
                        "the feed cannot be followed; the lease is valid for another %.1f s: %s",
                        self.lease.left,
                        error,
                    )
                failing = True
                await asyncio.sleep(_RETRY_SECONDS)
                self.hint()
            except Exception:  # noqa: BLE001 - it must not end this task
                _log.exception("an unexpected error while following the feed")
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                if failing:
                    _log.info("the feed is followed again; the lease was renewed")
                failing = False

    async def stop(self) -> None:
        """Give up the lease, then the registration (R8). Call it after the last answer."""
        self._drop("this worker has stopped")
        if not self.holders.all_settled:
            return  # Somebody may still answer. The registration stays until that lease is certainly over.
        with suppress(RetryableError):
            await self._store.leave(self._worker_id)

    def note_reconnected(self) -> None:
        """Tell the holders that the connection to the database is a new one."""
        self.holders.send(Reconnect())

    async def _wait(self) -> None:
        """Wait until there is something to do, or until the feed has to be read or the lease renewed."""
        # The clock of the event loop stops while the machine is suspended, so no wait is long.
        now, holders = self._stopwatch(), self.holders
        due = min(self._renew_at, holders.next_end, self._predecessors.next_end(now))
        seconds = min(due - now, _MAX_PAUSE_SECONDS)
        if not self._store.hears:
            seconds = min(seconds, self._poll_interval)
        try:
            async with asyncio.timeout(max(0, seconds)):
                await self._woken.wait()
        except TimeoutError:
            self._must_read = True
        self._woken.clear()

    async def _step(self) -> None:
        """Do the most urgent thing: register, renew, read, or follow a hint. Then acknowledge."""
        place, must_read, hinted = self._place, self._must_read, self._hinted
        self._must_read, self._hinted = False, None
        if place is None:
            await self.start()
            return
        if self._stopwatch() >= self._renew_at or self.holders.pids != self._shown_pids:
            await self._renew(place)
        elif must_read or (hinted is not None and hinted.place.seq > place.seq + 1):
            await self._read(place)
        elif hinted is not None and hinted.place.seq > place.seq:
            self._forget(hinted)
        if self._place is not None:
            await self._admit(self._place)
        await self._settle()

    async def _settle(self) -> None:
        """Record what the holders have confirmed, and remove predecessors that have no holders left."""
        if self._place is not None and self._forgetting is not None and self.holders.all_settled:
            await self._follow_hint(self._place, self._forgetting)
        if self._place is not None:
            await self._acknowledge(self._place)
        if dead := self._predecessors.removable(self.holders, self._stopwatch()):
            await self._store.remove(dead)
            self._predecessors.note_removed(dead)

    async def _register(self) -> Place:
        """Start at the end of the feed with empty memories, under a new id (R1)."""
        if self.registrations:
            # The holders may answer under the former id until they have carried out the new start.
            self._predecessors.add(self._worker_id)
        self._worker_id = uuid4()
        # Before the commit, so that a registration whose process dies in between is known.
        self._on_register(self._worker_id)
        end = await self._store.register(self._worker_id, self._lease_seconds)
        self._tag_keys = end.tag_keys
        self._history.clear()
        self._acknowledged_seq = -1
        self._advance(end.place)
        self.registrations += 1
        self.holders.send(Start(end.place, self._tag_keys))
        await self._admit(end.place)
        return end.place

    async def _admit(self, place: Place) -> None:
        """Bring holders that have attached to this place, each from where it is (R10)."""
        while (newcomer := self.holders.newcomer) is not None:
            orders: list[Order] = [await catch_up(self._store, newcomer.place, place, self._tag_keys)]
            if self._forgetting is not None:
                orders.append(Forget(self._forgetting))
            self.holders.admit(newcomer, orders)
            self._is_place_due = True
            self._woken.set()

    async def _renew(self, place: Place) -> None:
        """Renew the lease, which counts from before the query; first apply the entries that came (R2)."""
        asked, holders = self._stopwatch(), self.holders
        applied_seq, pids = holders.confirmed_seq(place), holders.pids
        renewal = await self._store.renew(self._worker_id, place, applied_seq, pids, holders.unconfirmed_pids)
        answered = self._stopwatch()
        if renewal is None:
            self._lose(_PLACE_LOST)
            return
        self._acknowledged_seq, self._shown_pids = max(self._acknowledged_seq, applied_seq), pids
        end = self._apply(place, renewal.entries)
        if self._is_place_due or self._forgetting is not None:
            # This node is the primary, so a hint that it does not know is false.
            self._is_place_due, self._forgetting = False, None
            holders.send(Advance(end))
        until = asked + self._lease_seconds
        self.lease.renew(until)
        holders.grant(Grant(until, renewal.now, asked, answered), end.seq)
        self._renew_at = asked + min(self._lease_seconds / _RENEWALS_PER_LEASE, _MAX_PAUSE_SECONDS)

    async def _read(self, place: Place) -> None:
        """Read the entries after a place, and have them applied (R3). Does not extend the lease."""
        entries = await self._store.read(place)
        if entries is None:
            self._lose(_PLACE_LOST)
        else:
            self._apply(place, entries)

    def _apply(self, place: Place, entries: Sequence[FeedEntry]) -> Place:
        """Have entries applied; return the place after them."""
        for entry in entries:
            if entry.tag_keys is not None:
                self._tag_keys = entry.tag_keys
            self._advance(entry.place)
        end = entries[-1].place if entries else place
        if entries:
            self._forgetting = None
            self.holders.send(Apply(entries, end))
        return end

    def _forget(self, entry: FeedEntry) -> None:
        """Have what a hint names forgotten, without reading the feed (R3).

        Anybody in the database may send a hint, and to drop what it names is always safe. The
        acknowledgement then checks that the entry is in the feed and follows this place.
        """
        self._forgetting = entry
        self.holders.send(Forget(entry))

    async def _follow_hint(self, place: Place, entry: FeedEntry) -> None:
        """Acknowledge an entry that all have forgotten because of a hint, if the feed has it (R3)."""
        if await self._store.acknowledge(self._worker_id, entry.place, place):
            self._forgetting = None
            self._acknowledged_seq = entry.place.seq
            self._advance(entry.place)
            self.holders.send(Advance(entry.place))
            return
        # The hint is false, or the place is gone. A renewal tells; a read may be from a replaced node.
        await self._renew(place)

    async def _acknowledge(self, place: Place) -> None:
        """Record what all holders have confirmed (R3, R10)."""
        confirmed = self._history.at(self.holders.confirmed_seq(place))
        if confirmed is None or confirmed.seq <= self._acknowledged_seq:
            return
        if await self._store.acknowledge(self._worker_id, confirmed):
            self._acknowledged_seq = confirmed.seq
        else:
            self._lose(_PLACE_LOST)

    def _advance(self, place: Place) -> None:
        self._place = place
        self._history.add(place)

    def _lose(self, reason: str) -> None:
        _log.warning("the lease and the cache are dropped: %s", reason)
        self._drop(reason)
        self._woken.set()

    def _drop(self, reason: str) -> None:
        """Have leases and caches dropped; the next step registers again."""
        self.lease.end(reason)
        self.holders.withdraw()
        self.holders.send(Drop(reason))
        self._forgetting = None
        self._renew_at = 0.0
        self._place = None
