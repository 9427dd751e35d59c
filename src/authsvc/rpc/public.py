"""RPCs that need no credential: health, reflection, and those that do not exist.

Their callers are unknown, so they are delayed by address beyond a rate, like calls that fail to
authenticate. Bound: each connection may have a few of their streams open, and all connections together a
fixed number. Their messages are small, and larger ones are refused.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from authsvc.entrance.strangers import Strangers
from authsvc.model.errors import AuthsvcError, FieldViolation, InvalidArgument, Overloaded
from authsvc.rpc.arrivals import Arrivals
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.context import Context
from authsvc.rpc.peer import address_of
from authsvc.rpc.rpc import Handle
from authsvc.rpc.status import status_of

_MAX_MESSAGE_BYTES = 4096
# Messages of one address that are read at a time, and calls that wait for their turn.
_MAX_ARRIVING_CALLS, _MAX_WAITING_CALLS = 8, 200


class Streams:
    """Limits the open streams of each connection, and of all."""

    def __init__(self, what: str, *, max_open: int, max_per_connection: int) -> None:
        self._what = what
        self.max_open, self._max_per_connection = max_open, max_per_connection
        self._open: dict[str, int] = {}
        #: How many streams were refused.
        self.refused = 0

    @contextmanager
    def counted(self, peer: str) -> Iterator[None]:
        """Count a stream of this peer while the block runs; raise Overloaded (STREAM_LIMIT)."""
        if self._open.get(peer, 0) >= self._max_per_connection or sum(self._open.values()) >= self.max_open:
            self.refused += 1
            raise Overloaded(
                f"too many open {self._what} streams; the limit is {self._max_per_connection} per connection "
                f"and {self.max_open} in total",
                reason="STREAM_LIMIT",
                retry_after=1,
            )
        self._open[peer] = self._open.get(peer, 0) + 1
        try:
            yield
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]


class PublicCall:
    """A call of an unknown caller."""

    def __init__(self, context: Context, strangers: Strangers, arrivals: Arrivals, bounds: Bounds) -> None:
        self.context = context
        self.peer = context.peer()
        self._strangers, self._arrivals = strangers, arrivals
        self._answers, self._connections = bounds.answers, bounds.connections
        self._has_answer = False
        context.add_done_callback(self._over)

    async def message(self) -> bytes:
        """Return the message of a unary call; raise what `Arrivals.message` raises."""
        await self._strangers.wait(address_of(self.peer))
        return _small(await self._arrivals.message(self.context, address_of(self.peer)))

    async def next(self) -> bytes | None:
        """Return the next message of a stream; None at its end, or when none arrives in time."""
        try:
            data = await self._arrivals.next(self.context, address_of(self.peer))
        except TimeoutError:
            return None
        if data is None:
            return None
        await self._strangers.wait(address_of(self.peer))
        return _small(data)

    async def write(self, data: bytes) -> None:
        """Send a message of a stream."""
        self.ends(len(data))
        await self.context.write(data)
        self._answers.end(self)

    def _over(self, _: Any) -> None:
        self._answers.end(self)
        if not self._has_answer:
            self._connections.broken(self.peer)

    def ends(self, size: int = 0) -> None:
        """Count the last message, of `size` bytes, as handed over."""
        self._has_answer = True
        self._answers.begin(self, self.peer, "", size)


class Public:
    """Makes handlers of RPCs that need no credential."""

    def __init__(self, strangers: Strangers, bounds: Bounds) -> None:
        self._strangers, self._bounds = strangers, bounds
        self.arrivals: list[Arrivals] = []
        self.streams: set[Streams] = set()

    def unary(self, serve: Callable[[PublicCall, bytes], Awaitable[bytes]]) -> Handle:
        """Return what handles a unary RPC."""
        arrivals = Arrivals(_MAX_ARRIVING_CALLS, _MAX_WAITING_CALLS, self._bounds.stopwatch)
        self.arrivals.append(arrivals)

        async def handle(_: object, context: Context) -> bytes:
            call = PublicCall(context, self._strangers, arrivals, self._bounds)
            try:
                answer = await serve(call, await call.message())
            except AuthsvcError as error:
                call.ends()
                await context.abort_with_status(status_of(error))
                raise
            call.ends(len(answer))
            return answer

        return handle

    def stream(self, serve: Callable[[PublicCall], Awaitable[None]], streams: Streams) -> Handle:
        """Return what handles a streaming RPC, with a bounded number of open streams."""
        arrivals = Arrivals(_MAX_ARRIVING_CALLS, streams.max_open, self._bounds.stopwatch)
        self.arrivals.append(arrivals)
        self.streams.add(streams)

        async def handle(_: object, context: Context) -> None:
            call = PublicCall(context, self._strangers, arrivals, self._bounds)
            try:
                with streams.counted(call.peer):
                    await serve(call)
            except AuthsvcError as error:
                await self._strangers.wait(address_of(call.peer))
                call.ends()
                await context.abort_with_status(status_of(error))
            call.ends()

        return handle


class NoSuchRpc:
    """Answers calls of RPCs that do not exist; gRPC itself would answer them without a delay."""

    def __init__(self, strangers: Strangers) -> None:
        self._strangers = strangers

    async def handle(self, _: object, context: Context) -> bytes:
        """Refuse a call."""
        await self._strangers.wait(address_of(context.peer()))
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown RPC; use reflection to list the RPCs")
        raise AssertionError("abort always raises")


def _small(data: bytes) -> bytes:
    if len(data) > _MAX_MESSAGE_BYTES:
        problem = f"has {len(data)} bytes; a request of this kind needs at most {_MAX_MESSAGE_BYTES}"
        raise InvalidArgument(FieldViolation("", "request.size", problem))
    return data
