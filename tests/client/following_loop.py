"""A client that follows a worker in this process: everything is real except the network between them.

The worker is a holder with its memory and its clients, and the stream that it serves. Its database is made
up.
The client is the stream that it carries out, and its memory. The messages are those of the wire.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import grpc

from authsvc.client.follow_stream import FollowStream
from authsvc.client.look_ups import Found
from authsvc.client.memory import Memory
from authsvc.client.questions import about_key
from authsvc.model.caller import BOOTSTRAP
from authsvc.model.credential import CredentialKind
from authsvc.model.feed import FeedEntry, Place
from authsvc.model.key_string import TAIL_LENGTH, KeyMint
from authsvc.revocation.client_holder import Member
from authsvc.revocation.client_holders import ClientHolders
from authsvc.revocation.holder import Holder
from authsvc.revocation.orders import Apply
from authsvc.rpc.following import Following
from authsvc.v1 import holder_service_pb2 as pb
from authsvc.verify.clock import DatabaseClock
from authsvc.verify.verifier import Verifier
from tests.bench.memory import MadeUpRows, made_up_verifier

_MINT = KeyMint(b"0" * 32)
_MEMBER = Member("key_platform", "authsvc", "authsvc_live_platform", "192.0.2.1", "orders-1")
_QUESTION = about_key((), "192.0.2.7")


class _Rows(MadeUpRows):
    """Rows with the same scopes: other tuples of them are kept once each, which is not what is looked at."""

    def _row(self, key_prefix: str) -> dict[str, object]:
        return {**super()._row(key_prefix), "scopes": ["orders:read"]}


class _Line:
    """A stream: the context of the worker, and with `call` that of the client."""

    def __init__(self) -> None:
        self._down: asyncio.Queue[Any] = asyncio.Queue()
        self._up: AsyncIterator[pb.FollowRequest]

    def open(self, requests: Any, metadata: object) -> "_Call":
        self._up = aiter(requests)
        return _Call(self._down)

    async def read(self) -> Any:
        request = await anext(self._up, None)
        return grpc.aio.EOF if request is None else request.SerializeToString()

    async def write(self, message: bytes) -> None:
        self._down.put_nowait(message)


class _Call:
    def __init__(self, down: "asyncio.Queue[Any]") -> None:
        self._down = down

    async def read(self) -> Any:
        message = await self._down.get()
        return message if message is grpc.aio.EOF else pb.FollowResponse.FromString(message)

    def cancel(self) -> None:
        """Nothing more is read."""


class Loop:
    """A worker, and a client that follows it."""

    def __init__(self, stopwatch: Callable[[], float], capacity: int) -> None:
        self._stopwatch = stopwatch
        self._verifier, cache = made_up_verifier(2 * capacity, _Rows("{}", "live"))
        clock = DatabaseClock(stopwatch)
        now = stopwatch()
        clock.set(datetime.now(UTC), now, now)
        self.clients = ClientHolders(
            self._verifier._lease, clock, seconds=5.0, limit=100, stopwatch=stopwatch
        )
        self.holder = Holder(cache=cache, lease=self._verifier._lease, clock=clock, clients=self.clients)
        self.memory = Memory(capacity, stopwatch)
        self.stream = FollowStream(self.memory, stopwatch=stopwatch, pause=self._pause)
        self.following: Following
        self._renew = asyncio.Event()
        self._seq = 0
        self.keys: list[str] = []

    @property
    def verifier(self) -> Verifier:
        """What the worker verifies with."""
        return self._verifier

    async def _pause(self, seconds: float) -> None:
        await self._renew.wait()
        self._renew.clear()

    async def renewed(self) -> None:
        """Have the client release, report and renew, and wait until the sub-lease is granted."""
        number = self.stream._renewal
        self._renew.set()
        while self.stream._renewal == number or self.stream._renewed:  # noqa: ASYNC110
            await asyncio.sleep(0)
        # As the worker writes them every few seconds.
        self._verifier._judge._usage.take()

    async def hold(self) -> str:
        """Have the client hold another key, and verify it."""
        text = _MINT.mint("test", "live").text
        assert await self.stream.look_ups.find(text, CredentialKind.KEY, 60) is Found.HELD
        assert self.memory.recall(_QUESTION, text)
        return text

    async def change(self, text: str) -> None:
        """Have a key revoked, and wait until the worker may confirm that."""
        self._seq += 1
        entry = FeedEntry(Place(self._seq, UUID(int=self._seq)), (text[:-TAIL_LENGTH],), None, None)
        self.holder.obey(Apply([entry], entry.place))
        while self.clients.settled_mark < self.clients.mark:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert self.memory.recall(_QUESTION, text) is None

    async def changes(self, number: int) -> None:
        """Have so many keys revoked, every second of which the client holds, which then holds another one."""
        for at in range(number // 2):
            await self.change(_MINT.mint("test", "live").text)
            place = at % len(self.keys)
            await self.change(self.keys[place])
            self.keys[place] = await self.hold()
            if at % 100 == 99:
                await self.renewed()


@asynccontextmanager
async def following_loop(stopwatch: Callable[[], float], capacity: int) -> AsyncIterator[Loop]:
    """A client that follows, with a sub-lease, and half as many keys as it may hold."""
    loop, line = Loop(stopwatch, capacity), _Line()

    async def judge() -> Any:
        return BOOTSTRAP

    context: Any = line
    loop.following = Following(context, loop.clients, loop.verifier, lambda: BOOTSTRAP, judge)
    follow: Any = line.open
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(loop.stream.run(follow, (), "loop", capacity))]
    await asyncio.sleep(0)  # it opens the stream first
    await line.read()  # `join`, which the service reads
    tasks.append(asyncio.ensure_future(loop.following.run(_MEMBER, capacity, 3600.0)))
    try:
        async with asyncio.timeout(20):
            while not loop.memory.lease_left:  # noqa: ASYNC110
                await asyncio.sleep(0)
        loop.keys = [await loop.hold() for _ in range(capacity // 2)]
        yield loop
        for task in tasks:
            assert not task.done()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
