"""What serves the calls of a connection in memory, without a database, and what has to hold of it.

Gate, limits, arrivals, answers and endpoints are those of the product. Who calls is said by the credential,
and what a call does by the text of its request:

- VerifyKey is answered at once ("hit"), after a while ("cold"), or never ("hangs"), or it fails ("fails").
- CreateKey is answered after a while, and notes whether its answer was sent.
- ListKeys has a large answer.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, ClassVar
from unittest import mock

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from authsvc.entrance.entrance import Entrance
from authsvc.entrance.gate import Gate
from authsvc.entrance.incoming_call import IncomingCall
from authsvc.entrance.limits import Limits
from authsvc.entrance.strangers import Strangers
from authsvc.model.caller import Caller
from authsvc.model.errors import Unauthenticated
from authsvc.model.rate import Rate
from authsvc.model.scope import FULL_ACCESS
from authsvc.rpc import call
from authsvc.rpc.answers import Answers
from authsvc.rpc.arrivals import Arrivals
from authsvc.rpc.balance import Balance
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.connections import Connections
from authsvc.rpc.lane import connection as lane
from authsvc.rpc.lane import head, reading, stream
from authsvc.rpc.lane import turns as turns_of_readings
from authsvc.rpc.lane.stream import Stream
from authsvc.rpc.lane.turns import Queues
from authsvc.rpc.limits import MAX_MESSAGE_BYTES, MAX_STREAMS, WINDOW_BYTES
from authsvc.rpc.served import Served
from authsvc.telemetry import Metrics
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from tests.lane import memory
from tests.lane.loop import Loop, turns

PEER = "ipv4:192.0.2.1:4711"
_LOOK_SECONDS = 0.5
_WHILE_SECONDS = 0.02
_LARGE = "x" * 3000
_STRANGERS = Rate(20, 20)
# More than all that is waited for: the delay of strangers, late messages, unread answers, a drain.
_ALL_SECONDS = 200
_CHUNK_BYTES = 64 * 1024


@lru_cache
def _metrics() -> Metrics:
    return Metrics()


class _Keys:
    """The RPCs of KeyService, without keys."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["KeyService"]

    def __init__(self) -> None:
        self.recalls = {"VerifyKey": self._recall}
        #: Whether answers with a key string were sent, by the request id.
        self.sent: dict[str, list[bool]] = {}
        #: Waited for by calls of CreateKey before they are done, and after.
        self.before_commit = self.after_commit = asyncio.Event()
        self.before_commit.set()

    def delivery(self, request: Message, answer: Message) -> Callable[[bool], object]:
        noted = self.sent.setdefault(request.request_id, [])  # type: ignore[attr-defined]
        return noted.append

    def _recall(self, caller: Caller, request: pb.VerifyKeyRequest) -> bytes | None:
        if request.key_string == "fails":
            raise ValueError
        return b"\x08\x01" if request.key_string == "hit" else None

    async def VerifyKey(self, caller: Caller, request: pb.VerifyKeyRequest) -> pb.VerifyKeyResponse:
        await asyncio.sleep(1e9 if request.key_string == "hangs" else _WHILE_SECONDS)
        return pb.VerifyKeyResponse(valid=True)

    async def CreateKey(self, caller: Caller, request: pb.CreateKeyRequest) -> pb.CreateKeyResponse:
        await asyncio.sleep(_WHILE_SECONDS)
        await self.before_commit.wait()
        return pb.CreateKeyResponse(key_string="made")

    async def ListKeys(self, caller: Caller, request: pb.ListKeysRequest) -> pb.ListKeysResponse:
        await asyncio.sleep(0)
        key = resources_pb2.Key(description=_LARGE)
        return pb.ListKeysResponse(keys=[key] * request.page_size)

    def __getattr__(self, method: str) -> Any:
        async def serve(caller: Caller, request: Message) -> Message:
            raise ValueError(method)

        return serve


class _Authentication:
    """Knows callers by their credentials: "known", "platform", and "cold", which takes a while."""

    def recall(self, call: IncomingCall, *, admits_all: bool = False) -> Caller | None:
        text = call.credentials[0] if call.credentials else None
        if text in ("known", "platform"):
            return self._caller(text)
        if text == "cold":
            return None
        raise Unauthenticated("nobody", reason="CREDENTIAL_MISSING")

    async def verify(self, call: IncomingCall) -> Caller:
        await asyncio.sleep(_WHILE_SECONDS)
        return self._caller("cold")

    def _caller(self, text: str) -> Caller:
        return Caller(text, "authsvc" if text == "platform" else "acme", (FULL_ACCESS,))


class World:
    """One connection, and the server that it belongs to; `running` makes one, and checks it at the end."""

    longest = 30.0

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        connection_age: float = 0.0,
        tls: bool = False,
        strangers: Rate = _STRANGERS,
    ) -> None:
        now, self.loop, self.connection_age = loop.time, loop, connection_age
        self.keys = _Keys()
        self.gate, self.limits = Gate(100, quiet=0), Limits(now, max_in_flight=100)
        self.strangers = Strangers(strangers, now)
        entrance = Entrance(
            self.gate,
            _Authentication(),  # type: ignore[arg-type]
            self.limits,
            self.strangers,
            self.strangers,
            lambda *_: None,
            _metrics(),
        )
        self.arrivals, self.unread = Arrivals(4, 8, now), Answers(now)
        self.connections = Connections(8, now)
        bounds = Bounds(self.arrivals, self.unread, self.connections, Balance(None, 0, now), now)
        self.served = Served([self.keys], entrance, bounds)
        self.queues, self.read_head = Queues(), head.read
        self.connection = lane.Connection(self, PEER)
        self.transport = memory.Transport(self.connection, tls=tls)
        self.answers = memory.Answers()
        self._read = 0
        self._lost = 0
        # How often each callback of a call was called.
        self._called: list[Counter[int]] = []

    @classmethod
    @asynccontextmanager
    async def running(cls, loop: Loop, **options: Any) -> "AsyncIterator[World]":
        """Serve a connection while the block runs."""
        world = cls(loop, **options)
        async with world.serving():
            yield world

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve the connection while the block runs; then lose it, and check that nothing is left of it."""
        with (
            mock.patch.object(Stream, "add_done_callback", self._counting(Stream.add_done_callback)),
            mock.patch.object(call, "_log"),
            mock.patch.object(reading, "perf_counter", self.loop.time),
            mock.patch.object(turns_of_readings, "perf_counter", self.loop.time),
            mock.patch.object(stream, "_log") as log,
            mock.patch.object(lane, "_log", log),
        ):
            self.connection.connection_made(self.transport)
            yield
            if not self.transport.is_lost:
                self.transport.abort()
            await turns()
            await self.passes(_ALL_SECONDS)
            self.check()
            self._check_empty()
            assert log.mock_calls == []

    def lost(self, connection: lane.Connection) -> None:
        """Note that the connection was lost, as the server does."""
        assert connection is self.connection
        self._lost += 1

    def left(self) -> None:
        """Note that the connection takes no more calls, as the server does."""

    # What happens.

    async def feed(self, *chunks: bytes) -> None:
        """Send to the connection, each part in a wake-up of its own."""
        for chunk in chunks:
            self.transport.feed(chunk)
            self.check()
            await asyncio.sleep(0)

    async def passes(self, seconds: float) -> None:
        """Let time pass, and look at the connection as the server and its watch do."""
        end = self.loop.time() + seconds
        while (now := self.loop.time()) < end:
            await asyncio.sleep(min(_LOOK_SECONDS, end - now))
            self.look()

    def look(self) -> None:
        """Look at the connection."""
        self.served.expire()
        if self.unread.stalled() | self.connections.take_condemned():
            self.connection.abort()
        if not self._lost:
            self.connection.look(self.loop.time())
        self.check()

    # What holds.

    def check(self) -> None:
        """Check what holds at any time: what was sent is HTTP/2, and what is kept is bounded."""
        taken = self.transport.taken
        self.answers.take(bytes(taken))
        taken.clear()
        assert self.transport.most_buffered <= 4 * _CHUNK_BYTES
        streams = self.connection.wire.streams.values()
        assert len(streams) <= MAX_STREAMS
        for each in streams:
            assert len(each.received or b"") <= MAX_MESSAGE_BYTES + 2 * _CHUNK_BYTES
        assert sum(each.held for each in streams) <= MAX_STREAMS * WINDOW_BYTES

    def _check_empty(self) -> None:
        """Check that nothing is left."""
        assert self._lost == 1
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        assert [timer for timer in self.loop._scheduled if not timer.cancelled()] == []  # type: ignore[attr-defined]
        assert self.connection.wire.streams == {}
        assert not self.connection._incomplete
        assert self.connection.wire._writing == {}
        assert (self.gate._in_flight, self.gate._slow, self.limits._in_flight) == (0, 0, {})
        assert (self.unread._unsent, self.unread._bytes, self.connections._calls) == ({}, {}, set())
        assert self.strangers._waiting == 0
        for arrivals in self.served._arrivals:
            assert (arrivals._since, arrivals._late) == ({}, set())
            assert (arrivals._arriving, arrivals._waiting) == ({}, {})
        for streams in self.served._streams:
            assert streams._open == {}
        assert {count for called in self._called for count in called.values()} <= {1}
        assert {count for sent in self.keys.sent.values() for count in (len(sent),)} <= {1}

    def _counting(self, add: Callable[[Stream, Callable[[Any], None]], None]) -> Any:
        def added(it: Stream, callback: Callable[[Any], None]) -> None:
            called = Counter({0: 0})
            self._called.append(called)

            def counted(ended: Any) -> None:
                called[0] += 1
                callback(ended)

            add(it, counted)

        return added
