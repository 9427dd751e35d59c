"""A holder: what answers from memory in this process, by the orders of a follower.

Mechanism: the orders come one after another (`orders`), and each is carried out before the next. An entry of
the feed is forgotten before a later lease is taken, so a lease that is held says that all entries before it
were applied. Clients that answer from memory by the leave of this process are told in the same step
(`client_holders`).

Failure: without orders, the lease runs out.
"""

import asyncio
from collections.abc import Callable, Sequence

from authsvc.model.errors import Unavailable
from authsvc.model.feed import FeedEntry, Place
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.revocation.client_holders import ClientHolders
from authsvc.revocation.history import History
from authsvc.revocation.orders import Advance, Apply, Drop, Forget, Grant, Order, Reconnect, Start
from authsvc.telemetry.durations import Durations
from authsvc.verify.clock import DatabaseClock
from authsvc.verify.foreign_strings import ForeignStrings
from authsvc.verify.lease import Lease
from authsvc.verify.prefix_cache import PrefixCache

# How long a read waits until this worker has applied what it contains.
_MAX_WAIT_SECONDS = 5.0


class Holder:
    """The memory of this process, its lease, and its place in the feed."""

    def __init__(
        self,
        *,
        cache: PrefixCache,
        lease: Lease,
        clock: DatabaseClock,
        on_tag_keys: Callable[[AcceptedTagKeys], object] = lambda _: None,
        on_reconnect: Callable[[], object] = lambda: None,
        clients: ClientHolders | None = None,
    ) -> None:
        """`clients` may answer from memory, too, by what this holder is ordered to do."""
        self.lease = lease
        #: The clients that follow this worker.
        self.clients = clients or ClientHolders(lease, clock, seconds=0, limit=0)
        # How often it started with an empty memory.
        self.starts = 0
        #: How long the database took for the renewals that this holder got its leases by.
        self.renewals = Durations()
        self._cache = cache
        self._clock = clock
        self._on_tag_keys = on_tag_keys
        self._on_reconnect = on_reconnect
        self._foreign: ForeignStrings | None = None
        self._on_hint: Callable[[FeedEntry | None], object] = lambda _: None
        self._place: Place | None = None
        self._forgotten_seq = 0
        self._history = History()
        self._advanced = asyncio.Event()

    @property
    def place(self) -> Place | None:
        """Up to where it has applied the feed; None before the start."""
        return self._place

    @property
    def seq(self) -> int:
        """The last entry whose credentials this worker has dropped from its cache."""
        return self._forgotten_seq

    def on_hint(self, call: Callable[[FeedEntry | None], object]) -> None:
        """Pass hints to the follower by `call`."""
        self._on_hint = call

    def keep(self, foreign: ForeignStrings) -> None:
        """Tell `foreign` of each start and of the prefixes that entries name, before the first order."""
        self._foreign = foreign

    def hint(self, entry: FeedEntry | None = None) -> None:
        """Ask the follower to look at the feed soon. `entry` is a change that was just committed here."""
        self._on_hint(entry)

    def obey(self, order: Order) -> None:
        """Carry out an order."""
        match order:
            case Start(place, tag_keys):
                self._start(place, tag_keys)
            case Apply(entries, place):
                self._apply(entries, place)
            case Forget(entry):
                # Until it is certain, reads from before the entry already count as too old.
                self._forget(entry)
                self._forgotten_seq = entry.place.seq
            case Advance(place):
                self._advance(place)
                self._forgotten_seq = place.seq
            case Grant(until, now, asked, answered):
                self._clock.set(now, asked, answered)
                self.lease.renew(until)
                self.renewals.observe(answered - asked)
            case Drop(reason):
                self.drop(reason)
            case Reconnect():
                self._on_reconnect()
        self.clients.pass_on(order)

    def drop(self, reason: str) -> None:
        """Give up the lease, and forget everything."""
        self.lease.end(reason)
        self._cache.clear()
        self._history.clear()
        self._set_place(None)
        self.clients.end(reason)

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
        return place in self._history

    def _start(self, place: Place, tag_keys: AcceptedTagKeys | None) -> None:
        self._cache.clear()
        if self._foreign is not None:
            self._foreign.start()
        self._use_tag_keys(tag_keys)
        self._history.clear()
        self._forgotten_seq = 0
        self._advance(place)
        self.starts += 1

    def _apply(self, entries: Sequence[FeedEntry], place: Place) -> None:
        for entry in entries:
            self._forget(entry)
            self._use_tag_keys(entry.tag_keys)
            self._advance(entry.place)
        self._set_place(place)

    def _use_tag_keys(self, tag_keys: AcceptedTagKeys | None) -> None:
        if tag_keys is not None:
            self._on_tag_keys(tag_keys)

    def _forget(self, entry: FeedEntry) -> None:
        self._cache.forget(entry.key_prefixes)
        if self._foreign is not None:
            self._foreign.apply(entry.key_prefixes)
        if entry.owner_id is not None:
            self._cache.forget_owner(entry.owner_id, entry.kind)

    def _advance(self, place: Place) -> None:
        self._history.add(place)
        self._set_place(place)

    def _set_place(self, place: Place | None) -> None:
        self._place = place
        # A hint may be ahead of the place, until the follower knows better (`Advance`).
        self._forgotten_seq = max(self._forgotten_seq, place.seq) if place else 0
        self._advanced.set()
        self._advanced = asyncio.Event()
