"""Orders and answers between processes: as bytes, over sockets, and by a real handover."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from math import inf
from uuid import uuid4

import pytest

from authsvc.model.credential import CredentialKind
from authsvc.model.feed import FeedEntry, Place
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.net.handover import Handover
from authsvc.revocation import wire
from authsvc.revocation.follower import Follower
from authsvc.revocation.holder import Holder
from authsvc.revocation.holders import Attached
from authsvc.revocation.orders import Advance, Apply, Drop, Forget, Grant, Order, Reconnect, Start
from authsvc.revocation.remote_follower import RemoteFollower
from authsvc.revocation.remote_holders import RemoteHolders
from authsvc.revocation.wire import Confirmed, Hello, Hint
from authsvc.verify.clock import DatabaseClock, boottime
from authsvc.verify.lease import Lease
from authsvc.verify.prefix_cache import PrefixCache
from tests.e2e.process import eventually
from tests.revocation.test_follower import FakeFeedStore

PLACE = Place(7, uuid4())
TAG_KEYS = AcceptedTagKeys((b"one", b"\x00two"))
KEYS = FeedEntry(PLACE, ["a", "ключ"], None)
OWNER = FeedEntry(PLACE, [], "acme", CredentialKind.SESSION)
MESSAGES: list[Hello | wire.Answer | Order] = [
    Hello(1, None, -inf),
    Hello(1, PLACE, 12.5),
    Confirmed(3),
    Hint(None),
    Hint(KEYS),
    Start(PLACE, None),
    Start(PLACE, TAG_KEYS),
    Apply([], PLACE),
    Apply([KEYS, OWNER, FeedEntry(PLACE, [], None, None, TAG_KEYS)], PLACE),
    Forget(KEYS),
    Advance(PLACE),
    Grant(1.5, datetime(2026, 11, 26, 12, 0, 0, 250, tzinfo=UTC), 0.25, 0.5),
    Drop("a reason"),
    Reconnect(),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_as_it_was_sent(message: Hello | wire.Answer | Order) -> None:
    """With the types of its parts."""
    text = wire.encode(message)
    assert int.from_bytes(text[:4], "big") == len(text) - 4
    arrived = wire.decode(text[4:])
    assert arrived == message
    assert type(arrived) is type(message)


@pytest.mark.parametrize("size", [1, 3, 1000, 100_000])
def test_messages_may_arrive_in_any_pieces(size: int) -> None:
    """One at a time, or many at once; a confirmation follows what has arrived together."""
    arrived: list[object] = []
    batches: list[int] = []
    connection = wire.Connection(
        arrived.append, on_batch=lambda: batches.append(len(arrived)), on_end=lambda: None
    )
    text = b"".join(map(wire.encode, MESSAGES))
    for start in range(0, len(text), size):
        connection.data_received(text[start : start + size])
    assert arrived == MESSAGES
    assert batches[-1] == len(MESSAGES)
    assert len(batches) == -(-len(text) // size)


def test_a_handover_keeps_what_nobody_has_received() -> None:
    """Sockets wait for the next receiver; without room, the sender is told."""
    handover = Handover()
    try:
        assert handover.receive() is None
        ours, theirs = socket.socketpair()
        handover.send(theirs, b"hello")
        theirs.close()
        ours.sendall(b"early")
        received = handover.receive()
        assert received is not None
        handed, text = received
        assert (text, handed.recv(9)) == (b"hello", b"early")
        handed.close()
        assert ours.recv(1) == b""
        handover.sender.send(b"without a socket")
        assert handover.receive() is None
        assert not all(sent(handover, ours) for _ in range(100_000))
        ours.close()
    finally:
        handover.close()


def sent(handover: Handover, handed: socket.socket) -> bool:
    try:
        handover.send(handed, b"")
    except BlockingIOError:
        return False
    return True


class Worker:
    """A worker that attaches through a handover."""

    def __init__(self, handover: Handover) -> None:
        self.cache = PrefixCache(100)
        self.lease = Lease()
        self.reconnected = 0
        self.holder = Holder(
            cache=self.cache, lease=self.lease, clock=DatabaseClock(), on_reconnect=self._reconnect
        )
        self.remote = RemoteFollower(self.holder, handover)
        self.task = asyncio.ensure_future(self.remote.run())

    def _reconnect(self) -> None:
        self.reconnected += 1


@asynccontextmanager
async def following(store: FakeFeedStore, handover: Handover, seconds: float = 30) -> AsyncIterator[Follower]:
    follower = Follower(store, seconds=seconds)
    with RemoteHolders(follower, handover):
        await follower.start()
        task = asyncio.ensure_future(follower.run())
        try:
            yield follower
        finally:
            task.cancel()


@pytest.fixture
async def handover() -> AsyncIterator[Handover]:
    handover = Handover()
    yield handover
    handover.close()


async def test_the_whole_way(handover: Handover) -> None:
    """A worker attaches, is given the lease, applies an entry, which is acknowledged then, and hints."""
    store = FakeFeedStore()
    worker = Worker(handover)
    async with following(store, handover) as follower:
        async with asyncio.timeout(20):
            await worker.lease.taken()
        assert follower.holders.pids == [os.getpid()]
        follower.note_reconnected()
        store.publish("a")
        worker.holder.hint()
        await eventually(lambda: store.workers[follower.worker_id] == 1)
        assert worker.holder.seq == 1
        assert worker.reconnected == 1
        store.publish("b")
        worker.holder.hint(store.entries[-1])
        await eventually(lambda: worker.holder.place == store.entries[-1].place)
        assert "read" not in store.asked[-2:]
        worker.task.cancel()
        await eventually(lambda: not follower.holders.pids)
        assert worker.lease.until == -inf


async def test_a_successor_takes_over(handover: Handover) -> None:
    """The worker keeps its lease and its memory, attaches again, and gets what it missed."""
    store = FakeFeedStore()
    worker = Worker(handover)
    async with following(store, handover) as follower:
        async with asyncio.timeout(20):
            await worker.lease.taken()
        for attached in list(follower.holders._attached):
            attached.channel.close()
    until = worker.lease.until
    assert worker.lease.left > 0
    store.publish("a")
    async with following(store, handover) as follower:
        await eventually(lambda: worker.holder.seq == 1)
        await eventually(lambda: worker.lease.until > until)
        assert worker.holder.starts == 1
        assert follower.holders.pids == [os.getpid()]
        worker.task.cancel()


async def test_a_fault_costs_the_lease_before_the_channel(
    handover: Handover, caplog: pytest.LogCaptureFixture
) -> None:
    """Its follower believes the end of a channel: whoever ends it answers nothing any more."""
    store = FakeFeedStore()
    worker = Worker(handover)
    async with following(store, handover) as follower:
        async with asyncio.timeout(20):
            await worker.lease.taken()
        held: list[float] = []
        detach = follower.holders.detach

        def noted(holder: Attached) -> None:
            held.append(worker.lease.until)
            detach(holder)

        follower.holders.detach = noted  # type: ignore[method-assign]
        forget = worker.cache.forget
        worker.cache.forget = lambda _: 1 / 0  # type: ignore[assignment]
        store.publish("a")
        with caplog.at_level(logging.ERROR):
            follower.hint()
            await eventually(lambda: held)
        worker.cache.forget = forget  # type: ignore[method-assign]
        assert held[0] == -inf
        assert "could not be carried out" in caplog.text
        async with asyncio.timeout(20):
            await worker.lease.taken()
        assert worker.holder.starts == 2
        assert boottime() < worker.lease.until
        worker.task.cancel()
