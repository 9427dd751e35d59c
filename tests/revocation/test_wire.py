"""Orders and answers between processes: as bytes, and over real sockets."""

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from math import inf
from uuid import uuid4

import pytest

from authsvc.model.credential import CredentialKind
from authsvc.model.feed import FeedEntry, Place
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.net.private_listener import PrivateListener
from authsvc.revocation import wire
from authsvc.revocation.follower import Follower
from authsvc.revocation.holder import Holder
from authsvc.revocation.holders import Attached
from authsvc.revocation.orders import Advance, Apply, Drop, Forget, Grant, Order, Reconnect, Start
from authsvc.revocation.remote_follower import RemoteFollower
from authsvc.revocation.remote_holders import RemoteHolders, _RemoteHolder
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
        arrived.append, on_batch=lambda: batches.append(len(arrived)), on_end=lambda _: None
    )
    text = b"".join(map(wire.encode, MESSAGES))
    for start in range(0, len(text), size):
        connection.data_received(text[start : start + size])
    assert arrived == MESSAGES
    assert batches[-1] == len(MESSAGES)
    assert len(batches) == -(-len(text) // size)


class Worker:
    """A worker that attaches through a listener."""

    def __init__(self, listener: PrivateListener) -> None:
        self.cache = PrefixCache(100)
        self.lease = Lease()
        self.reconnected = 0
        self.holder = Holder(
            cache=self.cache, lease=self.lease, clock=DatabaseClock(), on_reconnect=self._reconnect
        )
        self.remote = RemoteFollower(self.holder, listener)
        self.task = asyncio.ensure_future(self.remote.run())

    async def leased(self) -> None:
        """Wait until it has the lease."""
        async with asyncio.timeout(20):
            await self.lease.taken()

    def _reconnect(self) -> None:
        self.reconnected += 1


@asynccontextmanager
async def following(store: FakeFeedStore, listener: PrivateListener) -> AsyncIterator[Follower]:
    follower = Follower(store, seconds=30)
    with RemoteHolders(follower, listener):
        await follower.start()
        task = asyncio.ensure_future(follower.run())
        try:
            yield follower
        finally:
            task.cancel()


@pytest.fixture
async def listener() -> AsyncIterator[PrivateListener]:
    listener = PrivateListener()
    yield listener
    listener.close()


async def test_the_whole_way(listener: PrivateListener) -> None:
    """A worker attaches, is given the lease, applies an entry, which is acknowledged then, and hints."""
    store = FakeFeedStore()
    worker = Worker(listener)
    async with following(store, listener) as follower:
        await worker.leased()
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


async def test_a_successor_takes_over(listener: PrivateListener) -> None:
    """The worker keeps its lease and its memory, attaches again, and gets what it missed."""
    store = FakeFeedStore()
    worker = Worker(listener)
    async with following(store, listener) as follower:
        await worker.leased()
        for attached in list(follower.holders._attached):
            attached.channel.close()
    until = worker.lease.until
    assert worker.lease.left > 0
    store.publish("a")
    async with following(store, listener) as follower:
        await eventually(lambda: worker.holder.seq == 1)
        await eventually(lambda: worker.lease.until > until)
        assert worker.holder.starts == 1
        assert follower.holders.pids == [os.getpid()]
        worker.task.cancel()


async def test_a_fault_costs_the_lease_before_the_channel(
    listener: PrivateListener, caplog: pytest.LogCaptureFixture
) -> None:
    """Its follower believes the end of a channel: whoever ends it answers nothing any more."""
    store = FakeFeedStore()
    worker = Worker(listener)
    async with following(store, listener) as follower:
        await worker.leased()
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
        await worker.leased()
        assert worker.holder.starts == 2
        assert boottime() < worker.lease.until
        worker.task.cancel()


async def test_a_fault_of_the_follower_does_not_free_it_from_waiting(
    listener: PrivateListener, caplog: pytest.LogCaptureFixture
) -> None:
    """It has closed a channel itself: the worker may have its lease, and is waited for until that is over."""
    store = FakeFeedStore()
    worker = Worker(listener)
    async with following(store, listener) as follower:
        await worker.leased()
        [attached] = follower.holders._attached
        until = attached.until
        follower.holders.confirm = lambda *_: 1 / 0  # type: ignore[assignment, method-assign]
        store.publish("a")
        follower.hint()
        await eventually(lambda: attached.missed)
        assert attached.until == until
        assert store.workers[follower.worker_id] == 0
        assert follower.holders.confirmed_seq(store.entries[-1].place) == 0
        worker.task.cancel()


def fail(connection: wire.Connection | None, error: Exception | None) -> None:
    """End a connection as asyncio does after an error."""
    assert connection is not None
    connection._transport._force_close(error)  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [OSError(errno.ENOBUFS, "no buffers"), ValueError("bad bytes")])
async def test_a_channel_that_fails_at_the_worker_costs_its_lease(
    listener: PrivateListener, error: Exception
) -> None:
    """The follower sees the end of the channel next, and takes it to mean that the worker has no lease."""
    store = FakeFeedStore()
    worker = Worker(listener)
    async with following(store, listener):
        await worker.leased()
        ended: list[float] = []
        connection = worker.remote._connection
        assert connection is not None
        on_end = connection._on_end

        def noted(error: Exception | None) -> None:
            on_end(error)
            ended.append(worker.lease.until)

        connection._on_end = noted
        fail(connection, error)
        await eventually(lambda: ended)
        assert ended == [-inf]
        worker.task.cancel()


@pytest.mark.parametrize(
    ("error", "frees"),
    [(None, True), (ConnectionResetError(), True), (OSError(errno.ENOBUFS, "no buffers"), False)],
)
async def test_which_ends_of_a_channel_free_the_follower_from_waiting(
    listener: PrivateListener, error: Exception | None, frees: bool
) -> None:
    """The worker has closed it, or has ended; not when it has failed here."""
    store = FakeFeedStore()
    worker = Worker(listener)
    async with following(store, listener) as follower:
        await worker.leased()
        [attached] = follower.holders._attached
        channel = attached.channel
        assert isinstance(channel, _RemoteHolder)
        fail(channel._connection, error)
        await eventually(lambda: channel._connection.has_ended)
        assert (attached not in follower.holders._attached) == frees
        assert attached.missed != frees
        worker.task.cancel()


async def test_a_worker_that_cannot_connect_keeps_what_it_has(listener: PrivateListener) -> None:
    """It has no channel that its follower could see end."""
    worker = Worker(listener)
    worker.task.cancel()
    worker.holder.obey(Start(PLACE, None))
    worker.holder.obey(Grant(boottime() + 30, datetime.now(UTC), boottime(), boottime()))
    listener.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        await worker.remote._attach()
    assert worker.lease.left > 0
    assert worker.holder.place == PLACE
