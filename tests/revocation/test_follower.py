"""How a worker follows the feed, step by step, on a controlled store."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from authsvc.model.errors import Unavailable
from authsvc.model.feed import FeedEntry, Place, Renewal
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.revocation.follower import Follower
from authsvc.revocation.holder import Holder
from authsvc.revocation.local_channel import LocalChannel
from authsvc.revocation.predecessors import Predecessors
from authsvc.verify.clock import DatabaseClock
from authsvc.verify.entry import Entry
from authsvc.verify.lease import Lease
from authsvc.verify.prefix_cache import PrefixCache

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
GONE = Unavailable("gone", reason="DATABASE_UNAVAILABLE", retry_after=1)


class FakeFeedStore:
    """A feed in memory. `before` is called with an operation's name before it answers."""

    hears = True

    def __init__(self) -> None:
        self.entries = [FeedEntry(Place(0, uuid4()), (), None)]
        self.workers: dict[UUID, int] = {}
        self.asked: list[str] = []
        self.before: Callable[[str], object] = lambda operation: None
        self.fault: Exception | None = None

    def publish(
        self, *key_prefixes: str, owner_id: str | None = None, tag_keys: AcceptedTagKeys | None = None
    ) -> Place:
        place = Place(self.entries[-1].place.seq + 1, uuid4())
        self.entries.append(FeedEntry(place, key_prefixes, owner_id, None, tag_keys))
        return place

    def _ask(self, operation: str) -> None:
        self.asked.append(operation)
        self.before(operation)
        if self.fault is not None:
            raise self.fault

    def _after(self, place: Place) -> list[FeedEntry] | None:
        known = [entry.place for entry in self.entries]
        return self.entries[known.index(place) + 1 :] if place in known else None

    async def register(self, worker_id: UUID, lease: float) -> FeedEntry:
        self._ask("register")
        self.workers[worker_id] = -1
        return self.entries[-1]

    async def renew(
        self,
        worker_id: UUID,
        place: Place,
        applied_seq: int,
        pids: Sequence[int],
        unconfirmed_pids: Sequence[int],
    ) -> Renewal | None:
        self._ask("renew")
        after = self._after(place)
        if worker_id not in self.workers or after is None:
            return None
        self.workers[worker_id] = max(self.workers[worker_id], applied_seq)
        return Renewal(NOON, after)

    async def read(self, place: Place) -> Sequence[FeedEntry] | None:
        self._ask("read")
        return self._after(place)

    async def acknowledge(self, worker_id: UUID, place: Place, before: Place | None = None) -> bool:
        self._ask("acknowledge")
        if worker_id not in self.workers or self._after(place) is None:
            return False
        if before is not None and self._after(before) is None:
            return False
        self.workers[worker_id] = max(self.workers[worker_id], place.seq)
        return True

    async def remove(self, worker_ids: Collection[UUID]) -> None:
        self._ask("remove")
        for worker_id in worker_ids:
            self.workers.pop(worker_id, None)

    async def leave(self, worker_id: UUID) -> None:
        self._ask("leave")
        self.workers.pop(worker_id, None)


class Stand:
    """A feed, what it affects, and a stopwatch that the test moves."""

    def __init__(self, *, predecessors: Collection[UUID] = ()) -> None:
        self.now = 1000.0
        self.store = FakeFeedStore()
        self.cache = PrefixCache(100)
        self.lease = Lease(lambda: self.now)
        self.clock = DatabaseClock(lambda: self.now)
        self.registered: list[UUID] = []
        # The tag keys that it received, and what it had acknowledged by then.
        self.tag_keys: list[tuple[AcceptedTagKeys, int]] = []
        self.feed = Follower(
            self.store,
            seconds=30,
            stopwatch=lambda: self.now,
            predecessors=Predecessors(predecessors),
            on_register=self.registered.append,
        )
        self.holder = Holder(
            cache=self.cache,
            lease=self.lease,
            clock=self.clock,
            on_tag_keys=lambda tag_keys: self.tag_keys.append((tag_keys, self.acknowledged)),
        )
        LocalChannel(self.holder, self.feed.holders)
        self.holder.on_hint(self.feed.hint)

    @property
    def acknowledged(self) -> int:
        return self.store.workers[self.feed.worker_id]

    async def know(self, *prefixes: str) -> None:
        for prefix in prefixes:
            digest = self.cache.digest(prefix)

            async def load(digest: bytes = digest) -> Entry:
                return Entry(digest, None)

            await self.cache.fill(prefix, digest, load)

    async def until_applied(self, seq: int) -> None:
        async with asyncio.timeout(10):
            while self.holder.seq < seq:
                await self.holder._advanced.wait()

    async def step(self) -> None:
        self.store.asked.clear()
        self.feed.hint()
        await self.feed._step()

    async def hear(self, entry: FeedEntry) -> None:
        self.store.asked.clear()
        self.feed.hint(entry)
        await self.feed._step()


OLD, NEW = AcceptedTagKeys((b"old",)), AcceptedTagKeys((b"old", b"new"))


@pytest.fixture
async def stand() -> Stand:
    stand = Stand()
    await stand.feed.start()
    return stand


async def test_a_start_registers_then_renews() -> None:  # R1
    """The registration comes first; those of dead predecessors go when nobody answers under them."""
    dead = uuid4()
    stand = Stand(predecessors=[dead])
    stand.store.workers[dead] = 0
    stand.store.publish("old")
    assert stand.lease.left == 0
    await stand.feed.start()
    assert stand.store.asked == ["register", "renew", "remove"]
    assert list(stand.store.workers) == [stand.feed.worker_id] == stand.registered
    assert stand.lease.left == 30
    assert stand.holder.seq == 1


async def test_the_lease_counts_from_before_the_question(stand: Stand) -> None:  # R2
    """However long the answer takes, the lease ends 30 s after the request was sent."""
    stand.now += 10

    def slow(operation: str) -> None:
        stand.now += 7

    stand.store.before = slow
    await stand.step()
    assert stand.store.asked == ["renew"]
    assert stand.lease.left == 23


async def test_a_renewal_applies_before_it_takes_the_lease(stand: Stand) -> None:  # R2
    """Entries that arrived with the renewal are forgotten and acknowledged."""
    await stand.know("a", "b")
    stand.store.publish("a")
    stand.now += 3
    await stand.step()
    assert stand.store.asked == ["renew", "acknowledge"]
    assert stand.cache.get("a") is None
    assert stand.cache.get("b") is not None
    assert stand.acknowledged == stand.holder.seq == 1


async def test_a_read_does_not_extend_the_lease(stand: Stand) -> None:  # R3
    """Between renewals the feed is read, applied, acknowledged; the lease does not change."""
    await stand.know("a")
    stand.store.publish("a")
    stand.now += 2
    await stand.step()
    assert stand.store.asked == ["read", "acknowledge"]
    assert stand.cache.get("a") is None
    assert stand.lease.left == 28
    stand.now += 0.5
    await stand.step()
    assert stand.store.asked == ["read"]


async def test_an_owner_at_once(stand: Stand) -> None:
    """One entry about an owner is one entry, however many keys it affects."""
    stand.store.publish(owner_id="acme")
    await stand.step()
    assert stand.holder.seq == 1


@pytest.mark.parametrize("loss", ["reaped", "another history"])
@pytest.mark.parametrize("step", ["renew", "read", "acknowledge"])
async def test_what_does_not_hold_any_more_is_dropped(stand: Stand, loss: str, step: str) -> None:  # R2
    """Without its registration or place, lease and memory are dropped; the next step registers again."""
    await stand.know("a")
    before = stand.feed.worker_id

    def lose(operation: str = "") -> None:
        if loss == "reaped":
            stand.store.workers.clear()
        else:
            stand.store.entries = [
                FeedEntry(Place(e.place.seq, uuid4()), (), None) for e in stand.store.entries
            ]

    if step == "acknowledge":
        stand.store.publish("b")
        stand.store.before = lambda operation: lose() if operation == "acknowledge" else None
    else:
        lose()
        stand.now += 3 if step == "renew" else 0
    await stand.step()
    if step == "read" and loss == "reaped":
        assert stand.lease.left  # Only a step that writes can see it; the next renewal does.
        stand.now += 3
        await stand.step()
    assert stand.lease.left == 0
    assert len(stand.cache) == 0
    stand.store.before = lambda operation: None
    await stand.step()
    assert stand.store.asked == ["register", "renew", "remove"]
    assert stand.lease.left == 30
    assert stand.feed.worker_id != before
    assert stand.registered == [before, stand.feed.worker_id]


async def test_trouble_gives_no_lease(stand: Stand) -> None:  # R2
    """If the database is unreachable, the lease runs out; memory stays until it is back."""
    await stand.know("a")
    stand.store.fault = GONE
    stand.now += 3
    with pytest.raises(Unavailable):
        await stand.step()
    assert stand.lease.left == 27
    stand.now += 27
    assert stand.lease.left == 0
    stand.store.fault = None
    await stand.step()
    assert stand.store.asked == ["renew"]
    assert stand.cache.get("a") is not None


async def test_reads_that_may_be_remembered(stand: Stand) -> None:  # R5
    """Those of the applied history, not older than the request; a read that is ahead is waited for."""
    start = stand.store.entries[0].place
    assert await stand.holder.knows(start, since=0)
    assert not await stand.holder.knows(Place(0, uuid4()), since=0)
    first = stand.store.publish("a")
    asking = asyncio.ensure_future(stand.holder.knows(first, since=0))
    await asyncio.sleep(0)
    assert not asking.done()
    await stand.step()
    assert await asking
    assert await stand.holder.knows(start, since=0)
    assert not await stand.holder.knows(start, since=1)


async def test_a_read_on_another_history_is_not_remembered(stand: Stand) -> None:  # R5
    """The same seq with another nonce; and none at all once the history was dropped."""
    stand.store.publish("a")
    await stand.step()
    assert not await stand.holder.knows(Place(1, uuid4()), since=0)
    place = stand.store.entries[-1].place
    assert await stand.holder.knows(place, since=0)
    stand.store.workers.clear()
    stand.now += 3
    await stand.step()
    assert not await stand.holder.knows(place, since=0)


async def test_the_history_that_is_kept_is_bounded(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads from before the kept history are repeated."""
    monkeypatch.setattr("authsvc.revocation.history._MAX_PLACES", 10)
    start = stand.store.entries[0].place
    places = [stand.store.publish(str(i)) for i in range(50)]
    await stand.step()
    assert len(stand.holder._history) == 10
    assert not await stand.holder.knows(start, since=0)
    assert await stand.holder.knows(places[-1], since=0)


async def test_a_stop_gives_up_the_lease_then_the_registration(stand: Stand) -> None:  # R8
    """When the registration is gone, nothing is answered any more."""
    held: list[float] = []
    stand.store.before = lambda operation: held.append(stand.lease.left)
    await stand.feed.stop()
    assert held == [0]
    assert stand.store.workers == {}


async def test_a_hint_that_has_the_entry_saves_reading_it(stand: Stand) -> None:  # R3
    """The next entry is applied and acknowledged; one that was applied before changes nothing."""
    await stand.know("a")
    stand.store.publish("a")
    [entry] = stand.store.entries[1:]
    await stand.hear(entry)
    assert stand.store.asked == ["acknowledge"]
    assert stand.cache.get("a") is None
    assert stand.acknowledged == stand.holder.seq == 1
    assert await stand.holder.knows(entry.place, since=1)
    await stand.hear(entry)
    assert stand.store.asked == []


async def test_a_hint_about_a_later_entry_is_read(stand: Stand) -> None:  # R3
    """The entries in between have to be applied, too."""
    await stand.know("a", "b")
    stand.store.publish("a")
    stand.store.publish("b")
    await stand.hear(stand.store.entries[-1])
    assert stand.store.asked == ["read", "acknowledge"]
    assert len(stand.cache) == 0
    assert stand.acknowledged == stand.holder.seq == 2


async def test_a_hint_that_is_not_so(stand: Stand) -> None:  # R3
    """An entry that the feed does not have, or that does not follow our place in this feed, has no effect."""
    stand.store.publish("a")
    await stand.hear(FeedEntry(Place(1, uuid4()), (), None))
    assert stand.store.asked == ["acknowledge", "renew", "acknowledge"]
    assert stand.holder.seq == 1
    await stand.hear(FeedEntry(Place(2, uuid4()), (), None))
    assert stand.store.asked == ["acknowledge", "renew"]
    assert stand.holder.seq == 1
    assert stand.lease.left == 30
    # A feed of another history, which does not contain our place, and an entry that follows there.
    stand.store.entries = [FeedEntry(Place(e.place.seq, uuid4()), (), None) for e in stand.store.entries]
    stand.store.publish("b")
    await stand.hear(stand.store.entries[-1])
    assert stand.lease.left == stand.holder.seq == 0


async def test_reads_from_before_a_hint_are_too_old(stand: Stand) -> None:  # R5
    """From when a hint was followed: a caller that waits for the acknowledgement may answer at any time."""
    start = stand.store.entries[0].place
    stand.store.publish("a")
    asked: list[bool] = []
    stand.store.before = lambda operation: asked.append(stand.holder.seq == 1)
    await stand.hear(stand.store.entries[-1])
    assert asked == [True]
    assert not await stand.holder.knows(start, since=stand.holder.seq)
    stand.store.before = lambda operation: None
    # Also if the acknowledgement fails.
    stand.store.publish("b")
    stand.store.fault = GONE
    with pytest.raises(Unavailable):
        await stand.hear(stand.store.entries[-1])
    assert not await stand.holder.knows(stand.store.entries[1].place, since=stand.holder.seq)
    stand.store.fault = None
    await stand.step()
    assert stand.store.asked == ["read", "acknowledge"]
    assert stand.acknowledged == stand.holder.seq == 2


async def test_only_the_primary_takes_a_hint_back(stand: Stand) -> None:  # R3
    """The answer to an acknowledgement is lost, and the next read is from a node that was replaced."""
    start = stand.store.entries[0].place
    stand.store.publish("a")

    def lost(operation: str) -> None:
        if operation == "acknowledge":
            stand.store.workers[stand.feed.worker_id] = 1  # It is committed.
            stand.store.fault = GONE

    stand.store.before = lost
    with pytest.raises(Unavailable):
        await stand.hear(stand.store.entries[-1])
    stand.store.fault, stand.store.before = None, lambda operation: None
    primary, stand.store.entries = stand.store.entries, stand.store.entries[:1]
    await stand.feed._read(start)
    assert stand.holder.place == start
    assert not await stand.holder.knows(start, since=stand.holder.seq)
    stand.store.entries = primary
    await stand.step()
    assert stand.holder.place == primary[-1].place
    assert stand.holder.seq == 1


async def test_an_order_that_fails_is_not_skipped(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """The memory is dropped, and starts anew where the follower is."""
    await stand.know("a")
    forget, stand.cache.forget = stand.cache.forget, lambda _: 1 / 0  # type: ignore[assignment]
    stand.store.publish("a")
    await stand.step()
    stand.cache.forget = forget  # type: ignore[method-assign]
    assert "could not be carried out" in caplog.text
    assert len(stand.cache) == 0
    await stand.step()
    assert stand.holder.starts == 2
    assert stand.lease.left > 0
    assert stand.acknowledged == 1


async def test_hints_may_come_in_any_order(stand: Stand) -> None:  # R3
    """The latest one counts: the entries of an earlier one are before it."""
    stand.store.publish("a")
    stand.store.publish("b")
    stand.feed.hint(stand.store.entries[2])
    await stand.hear(stand.store.entries[1])
    assert stand.acknowledged == stand.holder.seq == 2


async def test_a_plain_hint_is_not_lost_to_one_that_has_an_entry(stand: Stand) -> None:
    """A caller that requests a read gets it, whatever else was received meanwhile."""
    stand.store.publish("a")
    stand.feed.hint()
    await stand.hear(stand.store.entries[0])
    assert stand.store.asked == ["read", "acknowledge"]


async def test_a_hint_is_followed_at_once(stand: Stand) -> None:
    """The task sleeps until its renewal is due, unless it is notified."""
    following = asyncio.ensure_future(stand.feed.run())
    stand.store.publish("a")
    stand.feed.hint()
    await stand.until_applied(1)
    following.cancel()


async def test_without_hints_it_looks_by_itself(stand: Stand) -> None:
    """Without hints, it reads every `poll_interval`."""
    stand.store.hears = False
    following = asyncio.ensure_future(stand.feed.run())
    stand.store.publish("a")
    await stand.until_applied(1)
    following.cancel()


async def test_it_goes_on_after_any_fault(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected fault is logged, and the feed is still followed."""
    monkeypatch.setattr("authsvc.revocation.follower._RETRY_SECONDS", 0.0)
    stand.store.fault = ZeroDivisionError()
    stand.store.before = lambda operation: (
        setattr(stand.store, "fault", None) if len(stand.store.asked) > 3 else None
    )
    following = asyncio.ensure_future(stand.feed.run())
    stand.store.publish("a")
    stand.feed.hint()
    async with asyncio.timeout(10):
        while stand.holder.seq < 1:
            stand.feed.hint()
            await asyncio.sleep(0)
    assert not following.done()
    following.cancel()


async def test_who_registers_gets_the_tag_keys_with_the_place() -> None:  # R1
    """Before anything is answered, and again whenever it registers again."""
    stand = Stand()
    stand.store.publish(tag_keys=OLD)
    await stand.feed.start()
    assert stand.tag_keys == [(OLD, -1)]
    stand.store.workers.clear()
    stand.now += 3
    await stand.step()
    stand.store.publish(tag_keys=NEW)
    await stand.step()
    assert stand.store.asked == ["register", "renew", "remove"]
    assert stand.tag_keys == [(OLD, -1), (NEW, -1)]


@pytest.mark.parametrize("step", ["renew", "read"])
async def test_tag_keys_are_used_before_they_are_acknowledged(stand: Stand, step: str) -> None:  # R2, R3
    """A caller that waits for the acknowledgement may mint under a new one: this worker accepts it then."""
    stand.now += 3 if step == "renew" else 0
    stand.store.publish("a")
    stand.store.publish(tag_keys=NEW)
    stand.store.publish("b")
    await stand.step()
    assert stand.store.asked == [step, "acknowledge"]
    assert stand.tag_keys == [(NEW, 0)]
    assert stand.acknowledged == 3


async def test_a_renewal_brings_tag_keys_before_the_lease(stand: Stand) -> None:  # R2
    """A worker that was cut off does not answer with its old tag keys."""
    stand.now += 100
    assert stand.lease.left == 0
    held: list[float] = []
    stand.holder._on_tag_keys = lambda _: held.append(stand.lease.left)
    stand.store.publish(tag_keys=NEW)
    await stand.step()
    assert held == [0]
    assert stand.lease.left == 30


async def test_a_hint_does_not_carry_tag_keys(stand: Stand) -> None:  # R3
    """Tag keys in a hint are not trusted: the feed is read."""
    stand.store.publish(tag_keys=NEW)
    await stand.hear(stand.store.entries[-1]._replace(tag_keys=OLD))
    assert stand.store.asked == ["read", "acknowledge"]
    assert stand.tag_keys == [(NEW, 0)]
