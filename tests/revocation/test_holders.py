"""What a follower knows of those who answer from memory under its lease (R10, R11)."""

import asyncio
import os
import signal
from math import inf
from uuid import uuid4

import pytest

from authsvc.model.feed import FeedEntry, Place
from authsvc.revocation import holders as module
from authsvc.revocation.follower import Follower
from authsvc.revocation.holders import Attached
from authsvc.revocation.orders import Advance, Apply, Drop, Forget, Grant, Order, Start
from authsvc.revocation.predecessors import Predecessors
from tests.revocation.test_follower import GONE, FakeFeedStore

LEASE = 30


class Worker:
    """A worker in another process, which carries out its orders when the test says so."""

    def __init__(self, stand: "Replica", pid: int, place: Place | None = None, until: float = -1) -> None:
        self.orders: list[Order] = []
        self.is_closed = False
        self._stand = stand
        self.attached: Attached = stand.follower.holders.attach(self, pid, place, until)

    def send(self, order: Order) -> None:
        self.orders.append(order)

    def close(self) -> None:
        self.is_closed = True

    def confirm(self) -> None:
        """Confirm everything."""
        self._stand.follower.holders.confirm(self.attached, len(self.orders))

    def end(self) -> None:
        """Die."""
        self._stand.follower.holders.detach(self.attached)

    @property
    def lease(self) -> float:
        """Until when it has a lease: that of the last grant."""
        grants = [order.until for order in self.orders if isinstance(order, Grant)]
        return grants[-1] if grants else 0


class Replica:
    """A follower on a feed in memory, with a stopwatch that the test moves."""

    def __init__(self, predecessors: Predecessors | None = None) -> None:
        self.now = 1000.0
        self.lent_until = -inf
        self.store = FakeFeedStore()
        self.follower = Follower(
            self.store,
            seconds=LEASE,
            stopwatch=lambda: self.now,
            predecessors=predecessors,
            lent_until=lambda _: self.lent_until,
        )

    @property
    def acknowledged(self) -> int:
        return self.store.workers[self.follower.worker_id]

    async def worker(self, pid: int) -> Worker:
        """Attach a worker that has confirmed its start."""
        worker = Worker(self, pid)
        await self.step()
        worker.confirm()
        await self.step()
        return worker

    async def step(self) -> None:
        self.store.asked.clear()
        await self.follower._step()

    async def read(self) -> None:
        self.follower.hint()
        await self.step()

    async def hear(self) -> None:
        """Follow the hint of the last entry."""
        self.follower.hint(self.store.entries[-1])
        await self.step()


@pytest.fixture
async def replica() -> Replica:
    replica = Replica()
    await replica.follower.start()
    return replica


async def test_a_worker_starts_at_the_place_of_the_follower(replica: Replica) -> None:
    """With an empty memory; it gets the lease when it has confirmed that."""
    replica.store.publish("a")
    await replica.read()
    worker = Worker(replica, 7)
    await replica.step()
    assert worker.orders == [Start(replica.store.entries[-1].place, None)]
    worker.confirm()
    assert worker.lease == 1000 + LEASE
    assert replica.follower.holders.pids == [7]


@pytest.mark.parametrize("by_hint", [False, True])
async def test_all_have_to_confirm(replica: Replica, by_hint: bool) -> None:
    """An entry is acknowledged when the last worker has confirmed it, and not before."""
    one, other = await replica.worker(1), await replica.worker(2)
    replica.store.publish("a")
    await (replica.hear() if by_hint else replica.read())
    assert isinstance(one.orders[-1], Forget if by_hint else Apply)
    assert replica.acknowledged == 0
    one.confirm()
    await replica.step()
    assert replica.acknowledged == 0
    other.confirm()
    await replica.step()
    assert replica.store.asked == ["acknowledge"]
    assert replica.acknowledged == 1
    if by_hint:
        assert one.orders[-1] == other.orders[-1] == Advance(replica.store.entries[-1].place)


async def test_the_clients_of_a_worker_that_dies_are_waited_for(replica: Replica) -> None:  # R15
    """Until the last of their sub-leases is over; what the dead worker had not confirmed counts."""
    one, other = await replica.worker(1), await replica.worker(2)
    replica.lent_until = replica.now + 6
    other.end()
    replica.store.publish("a")
    await replica.read()
    one.confirm()
    replica.now += 5.99
    await replica.step()
    assert replica.acknowledged == 0
    assert replica.follower.holders.next_end == 1006
    assert replica.follower.holders.pids == [1]
    replica.now += 0.01
    await replica.step()
    assert replica.acknowledged == 1


async def test_a_follower_stops_when_they_cannot_answer_any_more(replica: Replica) -> None:  # R15
    """Then it can delete its registration, and changes of other replicas do not wait for that."""
    worker = await replica.worker(1)
    replica.lent_until = replica.now + 6
    worker.end()
    emptied = asyncio.ensure_future(replica.follower.holders.emptied())
    await asyncio.sleep(0)
    assert not emptied.done()
    replica.now += 6
    await emptied
    await replica.follower.stop()
    assert replica.store.workers == {}


async def test_a_worker_that_is_some_renewals_behind_gets_an_earlier_lease(replica: Replica) -> None:
    """Its clients confirm late, and there is a change before each renewal; its lease does not run out."""
    worker = await replica.worker(1)
    number = len(worker.orders)
    for _ in range(3):
        replica.now += 3
        replica.store.publish("a")
        await replica.step()
    assert worker.lease == 1000 + LEASE
    assert [type(order) for order in worker.orders[number:]] == [Apply, Apply, Apply]
    replica.follower.holders.confirm(worker.attached, number + 2)
    assert worker.lease == 1006 + LEASE
    worker.confirm()
    assert worker.lease == 1009 + LEASE


async def test_they_cannot_answer_longer_than_the_worker_itself(replica: Replica) -> None:
    """Its lease, as it was granted, ends later than any sub-lease of it; those of others do not count."""
    worker = await replica.worker(1)
    replica.lent_until = replica.now + 1000
    worker.end()
    assert replica.follower.holders.next_end == worker.lease


async def test_a_worker_that_has_confirmed_its_drop_has_no_clients(replica: Replica) -> None:
    worker = await replica.worker(1)
    replica.follower._lose("lost")
    worker.confirm()
    replica.lent_until = replica.now + 6
    worker.end()
    assert replica.follower.holders.next_end == inf


async def test_a_worker_that_dies_is_not_waited_for(replica: Replica) -> None:
    """The end of its channel says so; the registration stays."""
    one, other = await replica.worker(1), await replica.worker(2)
    replica.store.publish("a")
    await replica.read()
    one.confirm()
    other.end()
    await replica.step()
    assert replica.acknowledged == 1
    assert replica.follower.holders.pids == [1]


async def test_a_worker_that_hangs_is_waited_for_until_its_lease_is_over(replica: Replica) -> None:
    """It gets no lease beyond what it has confirmed; the others do."""
    one, hung = await replica.worker(1), await replica.worker(2)
    end = hung.lease
    replica.store.publish("a")
    await replica.read()
    one.confirm()
    for now in (1010.0, 1020.0, end - 0.001):
        replica.now = now
        await replica.read()
        one.confirm()
        assert replica.acknowledged == 0
        assert one.lease == replica.now + LEASE
        assert hung.lease == end
        assert replica.follower.holders.unconfirmed_pids == [2]
    replica.now = end
    await replica.read()
    assert replica.acknowledged == 1
    # Nobody waits for it any more.
    replica.store.publish("b")
    await replica.read()
    one.confirm()
    await replica.step()
    assert replica.acknowledged == 2
    # When it continues, it applies everything before it gets the next lease.
    hung.confirm()
    applied = [order for order in hung.orders if isinstance(order, Apply)]
    assert [entry.key_prefixes for order in applied for entry in order.entries] == [("a",), ("b",)]
    assert isinstance(hung.orders[-1], Grant)
    assert hung.lease == one.lease


async def test_a_busy_feed_starves_nobody_of_the_lease(replica: Replica) -> None:
    """A renewal goes to who has confirmed the entries up to it, even if newer ones are on their way."""
    worker = await replica.worker(1)
    replica.store.publish("a")
    replica.now += 5
    await replica.read()
    number = len(worker.orders)
    replica.store.publish("b")
    await replica.read()
    replica.follower.holders.confirm(worker.attached, number)
    assert worker.lease == 1005 + LEASE
    await replica.step()
    assert replica.acknowledged == 1


async def test_who_attaches_during_a_hint_forgets_it_too(replica: Replica) -> None:
    """Otherwise it could fill its memory from before the entry, and the entry would be acknowledged."""
    one = await replica.worker(1)
    replica.store.publish("a")
    await replica.hear()
    newcomer = Worker(replica, 2)
    await replica.step()
    assert newcomer.orders == [Start(replica.store.entries[0].place, None), Forget(replica.store.entries[1])]
    assert newcomer.lease == 0
    newcomer.confirm()
    one.confirm()
    await replica.step()  # It is shown to operators by a renewal, which brings the entry.
    [forget, *_, apply, place] = newcomer.orders[1:]
    assert isinstance(forget, Forget)
    assert apply == Apply([replica.store.entries[1]], replica.store.entries[1].place)
    assert place == Advance(replica.store.entries[1].place)


async def test_a_false_hint_is_taken_back(replica: Replica) -> None:
    """The feed does not have the entry; the place stays."""
    worker = await replica.worker(1)
    place = replica.store.entries[0].place
    replica.follower.hint(FeedEntry(Place(1, uuid4()), ("a",), None))
    await replica.step()
    worker.confirm()
    await replica.step()
    assert replica.store.asked == ["acknowledge", "renew"]
    assert Advance(place) in worker.orders[-2:]
    worker.confirm()
    await replica.step()
    assert replica.acknowledged == 0
    assert worker.lease > replica.now


async def test_confirmations_of_a_former_history_do_not_count(replica: Replica) -> None:
    """A worker is late, and the database is restored from a backup, whose feed is shorter."""
    worker = await replica.worker(1)
    for number in range(5):
        replica.store.publish(str(number))
    await replica.read()
    late = len(worker.orders)
    replica.store.entries = [FeedEntry(Place(2, uuid4()), (), None)]
    replica.now += 5
    await replica.step()
    await replica.step()
    assert [type(order) for order in worker.orders[late:]] == [Drop, Start]
    replica.follower.holders.confirm(worker.attached, late)
    await replica.step()
    assert replica.acknowledged == -1
    assert not [order for order in worker.orders[late:] if isinstance(order, Grant)]
    worker.confirm()
    await replica.step()
    assert replica.acknowledged == 2
    assert worker.lease == replica.now + LEASE
    assert worker.attached.until == worker.lease


async def test_a_newcomer_does_not_keep_the_others_from_the_lease(replica: Replica) -> None:
    """Its catching up cannot be read: it starts with an empty memory."""
    one = await replica.worker(1)
    replica.now += 5

    def fault(operation: str) -> None:
        replica.store.fault = GONE if operation == "read" else None

    replica.store.before = fault
    newcomer = Worker(replica, 2, Place(0, uuid4()))
    await replica.step()
    assert one.lease == replica.now + LEASE
    assert isinstance(newcomer.orders[0], Start)


async def test_a_channel_that_fails_costs_only_its_own_worker(
    replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """The others get the order; that worker gets no lease any more, and is waited for until it has none."""
    one, broken, other = [await replica.worker(pid) for pid in (1, 2, 3)]
    broken.send = lambda _: 1 / 0  # type: ignore[assignment, method-assign]
    replica.store.publish("a")
    await replica.read()
    for worker in (one, other):
        assert isinstance(worker.orders[-1], Apply)
        worker.confirm()
    await replica.step()
    assert "could not be sent to process 2" in caplog.text
    assert replica.acknowledged == 0
    replica.now = 1000 + LEASE
    await replica.read()
    assert broken.is_closed
    await replica.step()
    assert replica.acknowledged == 1


@pytest.mark.parametrize("loss", ["reaped", "another history"])
async def test_a_lost_place_ends_all_leases(replica: Replica, loss: str) -> None:
    """The old registration stays until all have dropped what they had under it."""
    one, other = await replica.worker(1), await replica.worker(2)
    before = replica.follower.worker_id
    if loss == "reaped":
        replica.store.workers.clear()
    else:
        replica.store.entries = [FeedEntry(Place(0, uuid4()), (), None)]
    replica.now += 5
    await replica.step()
    assert [type(order) for order in one.orders][-1:] == [Drop]
    replica.store.workers[before] = 0
    await replica.step()
    assert [type(order) for order in one.orders][-1:] == [Start]
    assert replica.follower.worker_id != before
    assert replica.acknowledged == -1
    one.confirm()
    assert one.lease == replica.now + LEASE
    await replica.step()
    assert before in replica.store.workers
    other.confirm()
    await replica.step()
    assert before not in replica.store.workers
    assert replica.acknowledged == replica.store.entries[-1].place.seq


async def test_a_worker_that_is_far_behind_is_detached(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its lease is over. Until then it is waited for, whatever it confirms."""
    monkeypatch.setattr(module, "_MAX_UNCONFIRMED", 3)
    hung = await replica.worker(1)
    for number in range(8):
        replica.store.publish(str(number))
        await replica.read()
    assert len(hung.orders) < 8
    hung.confirm()
    await replica.read()
    assert replica.acknowledged < 8
    assert hung.lease == 1000 + LEASE
    replica.now = hung.lease
    replica.store.publish("last")
    await replica.read()
    assert hung.is_closed
    assert replica.follower.holders.pids == []
    await replica.step()
    assert replica.acknowledged == 9


class TestASuccessor:
    """A follower that takes over the workers of one that has died."""

    async def successor(self, *pids: int) -> Replica:
        replica = Replica(Predecessors([self.dead], pids, over=1000.0 + LEASE))
        replica.store.workers[self.dead] = 0
        replica.store.publish("a")
        return replica

    dead = uuid4()

    async def test_workers_keep_their_memory(self) -> None:
        """They get what they missed, then the lease; the dead one's registration goes when all have it."""
        me = os.getpid()  # A process that lives.
        replica = await self.successor(me)
        first = replica.store.entries[0].place
        await replica.follower.start()
        assert self.dead in replica.store.workers
        worker = Worker(replica, me, first, until=1020.0)
        assert replica.follower.holders.confirmed_seq(Place(1, uuid4())) == -1
        await replica.step()
        last = replica.store.entries[1]
        assert worker.orders == [Apply([last], last.place)]
        assert self.dead in replica.store.workers
        worker.confirm()
        assert worker.lease == 1000 + LEASE
        await replica.step()
        assert self.dead not in replica.store.workers

    async def test_a_worker_of_another_history_starts_anew(self) -> None:
        """Its place is not in the feed, or is not one that the follower has reached."""
        replica = await self.successor()
        await replica.follower.start()
        for place in (Place(0, uuid4()), Place(9, uuid4())):
            worker = Worker(replica, 1, place, until=1020.0)
            await replica.step()
            assert worker.orders == [Start(replica.store.entries[1].place, None)]

    async def test_a_worker_that_has_nothing_to_catch_up(self) -> None:
        """It still has to confirm that it is attached before it gets the lease."""
        replica = await self.successor()
        await replica.follower.start()
        worker = Worker(replica, 1, replica.store.entries[1].place, until=1020.0)
        await replica.step()
        assert worker.orders == [Apply([], replica.store.entries[1].place)]
        worker.confirm()
        assert worker.lease == 1000 + LEASE

    async def test_a_worker_that_does_not_attach_is_waited_for(self) -> None:
        """Until its lease is over, whatever it is doing."""
        replica = await self.successor(os.getpid())
        await replica.follower.start()
        replica.now = 1000.0 + LEASE - 0.001
        await replica.step()
        assert self.dead in replica.store.workers
        replica.now = 1000.0 + LEASE
        await replica.step()
        assert self.dead not in replica.store.workers

    async def test_a_worker_that_has_died_is_not(self) -> None:
        """Its process is gone."""
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        replica = await self.successor(pid)
        await replica.follower.start()
        assert self.dead in replica.store.workers  # A process that nobody has waited for may be any.
        os.waitpid(pid, 0)  # noqa: ASYNC222 - it has ended
        await replica.step()
        assert self.dead not in replica.store.workers

    async def test_the_clients_of_dead_processes_are_waited_for(self) -> None:  # R15
        """Of those that had ended before, and of one that ends later."""
        until = 1006.0
        pid = os.fork()
        if pid == 0:
            signal.pause()
        replica = Replica(Predecessors([self.dead], [pid], 1000.0 + LEASE, lambda: until))
        replica.store.workers[self.dead] = 0
        await replica.follower.start()
        assert replica.follower._predecessors.next_end(replica.now) == 1006
        replica.now, until = 1007.0, 1012.0
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)  # noqa: ASYNC222 - it ends at once
        await replica.step()
        assert replica.follower._predecessors.next_end(replica.now) == 1012
        for now, is_there in ((1011.99, True), (1012.0, False)):
            replica.now = now
            await replica.step()
            assert (self.dead in replica.store.workers) == is_there


async def test_a_stop_leaves_the_registration_to_who_may_still_answer(replica: Replica) -> None:  # R8
    """Workers have ended before their follower stops. If one has not, changes wait for its lease."""
    worker = await replica.worker(1)
    await replica.follower.stop()
    assert replica.follower.worker_id in replica.store.workers
    worker.confirm()  # It has dropped its lease.
    await replica.follower.stop()
    assert replica.store.workers == {}
